"""Checks that the two sides of a benchmark agree."""

import numpy as np

from perceiver_io.errors import UserError

MAX_DIFFERENCE = 1e-4
MAX_GRADIENT_DIFFERENCE = 1e-3


def check_outputs(theirs: np.ndarray, ours: np.ndarray) -> None:
    """Prints the largest difference. Raises UserError if it is above the limit."""
    difference = np.abs(theirs - ours).max()
    relative = difference / np.abs(theirs).max()
    print(f"largest difference of the outputs: {difference:.1e}, relative {relative:.1e}")
    if not relative <= MAX_DIFFERENCE:
        raise UserError(
            f"The outputs of the two sides differ by {relative:.1e} relative to the largest, more "
            f"than {MAX_DIFFERENCE}: the times above compare different functions."
        )


def check_gradients(loss: np.ndarray, ours: np.ndarray) -> None:
    """Prints the differences of loss and gradient. Raises UserError if they exceed the limits.

    Args:
        loss: from the other side.
        ours: our loss, and the norm of the difference of the gradients relative to the gradient's
            norm.
    """
    relative, gradient = abs(ours[0] - loss) / loss, ours[1]
    print(
        f"losses {loss:.6f} and {ours[0]:.6f}, relative difference {relative:.1e}; "
        f"of the gradients, relative to their norm: {gradient:.1e}"
    )
    if not (relative <= MAX_DIFFERENCE and gradient <= MAX_GRADIENT_DIFFERENCE):
        raise UserError(
            f"Losses differ by {relative:.1e}, gradients by {gradient:.1e} of their norm, where "
            f"{MAX_DIFFERENCE} and {MAX_GRADIENT_DIFFERENCE} are allowed: the times above compare "
            "different functions."
        )
