"""Names of the axes of a mesh of devices, which strategies make and models split their inputs over.

data: parts of the batch.
fsdp: parts of the batch, and shards of the parameters.
sequence: parts of each example.
"""

import math
from collections.abc import Sequence

DATA, FSDP, SEQUENCE = "data", "fsdp", "sequence"
# Smaller parameters are replicated: gathering them would cost more than sharding saves.
_MIN_SHARDED_SIZE = 1024


def shard_spec(
    shape: Sequence[int], num_shards: int, num_stacked: int = 0
) -> tuple[str | None, ...]:
    """The axis `fsdp` in the place of the axis of a parameter that is split; () if none is.

    It is the longest one that divides evenly, but never one of the first `num_stacked`, those of
    stacked layers.
    """
    axes = [i for i in range(num_stacked, len(shape)) if shape[i] % num_shards == 0]
    if math.prod(shape) < _MIN_SHARDED_SIZE or not axes:
        return ()
    axis = max(axes, key=lambda i: shape[i])
    return (*(None,) * axis, FSDP)
