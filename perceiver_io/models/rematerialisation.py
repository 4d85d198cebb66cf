"""Layers of which the backward pass recomputes some of the forward pass, instead of keeping it."""

from collections.abc import Callable

import haiku as hk
import jax

from perceiver_io.models import fast, gathering
from perceiver_io.models.settings import Remat

_KEEP_ATTENDED = jax.checkpoint_policies.save_only_these_names(fast.ATTENDED)
# What is kept, by the setting.
_POLICIES = {
    "none": gathering.keep_all_but_gathered,
    "products": jax.checkpoint_policies.save_from_both_policies(
        jax.checkpoint_policies.dots_with_no_batch_dims_saveable, _KEEP_ATTENDED
    ),
    "all": _KEEP_ATTENDED,
}


def rematerialised(layer: Callable, remat: Remat, *, is_scanned: bool) -> Callable:
    """The Haiku function `layer`, recomputed as `LatentStackSettings.remat` says.

    Parameters that are sharded over devices are always brought together again. `is_scanned` tells
    that the layer is the body of a loop.
    """
    if remat == "none" and not gathering.is_sharded():
        return layer
    # In a loop, XLA cannot reuse the forward pass: no barriers against that are needed.
    return hk.remat(layer, policy=_POLICIES[remat], prevent_cse=not is_scanned)
