"""Runs a task's evaluators on trained weights, or writes benchmark submissions."""

import dataclasses
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree
from ml_collections import ConfigDict

from perceiver_io.errors import UserError
from perceiver_io.progress import say
from perceiver_io.runtime import configuration, setup, weights
from perceiver_io.storage import Folder, WorkingCopy
from perceiver_io.tasks.batches import check_finite
from perceiver_io.tasks.evaluation import Result
from perceiver_io.training.disk import disk_errors_explained, make_workdir
from perceiver_io.training.logging import save_figure, to_json
from perceiver_io.training.warm_start import Source, checkpoint_source, load_weights

_OTHER_MODEL = "Keep the sizes in config.model with which the weights were trained."


@dataclasses.dataclass(frozen=True)
class Subject:
    """The weights and the config to evaluate.

    Attributes:
        config: of the model, the data and the task.
        source: the model's weights.
        path: of the weights.
        origin: short form of the path: the step of the run, or the published weights.
    """

    config: ConfigDict
    source: Source
    path: Folder
    origin: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Report:
    """The results, as an object for JSON and as human-readable text."""

    summary: dict[str, Any]
    text: str

    def show(self, *, as_json: bool) -> None:
        """Prints the results, on the first process only."""
        say(to_json(self.summary) if as_json else self.text)


def of_run(
    workdir: Folder, checkpoint: str, other_config: str | None, overrides: Iterable[str]
) -> Subject:
    """A checkpoint of a run (`best`, `latest` or a step), with the run's data or that of `config`.

    Raises UserError if there is no such checkpoint.
    """
    config = configuration.of_run(workdir)
    if other_config is not None:
        other = configuration.load(other_config)
        config.data, config.evaluation.splits = other.data, other.evaluation.splits
        _prepare_as(config, weights.load_preparation(workdir))
    config = configuration.overridden(config, overrides)
    path = weights.choose_checkpoint(workdir, config, checkpoint)
    return Subject(config, checkpoint_source(str(path)), path, {"step": int(path.name)})


def of_weights(path: str, checkpoint: str, config: str | None, overrides: Iterable[str]) -> Subject:
    """Published weights, or those of a run, with everything but the model from a config.

    For a run folder, `checkpoint` is `best`, `latest` or a step.

    Raises UserError without weights or config.
    """
    if config is None:
        raise UserError(
            f"--weights={path} needs a dataset to be evaluated on: add --config=FILE:PRESET."
        )
    opened = weights.open_source(weights.chosen(path, checkpoint))
    read = configuration.load(config)
    read.model = ConfigDict(opened.model)
    _prepare_as(read, opened.preparation)
    folder = weights.locate(path)
    return Subject(
        configuration.overridden(read, overrides), opened.source, folder, {"weights": str(folder)}
    )


def evaluate(subject: Subject, workdir: Folder) -> Report:
    """Runs all evaluators and writes their figures to `workdir/evaluation/DATA_STEP`."""
    config = subject.config
    folder = workdir / "evaluation" / f"{_data_name(config)}_{subject.path.name}"
    make_workdir(folder)
    parts = setup.build_parts(config)
    trained = _load(subject, parts)
    say(parts.dataset.summary(config.evaluation.splits), sys.stderr)
    results = {
        name: evaluator(parts.model, *trained, parts.strategy)
        for name, evaluator in parts.task.evaluators(config).items()
    }
    metrics = {name: result.metrics for name, result in results.items()}
    check_finite(metrics)
    if jax.process_index() == 0:
        with disk_errors_explained(folder):
            copy = WorkingCopy(folder)
            try:
                _draw(results, copy.path)
                copy.send()
            finally:
                copy.remove()
    summary, lines = {"metrics": metrics, "figures": str(folder)}, [f"figures in {folder}"]
    if parts.dataset.manifest_sha256 is not None:
        summary["manifest_sha256"] = parts.dataset.manifest_sha256
        lines.append(f"data {config.data.manifest}, sha256 {parts.dataset.manifest_sha256}")
    return _report(subject, summary, "\n".join([as_table(metrics), "", *lines]))


