r"""Trains a model.

    python -m experiments.train --config=configs/NAME.py[:PRESET] --workdir=DIR \
        [--compiled_step=FILE] [--config.any.key=VALUE]

Repeating the command resumes an interrupted run. Settings that affect training must not have
changed, except for those given by --allow_config_change=KEY,... The exit status is 75 if repeating
it helps (SIGTERM, Ctrl-C, another host that was lost), 2 if something must be changed first.

On several hosts, start it on each one with --coordinator_address, --num_processes and --process_id,
or with --coordinator_address=auto where the cluster provides them.
"""

from absl import flags

from perceiver_io.runtime import program

CONFIG = flags.DEFINE_string("config", None, "Config file: FILE.py[:PRESET].", required=True)
WORKDIR = flags.DEFINE_string("workdir", None, "Run folder, or gs://BUCKET/FOLDER.", required=True)
PROFILE = flags.DEFINE_list(
    "profile_steps", ["0", "0"], "FIRST,LAST: steps to profile into the run folder's `profile`."
)
COMPILED = flags.DEFINE_string(
    "compiled_step", None, "The step as `experiments.plan --save=FILE` compiled it for this slice."
)
ALLOWED = flags.DEFINE_list(
    "allow_config_change",
    [],
    "Settings that may differ from those the run was started with: KEY,...",
)
flags.register_validator(
    PROFILE, lambda steps: [step.isdecimal() for step in steps] == [True] * 2, "must be FIRST,LAST"
)


def main() -> None:
    """Trains until the last step, a SIGTERM or a loss that is not finite."""
    # Imported here because --help does not need JAX and the other slow imports.
    from perceiver_io.runtime import configuration, training_run

    config = configuration.load(CONFIG.value, program.overrides())
    program.start_jax()
    workdir = program.run_folder(WORKDIR)
    first, last = map(int, PROFILE.value)
    compiled = None if COMPILED.value is None else program.folder(COMPILED)
    if not training_run.train(config, workdir, (first, last), ALLOWED.value, compiled):
        program.end_unfinished()


if __name__ == "__main__":
    program.run(main, CONFIG, WORKDIR)
