#!/bin/sh
# Writes constraints.txt anew: the newest versions that pyproject.toml allows, as pip resolves them today.
set -eu

cd "$(dirname "$0")/.."
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT

"${PYTHON:-python3.11}" -m venv "$temporary/venv"
pip() { "$temporary/venv/bin/python" -m pip --disable-pip-version-check "$@"; }
pip install --quiet --quiet --upgrade 'pip>=25.1'
pip install --quiet --quiet -e '.[operator,gateway,worker,presidio,evaluation]' --group dev
{
    echo "# Made by scripts/lock.sh: the versions that are installed and tested. pyproject.toml says what is allowed."
    pip freeze --exclude-editable | grep '==' | LC_ALL=C sort -f
} >"$temporary/constraints.txt"
mv "$temporary/constraints.txt" constraints.txt
