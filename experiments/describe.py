"""Describes an experiment without running it: settings, modules, parameters, FLOPs, memory.

    python -m experiments.describe --config=configs/NAME.py[:PRESET] [--config.any.key=VALUE]
    python -m experiments.describe --workdir=RUN

With a run folder, its config is described, and how its seconds were spent: in training steps that
count, in all else, and lost to restarts (see perceiver_io/training/goodput.py).
The training step is compiled for the available devices, at the config's batch size, but not run;
`--nomemory` skips this. `--json` prints one JSON object.
"""

import json

from absl import flags

from perceiver_io.runtime import program

CONFIG = flags.DEFINE_string("config", None, "Config file: FILE.py[:PRESET].")
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Run folder, or gs://BUCKET/FOLDER, instead of --config."
)
JSON = flags.DEFINE_bool("json", False, "Print one JSON object.")
MEMORY = flags.DEFINE_bool("memory", True, "Compile the training step and report its memory.")
flags.mark_flags_as_mutual_exclusive(["config", "workdir"], required=True)


def main() -> None:
    """Prints the description."""
    from perceiver_io.runtime import configuration, description

    if WORKDIR.value is None:
        config, seconds = configuration.load(str(CONFIG.value), program.overrides()), {}
    else:
        workdir = program.run_folder(WORKDIR)
        config = configuration.overridden(configuration.of_run(workdir), program.overrides())
        seconds = description.time_spent(workdir)
    program.start_jax()
    described = description.describe(config, memory=MEMORY.value) | seconds
    print(json.dumps(described) if JSON.value else description.as_table(described))


if __name__ == "__main__":
    program.run(main)
