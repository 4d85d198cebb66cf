r"""Evaluates a checkpoint of a run on whole splits of a dataset.

    python -m experiments.evaluate --workdir=DIR [--checkpoint=best|latest|STEP] \
        [--split=test,...] [--config=configs/OTHER.py] [--config.data.key=VALUE] [--json]

The config is that of the run. With --config, the dataset and the splits are another config's.
Published weights are evaluated by

    python -m experiments.evaluate --workdir=DIR --weights=WEIGHTS --config=FILE:PRESET

where all but the model, and how images are prepared for it, is of the config, and the figures go to
DIR.

The measures are those of the evaluations during training. Where the truth is not published, the
files that the servers of benchmarks measure (Sintel's and KITTI's) are written by

    python -m experiments.evaluate --workdir=DIR --config=FILE:PRESET --split=test --submission=DIR
"""

from pathlib import Path

from absl import flags

from perceiver_io.runtime import program

WORKDIR = flags.DEFINE_string("workdir", None, "Run folder.", required=True)
CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "Of a run: best, latest, or a step.")
SPLIT = flags.DEFINE_list("split", None, "Splits; those of config.evaluation by default.")
CONFIG = flags.DEFINE_string("config", None, "A config whose dataset is used in place.")
WEIGHTS = flags.DEFINE_string("weights", None, "Published weights, or a run's, with --config.")
JSON = flags.DEFINE_bool("json", False, "Prints one JSON object.")
SUBMISSION = flags.DEFINE_string("submission", None, "Folder for the files for a server.")


def main() -> None:
    """Prints the metrics of the splits and writes their figures; or writes a submission."""
    from perceiver_io.runtime import evaluation

    program.start_jax()
    workdir = Path(WORKDIR.value).expanduser().absolute()
    overrides = program.overrides()
    if WEIGHTS.value is None:
        subject = evaluation.of_run(workdir, CHECKPOINT.value, CONFIG.value, overrides)
    else:
        subject = evaluation.of_weights(WEIGHTS.value, CHECKPOINT.value, CONFIG.value, overrides)
    if SPLIT.value:
        subject.config.evaluation.splits = tuple(SPLIT.value)
    if SUBMISSION.value is None:
        report = evaluation.evaluate(subject, workdir)
    else:
        report = evaluation.submit(subject, Path(SUBMISSION.value).expanduser().absolute())
    report.show(as_json=JSON.value)


if __name__ == "__main__":
    program.run(main, WORKDIR)
