"""Predictors for trained weights, for `perceiver_io.load` and `experiments.predict`."""

import functools
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from perceiver_io.config.construct import listing, lookup, nearest
from perceiver_io.errors import UserError
from perceiver_io.models.architectures import build
from perceiver_io.runtime import configuration, weights
from perceiver_io.tasks import ALIASES, PREDICTORS
from perceiver_io.tasks.files import create_folder
from perceiver_io.tasks.predictor import Predictor, Report, Trained
from perceiver_io.training.disk import disk_errors_explained
from perceiver_io.training.logging import to_json


def load(path: str | Path, task: str | None = None, **settings: Any) -> Predictor:
    """The predictor for the weights at a path; see `perceiver_io.load`.

    Args:
        path: as `perceiver_io.runtime.weights.load` takes it.
        task: name or alias of the task that the weights must have; None accepts any.
        settings: those that cannot be inferred from an original checkpoint.

    Raises UserError for weights of another task or of none.
    """
    path = weights.locate(path)
    loaded = weights.load(path, **settings)
    found = _task_of(path, loaded.model)
    if task is not None and ALIASES.get(task, task) != found:
        raise UserError(
            f"The weights in {path} are of the model {loaded.model['name']}, which is for --task="
            f"{found}, not for --task={task}: use --task={found}."
        )
    trained = Trained(
        build(loaded.model),
        loaded.params,
        loaded.model_state,
        loaded.model,
        loaded.class_names,
        loaded.preparation,
    )
    return predictor(found)(trained)


def write(
    task: str, path: str, output: str, flags: dict[str, Any], settings: Sequence[str] = ()
) -> Report:
    """Writes predictions, figures and `predictions.json` into a folder.

    Args:
        task: its name or alias.
        path: the weights.
        output: the folder.
        flags: arguments of the predictor's `write`, by name.
        settings: NAME=VALUE that cannot be inferred from an original file.

    Raises UserError for wrong arguments, before anything is loaded where possible.
    """
    check_flags(task, flags)
    folder = create_folder(output)
    given = weights.parse_settings(list(settings))
    with disk_errors_explained(folder):
        report = load(path, task, **given).write(folder, **flags)
        summary = to_json(report.summary, ensure_ascii=False) + "\n"
        # Bytes of file names that are not UTF-8 become JSON escapes.
        data = summary.encode(errors="backslashreplace")
        (folder / "predictions.json").write_bytes(data)
    return report


def as_json(report: Report) -> str:
    """The contents of `predictions.json`, in ASCII."""
    return to_json(report.summary)


def predictor(task: str) -> type[Predictor]:
    """The predictor class of a task, by its name or alias. Raises UserError listing them."""
    name = ALIASES.get(task, task)
    if name not in PREDICTORS:
        names = [*PREDICTORS, *ALIASES]
        raise UserError(
            f"Nothing predicts for a task {task!r}{nearest(task, names)}. Choose one of "
            f"{listing(names)}."
        )
    return lookup(PREDICTORS, {"name": name}, "task")


def check_flags(task: str, given: dict[str, Any]) -> None:
    """Raises UserError about a flag that the task does not have, or lacks."""
    _, _, *parameters = inspect.signature(predictor(task).write).parameters.values()
    takes = listing(f"--{parameter.name}" for parameter in parameters)
    for name in given:
        if name not in [parameter.name for parameter in parameters]:
            raise UserError(f"--task={task} does not use --{name}; it takes {takes}.")
    for parameter in parameters:
        if parameter.default is inspect.Parameter.empty and parameter.name not in given:
            raise UserError(f"--task={task} needs --{parameter.name}; it takes {takes}.")


def _task_of(path: Path, section: Mapping[str, Any]) -> str:
    """The task of a run, or for published weights the task that takes such a model."""
    run = weights.find_run(path)
    if run is not None:
        return configuration.of_run(run).task.name
    model = build(section)
    apply = functools.partial(model.apply, is_training=False)
    inputs = model.input_spec["inputs"]
    outputs, _ = jax.eval_shape(
        lambda params, state, inputs: apply(params, state, None, inputs=inputs),
        *model.shapes(),
        inputs,
    )
    for name in PREDICTORS:
        if predictor(name).takes(inputs, outputs):
            return name
    raise UserError(
        f"The weights in {path} are of the model {section['name']}, which no task takes: "
        f"there are {listing(PREDICTORS)}."
    )
