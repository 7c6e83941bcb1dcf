"""The gateways that bench/gateway.py puts side by side: how each is installed, configured and started."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gateway_report import DIRECT, OURS
from gateway_upstreams import UPSTREAM_PORT

from capstan_contract.config import GatewayConfig, ModelEntry, StaticBackend
from capstan_contract.sharding import split_config

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache" / "bench"
LITELLM = CACHE / "litellm"
ROUTER = CACHE / "vllm-router"
PORTKEY = CACHE / "portkey"
PORT = 18091
PORTKEY_PACKAGE = {
    "private": True,
    "dependencies": {"@portkey-ai/gateway": "latest"},
    "overrides": {"@hono/node-server": "1.14.1"},
}
"""With a later @hono/node-server, which npm takes by itself, Portkey answers every stream with status 500 and
"TypeError: immutable" (its issue 1389): it adds headers to a response that is made from that of `fetch`."""


@dataclass(frozen=True)
class Rival:
    """One gateway under test; all of them listen on PORT, one at a time, before the upstream on UPSTREAM_PORT."""

    name: str
    prepare: Callable[[Path], list[str]]
    """Writes its configuration into a folder; gives the command."""
    version: Callable[[], str]
    """Raises OSError when it is not installed."""
    path: str = "/v1/chat/completions"
    headers: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    port: int = PORT


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{command[0]} failed: {done.stderr[-300:]}")
    return (done.stdout or done.stderr).strip()


def _distribution(python: Path, name: str) -> str:
    code = f"from importlib.metadata import version; print(version({name!r}))"
    return _output(str(python), "-c", code)


def _direct(_: Path) -> list[str]:
    return []


def _nginx(folder: Path) -> list[str]:
    """One worker. It keeps as many upstream connections as any scenario needs, and passes chunks on as they come."""
    (folder / "nginx.conf").write_text(
        f"""
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; keepalive_requests 100000000;
  upstream engine {{ server 127.0.0.1:{UPSTREAM_PORT}; keepalive 512; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{PORT};
    location / {{
      proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""
    )
    return ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]


def capstan_config(folder: Path) -> None:
    """Write the config of a gateway with one model."""
    backend = StaticBackend(urls=(f"http://127.0.0.1:{UPSTREAM_PORT}",))
    entry = ModelEntry(id="bench/bench", generation=1, servedName="bench", upstreamName="bench", backend=backend)
    for name, document in split_config(GatewayConfig.build((entry,))).items():
        (folder / name).write_text(document)


def _capstan(folder: Path) -> list[str]:
    capstan_config(folder)
    options = ["--config-dir", str(folder), "--insecure-no-auth", "--port", str(PORT), "--log-level", "warning"]
    return [sys.executable, "-m", "capstan_gateway", *options]


def _litellm(folder: Path) -> list[str]:
    """One worker on uvicorn with uvloop, its default; no callbacks, no database, no detailed logging."""
    parameters = {"model": "openai/bench", "api_base": f"http://127.0.0.1:{UPSTREAM_PORT}/v1", "api_key": "none"}
    config = {"model_list": [{"model_name": "bench", "litellm_params": parameters}]}
    (folder / "config.yaml").write_text(json.dumps(config))
    command = [str(LITELLM / "bin" / "litellm"), "--config", str(folder / "config.yaml"), "--port", str(PORT)]
    return [*command, "--host", "127.0.0.1", "--num_workers", "1"]


def _router(_: Path) -> list[str]:
    """The cheapest policy. Retries and breaker act on failures only; its health check asks once a minute."""
    command = [str(ROUTER / "bin" / "vllm-router"), "--worker-urls", f"http://127.0.0.1:{UPSTREAM_PORT}"]
    return [*command, "--host", "127.0.0.1", "--port", str(PORT), "--policy", "round_robin", "--log-level", "error"]


def _portkey(_: Path) -> list[str]:
    script = PORTKEY / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    return ["node", str(script), "--headless", f"--port={PORT}"]


def _portkey_version() -> str:
    package = PORTKEY / "node_modules" / "@portkey-ai" / "gateway" / "package.json"
    return f"{json.loads(package.read_text())['version']} on node {_output('node', '--version')}"


RIVALS = [
    Rival(DIRECT, _direct, lambda: "-", port=UPSTREAM_PORT),
    Rival("nginx (floor)", _nginx, lambda: _output("nginx", "-v").split("/")[-1]),
    Rival(OURS, _capstan, lambda: _distribution(Path(sys.executable), "capstan")),
    Rival(
        "vllm-router",
        _router,
        lambda: _distribution(ROUTER / "bin" / "python", "vllm-router"),
        environment={"TOKIO_WORKER_THREADS": "1"},  # the best on one core; two cost more
    ),
    Rival(
        "Portkey",
        _portkey,
        _portkey_version,
        headers={
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": f"http://127.0.0.1:{UPSTREAM_PORT}/v1",
            "authorization": "Bearer none",
        },
        environment={"TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"},
    ),
    Rival(
        "LiteLLM proxy",
        _litellm,
        lambda: _distribution(LITELLM / "bin" / "python", "litellm"),
        environment={
            "LITELLM_LOG": "ERROR",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
            "NO_DOCS": "True",
        },
    ),
]


def install() -> None:
    """Install what is missing, each into a folder of its own under .cache/bench."""
    for folder, package in ((LITELLM, "litellm[proxy]"), (ROUTER, "vllm-router")):
        if not (folder / "installed").exists():
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            subprocess.run([str(folder / "bin" / "pip"), "install", "-q", package], check=True)
            (folder / "installed").touch()
    wanted = json.dumps(PORTKEY_PACKAGE)
    marker = PORTKEY / "installed"
    if shutil.which("npm") and not (marker.exists() and marker.read_text() == wanted):
        shutil.rmtree(PORTKEY, ignore_errors=True)
        PORTKEY.mkdir(parents=True)
        (PORTKEY / "package.json").write_text(wanted)
        command = ["npm", "install", "--no-fund", "--no-audit", "--loglevel=error"]
        subprocess.run(command, cwd=PORTKEY, check=True)
        marker.write_text(wanted)
