"""The gateway's settings: command line first, then environment, read once at start.

Every flag is also an environment variable: `--drain-seconds` is CAPSTAN_GATEWAY_DRAIN_SECONDS.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from capstan_contract.config import Strategy
from capstan_contract.names import GATEWAY_PORT

ENV_PREFIX: Final = "CAPSTAN_GATEWAY_"
SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
MEBIBYTE: Final = 1024 * 1024
MAX_PORT: Final = 65535


class SettingsError(Exception):
    """Settings with which the gateway must not start; the message says what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How this process runs. What users decide about models lives in resources, not here."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 in a pod."""
    port: int = GATEWAY_PORT
    """Port of the OpenAI API."""
    admin_port: int | None = None
    """Port of /metrics and /internal/config; None: on the API's port."""
    config_dir: Path | None = None
    """Directory with config.json and its shards, watched."""
    kube_namespace: str | None = None
    """Namespace of the gateway config's ConfigMap; with `kube_config_map` it turns the Kubernetes source on."""
    kube_config_map: str | None = None
    """Name of the gateway config's ConfigMap; shards (NAME-a-1, NAME-b-1, ...) are named after it."""
    kube_credentials: str | None = None
    """Name of the Secret with the keys of external models, in the same namespace; None: only `credentials_dir`."""
    kube_url: str | None = None
    """Kubernetes API; None: the one of the cluster that this pod runs in."""
    kube_service_account_dir: Path = SERVICE_ACCOUNT
    """Directory with `token` and `ca.crt` for the Kubernetes API; read again when the token is renewed."""
    discovery_namespaces: tuple[str, ...] = ()
    """Namespaces whose EndpointSlices are watched; empty: all, with one cluster-wide watch."""
    region: str = ""
    """Where this gateway is: endpoints of hosted models in the same region come first among those of equal priority."""
    auto_strategy: Strategy = Strategy.CHEAPEST
    """How the built-in model `auto` chooses among all models."""
    credentials_dir: Path | None = None
    """Directory with one file for each external model's API key, watched."""
    insecure_no_auth: bool = False
    """Serve everybody, without API keys."""
    endpoint_wait_seconds: float = 15.0
    """Longest time that a request waits for a model without a ready endpoint."""
    hedge_percent: float = 2.0
    """Most streams, in percent, that are sent to a second endpoint when their first token is late; 0: none."""
    hedge_after_seconds: float | None = None
    """When a first token is late; None: later than nineteen of twenty of the model's."""
    hedge_hosted: bool = False
    """Whether hosted APIs, which charge for it, may be asked twice."""
    probe_seconds: float = 10.0
    """After how long without an answer an endpoint is asked whether it is ready; 0: no probes."""
    probe_request_seconds: float = 60.0
    """How often an endpoint without work makes one token, to show that it can; 0: never."""
    probe_hosted: bool = False
    """Whether hosted APIs, which charge for it, get such requests."""
    drain_seconds: float = 5.0
    """After SIGTERM: how long new requests are still served, so that load balancers can notice."""
    grace_seconds: float = 600.0
    """After draining: how long running answers may go on."""
    max_body_bytes: int = 32 * MEBIBYTE
    """Largest request body; 413 above it."""
    max_header_bytes: int = 64 * 1024
    """Largest request head; 431 above it."""
    max_concurrency: int = 2048
    """Most requests in flight; 503 above it."""
    max_connections: int = 16384
    """Most connections of clients to one port; 503 and closed above it."""
    log_level: str = "info"
    """debug, info, warning or error; a line for each request is at info."""
    log_format: str = "json"
    """json or text."""

    @property
    def watches_kubernetes(self) -> bool:
        """Whether the config and the endpoints come from a Kubernetes API."""
        return self.kube_config_map is not None


