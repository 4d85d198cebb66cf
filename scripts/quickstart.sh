#!/usr/bin/env bash
# Sets up the environment, trains Perceiver IO on handwritten digits and evaluates it on the test split.
#   scripts/quickstart.sh [RUN_FOLDER]         the default is runs/quickstart
# An interrupted training is resumed; a finished one is only evaluated again.
set -euo pipefail
workdir=${1:-runs/quickstart}
if [[ $# -gt 0 && "$workdir" != /* ]]; then
    workdir=$PWD/$workdir
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup_env.sh
# Large memory pages, on Linux: buffers are cleared faster, at each training step.
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}

if [[ -d "$workdir/checkpoints" ]]; then
    echo "Resuming the run in $workdir (delete the folder to start over)"
fi
.venv/bin/python -m experiments.train --config=configs/quickstart.py --workdir="$workdir"
result=$(.venv/bin/python -m experiments.evaluate --workdir="$workdir" --split=test --json)
.venv/bin/python - "$result" <<'EOF'
import json, sys

result = json.loads(sys.argv[1])
print(f"pictures: {result['figures']}")
print(f"test accuracy: {result['metrics']['test']['top_1']:.1%}")
EOF
