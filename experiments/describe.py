"""Describes an experiment without running it: settings, modules, parameters, FLOPs, memory.

    python -m experiments.describe --config=configs/NAME.py[:PRESET] [--config.any.key=VALUE]

The training step is compiled for the available devices, at the config's batch size, but not run;
`--nomemory` skips this. `--json` prints one JSON object.
"""

import json

from absl import flags

from perceiver_io.runtime import program

CONFIG = flags.DEFINE_string("config", None, "Config file: FILE.py[:PRESET].", required=True)
JSON = flags.DEFINE_bool("json", False, "Print one JSON object.")
MEMORY = flags.DEFINE_bool("memory", True, "Compile the training step and report its memory.")


def main() -> None:
    """Prints the description."""
    from perceiver_io.runtime import configuration, description

    config = configuration.load(CONFIG.value, program.overrides())
    program.start_jax()
    described = description.describe(config, memory=MEMORY.value)
    print(json.dumps(described) if JSON.value else description.as_table(described))


if __name__ == "__main__":
    program.run(main, CONFIG)
