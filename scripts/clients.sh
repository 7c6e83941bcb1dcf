#!/bin/sh
# The client libraries that tests/clients runs, apart from the project's own environment: they pin versions of their own.
#
#   scripts/clients.sh          make .venv-clients/NAME for each tests/clients/requirements/NAME.txt, and install the
#                               packages of the package-lock.json of tests/clients and of tests/clients/open_responses
#                               (Node 20)
#   scripts/clients.sh lock     write each NAME.txt anew from NAME.in: the newest versions that go together
set -eu

cd "$(dirname "$0")/.."
folder=.venv-clients
pins=tests/clients/requirements

make_venv() {
    for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
        if "$candidate" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            "$candidate" -m venv --clear "$1"
            return
        fi
    done
    echo "error: no Python 3.11 or newer with ensurepip (on Debian: python3-venv) was found." >&2
    exit 1
}

install() {
    if cmp -s "$pins/$1.txt" "$folder/$1/installed.txt"; then return 0; fi
    make_venv "$folder/$1"
    # What is not imported need not be compiled: that is half of the time.
    "$folder/$1/bin/python" -m pip install --quiet --quiet --disable-pip-version-check --no-deps --no-compile \
        -r "$pins/$1.txt"
    cp "$pins/$1.txt" "$folder/$1/installed.txt"
}

case ${1:-install} in
install)
    for file in "$pins"/*.txt; do install "$(basename "$file" .txt)"; done
    if command -v npm >/dev/null; then
        # Not `npm ci`: see scripts/agents.sh.
        for packages in tests/clients tests/clients/open_responses; do
            (cd "$packages" && npm install --no-save --no-audit --no-fund --loglevel=error)
        done
    else
        echo "npm is not here: the AI SDK, and what Open Responses' suite judges with, are left out" >&2
    fi
    ;;
lock)
    # uv, because pip looks at release after release of a dozen packages that want different ones of openai.
    temporary=$(mktemp -d)
    trap 'rm -rf "$temporary"' EXIT
    make_venv "$temporary/venv"
    "$temporary/venv/bin/python" -m pip install --quiet --quiet --disable-pip-version-check uv
    for file in "$pins"/*.in; do
        name=$(basename "$file" .in)
        {
            echo "# Made by scripts/clients.sh lock of $name.in."
            "$temporary/venv/bin/uv" pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate \
                "$file"
        } >"$temporary/$name.txt"
        mv "$temporary/$name.txt" "$pins/$name.txt"
    done
    ;;
*)
    echo "usage: $0 [lock]" >&2
    exit 2
    ;;
esac
