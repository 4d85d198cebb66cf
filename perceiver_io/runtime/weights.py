"""Loads weights of a run of this project, or published weights."""

import ast
import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from perceiver_io import data
from perceiver_io.config import files
from perceiver_io.config.construct import construct, listing, nearest
from perceiver_io.errors import UserError
from perceiver_io.models.architectures import build
from perceiver_io.pretrained import published
from perceiver_io.pretrained.portable import tuples
from perceiver_io.pretrained.published import Weights
from perceiver_io.runtime import configuration, schema, setup
from perceiver_io.training.archive import find_checkpoint
from perceiver_io.training.checkpoint import Checkpoints
from perceiver_io.training.warm_start import (
    Source,
    array_source,
    checkpoint_source,
    load_weights,
)

PREPARATION = "preparation.json"
_BUNDLED = "bundled:"
# Weights bundled with this package, each in a folder of its name.
BUNDLED = Path(data.__file__).parent / "bundled" / "weights"


def locate(weights: str | Path) -> Path:
    """The path of weights; `bundled:NAME` are those bundled with this package.

    Raises UserError for an unknown NAME.
    """
    if not str(weights).startswith(_BUNDLED):
        return Path(weights).expanduser()
    name = str(weights).removeprefix(_BUNDLED)
    names = sorted(path.name for path in BUNDLED.glob("*") if path.is_dir())
    if name not in names:
        raise UserError(
            f"There are no bundled weights {name!r}{nearest(name, names)}; there are "
            f"{listing(names)}. Give the path of other weights."
        )
    return BUNDLED / name


def load(path: str | Path, **settings: Any) -> Weights:
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
        return published.load(path, **settings)
    if settings:
        raise UserError(
            f"{path} is a run, whose config.json has all settings: leave out --setting."
        )
    config = configuration.of_run(run)
    schema.check(config)
    checkpoint = find_checkpoint(str(chosen(path, "best")))
    preparation = load_preparation(path)
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    params, model_state = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
        build(config.model).shapes(),
    )
    warm = load_weights(checkpoint_source(str(checkpoint)), params, model_state)
    names = preparation["class_names"]
    if names is not None and len(names) != config.model.get("num_classes"):
        names = None
    return Weights(config.model.to_dict(), warm.params, warm.model_state, names)


def open_source(path: str | Path) -> tuple[Source, Mapping[str, Any]]:
    """The arrays at a path for a warm start, and the section `config.model` of their model.

    Args:
        path: a run folder, whose latest checkpoint is used, RUN/checkpoints/STEP, bundled:NAME, or
            what `perceiver_io.pretrained.published.load` reads; original checkpoints only in the
            published sizes.

    Raises UserError if there are no such weights.
    """
    path = locate(path)
    run = find_run(path)
    if run is not None:
        return checkpoint_source(str(path)), files.read_run(run).model
    loaded = published.load(path)
    return array_source(f"file {path}", loaded.params, loaded.model_state), loaded.model


def load_preparation(path: str | Path) -> dict[str, Any] | None:
    """How a model's inputs were prepared, with its class names; None for published weights.

    This does not read the data. Older runs have no preparation.json; for them it is derived from
    the config, without class names where only the data has them.
    """
    run = find_run(path)
    if run is None:
        return published.load_preparation(locate(path))
    file = run / PREPARATION
    if file.is_file():
        try:
            kept = tuples(json.loads(file.read_text()))
        except ValueError as error:
            raise UserError(
                f"{file} is damaged ({error}): run the training command of this run again to "
                "rewrite it."
            ) from error
        if "normalization" not in kept:  # Older runs store it only in this form.
            kept["normalization"] = (kept["mean"], kept["std"]) if "mean" in kept else None
        return kept
    config = configuration.of_run(run)
    dataset = setup.build_dataset(config, setup.build_task(config))
    try:
        return dataset.for_prediction()
    except UserError:
        return dataset.preparation.for_prediction() | {
            "normalization": dataset.normalization,
            "class_names": None,
        }


def find_run(path: str | Path) -> Path | None:
    """The run folder at a path, or the one of the checkpoint at that path; None if neither."""
    path = locate(path).absolute()
    folder = path.parent.parent if path.parent.name == "checkpoints" else path
    return folder if (folder / "checkpoints").is_dir() else None


def chosen(path: str | Path, which: str) -> Path:
    """The path of weights; for a run folder, of its checkpoint `best`, `latest` or a step."""
    path = locate(path)
    is_run = path.absolute() == find_run(path)
    return choose_checkpoint(path, configuration.of_run(path), which) if is_run else path


def choose_checkpoint(run: Path, config: ConfigDict, which: str) -> Path:
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
