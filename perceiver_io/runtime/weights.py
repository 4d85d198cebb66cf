"""Loads weights of a run of this project, or published weights."""

import ast
import contextlib
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from perceiver_io import data
from perceiver_io.config.construct import construct, listing, nearest
from perceiver_io.data.pipeline.dataset import Dataset
from perceiver_io.errors import UserError
from perceiver_io.models.architectures import Architecture, build
from perceiver_io.pretrained import preparation, published
from perceiver_io.pretrained.portable import tuples
from perceiver_io.pretrained.published import Weights
from perceiver_io.runtime import configuration, setup
from perceiver_io.storage import Folder, is_folder, located
from perceiver_io.training import state
from perceiver_io.training.archive import find_checkpoint
from perceiver_io.training.checkpoint import Checkpoints
from perceiver_io.training.warm_start import (
    Source,
    array_source,
    check_finite,
    checkpoint_source,
    load_weights,
)

PREPARATION = "preparation.json"
_BUNDLED = "bundled:"
# Weights bundled with this package, each in a folder of its name.
BUNDLED = Path(data.__file__).parent / "bundled" / "weights"


def locate(weights: str | Folder) -> Folder:
    """The path or address of weights; `bundled:NAME` are those bundled with this package.

    Raises UserError for an unknown NAME, and as `storage.located`.
    """
    if not str(weights).startswith(_BUNDLED):
        return located(weights)
    name = str(weights).removeprefix(_BUNDLED)
    names = sorted(path.name for path in BUNDLED.glob("*") if path.is_dir())
    if name not in names:
        raise UserError(
            f"There are no bundled weights {name!r}{nearest(name, names)}; there are "
            f"{listing(names)}. Give the path of other weights."
        )
    return BUNDLED / name


def load(path: str | Folder, **settings: Any) -> Weights:
    """The weights at a path, with their model.

    For a run folder, the best checkpoint is used, as in `experiments.evaluate`; from a checkpoint,
    the moving average of the parameters, if it has one. Class names are those of the run's dataset.

    Args:
        path: a run folder, RUN/checkpoints/STEP, a published file or folder, or bundled:NAME.
        settings: those that cannot be inferred from an original file, see
            `perceiver_io.pretrained.published`.

    Raises UserError if there are no weights, or they do not fit the model that their config
    describes.
    """
    path = locate(path)
    run = find_run(path)
    if run is None:
        loaded = _published(path, **settings)
        arrays = {"params": loaded.params, "model_state": loaded.model_state}
        arrays = jax.tree.map(jnp.asarray, arrays)
        check_finite(f"file {path}", state.names(arrays))
        return loaded._replace(**arrays)
    if settings:
        raise UserError(
            f"{path} is a run, whose config.json has all settings: leave out --setting."
        )
    config = configuration.of_run(run)
    checkpoint = find_checkpoint(str(chosen(path, "best")))
    model, prepared = build(config.model), load_preparation(run)
    _check_inputs(run, model, prepared)
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    params, model_state = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), model.shapes()
    )
    warm = load_weights(checkpoint_source(str(checkpoint)), params, model_state)
    names = prepared["class_names"]
    if names is not None and len(names) != config.model.get("num_classes"):
        names = None
    return Weights(config.model.to_dict(), warm.params, warm.model_state, prepared, names)


class Opened(NamedTuple):
    """Trained arrays that are not read yet, and what is known of their model.

    source: the arrays.
    model: the section `config.model`.
    preparation: how inputs are prepared, as `Dataset.for_prediction` tells.
    """

    source: Source
    model: Mapping[str, Any]
    preparation: Mapping[str, Any]


def open_source(path: str | Folder) -> Opened:
    """The arrays at a path, for a warm start or an evaluation.

    Args:
        path: a run folder, whose latest checkpoint is used, RUN/checkpoints/STEP, bundled:NAME, or
            what `perceiver_io.pretrained.published.load` reads; original checkpoints only in the
            published sizes.

    Raises UserError if there are no such weights.
    """
    path = locate(path)
    run = find_run(path)
    if run is not None:
        source = checkpoint_source(str(path))
        return Opened(source, configuration.of_run(run).model, load_preparation(run))
    loaded = _published(path)
    source = array_source(f"file {path}", loaded.params, loaded.model_state)
    return Opened(source, loaded.model, loaded.preparation)


