#!/bin/sh
# Makes .venv with everything that this project needs, once.
#
#   scripts/setup.sh run     what `make run` needs: the operator's, gateway's and worker's dependencies
#   scripts/setup.sh dev     that, and the tools of the tests and checks
#
# Set PYTHON to choose the interpreter, VENV to choose the folder. Versions come from constraints.txt.
set -eu

cd "$(dirname "$0")/.."
what=${1:-run}
venv=${VENV:-.venv}

usable() {
    command -v "$1" >/dev/null 2>&1 && "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

# Debian and Ubuntu keep what `python -m venv` needs in a package of its own.
can_make_venv() {
    "$1" -c 'import ensurepip, venv' >/dev/null 2>&1
}

find_python() {
    without_venv=
    for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3.14 python3 python}; do
        usable "$candidate" || continue
        if can_make_venv "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
        without_venv=$candidate
    done
    if [ -n "$without_venv" ]; then
        version=$("$without_venv" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        echo "error: $without_venv cannot make virtual environments: its ensurepip module is missing." >&2
        echo "       On Debian or Ubuntu: apt-get install python$version-venv" >&2
    elif [ -n "${PYTHON:-}" ]; then
        echo "error: PYTHON=$PYTHON is not a Python 3.11 or newer." >&2
    else
        echo "error: no Python 3.11 or newer was found (looked for python3.11 to python3.14, python3, python)." >&2
        echo "       Install one from https://www.python.org, or name one: make PYTHON=/path/to/python3" >&2
    fi
    exit 1
}

pip_install() {
    if ! "$venv/bin/python" -m pip install --quiet --quiet --disable-pip-version-check -c constraints.txt "$@"; then
        echo "error: pip could not install what is needed; the lines above say why." >&2
        echo "       It downloads from the package index that pip is configured with. Run the command again to retry." >&2
        exit 1
    fi
}

if ! [ -x "$venv/bin/python" ] || ! "$venv/bin/python" -c '' 2>/dev/null; then
    python=$(find_python)
    echo "making $venv with $("$python" --version 2>&1)" >&2
    "$python" -m venv --clear "$venv"
fi

case $what in
run)
    echo "installing Capstan and its dependencies into $venv (once, about half a minute)" >&2
    pip_install -e '.[operator,gateway,worker,evaluation]'
    ;;
dev)
    echo "installing the tools for tests and checks into $venv (once, about half a minute)" >&2
    # The first pip that knows dependency groups is 25.1.
    pip_install --upgrade 'pip>=25.1'
    pip_install -e '.[operator,gateway,worker,evaluation]' --group dev
    ;;
*)
    echo "usage: $0 run|dev" >&2
    exit 2
    ;;
esac
touch "$venv/.installed-$what"
