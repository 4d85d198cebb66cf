"""A plain convolutional network, a baseline for Perceivers on small image datasets."""

from collections.abc import Sequence
from dataclasses import dataclass

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_io.models.batch_norm import batch_norm
from perceiver_io.models.weights import BIAS_INIT


@dataclass(frozen=True)
class ConvNet:
    """3x3 convolutions, each with batch norm, ReLU and 2x2 max pooling; then average pooling.

    num_classes: number of logits.
    widths: output channels of each convolution.
    """

    num_classes: int
    widths: Sequence[int]

    def __call__(self, inputs: Float[Array, "B H W C"], *, is_training: bool) -> Array:
        """Logits [B, num_classes]."""
        return self.decode(self.encode(inputs, is_training=is_training), is_training=is_training)

    def encode(self, inputs: Float[Array, "B H W C"], *, is_training: bool) -> Array:
        """Features [B, F], averaged over the image."""
        x = inputs
        for i, width in enumerate(self.widths):
            x = hk.Conv2D(width, 3, with_bias=False, name=f"conv_{i}")(x)
            norm = batch_norm(f"batch_norm_{i}")
            x = jax.nn.relu(norm(x.astype(jnp.float32), is_training).astype(x.dtype))
            x = hk.max_pool(x, (1, 2, 2, 1), (1, 2, 2, 1), "SAME")
        return x.mean(axis=(1, 2))

    def decode(self, encoded: Float[Array, "B F"], *, is_training: bool) -> Array:
        """Logits [B, num_classes] from the features."""
        del is_training
        return hk.Linear(self.num_classes, b_init=BIAS_INIT, name="logits")(encoded)
