r"""Evaluates a checkpoint of a run on complete splits of a dataset.

    python -m experiments.evaluate --workdir=DIR [--checkpoint=best|latest|STEP,...] \
        [--split=test,...] [--config=configs/OTHER.py] [--config.data.key=VALUE] [--json]

Several checkpoints, such as --checkpoint=best,latest, are shown side by side. The config is that of
the run. With --config, the dataset and the splits come from another config.
Published weights are evaluated with

    python -m experiments.evaluate --workdir=DIR --weights=WEIGHTS --config=FILE:PRESET

where everything but the model and the preparation of its images comes from the config. Figures are
written to DIR.

The metrics are those of the evaluations during training. For benchmarks whose ground truth is not
published (Sintel and KITTI), the files to submit to their servers are written with

    python -m experiments.evaluate --workdir=DIR --config=FILE:PRESET --split=test --submission=DIR
"""

from absl import flags

from perceiver_io.runtime import program

WORKDIR = flags.DEFINE_string("workdir", None, "Run folder, or gs://BUCKET/FOLDER.", required=True)
CHECKPOINT = flags.DEFINE_list("checkpoint", ["best"], "Of a run: best, latest, step numbers.")
SPLIT = flags.DEFINE_list("split", None, "Splits; by default those of config.evaluation.")
CONFIG = flags.DEFINE_string("config", None, "A config whose dataset is used instead.")
WEIGHTS = flags.DEFINE_string("weights", None, "Published or trained weights; needs --config.")
JSON = flags.DEFINE_bool("json", False, "Print one JSON object.")
SUBMISSION = flags.DEFINE_string("submission", None, "Folder for files to submit to a server.")
flags.register_multi_flags_validator(
    ["checkpoint", "submission"],
    lambda given: (
        len(given["checkpoint"]) == 1 or (given["checkpoint"] and not given["submission"])
    ),
    "--checkpoint must be at least one, and --submission takes only one",
)


def main() -> None:
    """Prints metrics and writes figures for each split, or writes a submission."""
    from perceiver_io.runtime import evaluation

    program.start_jax()
    workdir = program.run_folder(WORKDIR)
    overrides = program.overrides()
    reports = {}
    for checkpoint in CHECKPOINT.value:
        if WEIGHTS.value is None:
            subject = evaluation.of_run(workdir, checkpoint, CONFIG.value, overrides)
        else:
            subject = evaluation.of_weights(WEIGHTS.value, checkpoint, CONFIG.value, overrides)
        if SPLIT.value:
            subject.config.evaluation.splits = tuple(SPLIT.value)
        if SUBMISSION.value is None:
            reports[checkpoint] = evaluation.evaluate(subject, workdir)
        else:
            folder = program.folder(SUBMISSION)
            reports[checkpoint] = evaluation.submit(subject, folder)
    evaluation.side_by_side(reports).show(as_json=JSON.value)


if __name__ == "__main__":
    program.run(main, WORKDIR)
