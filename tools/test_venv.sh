#!/usr/bin/env bash
# Makes build/venv with the packages of tests/requirements.txt; with that done, returns at once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=build/venv
# The distribution's Python, whatever else stands first in PATH.
python=/usr/bin/python3
wanted=$($python --version; cat tests/requirements.txt)
if [[ -e $venv/made-from && $(<"$venv/made-from") == "$wanted" ]]; then exit 0; fi

echo "Installing the Python packages of the tests"
rm -rf "$venv"
$python -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-input -r tests/requirements.txt </dev/null
printf '%s\n' "$wanted" >"$venv/made-from"
