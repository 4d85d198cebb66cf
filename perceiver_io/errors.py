"""The one exception that means: the user can fix this."""


class UserError(ValueError):
    """Bad input, in one paragraph: the value that is wrong, the limit it breaks, the way out.

    The command-line programs print its message without a traceback and exit with status 2.
    """
