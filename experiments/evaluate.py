"""Evaluates a checkpoint of a run on whole splits of a dataset.

    python -m experiments.evaluate --workdir=DIR [--checkpoint=best|latest|STEP] \
        [--split=test,...] [--config=configs/OTHER.py] [--config.data.key=VALUE] [--json]

The config is that of the run. With --config, the dataset is that of another config.
"""

from pathlib import Path

import jax
from absl import flags
from ml_collections import ConfigDict

from experiments import configuration, setup, weights
from perceiver_io.training.disk import full_disk_explained, make_workdir
from perceiver_io.training.evaluation import Evaluator, Result
from perceiver_io.training.logging import save_figure, say, to_json
from perceiver_io.training.step import EvaluationStep
from perceiver_io.training.warm_start import checkpoint_source, load_weights

WORKDIR = flags.DEFINE_string("workdir", None, "Run folder.", required=True)
CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best, latest, or a step.")
SPLIT = flags.DEFINE_list("split", None, "Splits; those of config.evaluation by default.")
CONFIG = flags.DEFINE_string("config", None, "A config whose data section is used in place.")
JSON = flags.DEFINE_bool("json", False, "Prints one JSON object.")

OTHER_EXAMPLES = (
    "The model is built for the examples of config.data: choose data of the shape that the run was "
    "trained with, and change nothing in config.model."
)


def main() -> None:
    """Prints the metrics of the splits and writes their figures."""
    workdir = Path(WORKDIR.value).expanduser().absolute()
    config = read_config(workdir)
    setup.start_jax()
    checkpoint = weights.choose_checkpoint(workdir, config, CHECKPOINT.value)
    folder = workdir / "evaluation" / f"{config.data.name}_{checkpoint.name}"
    make_workdir(folder)
    results = evaluate(config, checkpoint, SPLIT.value or config.evaluation.splits)
    metrics = {split: result.metrics for split, result in results.items()}
    if JSON.value:
        summary = {"step": int(checkpoint.name), "metrics": metrics, "figures": str(folder)}
        say(to_json(summary))
    else:
        say(f"checkpoint {checkpoint}\n\n{table(metrics)}\n\nfigures in {folder}")
    if jax.process_index() == 0:
        with full_disk_explained(folder):
            draw(results, folder)


def read_config(workdir: Path) -> ConfigDict:
    """The run's config with what the flags replace. Raises UserError if there is no run."""
    config = configuration.read_run(workdir)
    if CONFIG.value:
        config.data = configuration.read(CONFIG.value).data
    return setup.overridden(config)


def evaluate(config: ConfigDict, checkpoint: Path, splits) -> dict[str, Result]:
    """The result of each split, with the checkpoint's weights."""
    parts = setup.build_parts(config)
    evaluator = Evaluator(
        EvaluationStep(parts.model, parts.task),
        parts.strategy,
        parts.dataset,
        config.evaluation.batch_size,
    )
    shapes = jax.eval_shape(lambda: setup.initialise(parts, config.seed))
    params, model_state = parts.strategy.template(shapes)
    source = checkpoint_source(str(checkpoint))
    loaded = load_weights(source, params, model_state, hint=OTHER_EXAMPLES)
    params, model_state = parts.strategy.adopt((loaded.params, loaded.model_state))
    return {split: evaluator(params, model_state, split) for split in splits}


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
