"""Runs a grid of settings over one or several experiments, and compares the results.

Each combination is a run of its own, in WORKDIR/EXPERIMENT/SETTINGS, on all devices. A sweep that
is repeated continues where it stopped: finished runs are only read, an interrupted one resumes.
"""

import csv
import io
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, KeysView, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from perceiver_io.config import files
from perceiver_io.config.construct import listing
from perceiver_io.errors import UserError
from perceiver_io.progress import say
from perceiver_io.runtime import configuration, setup, training_run
from perceiver_io.tasks.figures import ACCENT, INK
from perceiver_io.training.archive import find_steps
from perceiver_io.training.disk import disk_errors_explained, make_workdir, write_whole
from perceiver_io.training.logging import save_figure
from perceiver_io.training.monitor import NotFiniteError

_SEED = "seed"
_MARKERS = "o^sDvP"

Settings = Mapping[str, str]


class Trial(NamedTuple):
    """A run of a sweep: the name of its experiment, its settings, its folder and its config."""

    experiment: str
    settings: Settings
    folder: Path
    config: ConfigDict


class Outcome(NamedTuple):
    """The result of a trial.

    Attributes:
        trial: the run.
        score: its best metric, the mean over the evaluated splits; NaN if its loss was not finite.
        step: of that evaluation.
    """

    trial: Trial
    score: float
    step: int


class Best(NamedTuple):
    """The best settings of an experiment: mean and standard deviation of the score over seeds."""

    settings: Settings
    mean: float
    deviation: float
    num_seeds: int


class Results(NamedTuple):
    """The results of a sweep.

    Attributes:
        outcomes: of all trials that are finished.
        best: of each experiment.
        reported: results that the config files state, by row and experiment.
        is_complete: whether all trials are finished.
    """

    outcomes: Sequence[Outcome]
    best: Mapping[str, Best]
    reported: Mapping[str, Mapping[str, float]]
    is_complete: bool


def sweep(
    experiments: Sequence[str],
    grid: Mapping[str, Sequence[str]],
    overrides: Iterable[str],
    workdir: Path,
) -> Results:
    """Runs all trials that are not finished, and writes sweep.csv, sweep.md and sweep.png.

    Args:
        experiments: config files, FILE.py[:PRESET].
        grid: values of settings such as `training.batch_size`.
        overrides: `--config.any.key=VALUE` for all trials.
        workdir: the folder of all runs.

    Raises UserError for settings that are wrong in any of the trials, before the first one, and for
    finished runs with other settings.
    """
    trials = _trials(experiments, grid, list(overrides), workdir)
    for trial in trials:
        _check(trial)
    make_workdir(workdir)
    reported = _reported(experiments)
    outcomes: list[Outcome] = []
    for number, trial in enumerate(trials, 1):
        outcome = _finished(trial)
        if outcome is None:
            say(f"run {number} of {len(trials)}: {trial.folder}")
            outcome = _train(trial)
        if outcome is None:  # stopped by a signal
            return Results(outcomes, _best(outcomes), reported, False)
        outcomes.append(outcome)
        results = Results(outcomes, _best(outcomes), reported, number == len(trials))
        if jax.process_index() == 0:
            with disk_errors_explained(workdir):
                _write(results, workdir)
    return results


def parse_grid(texts: Iterable[str]) -> dict[str, list[str]]:
    """Values by setting, from KEY=VALUE,VALUE. Raises UserError for another form."""
    grid: dict[str, list[str]] = {}
    for text in texts:
        key, _, values = text.partition("=")
        found = [value for value in values.split(",") if value]
        if not key or not found or key in grid or len(set(found)) != len(found):
            raise UserError(
                f"--grid={text} must be --grid=KEY=VALUE,VALUE with each key and each value once, "
                "such as --grid=training.batch_size=16,32."
            )
        grid[key] = found
    return grid


def as_table(results: Results) -> str:
    """The best score of each experiment beside the reported ones, as a Markdown table."""
    best = results.best
    rows = [_row("", best, lambda name: name, "average")]
    means = {name: found.mean for name, found in best.items()}
    rows.append(_scores_row("best", means, best.keys()))
    if any(found.num_seeds > 1 for found in best.values()):
        rows.append(_row("deviation over seeds", best, lambda x: _number(best[x].deviation)))
    rows.append(_row("its settings", best, lambda name: _in_words(best[name].settings)))
    rows += [_scores_row(row, values, best.keys()) for row, values in results.reported.items()]
    return _markdown(rows)


