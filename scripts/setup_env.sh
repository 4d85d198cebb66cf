#!/usr/bin/env bash
# Creates .venv in the repository's root and installs requirements.txt into it.
# Does nothing if it is up to date; repairs an incomplete environment.
# PYTHON=/path/to/python chooses the interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usable() { # Whether $1 runs, is Python 3.11 or newer, and can create environments.
    "$1" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3.14 python3 python}; do
        if usable "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    echo "No usable Python found among: ${PYTHON:-python3.11 ... python3.14, python3, python}." \
        "Python 3.11 or newer with its venv module is needed (on Debian and Ubuntu:" \
        "apt-get install python3.11 python3.11-venv). To choose another interpreter, run" \
        "PYTHON=/path/to/python scripts/setup_env.sh." >&2
    return 1
}

# The checksum of the requirements that .venv holds, or "unfinished" while pip works on it.
stamp=.venv/requirements.cksum
wanted=$(cksum <requirements.txt)
found=$(cat "$stamp" 2>/dev/null || true)
if [[ "$found" == "$wanted" ]] && .venv/bin/python -c '' 2>/dev/null; then
    exit 0
fi

# An interrupted pip leaves incomplete packages that it would later accept: start afresh.
if [[ "$found" == unfinished ]] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    echo "Creating .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
fi
echo "Installing requirements.txt into .venv (a few minutes the first time)"
echo unfinished >"$stamp"
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
echo "$wanted" >"$stamp"
