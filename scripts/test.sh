#!/usr/bin/env bash
# Sets up the environment, then runs lint, format, types and the tests.
#   scripts/test.sh                    everything
#   scripts/test.sh --fast             without the tests marked slow
#   scripts/test.sh [--fast] ARGS      ARGS go to pytest: -k attention, tests/experiments/test_setup.py, -x,
#                                      -n 0 (one process, for a debugger)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup_env.sh

if [[ "${1:-}" == --fast ]]; then
    shift
    set -- -m "not slow" "$@"
fi

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/python -m mypy
# Tests of a file stay together as far as possible, since they share expensive fixtures.
.venv/bin/python -m pytest -n 2 --dist worksteal "$@"
