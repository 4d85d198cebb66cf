#!/usr/bin/env bash
# Environment, then trains Perceiver IO on handwritten digits and measures it on the test split.
#   scripts/quickstart.sh [RUN_FOLDER]         the default is runs/quickstart
# An interrupted training goes on where it stopped; a finished one is only evaluated again.
set -euo pipefail
workdir=${1:-runs/quickstart}
if [[ $# -gt 0 && "$workdir" != /* ]]; then
    workdir=$PWD/$workdir
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup_env.sh

run() {
    .venv/bin/python -m "$@" --config=configs/quickstart.py --workdir="$workdir"
}
run experiments.train
result=$(run experiments.evaluate --split=test --json)
