"""Batch norm with the settings that all convolutional layers use."""

import haiku as hk

from perceiver_io.models.weights import BIAS_INIT, SCALE_INIT


def batch_norm(name: str, epsilon: float = 1e-5) -> hk.BatchNorm:
    """Batch norm with scale and offset; its running statistics decay at 0.9."""
    return hk.BatchNorm(
        create_scale=True, create_offset=True, decay_rate=0.9, eps=epsilon, scale_init=SCALE_INIT,
        offset_init=BIAS_INIT, name=name,
    )  # fmt: skip
