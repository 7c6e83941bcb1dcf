"""The operator's settings: one frozen object, read once in __main__, every field documented.

User-facing behaviour lives in the custom resources; what is here is where things are and which images are used.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Final

from capstan_contract.names import GATEWAY_ADMIN_PORT

EVERY_OTHER_NAMESPACE: Final = "*"

NamePatterns = tuple[tuple[str, tuple[str, ...]], ...]
"""Patterns of names by namespace."""


GRADUALLY: Final = "Gradually"
ADOPTION_MODES: Final = (GRADUALLY, "OnSpecChange")


class SettingsError(Exception):
    """A setting that cannot be used; the message names the variable and what is allowed."""


@dataclass(frozen=True)
class BuildSettings:
    """What the pure part needs to know to build a model's objects and the gateway config."""

    worker_image: str = "ghcr.io/capstan/worker:0.1.0"
    """CAPSTAN_WORKER_IMAGE: runs vLLM in its own process, the Simulator, and the sidecar beside other engines."""
    vllm_image: str = "vllm/vllm-openai"
    """CAPSTAN_VLLM_IMAGE: repository used with `engine.version`."""
    tgi_image: str = "ghcr.io/huggingface/text-generation-inference:latest"
    """CAPSTAN_TGI_IMAGE."""
    sglang_image: str = "lmsysorg/sglang:latest"
    """CAPSTAN_SGLANG_IMAGE."""
    image_pull_policy: str = "IfNotPresent"
    """CAPSTAN_IMAGE_PULL_POLICY, for the pods of models."""
    image_pull_secrets: tuple[str, ...] = ()
    """CAPSTAN_IMAGE_PULL_SECRETS, comma-separated, for the pods of models."""
    network_policies: bool = False
    """CAPSTAN_NETWORK_POLICIES: make a NetworkPolicy per model that lets in only the gateway and the operator."""
    install_namespace: str = "capstan-system"
    """CAPSTAN_NAMESPACE: where the operator and the gateway are."""
    rollout_patience_seconds: float = 300.0
    """CAPSTAN_ROLLOUT_PATIENCE_SECONDS: how long a new pod may wait for GPUs that old ones hold, before a rollout of
    several replicas goes on in place, or a person is called. `spec.rollout.patienceSeconds` wins."""
    adopt_template_changes: str = GRADUALLY
    """CAPSTAN_ADOPT_TEMPLATE_CHANGES: Gradually or OnSpecChange: when models take up pod templates that no change of
    their spec has caused."""
    gateway_service: str = "capstan-gateway"
    """CAPSTAN_GATEWAY_SERVICE: the gateway's Service; "" when no gateway is to acknowledge (render, benchmarks)."""
    gateway_url: str = ""
    """CAPSTAN_GATEWAY_URL: what `status.endpoint` says; "" for the Service's address in the cluster."""


