"""Warm starts: initialises some or all parameters from trained ones."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from perceiver_io.config.construct import listing
from perceiver_io.errors import UserError
from perceiver_io.training.archive import (
    Shapes,
    check_same,
    find_checkpoint,
    read_arrays,
    read_shapes,
    verify,
)
from perceiver_io.training.state import Params, names

Grid = tuple[int, ...]

_MAX_LISTED = 3

CHOOSE_MODULES = (
    "Set config.init_prefixes to the modules that both have, or, with a ! before each, to those to "
    "train from scratch, such as ('!decoder/logits',); or change config.model."
)


class Source(NamedTuple):
    """Where trained arrays come from.

    where: a description for error messages.
    shapes: shapes of the parameters and the model state by name, `params/...` and
        `model_state/...`.
    read: {name: shape with dtype and sharding} -> the arrays by name, with that dtype and sharding.
    """

    where: str
    shapes: Shapes
    read: Callable[[Mapping[str, Any]], Mapping[str, Array]]


class WarmStart(NamedTuple):
    """The result of a warm start: the arrays, and the names of those that were loaded or not.

    Attributes:
        params: the parameters, with those of the source in place.
        model_state: the model's state, likewise.
        loaded: names of arrays taken from the source.
        resized: names among these of arrays that were resized to another resolution.
        left: names of the model's arrays that keep their initial values.
        unused: names of the source's arrays that were not used.
    """

    params: Params
    model_state: PyTree
    loaded: tuple[str, ...]
    resized: tuple[str, ...]
    left: tuple[str, ...]
    unused: tuple[str, ...]


def checkpoint_source(path: str) -> Source:
    """A checkpoint of this project; the moving average of the parameters if it has one.

    `path` is a run folder, whose latest checkpoint is used, or RUN/checkpoints/STEP. Raises
    UserError if there is none.
    """
    directory = find_checkpoint(path)
    verify(directory)
    found = _weights(read_shapes(directory))

    def read(template):
        return read_arrays(directory, {n: (found[n][0], leaf) for n, leaf in template.items()})

    shapes = {name: shape for name, (_, shape) in found.items()}
    return Source(f"checkpoint {directory}", shapes, read)


def array_source(where: str, params: PyTree, model_state: PyTree) -> Source:
    """Arrays in memory, the same in every process."""
    arrays = names({"params": params, "model_state": model_state})

    def placed(array, leaf):
        array = np.asarray(array, leaf.dtype)
        return jax.make_array_from_callback(array.shape, leaf.sharding, array.__getitem__)

    def read(template):
        return {name: placed(arrays[name], leaf) for name, leaf in template.items()}

    return Source(where, {name: np.shape(array) for name, array in arrays.items()}, read)


def load_weights(
    source: Source,
    params: Params,
    model_state: PyTree,
    prefixes: tuple[str, ...] = (),
    grids: tuple[Mapping[str, Grid], Mapping[str, Grid]] = ({}, {}),
    hint: str = CHOOSE_MODULES,
) -> WarmStart:
    """Loads some or all parameters and model state from a source.

    Args:
        source: where they come from.
        params: the model's parameters: arrays, or shapes with shardings if all are loaded.
        model_state: the model's state, likewise.
        prefixes: only arrays whose name `MODULE/NAME` starts with one of these are loaded, and none
            whose name starts with a prefix that follows a `!`; () loads all.
        grids: for the source and for the model, the shapes of the grids of position tables
            [M, P], or [L, M, P] in a stack of layers, by `MODULE/NAME`; a table that both have is
            resized if the shapes differ.
        hint: the remedy to suggest in the error about a different model.

    Raises UserError if a prefix matches nothing, if the names or shapes of the arrays to be loaded
    differ, and for values that are not finite.
    """
    model = {"params": params, "model_state": model_state}
    wanted = names(model)
    _check_prefixes(source.where, prefixes, wanted)
    taken = {name: leaf for name, leaf in wanted.items() if _chosen(name, prefixes)}
    available = {n: shape for n, shape in source.shapes.items() if _chosen(n, prefixes)}
    resized = {}
    for name in sorted(grids[0].keys() & grids[1].keys()):
        pair, full_name = tuple(grid[name] for grid in grids), f"params/{name}"
        if _resizable(available.get(full_name), taken.get(full_name), *pair):
            resized[full_name] = pair
    fitting = available | {name: taken[name].shape for name in resized}
    check_same(source.where, fitting, taken, hint)
    template = {
        name: _replicated(available[name], leaf) if name in resized else leaf
        for name, leaf in taken.items()
    }
    loaded = dict(source.read(template))
    check_finite(source.where, loaded)
    for name, (old, new) in resized.items():
        loaded[name] = resize_positions(loaded[name], old, new, taken[name].sharding)
    merged = jax.tree.unflatten(jax.tree.structure(model), (wanted | loaded).values())
    return WarmStart(
        params=merged["params"],
        model_state=merged["model_state"],
        loaded=tuple(taken),
        resized=tuple(resized),
        left=tuple(name for name in wanted if name not in taken),
        unused=tuple(name for name in source.shapes if name not in taken),
    )


def check_finite(where: str, arrays: Mapping[str, Array]) -> None:
    """Raises UserError naming arrays with NaN or infinity. All processes call it.

    Args:
        where: they are from, for the error.
        arrays: by name.
    """

    @jax.jit
    def finite(arrays):
        return {name: jnp.isfinite(array).all() for name, array in arrays.items()}

    wrong = [name for name, holds in jax.device_get(finite(dict(arrays))).items() if not holds]
    if wrong:
        raise UserError(
            f"The {where} has NaN or infinity in {len(wrong)} of {len(arrays)} arrays, such as "
            f"{listing(wrong[:_MAX_LISTED])}: it is damaged, or of a training that diverged. Load "
            "it again, or take another checkpoint."
        )


def by_module(names: Collection[str], others: Collection[str]) -> list[str]:
    """Summarises names of arrays by the largest modules that contain none of `others`.

    Each module is listed with the number of its arrays, as in `encoder/cross_attend (12 arrays)`,
    and without the collection that every name starts with.
    """
    elsewhere = {prefix for name in others for prefix in _prefixes(name)}
    found = Counter(
        next((prefix for prefix in _prefixes(name) if prefix not in elsewhere), name)
        for name in names
    )
    return [
        f"{module} ({count} arrays)" if count > 1 else module for module, count in found.items()
    ]


def differing_settings(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Describes the settings that both models have but that differ, by path."""
    return [
        f"{name} {value} there and {here[name]} here"
        for name, value in there.items()
        if name in here and here[name] != value
    ]