def submit(subject: Subject, folder: Path) -> Report:
    """Writes the files to submit to a benchmark's server.

    Raises UserError if the task, the dataset or the split has no such server.
    """
    submitters = setup.build_task(subject.config).submitters(subject.config)
    parts = setup.build_parts(subject.config)
    trained = _load(subject, parts)
    with disk_errors_explained(folder):
        count = sum(
            submitter(parts.model, *trained, parts.strategy, folder)
            for submitter in submitters.values()
        )
    summary = {"submission": str(folder), "files": count}
    return _report(subject, summary, f"predictions of {count} examples in {folder}")


def side_by_side(reports: Mapping[str, Report]) -> Report:
    """Reports on several checkpoints, by name, as one; a single report is returned as it is."""
    if len(reports) == 1:
        return next(iter(reports.values()))
    columns: dict[str, Mapping[str, float]] = {}
    lines = []
    for name, report in reports.items():
        columns |= {f"{key} {name}": x for key, x in report.summary["metrics"].items()}
        step = f", step {report.summary['step']}" if "step" in report.summary else ""
        lines.append(f"{name}{step}: figures in {report.summary['figures']}")
    summary = {name: report.summary for name, report in reports.items()}
    return Report(summary, "\n".join([as_table(columns), "", *lines]))


def as_table(metrics: Mapping[str, Mapping[str, float]]) -> str:
    """A row for each metric, a column for each evaluator."""
    names = list(dict.fromkeys(name for values in metrics.values() for name in values))
    width = max(map(len, names))
    columns = {name: max(12, len(name) + 2) for name in metrics}
    lines = [" " * width + "".join(f"{name:>{columns[name]}}" for name in metrics)]
    for name in names:
        values = (
            f"{values[name]:{columns[column]}.4f}" if name in values else " " * columns[column]
            for column, values in metrics.items()
        )
        lines.append(f"{name:{width}}" + "".join(values))
    return "\n".join(lines)


def _prepare_as(config: ConfigDict, preparation: Mapping[str, Any]) -> None:
    """Overrides the data's config so that inputs are prepared as the weights need them."""
    wanted = dict(preparation)
    if "image_shape" in wanted:
        wanted["image_size"] = wanted["image_shape"][:2]
    chosen = {
        key: wanted[key]
        for key, value in config.data.items()
        # Data with other channels do not fit the model, which raises an error.
        if key in wanted
        and (isinstance(value, ConfigDict) or np.shape(wanted[key]) == np.shape(value))
    }
    # A new section, so that a float such as 0.875 can replace the integer 1.
    config.data = ConfigDict({**config.data, **chosen})


def _load(subject: Subject, parts: setup.Parts) -> tuple[PyTree, PyTree]:
    """Parameters and model state, placed by the strategy."""
    setup.check_agreement(subject.config, parts, training=False)
    setup.check_memory("evaluation", subject.config, parts.dataset)
    run = weights.find_run(subject.path)
    if run is not None:
        weights.check_class_names(run, parts.dataset)
    params, model_state = parts.strategy.template(parts.model.shapes())
    loaded = load_weights(subject.source, params, model_state, hint=_OTHER_MODEL)
    return parts.strategy.adopt((loaded.params, loaded.model_state))


def _data_name(config: ConfigDict) -> str:
    """The dataset's name, with what distinguishes parts of Sintel and KITTI, and tilings."""
    parts = [str(config.data[key]) for key in ("name", "rendering", "year") if key in config.data]
    overlap = config.task.get("overlap")
    return "_".join(parts if overlap is None else [*parts, f"overlap{overlap}"])


def _report(subject: Subject, summary: Mapping[str, Any], text: str) -> Report:
    return Report({**subject.origin, **summary}, f"weights {subject.path}\n\n{text}")


def _draw(results: Mapping[str, Result], folder: Path) -> None:
    for name, result in results.items():
        for title, figure in result.figures.items():
            save_figure(figure, folder, f"{name}_{title}")
