"""Breaks things in many ways, and checks that each ends well or with one paragraph.

    python -m scripts.check_faults [--only=checkpoints,settings,flags,weights,kills] [--every=N]

checkpoints: each file of a checkpoint, damaged in five ways; the resumed run must be equal to the
bit. settings: each setting of two configs, with six kinds of values. flags: each flag of each
program, likewise. weights: hostile and damaged weights of all formats. kills: trainings killed at
random moments, half of them during a save, with and without workers.

Prints the cases that fail, or all with --show_all, and a table of outcomes for each part; exits
with status 1 if a case failed: a wrong result or value was accepted, a traceback, a hang.
"""

import itertools
import sys
import tempfile
from pathlib import Path

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

import jax
from absl import flags

from perceiver_io.runtime import program
from scripts._checkpoint_faults import checkpoint_cases
from scripts._fault_cases import try_all
from scripts._flag_faults import flag_cases
from scripts._kill_faults import kill_cases
from scripts._setting_faults import setting_cases
from scripts._weight_faults import weight_cases

PARTS = {
    "checkpoints": checkpoint_cases,
    "settings": setting_cases,
    "flags": flag_cases,
    "weights": weight_cases,
    "kills": kill_cases,
}
_ONLY = flags.DEFINE_list("only", list(PARTS), "Parts to check.")
_EVERY = flags.DEFINE_integer("every", 1, "Of the cases, every Nth is tried.", lower_bound=1)
_SHOW_ALL = flags.DEFINE_bool("show_all", False, "Print each case.")


def main() -> None:
    """Tries all cases and prints what became of them."""
    program.start_jax()
    # Every resumed run compiles the same small programs.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    every, show_all, failed = _EVERY.value, _SHOW_ALL.value, []
    for part in _ONLY.value:
        print(f"\n{part}")
        with tempfile.TemporaryDirectory() as folder:
            cases = itertools.islice(PARTS[part](Path(folder)), 0, None, every)
            if not try_all(cases, show_all=show_all):
                failed.append(part)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    program.run(main)