@dataclass(frozen=True)
class Settings:
    """Everything else."""

    build: BuildSettings = field(default_factory=BuildSettings)
    watch_namespaces: tuple[str, ...] = ()
    """CAPSTAN_WATCH_NAMESPACES, comma-separated; empty: all."""
    namespace_grace_seconds: float = 300.0
    """CAPSTAN_NAMESPACE_GRACE_SECONDS: how long the models of a watched namespace that no longer exists stay."""
    class_name: str = ""
    """CAPSTAN_CLASS_NAME: work on LLMModels with this `spec.className` alone; empty: on those without one."""
    gateway_config_name: str = "capstan-gateway-config"
    """CAPSTAN_GATEWAY_CONFIG: name of the ConfigMap with the gateway config (its shards append -1, -2, ...)."""
    gateway_credentials_name: str = "capstan-gateway-credentials"
    """CAPSTAN_GATEWAY_CREDENTIALS: name of the Secret with the credentials of external models."""
    require_credential_label: bool = True
    """CAPSTAN_REQUIRE_CREDENTIAL_LABEL: copy keys only from Secrets that say by a label that LLMModels may use them."""
    credential_grace_seconds: float = 600.0
    """CAPSTAN_CREDENTIAL_GRACE_SECONDS: how long a key stays in use after its Secret has gone, or its label."""
    gateway_admin_port: int = GATEWAY_ADMIN_PORT
    """CAPSTAN_GATEWAY_ADMIN_PORT: where a gateway pod answers /internal/config."""
    leader_election: bool = True
    """CAPSTAN_LEADER_ELECTION: hold the Lease `capstan-operator` in the install namespace while working."""
    allowed_names: NamePatterns = ()
    """CAPSTAN_ALLOWED_NAMES: JSON, a list of patterns for each namespace that may claim only such names:
    {"team-a": ["team-a-*"], "*": ["*-shared"]}. "*" is every namespace that is not listed; without it those may claim
    any name."""
    fallbacks_across_namespaces: bool = False
    """CAPSTAN_FALLBACKS_ACROSS_NAMESPACES: let models fall back to those of any namespace, not only of their own and of
    the install namespace."""
    auto_namespaces: tuple[str, ...] = ()
    """CAPSTAN_AUTO_NAMESPACES, comma-separated patterns: whose models the gateway's `auto` may choose; empty: all."""
    max_dropped_percent: int = 20
    """CAPSTAN_MAX_DROPPED_PERCENT: when a config would drop more than this share of the live entries, of models that
    nobody has changed, these stay; 100: never."""
    resync_seconds: float = 300.0
    """CAPSTAN_RESYNC_SECONDS: how often everything is reconciled although nothing was seen to change."""
    max_concurrent_rollouts: int = 2
    """CAPSTAN_MAX_CONCURRENT_ROLLOUTS: how many models at once take up a change of these settings, such as another
    worker image. A change of a model's own spec does not wait."""
    workers: int = 16
    """CAPSTAN_WORKERS: models that are worked on at once; a quarter of them in one namespace while others
    wait, three quarters at most."""
    health_port: int = 8080
    """CAPSTAN_HEALTH_PORT: /healthz, /readyz and /metrics."""
    log_level: str = "INFO"
    """CAPSTAN_LOG_LEVEL."""
    log_format: str = "json"
    """CAPSTAN_LOG_FORMAT: json or text."""


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings from the environment. Raises SettingsError."""
    mode = environ.get(_VARIABLES["build"]["adopt_template_changes"], GRADUALLY)
    if mode not in ADOPTION_MODES:
        raise SettingsError(f"CAPSTAN_ADOPT_TEMPLATE_CHANGES must be {' or '.join(ADOPTION_MODES)}, not '{mode}'")
    builders: dict[str, dict[str, object]] = {"build": {}, "own": {}}
    for owner, names in _VARIABLES.items():
        for name, variable in names.items():
            text = environ.get(variable)
            if text is not None:
                cls = BuildSettings if owner == "build" else Settings
                default = next(f.default for f in fields(cls) if f.name == name)
                builders[owner][name] = _convert(variable, text, default)
    return Settings(build=BuildSettings(**builders["build"]), **builders["own"])  # type: ignore[arg-type]


_VARIABLES = {
    "build": {
        "worker_image": "CAPSTAN_WORKER_IMAGE",
        "vllm_image": "CAPSTAN_VLLM_IMAGE",
        "tgi_image": "CAPSTAN_TGI_IMAGE",
        "sglang_image": "CAPSTAN_SGLANG_IMAGE",
        "image_pull_policy": "CAPSTAN_IMAGE_PULL_POLICY",
        "image_pull_secrets": "CAPSTAN_IMAGE_PULL_SECRETS",
        "network_policies": "CAPSTAN_NETWORK_POLICIES",
        "rollout_patience_seconds": "CAPSTAN_ROLLOUT_PATIENCE_SECONDS",
        "install_namespace": "CAPSTAN_NAMESPACE",
        "adopt_template_changes": "CAPSTAN_ADOPT_TEMPLATE_CHANGES",
        "gateway_service": "CAPSTAN_GATEWAY_SERVICE",
        "gateway_url": "CAPSTAN_GATEWAY_URL",
    },
    "own": {
        "watch_namespaces": "CAPSTAN_WATCH_NAMESPACES",
        "namespace_grace_seconds": "CAPSTAN_NAMESPACE_GRACE_SECONDS",
        "class_name": "CAPSTAN_CLASS_NAME",
        "gateway_config_name": "CAPSTAN_GATEWAY_CONFIG",
        "gateway_credentials_name": "CAPSTAN_GATEWAY_CREDENTIALS",
        "require_credential_label": "CAPSTAN_REQUIRE_CREDENTIAL_LABEL",
        "credential_grace_seconds": "CAPSTAN_CREDENTIAL_GRACE_SECONDS",
        "gateway_admin_port": "CAPSTAN_GATEWAY_ADMIN_PORT",
        "allowed_names": "CAPSTAN_ALLOWED_NAMES",
        "fallbacks_across_namespaces": "CAPSTAN_FALLBACKS_ACROSS_NAMESPACES",
        "auto_namespaces": "CAPSTAN_AUTO_NAMESPACES",
        "max_dropped_percent": "CAPSTAN_MAX_DROPPED_PERCENT",
        "leader_election": "CAPSTAN_LEADER_ELECTION",
        "resync_seconds": "CAPSTAN_RESYNC_SECONDS",
        "max_concurrent_rollouts": "CAPSTAN_MAX_CONCURRENT_ROLLOUTS",
        "workers": "CAPSTAN_WORKERS",
        "health_port": "CAPSTAN_HEALTH_PORT",
        "log_level": "CAPSTAN_LOG_LEVEL",
        "log_format": "CAPSTAN_LOG_FORMAT",
    },
}


def _convert(variable: str, text: str, default: object) -> object:
    if variable == "CAPSTAN_ALLOWED_NAMES":
        return _name_patterns(variable, text)
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise SettingsError(f"{variable} must be true or false, not '{text}'")
        return text.lower() == "true"
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if isinstance(default, int | float):
        try:
            number = type(default)(text)
        except ValueError:
            raise SettingsError(f"{variable} must be a number, not '{text}'") from None
        if number <= 0:
            raise SettingsError(f"{variable} must be greater than 0")
        if variable.endswith("_PERCENT") and number > 100:
            raise SettingsError(f"{variable} must be at most 100")
        return number
    return text


def _name_patterns(variable: str, text: str) -> NamePatterns:
    if not text.strip():
        return ()
    try:
        found = json.loads(text)
    except ValueError:
        raise SettingsError(f"{variable} must be JSON: lists of patterns by namespace") from None
    if not isinstance(found, dict):
        raise SettingsError(f"{variable} must be a JSON object: lists of patterns by namespace")
    for namespace, patterns in found.items():
        if not isinstance(patterns, list) or not all(isinstance(one, str) and one for one in patterns):
            raise SettingsError(f"{variable} must have a list of patterns, each a string, for '{namespace}'")
    return tuple((namespace, tuple(patterns)) for namespace, patterns in sorted(found.items()))
