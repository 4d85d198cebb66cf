"""The one exception that means: the user can fix this."""

import re


class UserError(ValueError):
    """Bad input, in one paragraph: the value that is wrong, the limit it breaks, the way out.

    The command-line programs print its message without a traceback and exit with status 2. Where it
    quotes what a library said, it leaves out the addresses of objects.
    """

    def __init__(self, message: str):
        super().__init__(re.sub(r" at 0x[0-9a-f]+", "", message))
