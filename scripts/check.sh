#!/bin/sh
# All checks that need no running program: formatting, linting, types, layers, generated files. Runs all of them and
# fails when one does.
set -u

cd "$(dirname "$0")/.." || exit 1
bin=${VENV:-.venv}/bin
failed=

step() {
    name=$1
    shift
    if "$@"; then
        echo "ok: $name"
    else
        failed="$failed $name"
        echo "FAILED: $name" >&2
    fi
}

step format "$bin/ruff" format --check --quiet .
step lint "$bin/ruff" check --quiet .
step types "$bin/mypy"
step layers "$bin/lint-imports"
step workflows "$bin/actionlint"
step generated scripts/generate.sh --check
step compatibility "$bin/python" scripts/compatibility.py --check

if [ -n "$failed" ]; then
    echo "failed:$failed" >&2
    exit 1
fi
