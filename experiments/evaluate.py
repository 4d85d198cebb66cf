"""Evaluates a checkpoint of a run on whole splits of a dataset.

    python -m experiments.evaluate --workdir=DIR [--checkpoint=best|latest|STEP] \
        [--split=test,...] [--config=configs/OTHER.py] [--config.data.key=VALUE] [--json]

The config is that of the run. With --config, the dataset and the splits are another config's.
Published weights are evaluated by

    python -m experiments.evaluate --workdir=DIR --weights=WEIGHTS --config=FILE:PRESET

where all but the model, and how images are prepared for it, is of the config, and the figures go to
DIR.

Optical flow is measured on whole images, tile by tile. Where the truth is not published, the files
that the servers of Sintel and KITTI measure are written by

    python -m experiments.evaluate --workdir=DIR --config=FILE:PRESET --split=test --submission=DIR
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from absl import flags
from jaxtyping import PyTree
from ml_collections import ConfigDict

from perceiver_io.errors import UserError
from perceiver_io.progress import say
from perceiver_io.runtime import configuration, setup, warm_start, weights
from perceiver_io.tasks import TASKS
from perceiver_io.tasks.optical_flow.evaluation import FlowEvaluator
from perceiver_io.tasks.optical_flow.task import OpticalFlow
from perceiver_io.training.disk import full_disk_explained, make_workdir
from perceiver_io.training.evaluation import Evaluator, Result
from perceiver_io.training.logging import save_figure, to_json
from perceiver_io.training.step import EvaluationStep
from perceiver_io.training.warm_start import Source, checkpoint_source, load_weights

WORKDIR = flags.DEFINE_string("workdir", None, "Run folder.", required=True)
CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best, latest, or a step.")
SPLIT = flags.DEFINE_list("split", None, "Splits; those of config.evaluation by default.")
CONFIG = flags.DEFINE_string("config", None, "A config whose dataset is used in place.")
WEIGHTS = flags.DEFINE_string("weights", None, "Published weights, or a run's, with --config.")
JSON = flags.DEFINE_bool("json", False, "Prints one JSON object.")
OVERLAP = flags.DEFINE_integer("overlap", None, "Optical flow: least pixels that tiles share.")
SUBMISSION = flags.DEFINE_string("submission", None, "Optical flow: folder for files for a server.")

OTHER_EXAMPLES = (
    "The model is built for the examples of config.data: choose data of the shape that the run was "
    "trained with, and change nothing in config.model."
)


def main() -> None:
    """Prints the metrics of the splits and writes their figures; or writes a submission."""
    workdir = Path(WORKDIR.value).expanduser().absolute()
    setup.start_jax()
    config, path, source = open_weights(workdir)
    parts = setup.build_parts(config)
    evaluator = build_evaluator(config, parts)
    splits = SPLIT.value or config.evaluation.splits
    if SUBMISSION.value is not None:
        folder = Path(SUBMISSION.value).expanduser().absolute()
        trained = load(config, parts, source)
        count = sum(evaluator.submit(*trained, split, folder) for split in splits)
        summary = {"submission": str(folder), "files": count}
        report(path, summary, f"flow of {count} pairs in {folder}")
        return
    folder = workdir / "evaluation" / f"{dataset_name(config)}_{path.name}"
    make_workdir(folder)
    trained = load(config, parts, source)
    results = {split: evaluator(*trained, split) for split in splits}
    metrics = {split: result.metrics for split, result in results.items()}
    summary = {"metrics": metrics, "figures": str(folder)}
    report(path, summary, f"{table(metrics)}\n\nfigures in {folder}")
    if jax.process_index() == 0:
        with full_disk_explained(folder):
            draw(results, folder)


def open_weights(workdir: Path) -> tuple[ConfigDict, Path, Source]:
    """The config with what the flags replace, and the weights: of the run, or of --weights.

    Raises UserError if there are none, and for --weights without --config.
    """
    if WEIGHTS.value is None:
        config = configuration.read_run(workdir)
        if CONFIG.value:
            other = configuration.read(CONFIG.value)
            config.data, config.evaluation.splits = other.data, other.evaluation.splits
            prepare_as(config, weights.load_preparation(workdir))
        config = setup.overridden(config)
        checkpoint = weights.choose_checkpoint(workdir, config, CHECKPOINT.value)
        return config, checkpoint, checkpoint_source(str(checkpoint))
    if CONFIG.value is None:
        raise UserError(
            f"--weights={WEIGHTS.value} says nothing of data: give those by --config=FILE:PRESET."
        )
    source, model = warm_start.open_source(WEIGHTS.value)
    config = configuration.read(CONFIG.value)
    config.model = ConfigDict(model)
    published = TASKS[config.task.name].published_preparation
    prepare_as(config, weights.load_preparation(WEIGHTS.value) or published)
    return setup.overridden(config), Path(WEIGHTS.value).expanduser().absolute(), source


def prepare_as(config: ConfigDict, preparation: Mapping[str, Any]) -> None:
    """Inputs are prepared as the weights need them, whatever the data's config says."""
    config.data.update({key: preparation[key] for key in config.data if key in preparation})


