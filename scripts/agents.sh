#!/bin/sh
# The agents that tests/agents runs.
#
#   scripts/agents.sh         install them: those of npm in the versions of tests/agents/package-lock.json (needs Node 20
#                             and npm), aider in those of tests/agents/aider.txt (needs Python 3.10, 3.11 or 3.12)
#   scripts/agents.sh lock    write aider.txt anew for the version of aider that it names
#
# aider pins about a hundred packages, some of them ours in other versions, and so has an environment of its own.
# Not `npm ci`: it refuses a lock without the packages of other systems, and a registry need not have all of them.
set -eu

cd "$(dirname "$0")/.."
venv=.venv-aider
lock=tests/agents/aider.txt

make_venv() {
    for candidate in ${PYTHON:-} python3.11 python3.12 python3.10 python3; do
        if "$candidate" -c 'import sys, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' 2>/dev/null; then
            "$candidate" -m venv "$1"
            return
        fi
    done
    echo "error: aider needs Python 3.10, 3.11 or 3.12 with ensurepip (on Debian: python3-venv); none was found." >&2
    exit 1
}

pip() {
    "$environment/bin/python" -m pip --disable-pip-version-check --quiet --quiet "$@"
}

case ${1:-install} in
install)
    npm install --prefix tests/agents --no-save --no-audit --no-fund --loglevel=error
    environment=$venv
    if ! cmp -s "$lock" "$venv/installed.txt"; then
        make_venv "$venv"
        # The lock is whole, so nothing is to be resolved; and most of what is installed is never imported.
        pip install --no-deps --no-compile -r "$lock"
        cp "$lock" "$venv/installed.txt"
    fi
    ;;
lock)
    environment=$(mktemp -d)
    trap 'rm -rf "$environment"' EXIT
    make_venv "$environment"
    pip install "$(grep '^aider-chat==' "$lock")"
    {
        echo "# Made by scripts/agents.sh lock: aider and all that it needs, in an environment of its own."
        "$environment/bin/python" -m pip freeze | LC_ALL=C sort -f
    } >"$environment/lock.txt"
    cp "$environment/lock.txt" "$lock"
    ;;
*)
    echo "usage: $0 [lock]" >&2
    exit 2
    ;;
esac
