"""Examples that are split over devices: each of a group has a part of every example's inputs.

The group is the axis `sequence` of the mesh that a program is compiled for, see
`perceiver_io.training.parallel.Mesh`; without one, nothing here does anything. A cross-attend
splits its longer side: if these are the inputs, each device computes the partial maximum and sums
of the softmax over its own inputs, which are then combined; if these are the queries, each device
computes the outputs of its own queries. Latents are the same on all devices of a group.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int, PyTree

from perceiver_io.axes import DATA, FSDP, SEQUENCE
from perceiver_io.models.perceiver.tokens import GridPositions, Tokens, dense_positions

Result = TypeVar("Result", bound=PyTree[Array])


class Sums(NamedTuple):
    """The sums of a softmax over some of the inputs.

    maximum: of the logits.
    denominator: sum of exp(logit - maximum).
    numerator: sum of the values, each times exp(logit - maximum).
    """

    maximum: Float[Array, "B H O"]
    denominator: Float[Array, "B H O"]
    numerator: Float[Array, "B H V O"]


def num_parts() -> int:
    """The number of parts of each example; 1 also in code that sees the part of one device."""
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if SEQUENCE in mesh.manual_axes else mesh.shape.get(SEQUENCE, 1)


def splits(longer: int, shorter: int) -> bool:
    """Whether a cross-attend splits the side with `longer` rows, not the one with `shorter`."""
    parts = num_parts()
    return parts > 1 and longer > shorter and longer % parts == 0


def split_inputs(tokens: Tokens) -> Tokens:
    """Puts a part of the tokens on each device; adds tokens that are masked to get equal parts."""
    if num_parts() == 1:
        return tokens

    def place(x):
        batch = None if x.shape[0] == 1 else (DATA, FSDP)
        spec = PartitionSpec(batch, None if x.shape[1] == 1 else SEQUENCE)
        return jax.lax.with_sharding_constraint(x, spec)

    return jax.tree.map(place, divisible(_padded(tokens)))


def _padded(tokens: Tokens) -> Tokens:
    count = tokens.features.shape[1]
    missing = -count % num_parts()
    if missing == 0:
        return tokens
    mask = jnp.ones((1, count), bool) if tokens.mask is None else tokens.mask
    every = Tokens(tokens.features, dense_positions(tokens.positions), mask)
    return jax.tree.map(
        lambda x: jnp.pad(x, [(0, 0), (0, missing)] + [(0, 0)] * (x.ndim - 2)), every
    )


def whole(x: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
    """Puts all of an array, at both ends of a stack of convolutions, on each device of a group.

    XLA would split convolutions, too, but where each device has few rows, it sums some gradients
    over devices once too often.
    """
    if num_parts() == 1:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec((DATA, FSDP)))


def divisible(tokens: Tokens) -> Tokens:
    """The tokens with dense positions where the rows of their grid cannot be split evenly."""
    positions = tokens.positions
    if isinstance(positions, GridPositions) and positions.rows.shape[1] % num_parts():
        return tokens._replace(positions=dense_positions(positions))
    return tokens


def of_one_device(rows: PyTree[Array]) -> PyTree[jax.ShapeDtypeStruct]:
    """The shapes of a device's part of arrays [B, M, ...]."""

    def part(x):
        length = x.shape[1] if x.shape[1] == 1 else x.shape[1] // num_parts()
        return jax.ShapeDtypeStruct((x.shape[0], length, *x.shape[2:]), x.dtype)

    return jax.tree.map(part, rows)


def specs(rows: PyTree[Array]) -> PyTree[PartitionSpec]:
    """How arrays [B, M, ...] are split along M; arrays [B, 1, ...] are shared by all rows."""
    return jax.tree.map(
        lambda x: PartitionSpec() if x.shape[1] == 1 else PartitionSpec(None, SEQUENCE), rows
    )


def on_each_device(
    function: Callable[..., Result], arguments: tuple[PyTree[Array], ...], in_specs: Any, out: Any
) -> Result:
    """function(*arguments) on each device of a group, on its parts of the arguments."""
    return jax.shard_map(
        function, in_specs=in_specs, out_specs=out, axis_names={SEQUENCE}, check_vma=False
    )(*arguments)


def combined(sums: Sums) -> Sums:
    """The sums over the inputs of all devices, from each device's own."""
    maximum = jax.lax.pmax(sums.maximum, SEQUENCE)
    share = jnp.exp(sums.maximum - maximum)
    own = sums.denominator * share, sums.numerator * share[:, :, None]
    return Sums(maximum, *jax.lax.psum(own, SEQUENCE))


def added(gradients: PyTree[Array]) -> PyTree[Array]:
    """The sum of all devices' gradients, of arrays that they share."""
    return jax.lax.psum(gradients, SEQUENCE)


def added_if_shared(gradients: PyTree[Array]) -> PyTree[Array]:
    """The same for arrays of which some are split along their rows."""
    return jax.tree.map(lambda x: added(x) if x.shape[1] == 1 else x, gradients)


def index() -> Int[Array, ""]:
    """The number of this device in its group."""
    return jax.lax.axis_index(SEQUENCE)
