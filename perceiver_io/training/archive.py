"""Reads the arrays of a checkpoint by name.

A checkpoint is a folder whose subfolder `state` holds a flat mapping of arrays by name:
`params/MODULE/NAME`, `ema_params/...`, `model_state/...`, `opt_state/...`, `step`. It can thus be
compared with any model by name and shape, read in part, and sharded over any number of devices.
"""

from collections.abc import Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp

from perceiver_io.errors import UserError
from perceiver_io.storage import Folder, is_address, is_folder, located
from perceiver_io.training.integrity import COMMITTED, problem

Shapes = dict[str, tuple[int, ...]]


def find_checkpoint(path: str) -> Folder:
    """The checkpoint folder for the path of a run folder or of a checkpoint folder.

    Raises UserError if there is none.
    """
    given = located(path)
    if is_folder(given / "state"):
        return given
    steps = find_steps(given / "checkpoints")
    if not steps:
        raise UserError(
            f"No checkpoint at {path}. Give a run folder whose folder `checkpoints` has at least "
            "one step in it, or a single checkpoint: RUN/checkpoints/STEP."
        )
    return given / "checkpoints" / str(max(steps))


def find_steps(checkpoints: Folder) -> list[int]:
    """The steps of the complete checkpoints in a folder, in ascending order."""
    found = [path for path in checkpoints.glob("*") if path.name.isdecimal()]
    if is_address(checkpoints):
        # Folders in a bucket get their final name at the start, and this file at the end.
        found = [path for path in found if (path / COMMITTED).exists()]
    return sorted(int(path.name) for path in found)


def verify(directory: Folder) -> None:
    """Raises UserError if a checkpoint is damaged; only the first process reads it."""
    what = problem(directory, arrays=True) if jax.process_index() == 0 else None
    if what is not None:
        raise damaged(directory, what)


def read_shapes(directory: Folder) -> Shapes:
    """The shapes of all arrays in a checkpoint, by name. Raises UserError if it is damaged."""
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        metadata = checkpointer.metadata(directory / "state").item_metadata
    if metadata is None:
        raise damaged(directory, "the list of its arrays cannot be read")
    return {name: tuple(array.shape) for name, array in metadata.tree.items()}


def read_arrays(directory: Folder, template: Mapping[str, tuple[str, Any]]) -> dict[str, jax.Array]:
    """Arrays by name, from {name: (name in the checkpoint, array or shape with sharding)}.

    Raises UserError if an array cannot be read.
    """
    wanted = {
        source: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
        for source, leaf in template.values()
    }
    arguments = ocp.args.PyTreeRestore(
        item=wanted,
        restore_args=ocp.checkpoint_utils.construct_restore_args(wanted),
        partial_restore=True,
    )
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        try:
            arrays = checkpointer.restore(directory / "state", arguments)
        except Exception as error:
            # Orbax raises a plain Exception for corrupt or missing bytes.
            if type(error) is not Exception:
                raise
            raise damaged(directory, str(error).splitlines()[0]) from error
    return {name: arrays[source] for name, (source, _) in template.items()}


def damaged(directory: Folder, what: str) -> UserError:
    """The error for a checkpoint with wrong or missing parts."""
    return UserError(
        f"The checkpoint {directory} is damaged: {what}. Remove that folder, so that the same "
        "command uses the checkpoint before it; or choose another one."
    )


def check_same(where: str, found: Shapes, wanted: Mapping[str, Any], hint: str) -> None:
    """Raises UserError listing by name the arrays found and wanted that differ."""
    # Parameters come first, since the other arrays follow from them.
    found, wanted = (dict(sorted(x.items(), key=_parameters_first)) for x in (found, wanted))
    other = [
        f"{name} {found[name]} instead of {leaf.shape}"
        for name, leaf in wanted.items()
        if name in found and found[name] != leaf.shape
    ]
    problems = {
        "missing": [name for name in wanted if name not in found],
        "unexpected": [name for name in found if name not in wanted],
        "of different shape": other,
    }
    report = [f"{what}: {_shortened(where)}" for what, where in problems.items() if where]
    if report:
        raise UserError(
            f"The {where} is for a different model or optimizer; {'; '.join(report)}. " + hint
        )


def _parameters_first(item: tuple[str, Any]) -> bool:
    return not item[0].startswith("params/")


def _shortened(items: list[str], limit: int = 4) -> str:
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more
