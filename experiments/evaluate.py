r"""Evaluates a checkpoint of a run on complete splits of a dataset.

    python -m experiments.evaluate --workdir=DIR [--checkpoint=best|latest|STEP] \
        [--split=test,...] [--config=configs/OTHER.py] [--config.data.key=VALUE] [--json]

The config is that of the run. With --config, the dataset and the splits come from another config.
Published weights are evaluated with

    python -m experiments.evaluate --workdir=DIR --weights=WEIGHTS --config=FILE:PRESET

where everything but the model and the preparation of its images comes from the config. Figures are
written to DIR.

The metrics are those of the evaluations during training. For benchmarks whose ground truth is not
published (Sintel and KITTI), the files to submit to their servers are written with

    python -m experiments.evaluate --workdir=DIR --config=FILE:PRESET --split=test --submission=DIR
"""

from pathlib import Path

from absl import flags

from perceiver_io.runtime import program

WORKDIR = flags.DEFINE_string("workdir", None, "Run folder.", required=True)
CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "Of a run: best, latest, or a step number.")
SPLIT = flags.DEFINE_list("split", None, "Splits; by default those of config.evaluation.")
CONFIG = flags.DEFINE_string("config", None, "A config whose dataset is used instead.")
WEIGHTS = flags.DEFINE_string("weights", None, "Published or trained weights; needs --config.")
JSON = flags.DEFINE_bool("json", False, "Print one JSON object.")
SUBMISSION = flags.DEFINE_string("submission", None, "Folder for files to submit to a server.")


def main() -> None:
    """Prints metrics and writes figures for each split, or writes a submission."""
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