def resize_positions(
    positions: Float[Array, "*L M P"], old: Grid, new: Grid, sharding: Any
) -> Float[Array, "*L N P"]:
    """Learned positions of a grid, linearly interpolated to another grid; L layers of a stack."""

    def resize(x):
        *stack, _, channels = x.shape
        x = jax.image.resize(x.reshape(*stack, *old, channels), (*stack, *new, channels), "linear")
        return x.reshape(*stack, -1, channels)

    return jax.jit(resize, out_shardings=sharding)(positions)


def _resizable(found: tuple[int, ...] | None, leaf: Any, old: Grid, new: Grid) -> bool:
    """Whether both arrays exist, fit their grids and are equally wide, but differ in length."""
    if found is None or leaf is None or found == leaf.shape:
        return False
    *stack, _, channels = found
    expected = ((*stack, math.prod(grid), channels) for grid in (old, new))
    return (found, leaf.shape) == tuple(expected)


def _replicated(shape: tuple[int, ...], leaf: Any) -> jax.ShapeDtypeStruct:
    """An array of the given shape, replicated over the devices that have a part of `leaf`."""
    sharding = leaf.sharding
    if isinstance(sharding, jax.sharding.NamedSharding):
        sharding = jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
    return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=sharding)


def _chosen(name: str, prefixes: tuple[str, ...]) -> bool:
    """Whether `COLLECTION/MODULE/NAME` is to be loaded."""
    name = name.split("/", 1)[1]
    without = tuple(prefix[1:] for prefix in prefixes if prefix.startswith("!"))
    only = tuple(prefix for prefix in prefixes if not prefix.startswith("!"))
    return (not only or name.startswith(only)) and not name.startswith(without)


def _prefixes(name: str) -> list[str]:
    """`a`, `a/b` and `a/b/c` of `COLLECTION/a/b/c`."""
    return list(itertools.accumulate(name.split("/")[1:], "{}/{}".format))


def _weights(
    shapes: Shapes,
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """{name: (name in the checkpoint, shape)}; prefers the moving average of the parameters."""
    found = {}
    for name, shape in shapes.items():
        if name.startswith(("params/", "model_state/")):
            source = f"ema_{name}" if f"ema_{name}" in shapes else name
            found[name] = (source, shape)
    return found


def _check_prefixes(where: str, prefixes: tuple[str, ...], wanted: Mapping[str, Any]) -> None:
    model_names = [name.split("/", 1)[1] for name in wanted]
    for prefix in prefixes:
        if not any(name.startswith(prefix.removeprefix("!")) for name in model_names):
            modules = sorted({name.split("/", 1)[0] for name in model_names})
            raise UserError(
                f"config.init_prefixes has {prefix!r}, but no name in the model starts with that, "
                f"so it selects nothing from the {where}. The names start with {listing(modules)}."
            )
