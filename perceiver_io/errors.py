"""The exception for errors that the user can fix."""

import re
from typing import ClassVar

# The exit status of a program where repeating the command may help.
REPEAT = 75


class UserError(ValueError):
    """Bad input. The message is one paragraph: the wrong value, the limit it violates, the remedy.

    The command-line programs print its message without a traceback and exit with its status. Memory
    addresses in quoted messages of libraries are removed.
    """

    status: ClassVar[int] = 2

    def __init__(self, message: str):
        super().__init__(re.sub(r" at 0x[0-9a-f]+", "", message))
