"""MixUp and CutMix on the device; see `perceiver_io.data.vision.mixing`."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Real

from perceiver_io.errors import UserError


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
    if batch % 2:
        raise UserError(
            f"A batch of {batch} examples cannot be mixed, since MixUp and CutMix work on pairs: "
            "choose an even config.training.batch_size (with config.parallel=pmap, an even number "
            "of examples per device); or set config.data.mixup_alpha and cutmix_alpha to 0."
        )
    weight, box = (jnp.repeat(x[::2], 2, axis=0) for x in (weight, box))
    top, bottom, left, right = box.T[:, :, None]
    rows, columns = jnp.arange(height), jnp.arange(width)
    in_rows, in_columns = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    exchanged = in_rows[:, :, None] & in_columns[:, None, :]
    own = jnp.where(exchanged, 0, weight[:, None, None])
    area = (bottom - top) * (right - left)
    own_label = weight[:, None] * (1 - area / (height * width))
    return _blend(image.astype(jnp.float32), own[..., None]), _blend(label, own_label)


def _blend(x: Float[Array, "B ..."], own: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
    """Computes own * x + (1 - own) * (the other example of the pair)."""
    neighbour = x.reshape(-1, 2, *x.shape[1:])[:, ::-1].reshape(x.shape)
    return x + (1 - own) * (neighbour - x)
