#!/bin/sh
# Writes the files that are made from others: crds/, docs/llmmodel.md, the chart's copies of the CRDs, its table of values.
#
#   scripts/generate.sh            write them
#   scripts/generate.sh --check    change nothing; fail when one of them is not what it would be
set -eu

cd "$(dirname "$0")/.."
python=${VENV:-.venv}/bin/python
"$python" -m capstan_operator.api.generate "$@"
"$python" scripts/sync_chart.py "$@"
