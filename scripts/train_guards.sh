#!/bin/sh
# Makes the weights of the classifier of attacks anew, in an environment of its own (.venv-train, 1.2 GB).
#
#   scripts/train_guards.sh [DATA] [...]     DATA: the folder of public data sets; further arguments go to train_guards.py
set -eu

cd "$(dirname "$0")/.."
venv=${TRAIN_VENV:-.venv-train}
data=../shared/data
if [ $# -gt 0 ]; then
    data=$1
    shift
fi
if [ ! -e "$venv/.installed" ]; then
    "${PYTHON:-python3.11}" -m venv "$venv"
    "$venv/bin/python" -m pip --disable-pip-version-check install --quiet --upgrade 'pip>=25.1'
    "$venv/bin/python" -m pip --disable-pip-version-check install --quiet -e '.[gateway]' -c constraints.txt
    "$venv/bin/python" -m pip --disable-pip-version-check install --quiet --group train -c constraints.txt
    touch "$venv/.installed"
fi
# One thread, so that sums are taken in the same order each time.
export OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
exec "$venv/bin/python" scripts/train_guards.py "$data" "$@"
