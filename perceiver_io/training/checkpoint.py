"""Checkpoints of the training state and of the position in the data, written by Orbax.

A checkpoint is a folder `checkpoints/STEP` in the run folder: the arrays of the state in `state`
(see archive.py), each process's position in the data in `data`, the metrics of the step, and the
checksums of all these files (see integrity.py).
"""

import dataclasses
import functools
import json
import time
from collections.abc import Mapping, Sequence
from typing import Literal

import grain
import grain.checkpoint
import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from jaxtyping import PyTree
from orbax.checkpoint.checkpoint_managers import preservation_policy

from perceiver_io.config.annotations import Count, Positive
from perceiver_io.errors import UserError
from perceiver_io.progress import say
from perceiver_io.storage import Folder, is_address, located
from perceiver_io.training.archive import check_same, damaged, find_steps, read_arrays, read_shapes
from perceiver_io.training.disk import make_workdir, size_of
from perceiver_io.training.integrity import SealedObjects, SealedPath, problem, set_aside
from perceiver_io.training.state import TrainState, names


class Checkpoints:
    """The checkpoints of a run: the latest ones and the best one."""

    def __init__(
        self,
        workdir: Folder,
        /,
        *,
        keep: Count = 2,
        best_metric: str | None = None,
        best_mode: Literal["max", "min"] | None = None,
        every: Count = 1000,
        minutes: Positive | None = None,
    ):
        """Does not access the disk yet.

        Args:
            workdir: the run folder.
            keep: how many of the latest checkpoints to keep, in addition to the best one.
            best_metric: metric that determines the best checkpoint, as EVALUATOR/METRIC; None
                keeps only the latest ones.
            best_mode: whether the greatest or the least value is the best; needed with
                `best_metric`.
            every: steps between checkpoints.
            minutes: between checkpoints, at most, by the clock of the first process; looked at
                when metrics are recorded. Of those that are not at a multiple of `every`, only the
                newest of all is kept. None: by steps only.

        Raises UserError for a best metric without its mode.
        """
        if best_metric is not None and best_mode is None:
            raise UserError(
                f"config.checkpoint.best_metric is {best_metric!r}, but best_mode is not set: set "
                "--config.checkpoint.best_mode to max or min, whichever is better."
            )
        self.directory = located(workdir) / "checkpoints"
        self._keep = keep
        self._best_metric = best_metric
        self._sign = 1 if best_mode == "max" else -1
        self._every = every
        self._minutes = minutes
        self._saved_at = time.monotonic()

    @functools.cached_property
    def _manager(self) -> ocp.CheckpointManager:
        """Saves and removes checkpoints; reads the metrics of all of them when it is created."""
        return ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                best_fn=self._score if self._best_metric else None,
                preservation_policy=self._policy(self._keep),
                enable_async_checkpointing=True,
                # In the background, an error would leave the writers waiting for the folder.
                async_options=ocp.options.AsyncOptions(create_directories_asynchronously=False),
                cleanup_tmp_directories=True,
                temporary_path_class=SealedObjects if is_address(self.directory) else SealedPath,
            ),
        )

    @functools.cached_property
    def _best(self) -> float | None:
        """The best score so far."""
        return max(self._scores().values(), default=None)

    def resume_step(self) -> int | None:
        """The newest step whose checkpoint is intact; None for a new run.

        Damaged checkpoints are set aside, so that an unattended restart resumes from the one
        before. The first process decides for all. Raises UserError if there are checkpoints, but
        none is intact.
        """
        make_workdir(self.directory)
        step = self._intact_step() if jax.process_index() == 0 else None
        step = int(multihost_utils.broadcast_one_to_all(np.int32(-1 if step is None else step)))
        return None if step < 0 else step

    def latest_step(self) -> int | None:
        """The latest checkpoint's step; None for a new run."""
        return max(self.steps(), default=None)

    def best_step(self) -> int | None:
        """The best checkpoint's step; the latest one's if none has been evaluated."""
        scores = self._scores()
        return max(scores, key=lambda step: (scores[step], step)) if scores else self.latest_step()

    def steps(self) -> list[int]:
        """The steps of all existing checkpoints."""
        return find_steps(self.directory)

    def size(self) -> int:
        """The size of all checkpoints in bytes, including those that were never completed."""
        folders = [path for path in self.directory.glob("*") if ".damaged" not in path.name]
        return sum(map(size_of, folders))

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

    def overdue(self) -> bool:
        """Whether so many minutes have passed since the last save; all processes must call it."""
        if self._minutes is None:
            return False
        late = time.monotonic() - self._saved_at > 60 * self._minutes
        return bool(multihost_utils.broadcast_one_to_all(np.bool_(late)))

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
        step, self._saved_at = int(state.step), time.monotonic()
        if step in self._manager.all_steps():
            return
        arguments = ocp.args.Composite(
            state=ocp.args.PyTreeSave(names(state)),
            data=grain.checkpoint.CheckpointSave(iterator),
        )
        best = self._best  # Before this step is among those that it is read from.
        self._manager.save(step, args=arguments, metrics=metrics and dict(metrics), force=True)
        if metrics and self._best_metric:
            score = self._score(metrics)
            self._best = score if best is None else max(score, best)

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

    def check(self) -> None:
        """Raises any error that occurred while the latest checkpoint was written; never waits."""
        if not self._manager.is_saving_in_progress():
            self._manager.wait_until_finished()

    def wait(self) -> None:
        """Waits until everything has been written to disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits as `wait` does; afterwards nothing can be saved."""
        self.wait()
        self._manager.close()

    def _intact_step(self) -> int | None:
        """As `resume_step`, in the first process."""
        intact, found = None, {}
        for step in reversed(self.steps()):
            what = problem(self.directory / str(step), arrays=intact is None)
            if what is not None:
                found[step] = what
            elif intact is None:
                intact = step
        if found and intact is None:
            listed = "; ".join(f"{step}: {what}" for step, what in found.items())
            raise UserError(
                f"Every checkpoint in {self.directory} is damaged ({listed}). Restore one from a "
                "backup, or remove that folder to train from the beginning."
            )
        for step, what in found.items():
            aside = set_aside(self.directory / str(step))
            say(f"the checkpoint of step {step} is damaged ({what}); it was moved to {aside}")
        return intact

    def _scores(self) -> dict[int, float]:
        """The scores of the checkpoints that were evaluated, by step."""
        if self._best_metric is None:
            return {}
        metrics = {step: self._read_metrics(step) for step in self.steps()}
        return {step: self._score(values) for step, values in metrics.items() if values is not None}

    def _read_metrics(self, step: int) -> dict[str, float] | None:
        directory = self.directory / str(step)
        what = problem(directory, arrays=False)
        if what is not None:
            say(f"the checkpoint of step {step} is damaged ({what}) and is not considered")
            return None
        try:
            return json.loads((directory / "metrics" / "metrics").read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise damaged(directory, "its metrics cannot be read") from error

    def _score(self, metrics: Mapping[str, float]) -> float:
        # A metric that covers no element, such as the error of fast pixels, is missing.
        value = self._sign * metrics.get(self._best_metric, np.nan)
        return value if np.isfinite(value) else -np.inf

    def _policy(self, keep: int) -> preservation_policy.PreservationPolicy:
        latest: preservation_policy.PreservationPolicy = preservation_policy.LatestN(keep)
        if self._minutes is not None:
            newest = preservation_policy.LatestN(1)
            latest = preservation_policy.AnyPreservationPolicy(
                [newest, _LatestAtInterval(keep, self._every)]
            )
        if self._best_metric is None:
            return latest
        best = preservation_policy.BestN(
            get_metric_fn=self._score, n=1, keep_checkpoints_without_metrics=False
        )
        return preservation_policy.AnyPreservationPolicy([latest, best])


@dataclasses.dataclass
class _LatestAtInterval(preservation_policy.PreservationPolicy):
    """Keeps the latest of the checkpoints at multiples of a number of steps."""

    count: int
    every: int

    def should_preserve(
        self,
        checkpoints: Sequence[preservation_policy.PolicyCheckpointInfo],
        *,
        context: preservation_policy.PreservationContext,
    ) -> Sequence[bool]:
        """Whether to keep each checkpoint."""
        del context
        steps = [info.step for info in checkpoints if info.step % self.every == 0]
        return [info.step in steps[-self.count :] for info in checkpoints]


def size_in_bytes(template: PyTree) -> int:
    """The size of one checkpoint of a state, in bytes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(template))


def _restore_iterator(directory: Folder, iterator: grain.DatasetIterator) -> None:
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
