"""A training run: its parts, its state, and its steps."""

import contextlib
import dataclasses
import functools
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import jax
from ml_collections import ConfigDict

from perceiver_io.config.construct import construct, listing
from perceiver_io.data.pipeline.dataset import turn
from perceiver_io.errors import UserError
from perceiver_io.models.architectures import build
from perceiver_io.progress import Progress, say
from perceiver_io.runtime import resumption, setup, time_budget, weights
from perceiver_io.runtime.plan import saved_step
from perceiver_io.runtime.weights import PREPARATION
from perceiver_io.storage import Folder, is_address
from perceiver_io.training import goodput, logging, parallel
from perceiver_io.training.checkpoint import Checkpoints, size_in_bytes
from perceiver_io.training.disk import check_space, disk_errors_explained, make_workdir
from perceiver_io.training.goodput import Activity, Ledger
from perceiver_io.training.histograms import histograms
from perceiver_io.training.interruption import Interruption
from perceiver_io.training.lock import locked
from perceiver_io.training.monitor import Monitor, NotFiniteError
from perceiver_io.training.profiling import Profiler
from perceiver_io.training.speed import Speed, training_summary
from perceiver_io.training.state import TrainState, initial_state
from perceiver_io.training.warm_start import by_module, differing_settings, load_weights


def train(
    config: ConfigDict,
    workdir: Folder,
    profile_steps: tuple[int, int] = (0, 0),
    allowed_changes: Iterable[str] = (),
    compiled_step: Path | None = None,
) -> bool:
    """Trains until the last step, a SIGTERM or Ctrl-C; resumes the run if it was started before.

    Returns whether the run is finished.

    Args:
        config: complete, as from `runtime.configuration`.
        workdir: the run folder.
        profile_steps: first and last step to profile into the run folder; (0, 0) for none.
        allowed_changes: settings that may differ from those the run was started with.
        compiled_step: file with the step, see `plan.saved_step`; None: it is compiled here.

    Raises UserError about an invalid config or one that is not the run's, another training in the
    folder, a full disk, or a loss that is not finite.
    """
    config = time_budget.fitted(config, workdir)
    _check_profile(profile_steps, config.training.steps, workdir)
    make_workdir(workdir)
    profiler = Profiler(workdir / "profile", *profile_steps)
    with contextlib.ExitStack() as stack:
        stack.enter_context(disk_errors_explained(workdir))
        stack.enter_context(locked(workdir))
        interruption = stack.enter_context(contextlib.closing(Interruption()))
        run = stack.enter_context(
            contextlib.closing(Run(config, workdir, profiler, allowed_changes, compiled_step))
        )
        try:
            finished = run.train(interruption)
        except NotFiniteError as error:
            raise UserError(run.explain(error)) from error
    say(goodput.as_line(goodput.totals(goodput.read(workdir / goodput.FILE))))
    return finished


def _check_profile(profile_steps: tuple[int, int], steps: int, workdir: Folder) -> None:
    """Raises UserError for steps to profile that are not steps of the training, or in a bucket."""
    first, last = profile_steps
    if profile_steps != (0, 0) and is_address(workdir):
        raise UserError(
            f"--profile_steps={first},{last} writes a profile into the run folder, which must be "
            f"on this computer's disk for that, not {workdir}: give a folder as --workdir."
        )
    if profile_steps != (0, 0) and not 1 <= first <= last <= steps:
        raise UserError(
            f"--profile_steps={first},{last} must be the first and last of some steps from 1 to "
            f"{steps}, which is config.training.steps."
        )