def parse_settings(arguments: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Read flags, then environment, then defaults; SystemExit for a wrong flag, SettingsError for what cannot work."""
    parser = _parser(environ)
    given = vars(parser.parse_args(arguments))
    settings = Settings(**{name: value for name, value in given.items() if value is not None})
    check_settings(settings)
    return settings


def check_settings(settings: Settings) -> None:
    """Refuse combinations that cannot work or are not safe."""
    if not settings.insecure_no_auth:
        raise SettingsError(
            "no API keys are configured; to serve everybody who can reach this port, start with --insecure-no-auth"
        )
    if (settings.kube_namespace is None) != (settings.kube_config_map is None):
        raise SettingsError("--kube-namespace and --kube-config-map must be given together")
    if settings.kube_credentials is not None and settings.kube_config_map is None:
        raise SettingsError("--kube-credentials needs --kube-namespace and --kube-config-map")
    if settings.config_dir is None and settings.kube_config_map is None:
        raise SettingsError("a config source is needed: --config-dir, or --kube-namespace with --kube-config-map")
    if not 0 <= settings.hedge_percent <= 100:
        raise SettingsError("--hedge-percent must be from 0 to 100")
    for flag, port in (("--port", settings.port), ("--admin-port", settings.admin_port)):
        if port is not None and not 0 <= port <= MAX_PORT:
            raise SettingsError(f"{flag} must be from 0 to {MAX_PORT}")
    if settings.admin_port is not None and settings.admin_port == settings.port:
        raise SettingsError("--admin-port must differ from --port")


def _parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="capstan-gateway", description="Capstan's OpenAI-compatible gateway.")

    def flag(
        name: str, *, read: Callable[[str], Any] | None = None, choices: tuple[str, ...] | None = None, text: str
    ) -> None:
        default = environ.get(ENV_PREFIX + name.upper().replace("-", "_"))
        parser.add_argument(f"--{name}", type=read or str, choices=choices, default=default, help=text)

    def switch(name: str, *, text: str) -> None:
        given = environ.get(ENV_PREFIX + name.upper().replace("-", "_"), "")
        parser.add_argument(f"--{name}", action="store_true", default=given.lower() in ("1", "true", "yes"), help=text)

    flag("host", text="address to listen on (default 127.0.0.1)")
    flag("port", read=int, text=f"port of the OpenAI API (default {GATEWAY_PORT})")
    flag("admin-port", read=int, text="own port for /metrics and /internal/config")
    flag("config-dir", read=Path, text="directory with config.json, watched")
    flag("kube-namespace", text="namespace of the config's ConfigMap")
    flag("kube-config-map", text="name of the config's ConfigMap, watched through the API")
    flag("kube-credentials", text="name of the Secret with the API keys of external models, watched through the API")
    flag("kube-url", text="Kubernetes API (default: this pod's cluster)")
    flag("kube-service-account-dir", read=Path, text=f"directory with token and ca.crt (default {SERVICE_ACCOUNT})")
    parser.add_argument(
        "--discovery-namespaces",
        type=_names,
        default=environ.get(ENV_PREFIX + "DISCOVERY_NAMESPACES"),
        help="comma-separated namespaces whose EndpointSlices are watched (default: all)",
    )
    flag("region", text="region of this gateway, in the words of spec.external.endpoints (default: none)")
    strategies = ", ".join(sorted(Strategy))
    flag("auto-strategy", read=_strategy, text=f"how the model `auto` chooses: {strategies} (default Cheapest)")
    flag("credentials-dir", read=Path, text="directory with the API keys of external models, watched")
    switch("insecure-no-auth", text="serve without API keys")
    flag("endpoint-wait-seconds", read=float, text="wait for a model without a ready endpoint (default 15)")
    flag("hedge-percent", read=float, text="most streams sent twice on a late first token; 0: none (default 2)")
    flag("hedge-after-seconds", read=float, text="when a first token is late (default: the model's own p95)")
    switch("hedge-hosted", text="hosted APIs may be asked twice, and charge twice")
    flag("probe-seconds", read=float, text="ask a silent endpoint whether it is ready; 0: never (default 10)")
    flag("probe-request-seconds", read=float, text="one token from an idle endpoint so often; 0: never (default 60)")
    switch("probe-hosted", text="hosted APIs get such requests as well, and charge for them")
    flag("drain-seconds", read=float, text="serve new requests for so long after SIGTERM (default 5)")
    flag("grace-seconds", read=float, text="let running answers go on for so long after that (default 600)")
    flag("max-body-bytes", read=int, text="largest request body (default 32 MiB)")
    flag("max-header-bytes", read=int, text="largest request head (default 64 KiB)")
    flag("max-concurrency", read=int, text="most requests in flight (default 2048)")
    flag("max-connections", read=int, text="most connections of clients to one port (default 16384)")
    flag("log-level", choices=("debug", "info", "warning", "error"), text="log level (default info)")
    flag("log-format", choices=("json", "text"), text="log format (default json)")
    return parser


def _strategy(text: str) -> Strategy:
    try:
        return next(strategy for strategy in Strategy if strategy.lower() == text.lower())
    except StopIteration:
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(sorted(Strategy))}") from None


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def describe(settings: Settings) -> dict[str, str]:
    """Give the settings for the log at start; there is no secret among them."""
    return {field.name: str(getattr(settings, field.name)) for field in fields(settings)}