def load_preparation(run: Folder) -> dict[str, Any]:
    """How a run prepared its inputs, with its class names.

    This does not read the data. Older runs have no preparation.json; for them it is derived from
    the config, without class names where only the data has them.
    """
    file = run / PREPARATION
    if file.exists():
        remedy = "Run the training command of this run again to rewrite it."
        try:
            kept = tuples(json.loads(file.read_text()))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{file} is damaged: {error}. {remedy}") from error
        return preparation.checked(kept, str(file), remedy)
    config = configuration.of_run(run)
    dataset = setup.build_dataset(config, setup.build_task(config))
    try:
        return dataset.for_prediction()
    except UserError:
        return dataset.preparation.for_prediction() | {
            "normalization": dataset.normalization,
            "class_names": None,
        }


def check_class_names(run: Folder, dataset: Dataset) -> None:
    """Raises UserError where the data calls its classes otherwise than the run was trained."""
    trained, found = load_preparation(run)["class_names"], dataset.class_names
    if trained is None or found is None or trained == found:
        return
    number, (ours, theirs) = next(
        (number, pair)
        for number, pair in enumerate(itertools.zip_longest(trained, found))
        if len(set(pair)) > 1
    )
    raise UserError(
        f"The run in {run} was trained on {len(trained)} classes, of which number {number} is "
        f"{ours!r}, but {dataset.name} has {len(found)}, of which it is {theirs!r}: predictions "
        "would have wrong names. Use the data of the run, or other data with the same class names, "
        "or train a new run."
    )


def find_run(path: str | Folder) -> Folder | None:
    """The run folder at a path, or the one of the checkpoint at that path; None if neither."""
    path = locate(path)
    folder = path.parent.parent if path.parent.name == "checkpoints" else path
    return folder if is_folder(folder / "checkpoints") else None


def chosen(path: str | Folder, which: str) -> Folder:
    """The path of weights; for a run folder, of its checkpoint `best`, `latest` or a step."""
    path = locate(path)
    is_run = path == find_run(path)
    return choose_checkpoint(path, configuration.of_run(path), which) if is_run else path


def choose_checkpoint(run: Folder, config: ConfigDict, which: str) -> Folder:
    """The folder of a run's checkpoint: `best`, `latest` or a step.

    Raises UserError listing the existing ones.
    """
    checkpoints = construct(Checkpoints, config.checkpoint, "config.checkpoint", run)
    named = {"best": checkpoints.best_step, "latest": checkpoints.latest_step}
    step = named[which]() if which in named else which
    if str(step) not in map(str, checkpoints.steps()):
        raise UserError(
            f"There is no checkpoint {which!r} in {checkpoints.directory}; the steps there are "
            f"{listing(checkpoints.steps())}."
        )
    return checkpoints.directory / str(step)


def _published(path: Folder, **settings: Any) -> Weights:
    """The published weights at a path. Raises UserError for an address."""
    if isinstance(path, Path):
        return published.load(path, **settings)
    raise UserError(
        f"There is no checkpoint of a run at {path}. Published weights must be on this computer: "
        "copy them, and give their path."
    )


def parse_settings(settings: list[str]) -> dict[str, Any]:
    """`NAME=VALUE` as keyword arguments, with values parsed as Python literals where possible."""
    parsed = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.isidentifier():
            raise UserError(f"--setting={setting} must be --setting=NAME=VALUE.")
        parsed[name] = text
        with contextlib.suppress(SyntaxError, ValueError):
            parsed[name] = ast.literal_eval(text)
    return parsed


def _check_inputs(run: Folder, model: Architecture, prepared: Mapping[str, Any]) -> None:
    """Raises UserError for a model of other inputs than the run was trained on.

    As far as the run has recorded these, which runs of before did not.
    """
    trained, found = prepared.get("inputs"), setup.input_shapes(model)
    if trained is not None and trained != found:
        raise UserError(
            f"{run}/config.json describes a model of inputs {found}, but the run was trained on "
            f"{trained}: its sizes were changed. Put back the file as it was."
        )
