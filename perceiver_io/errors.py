"""The exception for errors that the user can fix."""


class UserError(ValueError):
    """Bad input. The message is one paragraph: the wrong value, the limit it violates, the remedy.

    The command-line programs print its message without a traceback and exit with status 2.
    """
