"""MixUp and CutMix on the device; see `perceiver_io.data.vision.mixing`."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Real

from perceiver_io.tasks.pairs import blend, check_pairs, of_first


def mix_pairs(
    image: Real[Array, "B H W C"],
    label: Float[Array, "B K"],
    weight: Float[Array, " B"],
    box: Int[Array, "B 4"],
) -> tuple[Float[Array, "B H W C"], Float[Array, "B K"]]:
    """Mixes examples 0 and 1, 2 and 3 ..., each with a part of the other.

    Labels are mixed in the exact proportion of the pixels. Mixing commutes with normalisation.

    Args:
        image: pixels.
        label: class probabilities.
        weight: of an example's own content; that of the first example of each pair is used.
        box: top, bottom, left and right of the exchanged box; likewise.

    Raises UserError for an odd number of examples.
    """
    batch, height, width, _ = image.shape
    check_pairs(batch, "set config.data.mixup_alpha and cutmix_alpha to 0")
    weight, box = of_first(weight), of_first(box)
    top, bottom, left, right = box.T[:, :, None]
    rows, columns = jnp.arange(height), jnp.arange(width)
    in_rows, in_columns = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    exchanged = in_rows[:, :, None] & in_columns[:, None, :]
    own = jnp.where(exchanged, 0, weight[:, None, None])
    area = (bottom - top) * (right - left)
    own_label = weight[:, None] * (1 - area / (height * width))
    return blend(image.astype(jnp.float32), own[..., None]), blend(label, own_label)
