"""A start from the parameters of another run, whole or in part."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jaxtyping import PyTree

from perceiver_io.construct import listing
from perceiver_io.errors import UserError
from perceiver_io.training.archive import (
    Shapes,
    check_same,
    find_checkpoint,
    read_arrays,
    read_shapes,
)
from perceiver_io.training.state import Params, names


class WarmStart(NamedTuple):
    """What became of the arrays of a warm start, by name.

    Attributes:
        params: the parameters, those of the checkpoint in place.
        model_state: the model's state, likewise.
        loaded: names that were taken from the checkpoint.
        left: names of the model that keep their initial values.
        unused: names of the checkpoint that were not taken.
    """

    params: Params
    model_state: PyTree
    loaded: tuple[str, ...]
    left: tuple[str, ...]
    unused: tuple[str, ...]


def load_weights(
    path: str,
    params: Params,
    model_state: PyTree,
    prefixes: tuple[str, ...] = (),
    hint: str = "Set config.init_prefixes to the modules that both have, or change config.model.",
) -> WarmStart:
    """Parameters and model state from a checkpoint, all of them or some.

    The moving average of the parameters is taken where the checkpoint has one.

    Args:
        path: a run folder, whose latest checkpoint is taken, or RUN/checkpoints/STEP.
        params: the model's parameters: arrays, or shapes with shardings if all are loaded.
        model_state: the model's state, likewise.
        prefixes: only names `MODULE/NAME` that start with one of these are loaded; () is all.
        hint: the way out, for the error about a checkpoint of another model.

    Raises UserError if there is no checkpoint, if a prefix fits nothing, or if names or shapes of
    what is to be loaded are different.
    """
    directory = find_checkpoint(path)
    model = {"params": params, "model_state": model_state}
    wanted, found = names(model), _weights(read_shapes(directory))

    def chosen(name: str) -> bool:
        return not prefixes or name.split("/", 1)[1].startswith(prefixes)

    _check_prefixes(directory, prefixes, wanted)
    taken = {name: leaf for name, leaf in wanted.items() if chosen(name)}
    available = {name: shape for name, (_, shape) in found.items() if chosen(name)}
    check_same(directory, available, taken, hint)
    loaded = read_arrays(directory, {name: (found[name][0], leaf) for name, leaf in taken.items()})
    merged = jax.tree.unflatten(jax.tree.structure(model), (wanted | loaded).values())
    return WarmStart(
        params=merged["params"],
        model_state=merged["model_state"],
        loaded=tuple(taken),
        left=tuple(name for name in wanted if name not in taken),
        unused=tuple(name for name in found if name not in taken),
    )


def _weights(
    shapes: Shapes,
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """{name: (name in the checkpoint, shape)}; the moving average stands in for the parameters."""
    found = {}
    for name, shape in shapes.items():
        if name.startswith(("params/", "model_state/")):
            source = f"ema_{name}" if f"ema_{name}" in shapes else name
            found[name] = (source, shape)
    return found


def _check_prefixes(directory: Path, prefixes: tuple[str, ...], wanted: Mapping[str, Any]) -> None:
    model_names = [name.split("/", 1)[1] for name in wanted]
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in model_names):
            modules = sorted({name.split("/", 1)[0] for name in model_names})
            raise UserError(
                f"config.init_prefixes has {prefix!r}, with which no name of the model starts, so "
                f"nothing of {directory} would be loaded for it. The names start with "
                f"{listing(modules)}."
            )
