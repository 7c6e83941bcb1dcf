#!/bin/sh
# Writes the files that are made from the resource models: crds/, docs/llmmodel.md and the chart's copies of the CRDs.
#
#   scripts/generate.sh            write them
#   scripts/generate.sh --check    change nothing; fail when one of them is not what it would be
set -eu

cd "$(dirname "$0")/.."
exec "${VENV:-.venv}/bin/python" -m capstan_operator.api.generate "$@"
