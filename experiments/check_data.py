"""Decodes all data of a config once, lists broken examples, and writes a manifest.

    python -m experiments.check_data --config=configs/NAME.py[:PRESET] --output=MANIFEST \
        [--split=train,...] [--config.data.root=FOLDER] [--json]

With --config.data.manifest=MANIFEST, training and evaluation stop at the start if examples are
broken, or skip them with --config.data.broken_files=skip, and report the SHA-256 of the manifest
with their metrics. The exit status is 1 if anything is broken.
"""

import json
import sys

from absl import flags

from perceiver_io.runtime import program

CONFIG = flags.DEFINE_string("config", None, "Config file: FILE.py[:PRESET].", required=True)
OUTPUT = flags.DEFINE_string("output", None, "The file to write.", required=True)
SPLIT = flags.DEFINE_list("split", [], "Splits; by default all.")
JSON = flags.DEFINE_bool("json", False, "Print one JSON object.")


def main() -> None:
    """Writes the manifest and prints the broken examples."""
    from perceiver_io.runtime import configuration, data_check

    config = configuration.load(CONFIG.value, program.overrides())
    program.start_jax()
    checked = data_check.check_data(config, SPLIT.value, program.folder(OUTPUT))
    print(json.dumps(checked._asdict()) if JSON.value else checked.as_text())
    sys.exit(min(checked.num_broken, 1))


if __name__ == "__main__":
    program.run(main, CONFIG, OUTPUT)