class Run:
    """A training run; `train` runs the remaining steps."""

    def __init__(
        self,
        config: ConfigDict,
        workdir: Folder,
        profiler: Profiler,
        allowed_changes: Iterable[str],
        compiled_step: Path | None = None,
    ):
        """Builds every part from its config section; restores the state or initialises it."""
        self.config = config
        self.ledger = Ledger()
        self.parts = parts = setup.build_parts(config)
        setup.check_training(config, parts)
        say(parts.dataset.summary((config.training.split, *config.evaluation.splits)))
        step, initialise = setup.training_step(config, parts)
        self.step, self.ramp = step, setup.batch_ramp(config)
        self.checkpoints = construct(Checkpoints, config.checkpoint, "config.checkpoint", workdir)
        self.iterator = setup.training_iterator(config, parts, self.ramp)
        changes = resumption.changes(workdir, config, allowed_changes, self.checkpoints.steps())
        self.start = self.checkpoints.resume_step() or 0
        if self.start:
            weights.check_class_names(workdir, parts.dataset)
        self.turns = setup.training_turns(config, parts, jax.eval_shape(initialise))
        self.speed = Speed()
        self.state = self.initial_state(workdir, initialise)
        files = {
            "config.json": config.to_json(indent=2),
            PREPARATION: json.dumps(setup.for_prediction(parts), indent=2),
        }
        resumption.record(workdir, changes, self.start)
        self.folder = logging.open_run_folder(workdir, files, self.start)
        self.compiled = self.compiled_for(compiled_step)
        self.evaluators = parts.task.evaluators(config)
        self.summarise = parts.strategy.compile_summary(histograms)
        self.monitor = Monitor(parts.strategy.fetch)
        self.profiler = profiler

    def compiled_for(self, saved: Path | None) -> Callable:
        """The step, compiled at its first use, or as it was saved."""
        strategy = self.parts.strategy
        if saved is None:
            return strategy.compile_train(self.step, self.state)
        mesh = saved_step.mesh_of(strategy, self.config, len(self.turns))
        shapes = setup.batch_shapes(self.parts.dataset, self.config.training.batch_size)
        step = mesh.compile_train(self.step, self.state)
        lowered = step.lower(self.state, mesh.batch_template(shapes))
        return saved_step.load(saved, lowered, self.config)

    def initial_state(self, workdir: Folder, initialise: Callable[[], TrainState]) -> TrainState:
        """The state of the latest checkpoint, or else a new state, warm-started if configured."""
        strategy, config = self.parts.strategy, self.config
        template = strategy.template(jax.eval_shape(initialise))
        if isinstance(workdir, Path):
            needed = size_in_bytes(template) * (config.checkpoint.keep + 2)
            available = shutil.disk_usage(workdir).free + self.checkpoints.size()
            check_space(workdir, needed, available)
        if self.start:
            if self.start < config.training.steps:
                say(f"resuming from the checkpoint of step {self.start}")
            return strategy.adopt(self.checkpoints.restore(self.start, template, self.iterator))
        state = parallel.make(initialise, template)
        if config.init_from is not None:
            state = self.warm_started(state)
        return strategy.adopt(state)

    def warm_started(self, state: TrainState) -> TrainState:
        """The state with weights from `config.init_from`; reports which were loaded or skipped."""
        config = self.config
        opened = weights.open_source(config.init_from)
        there, here = build(opened.model), self.parts.model
        grids = there.position_tables(), here.position_tables()
        warm = load_weights(
            opened.source, state.params, state.model_state, config.init_prefixes, grids
        )
        whole = set(warm.loaded) - set(warm.resized)
        others = dict(loaded=warm.left, resized=whole, left=warm.loaded, unused=warm.loaded)
        for what, names in others.items():
            say(f"warm start, {what}: {listing(by_module(getattr(warm, what), names))}")
        for difference in differing_settings(there.unseen, here.unseen):
            say(f"warm start, different setting: {difference}")
        ema = config.training.ema_decay is not None
        initialise = functools.partial(initial_state, optimizer=self.step.optimizer, ema=ema)
        return parallel.make(initialise, state, warm.params, warm.model_state)

    def train(self, interruption: Interruption) -> bool:
        """Runs the remaining steps; returns whether the last one was reached."""
        last = self.config.training.steps
        if self.start >= last:
            say(
                f"this run is finished: it has taken {self.start} steps, and config.training.steps "
                f"is {last}. Raise that to train further; experiments.evaluate evaluates the run."
            )
            return True
        interruption.listen()
        self.spent("start", self.start)
        with Progress(last, "steps", start=self.start) as progress:
            for step in range(self.start + 1, last + 1):
                self.take_step(step)
                progress.advance()
                overdue = False
                if step % self.config.logging.every == 0 or step == last:
                    progress.show(self.log(step))
                    self.spent("step", step)
                    overdue = self.checkpoints.overdue()
                evaluated = None
                if step % self.config.evaluation.every == 0 or step == last:
                    evaluated = self.evaluate(step)
                    self.speed.resume()
                    self.spent("evaluation", step)
                stop = interruption.reached(step)
                due = overdue or self.checkpoints.due(step, evaluated)
                if stop or step == last or due:
                    self.save(evaluated)
                    self.spent("checkpoint", step)
                if stop and step < last:
                    say(
                        f"stopped by {interruption.cause} after step {step}, which is saved; "
                        "repeat the command to resume"
                    )
                    return False
        return True

    def take_step(self, step: int) -> None:
        """Runs one training step."""
        self.checkpoints.check()
        self.profiler.before(step)
        own = self.turns[turn(len(self.turns), self.config.seed, step - 1)]
        batch = setup.checked(next(self.iterator), own.dataset)
        self.ledger.spent("data")
        self.accumulate(self.ramp.num_microbatches(step - 1))
        self.state, metrics = self.compiled(self.state, self.parts.strategy.place(batch))
        self.monitor.add(step, metrics)
        self.profiler.after(step, metrics)
        compiled = self.speed.advance(self.batch_size(step), own.flops / jax.device_count())
        self.ledger.spent("compile" if compiled else "step")

    def accumulate(self, num_microbatches: int) -> None:
        """Changes the number of microbatches of a step."""
        if num_microbatches != self.step.accumulate:
            self.step = dataclasses.replace(self.step, accumulate=num_microbatches)
            self.compiled = self.parts.strategy.compile_train(self.step, self.state)

    def batch_size(self, step: int) -> int:
        """The number of examples of a step, counted from 1."""
        return self.ramp.batch_size(self.config.training.batch_size, step - 1)

    def log(self, step: int) -> str:
        """Records metrics averaged over the steps since the last record; returns a summary."""
        metrics, speed = self.monitor.average(), self.speed.report()
        self.folder.metrics(step, "train", metrics | speed)
        return training_summary(metrics, speed)

    def evaluate(self, step: int) -> dict[str, float]:
        """Runs the task's evaluators; metrics by EVALUATOR/NAME."""
        self.monitor.check()
        metrics = {}
        state, parts = self.state, self.parts
        for name, evaluator in self.evaluators.items():
            result = evaluator(
                parts.model, state.evaluated_params, state.model_state, parts.strategy
            )
            self.folder.metrics(step, name, result.metrics, parts.dataset.manifest_sha256)
            self.folder.figures(step, name, result.figures)
            say(f"step {step} {name}: {logging.summary(result.metrics)}")
            metrics |= {f"{name}/{metric}": value for metric, value in result.metrics.items()}
        if self.config.logging.histograms:
            self.folder.histograms(step, parts.strategy.fetch(self.summarise(state.params)))
        self.folder.curves()
        return metrics

    def save(self, evaluated: dict[str, float] | None) -> None:
        """Saves a checkpoint, once the state is known to be finite."""
        self.monitor.check()
        self.folder.flush()
        self.checkpoints.save(self.parts.strategy.snapshot(self.state), self.iterator, evaluated)

    def spent(self, activity: Activity, step: int) -> None:
        """Records the seconds since the last activity as those of this one."""
        self.ledger.spent(activity)
        self.folder.seconds(step, self.ledger.seconds)

    def explain(self, error: NotFiniteError) -> str:
        """Why a run with a non-finite loss stopped, and how to reproduce it."""
        self.checkpoints.wait()
        latest = self.checkpoints.latest_step()
        good = f"{self.checkpoints.directory}/{latest}" if latest else "none yet"
        return (
            f"Training stopped: step {error.step} gave {error.metrics}, which is not finite. "
            f"Its batch is number {error.step - 1} (from 0) of split "
            f"{self.config.training.split!r} with config.seed={self.config.seed} and has "
            f"{self.batch_size(error.step)} examples. The last good checkpoint: {good}. The same "
            "command resumes from there with the same batches; lower config.schedule.peak or "
            "config.optimizer.clip_norm to get past this one."
        )

    def close(self) -> None:
        """Waits for pending writes."""
        with contextlib.ExitStack() as stack:  # All of them, whichever fails.
            for part in (self.folder, self.checkpoints, self.iterator, self.profiler):
                stack.callback(part.close)
