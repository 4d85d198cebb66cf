r"""Plans of all published experiments on slices that one does not have, as tables.

    python -m scripts.plan_all --output=DIR [--topologies=v5e:16x16,v3:4x8] [--only=REGEX]

Each plan is one file in DIR, DIR/TOPOLOGY/CONFIG_PRESET.json, as `experiments.plan --json` prints
it; a repeated command makes those that are missing. An experiment that cannot be planned is
reported, and the others go on. Prints the tables, and writes them to DIR/plans.md.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

from absl import flags

from perceiver_io.errors import UserError
from perceiver_io.runtime import program
from perceiver_io.runtime.plan import environment
from scripts import _plans

OUTPUT = flags.DEFINE_string("output", None, "Folder of the plans.", required=True)
TOPOLOGIES = flags.DEFINE_list("topologies", ["v5e:16x16", "v3:4x8"], "Slices to plan for.")
ONLY = flags.DEFINE_string("only", "", "Regular expression of CONFIG:PRESET.")


def main() -> None:
    """Makes the plans that are missing, then the tables."""
    environment.set_up()
    from perceiver_io.progress import say

    folder = program.folder(OUTPUT)
    for topology in TOPOLOGIES.value:
        for experiment in _plans.experiments():
            path = file_of(folder, topology, experiment)
            if re.search(ONLY.value, experiment) and not path.exists():
                try:
                    say(f"{topology} {experiment}: {plan(topology, experiment, path)}")
                except UserError as error:
                    say(f"{topology} {experiment} cannot be planned: {error}")
    tables = [_plans.as_table(name, dict(found(folder, name))) for name in TOPOLOGIES.value]
    text = "\n\n".join(tables)
    (folder / "plans.md").write_text(f"{text}\n")
    print(text)


def plan(topology: str, experiment: str, path: Path) -> str:
    """Plans an experiment and writes what was found; returns it in a few words."""
    import jax

    from perceiver_io.runtime import configuration
    from perceiver_io.runtime.plan import machines, planning, report
    from perceiver_io.training.disk import write_whole

    config = configuration.load(f"configs/{experiment.replace(':', '.py:')}")
    slice_ = machines.open_slice(topology)
    plans = list(planning.search(config, slice_))
    found = report.as_json(plans, slice_) | {"batch_size": config.training.batch_size}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(found, indent=2))
    jax.clear_caches()
    return report.as_line(plans[-1])


def found(folder: Path, topology: str) -> Iterator[tuple[str, dict]]:
    """The plans there are, by experiment."""
    for experiment in _plans.experiments():
        path = file_of(folder, topology, experiment)
        if path.exists():
            yield experiment, json.loads(path.read_text())


def file_of(folder: Path, topology: str, experiment: str) -> Path:
    """Where the plan of an experiment is."""
    return folder / topology.replace(":", "_") / f"{experiment.replace(':', '_')}.json"


if __name__ == "__main__":
    program.run(main, OUTPUT)