def as_csv(results: Results) -> str:
    """A line for each trial."""
    keys = list(results.outcomes[0].trial.settings) if results.outcomes else []
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["experiment", *keys, "score", "step", "folder"])
    for (experiment, settings, folder, _), score, step in results.outcomes:
        writer.writerow([experiment, *settings.values(), score, step, folder])
    return text.getvalue()


def draw(results: Results) -> Figure:
    """The score of each trial as a dot, the best as bars, and the reported ones as markers."""
    names = list(results.best)
    figure = Figure(figsize=(2 + 1.1 * len(names), 4), layout="constrained")
    axes = figure.subplots()
    axes.set_xticks(range(len(names)), names)
    finite = {name: best for name, best in results.best.items() if math.isfinite(best.mean)}
    axes.bar(
        [names.index(name) for name in finite],
        [best.mean for best in finite.values()],
        yerr=[best.deviation for best in finite.values()],
        color=ACCENT,
        alpha=0.35,
        label="best settings",
    )
    runs = [(names.index(x.trial.experiment), x.score) for x in results.outcomes]
    axes.plot(*zip(*runs, strict=True), ".", color=INK, markersize=4, label="runs")
    for marker, (row, values) in zip(_MARKERS, results.reported.items(), strict=False):
        shown = {names.index(name): score for name, score in values.items() if name in names}
        axes.plot(list(shown), list(shown.values()), marker, label=f"reported: {row}")
    axes.set_ylabel("score")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", fontsize=7, ncols=2)
    return figure


def _trials(
    experiments: Sequence[str],
    grid: Mapping[str, Sequence[str]],
    overrides: Sequence[str],
    workdir: Path,
) -> list[Trial]:
    """All combinations. Raises UserError for two experiments of one name, or a wrong setting."""
    names = [_name(path) for path in experiments]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(
            f"Two experiments are called {twice[0]!r}: give each once, and others in a sweep of "
            "their own."
        )
    trials = []
    for name, path in zip(names, experiments, strict=True):
        for values in itertools.product(*grid.values()):
            settings = dict(zip(grid, values, strict=True))
            own = [f"{files.OVERRIDE}{key}={value}" for key, value in settings.items()]
            config = configuration.load(path, [*overrides, *own])
            folder = workdir / name / (_in_words(settings) or "run")
            trials.append(Trial(name, settings, folder, config))
    return trials


def _check(trial: Trial) -> None:
    """Raises UserError for settings that are wrong, or without a metric to compare."""
    if trial.config.checkpoint.best_metric is None:
        raise UserError(
            f"{trial.experiment} has no metric to compare runs by: set "
            "config.checkpoint.best_metric."
        )
    if trial.config.training.minutes is not None:
        raise UserError(
            "Runs of so many minutes have different numbers of steps, and cannot be compared: "
            "leave out config.training.minutes and set config.training.steps."
        )
    setup.build_parts(trial.config)


def _train(trial: Trial) -> Outcome | None:
    """Runs a trial; None if it was stopped by a signal."""
    trial.folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        training_run.train(trial.config, trial.folder)
    except UserError as error:
        if not isinstance(error.__cause__, NotFiniteError):
            raise
        say(f"{trial.folder}: {error}")
        return Outcome(trial, math.nan, error.__cause__.step)
    return _finished(trial)


def _finished(trial: Trial) -> Outcome | None:
    """The outcome of a finished run; None for others.

    Raises UserError if the run has other settings.
    """
    records = trial.folder / "metrics.jsonl"
    if not records.is_file():
        return None
    config = trial.config
    stored = json.loads((trial.folder / "config.json").read_text())
    if stored != json.loads(config.to_json()):
        raise UserError(
            f"{trial.folder} is of a sweep with other settings: use another --workdir, or remove "
            "this run."
        )
    # The last records are written before the last checkpoint: a run may end between them.
    if max(find_steps(trial.folder / "checkpoints"), default=0) < config.training.steps:
        return None
    scores = _scores(map(json.loads, records.read_text().splitlines()), config)
    choose = max if config.checkpoint.best_mode == "max" else min
    step = choose(scores, key=scores.__getitem__)
    return Outcome(trial, scores[step], step)