def build_evaluator(config: ConfigDict, parts: setup.Parts) -> Evaluator | FlowEvaluator:
    """What measures splits. Raises UserError for flags of optical flow with another task."""
    batch_size = config.evaluation.batch_size
    if isinstance(parts.task, OpticalFlow):
        return FlowEvaluator(
            parts,
            tile_size=config.model.image_size,
            batch_size=batch_size,
            overlap=OVERLAP.value,
        )
    for flag in (OVERLAP, SUBMISSION):
        if flag.value is not None:
            raise UserError(
                f"--{flag.name}={flag.value} is for optical flow, but the task of the run is "
                f"{config.task.name}: leave it out."
            )
    step = EvaluationStep(parts.model, parts.task)
    return Evaluator(step, parts.strategy, parts.dataset, batch_size)


def load(config: ConfigDict, parts: setup.Parts, source: Source) -> tuple[PyTree, PyTree]:
    """The source's parameters and model state, as the strategy takes them."""
    shapes = weights.shapes(config.model, parts.dataset.for_prediction())
    params, model_state = parts.strategy.template(shapes)
    loaded = load_weights(source, params, model_state, hint=OTHER_EXAMPLES)
    return parts.strategy.adopt((loaded.params, loaded.model_state))


def dataset_name(config: ConfigDict) -> str:
    """With what tells the parts of Sintel and of KITTI, and tilings, from each other."""
    parts = [str(config.data[k]) for k in ("name", "rendering", "year") if k in config.data]
    return "_".join(parts if OVERLAP.value is None else [*parts, f"overlap{OVERLAP.value}"])


def report(path: Path, summary: dict[str, Any], text: str) -> None:
    """Prints the results of the weights at a path, as an object or for people."""
    if JSON.value:
        origin = {"step": int(path.name)} if WEIGHTS.value is None else {"weights": str(path)}
        say(to_json(origin | summary))
    else:
        say(f"weights {path}\n\n{text}")


def draw(results: dict[str, Result], folder: Path) -> None:
    """Writes the figures of all splits."""
    for split, result in results.items():
        for name, figure in result.figures.items():
            save_figure(figure, folder, f"{split}_{name}")


def table(metrics: dict[str, dict[str, float]]) -> str:
    """A line for each metric, a column for each split."""
    names = list(dict.fromkeys(name for values in metrics.values() for name in values))
    width = max(map(len, names))
    lines = [" " * width + "".join(f"{split:>12}" for split in metrics)]
    for name in names:
        values = (
            f"{values[name]:12.4f}" if name in values else " " * 12 for values in metrics.values()
        )
        lines.append(f"{name:{width}}" + "".join(values))
    return "\n".join(lines)


if __name__ == "__main__":
    setup.run(main)
