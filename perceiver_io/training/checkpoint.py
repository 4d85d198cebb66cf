"""Checkpoints of the training state and of the position in the data, written by Orbax.

A checkpoint is a folder `checkpoints/STEP` in the run folder: the arrays of the state in `state`
(see archive.py), each process's position in the data in `data`, and the metrics of the step.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import grain
import grain.checkpoint
import jax
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree
from orbax.checkpoint.checkpoint_managers import preservation_policy

from perceiver_io.config.annotations import Count
from perceiver_io.errors import UserError
from perceiver_io.progress import say
from perceiver_io.training.archive import check_same, damaged, read_arrays, read_shapes
from perceiver_io.training.state import TrainState, names


class Checkpoints:
    """The checkpoints of a run: the latest ones and the best one."""

    def __init__(
        self,
        workdir: Path,
        /,
        *,
        keep: Count = 2,
        best_metric: str | None = None,
        best_mode: Literal["max", "min"] | None = None,
        every: Count = 1000,
    ):
        """Opens or creates `workdir/checkpoints`.

        Args:
            workdir: the run folder.
            keep: how many of the latest checkpoints to keep, in addition to the best one.
            best_metric: metric that determines the best checkpoint, as EVALUATOR/METRIC; None
                keeps only the latest ones.
            best_mode: whether the greatest or the least value is the best; needed with
                `best_metric`.
            every: steps between checkpoints.

        Raises UserError for a best metric without its mode.
        """
        if best_metric is not None and best_mode is None:
            raise UserError(
                f"config.checkpoint.best_metric is {best_metric!r}, but best_mode is not set: set "
                "--config.checkpoint.best_mode to max or min, whichever is better."
            )
        self.directory = workdir.absolute() / "checkpoints"
        self._best_metric = best_metric
        self._sign = 1 if best_mode == "max" else -1
        self._every = every
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                best_fn=self._score if best_metric else None,
                preservation_policy=self._policy(keep),
                enable_async_checkpointing=True,
            ),
        )
        step = self._manager.best_step()
        metrics = None if step is None else self._manager.metrics(step)
        self._best = self._score(metrics) if metrics and best_metric else None

    def latest_step(self) -> int | None:
        """The step to resume from; None for a new run."""
        return self._manager.latest_step()

    def best_step(self) -> int | None:
        """The best checkpoint's step; the latest one's if none has been evaluated."""
        return self._manager.best_step() if self._best is not None else self.latest_step()

    def steps(self) -> list[int]:
        """The steps of all existing checkpoints."""
        return sorted(self._manager.all_steps())

    def due(self, step: int, metrics: Mapping[str, float] | None) -> bool:
        """Whether to save: at the interval, and if the evaluation is the best so far."""
        if step % self._every == 0:
            return True
        if metrics is None or self._best_metric is None:
            return False
        if self._best_metric not in metrics:
            say(f"the evaluation of step {step} has no {self._best_metric}: it is not the best")
        score = self._score(metrics)
        return self._best is None or score > self._best

    def save(
        self,
        state: TrainState,
        iterator: grain.DatasetIterator,
        metrics: Mapping[str, float] | None,
    ) -> None:
        """Starts writing a checkpoint, and returns as soon as the state has been copied.

        Args:
            state: a strategy's snapshot.
            iterator: the data iterator, just after this state's last batch.
            metrics: the evaluation of this state, by EVALUATOR/METRIC.

        Raises any error that occurred while the previous checkpoint was written.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        arguments = ocp.args.Composite(
            state=ocp.args.PyTreeSave(names(state)),
            data=grain.checkpoint.CheckpointSave(iterator),
        )
        self._manager.save(step, args=arguments, metrics=metrics and dict(metrics), force=True)
        if metrics and self._best_metric:
            score = self._score(metrics)
            self._best = score if self._best is None else max(score, self._best)

    def restore(
        self, step: int, template: TrainState, iterator: grain.DatasetIterator
    ) -> TrainState:
        """The state at a step, sharded like the template; sets the iterator to the same position.

        Raises UserError if the checkpoint is damaged, or naming the arrays that differ if it is of
        another model or optimizer.
        """
        directory = self.directory / str(step)
        wanted = names(template)
        found = read_shapes(directory)
        hint = "Use a new --workdir for a new model."
        check_same(f"checkpoint {directory}", found, wanted, hint)
        restored = read_arrays(directory, {name: (name, leaf) for name, leaf in wanted.items()})
        _restore_iterator(directory, iterator)
        return jax.tree.unflatten(jax.tree.structure(template), restored.values())

    def wait(self) -> None:
        """Waits until everything has been written to disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits as `wait` does; afterwards nothing can be saved."""
        self.wait()
        self._manager.close()

    def _score(self, metrics: Mapping[str, float]) -> float:
        # A metric that covers no element, such as the error of fast pixels, is missing.
        value = self._sign * metrics.get(self._best_metric, np.nan)
        return value if np.isfinite(value) else -np.inf

    def _policy(self, keep: int) -> preservation_policy.PreservationPolicy:
        latest = preservation_policy.LatestN(keep)
        if self._best_metric is None:
            return latest
        best = preservation_policy.BestN(
            get_metric_fn=self._score, n=1, keep_checkpoints_without_metrics=False
        )
        return preservation_policy.AnyPreservationPolicy([latest, best])


def size_in_bytes(template: PyTree) -> int:
    """The size of one checkpoint of a state, in bytes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(template))


def _restore_iterator(directory: Path, iterator: grain.DatasetIterator) -> None:
    """Sets the iterator to the saved position.

    All processes are at the same position in the same stream, so that the position of process 0
    can be used by any number of processes.
    """
    own = directory / "data" / f"process_{jax.process_index()}-of-{jax.process_count()}.json"
    path = own if own.exists() else next(own.parent.glob("process_0-of-*.json"), None)
    if path is None:
        raise damaged(directory, "the position in the data is missing")
    try:
        iterator.set_state(json.loads(path.read_text()))
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise UserError(
            f"The position in the data saved in {path} does not fit this input pipeline ({error!r})"
            ". Resume with the data section with which the run was started; it is in the run "
            "folder's config.json."
        ) from error