def _scores(records: Iterable[Mapping[str, Any]], config: ConfigDict) -> dict[int, float]:
    """The score at each step that was evaluated: the mean of the metric over the splits."""
    _, _, metric = config.checkpoint.best_metric.partition("/")
    found: dict[int, list[float]] = {}
    for record in records:
        if record["split"] in config.evaluation.splits and metric in record["metrics"]:
            found.setdefault(record["step"], []).append(record["metrics"][metric])
    return {step: float(np.mean(values)) for step, values in found.items()}


def _best(outcomes: Sequence[Outcome]) -> dict[str, Best]:
    """The best settings of each experiment; trials that differ in the seed alone are averaged."""
    groups: dict[str, dict[str, list[Outcome]]] = {}
    for outcome in outcomes:
        own = groups.setdefault(outcome.trial.experiment, {})
        own.setdefault(_in_words(_without_seed(outcome.trial)), []).append(outcome)
    return {name: _best_of(own.values()) for name, own in groups.items()}


def _best_of(groups: Iterable[Sequence[Outcome]]) -> Best:
    found = []
    for group in groups:
        scores = [outcome.score for outcome in group]
        deviation = float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0
        best = Best(_without_seed(group[0].trial), float(np.mean(scores)), deviation, len(scores))
        found.append(best)
    sign = 1 if group[0].trial.config.checkpoint.best_mode == "max" else -1
    # Settings that diverged, of which the mean is NaN, are the last choice.
    return max(found, key=lambda best: (not math.isnan(best.mean), sign * best.mean))


def _without_seed(trial: Trial) -> Settings:
    return {key: value for key, value in trial.settings.items() if key != _SEED}


def _reported(experiments: Sequence[str]) -> dict[str, dict[str, float]]:
    """The results that the config files state, by row and experiment."""
    rows: dict[str, dict[str, float]] = {}
    for path in experiments:
        name = _name(path)
        for row, values in files.reported(path).items():
            if name in values:
                rows.setdefault(row, {})[name] = values[name]
    return rows


def _write(results: Results, workdir: Path) -> None:
    write_whole(workdir / "sweep.csv", as_csv(results))
    write_whole(workdir / "sweep.md", as_table(results) + "\n")
    save_figure(draw(results), workdir, "sweep")


def _name(path: str) -> str:
    """The preset of FILE.py:PRESET, or the name of the file."""
    file, _, preset = path.rpartition(":")
    return preset if file else Path(path).stem


def _in_words(settings: Settings) -> str:
    return ",".join(f"{key.rpartition('.')[2]}={value}" for key, value in settings.items())


def _row(
    title: str, names: Iterable[str], cell: Callable[[str], str], average: str = ""
) -> list[str]:
    """A row of the table: a cell for each experiment, and the average if there are several."""
    cells = [cell(name) for name in names]
    return [title, *cells, *([average] if len(cells) > 1 else [])]


def _scores_row(title: str, scores: Mapping[str, float], names: KeysView[str]) -> list[str]:
    """Scores, and their average if all experiments have one."""
    average = _number(np.mean([scores[x] for x in names])) if names <= scores.keys() else ""
    return _row(title, names, lambda x: _number(scores[x]) if x in scores else "", average)


def _number(value: float) -> str:
    return f"{value:.4f}"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = list(_lines(rows, widths))
    rule = "|".join("-" * (width + 2) for width in widths)
    return "\n".join([lines[0], f"|{rule}|", *lines[1:]])


def _lines(rows: Sequence[Sequence[str]], widths: Sequence[int]) -> Iterator[str]:
    for row in rows:
        cells = (f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        yield f"| {' | '.join(cells)} |"


def describe(results: Results) -> str:
    """The table, and how many runs are finished, for the terminal."""
    if not results.best:
        return "no run is finished; repeat the command to go on"
    lines = [as_table(results), "", f"{len(results.outcomes)} runs finished"]
    if not results.is_complete:
        lines.append("stopped by a signal; repeat the command to go on")
    diverged = [str(x.trial.folder) for x in results.outcomes if math.isnan(x.score)]
    if diverged:
        lines.append(f"the loss was not finite in {listing(diverged)}")
    return "\n".join(lines)
