"""Real vLLM on the CPU: its environment and its models."""

import subprocess
from pathlib import Path

from support.jobs import wait_for_job
from support.needs import ROOT, lacking

FLAGS = ("--enforce-eager", "--max-num-seqs", "4")
ENVIRON = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "OMP_NUM_THREADS": "2",
    "VLLM_LOGGING_LEVEL": "WARNING",
}


def need_vllm() -> str:
    """Give the Python that has vLLM."""
    wait_for_job("vllm")
    python = ROOT / ".venv-vllm" / "bin" / "python"
    if not (ROOT / ".venv-vllm" / "capstan.stamp").exists():
        lacking("real vLLM on the CPU (make vllm-venv)")
    return str(python)


def tiny_chat_model(python: str) -> Path:
    """Give the folder of the tiny chat model; make it when it is not there."""
    folder = ROOT / ".cache" / "tiny-chat"
    _script(python, "chat", str(folder))
    return folder


def minilm(python: str) -> Path:
    """Give the folder of all-MiniLM-L6-v2."""
    return Path(_script(python, "minilm"))


def _script(python: str, *arguments: str) -> str:
    script = str(ROOT / "scripts" / "make_tiny_model.py")
    done = subprocess.run([python, script, *arguments], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return done.stdout.strip().splitlines()[-1]
