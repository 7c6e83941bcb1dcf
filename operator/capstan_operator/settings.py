"""The operator's settings: one frozen object, read once in __main__ from the environment, every field documented.

User-facing behaviour lives in the custom resources; what is here is where things are and which images are used. The
variable of `some_name` is CAPSTAN_SOME_NAME, unless its field says another one.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from capstan_contract.names import COMPONENT_LABEL, GATEWAY_ADMIN_PORT, GROUP, MANAGED_BY_LABEL, NAME_LABEL
from capstan_contract.redis_address import read_address
from capstan_process.logs import FORMATS, LEVELS
from capstan_process.settings import SettingsError, read_settings, setting

PREFIX: Final = "CAPSTAN_"
NO_REGISTRY: Final = "registry.invalid"
"""Where Capstan's own images are as long as nobody has said it: a name that no registry can have (RFC 6761)."""
EVERY_OTHER_NAMESPACE: Final = "*"
TAKEN_LABELS: Final = (
    MANAGED_BY_LABEL,
    NAME_LABEL,
    COMPONENT_LABEL,
    "pod-template-hash",
    "controller-uid",
    "job-name",
)
"""Labels by which Capstan, a Deployment or a Job finds its pods."""
TAKEN_LABEL_PREFIXES: Final = (f"{GROUP}/", "batch.kubernetes.io/")
_LABEL_KEY: Final = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
USER_ID: Final = 10001
"""Of the models' processes, where nothing else is said."""
OWN_IMAGES: Final = (f"{PREFIX}WORKER_IMAGE", f"{PREFIX}EVALUATION_IMAGE")
"""What has no default that could be pulled. Only who renders manifests does without."""
GRADUALLY: Final = "Gradually"
ADOPTION_MODES: Final = (GRADUALLY, "OnSpecChange")
FAILURE_MODES: Final = ("FailClose", "FailOpen")
MODEL_PLACE: Final = "{model}"

_PICKER: Final = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")

NamePatterns = tuple[tuple[str, tuple[str, ...]], ...]
"""Patterns of names by namespace."""


def _read_name_patterns(text: str) -> NamePatterns:
    if not text.strip():
        return ()
    try:
        found = json.loads(text)
    except ValueError:
        raise ValueError("must be JSON: lists of patterns by namespace") from None
    if not isinstance(found, dict):
        raise ValueError("must be a JSON object: lists of patterns by namespace")
    for namespace, patterns in found.items():
        if not isinstance(patterns, list) or not all(isinstance(one, str) and one for one in patterns):
            raise ValueError(f"must have a list of patterns, each a string, for '{namespace}'")
    return tuple((namespace, tuple(patterns)) for namespace, patterns in sorted(found.items()))


def _read_object(text: str) -> str:
    """Read a JSON object; give it in the one form that equal objects have."""
    found = _parsed(text or "{}", "an object")
    if not isinstance(found, dict):
        raise ValueError("must be a JSON object")
    return _canonical(found)


def _read_labels(text: str) -> str:
    """Read a JSON object of labels."""
    found = _read_texts(text)
    for key, value in found.items():
        if key in TAKEN_LABELS or key.startswith(TAKEN_LABEL_PREFIXES):
            raise ValueError(f"must not have {key}, by which Capstan or Kubernetes finds pods")
        if not _LABEL_VALUE.fullmatch(value) or len(value) > 63:
            raise ValueError(f"must have the value of a label for {key}: at most 63 letters, digits and any of - . _")
    return _canonical(found)


def _read_annotations(text: str) -> str:
    """Read a JSON object of annotations."""
    found = _read_texts(text)
    for key in found:
        if key.startswith(TAKEN_LABEL_PREFIXES[0]):
            raise ValueError(f"must not have {key}, which is Capstan's")
    return _canonical(found)


def _read_texts(text: str) -> dict[str, str]:
    found = json.loads(_read_object(text))
    if not all(isinstance(value, str) for value in found.values()):
        raise ValueError("must be a JSON object of strings")
    for key in found:
        if not _LABEL_KEY.fullmatch(key) or len(key) > 316:
            raise ValueError("must have keys such as example.com/name")
    return dict(found)


def _read_variables(text: str) -> str:
    """Read a JSON list of variables as in a container."""
    found = _parsed(text or "[]", "a list")
    if not isinstance(found, list):
        raise ValueError("must be a JSON list of variables, as in a container")
    names = [one.get("name") if isinstance(one, dict) else None for one in found]
    for name in names:
        if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
            raise ValueError("must have variables with a `name` of letters, digits and '_', such as HF_ENDPOINT")
        if name.startswith(PREFIX):
            raise ValueError(f"must not have {name}: the operator says to the workers what begins so")
    if len(set(names)) != len(names):
        raise ValueError("must name each variable once")
    for one in found:
        if one.keys() - {"name"} not in ({"value"}, {"valueFrom"}):
            raise ValueError(f"must have a `value` or a `valueFrom` of {one['name']}, and nothing else")
        if not isinstance(one.get("value", ""), str):
            raise ValueError(f"must have a string as `value` of {one['name']}: put it in quotes")
    return _canonical(found)


def _parsed(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise ValueError(f"must be JSON: {what}") from None


def _canonical(found: object) -> str:
    return json.dumps(found, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _read_queue_url(text: str) -> str:
    if text and read_address(text).password is not None:
        raise ValueError("must be without a password, which would stand in the spec of every pod: use the Secret")
    return text


def _read_picker(text: str) -> str:
    if text and not _PICKER.fullmatch(text.replace(MODEL_PLACE, "model")):
        raise ValueError(f"must be the name of a Service, {MODEL_PLACE} in it for that of the LLMModel")
    return text


POD_SECURITY: Final = _canonical(
    {
        "runAsNonRoot": True,
        "runAsUser": USER_ID,
        "runAsGroup": USER_ID,
        "fsGroup": USER_ID,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
)
CONTAINER_SECURITY: Final = _canonical(
    {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
)


@dataclass(frozen=True)
class BuildSettings:
    """What the pure part needs to know to build a model's objects and the gateway config."""

    worker_image: str = setting(
        f"{NO_REGISTRY}/worker:0.1.0",
        "runs vLLM in its own process, the Simulator, and the sidecar beside other engines",
    )
    vllm_image: str = setting("docker.io/vllm/vllm-openai", "repository used with `engine.version`")
    evaluation_image: str = setting(
        f"{NO_REGISTRY}/operator:0.1.0",
        "runs the suites of rollouts, in Jobs beside the models: the operator's own",
    )
    tgi_image: str = setting("ghcr.io/huggingface/text-generation-inference:3.3.7", "runs TGI")
    sglang_image: str = setting("docker.io/lmsysorg/sglang:v0.5.20", "runs SGLang")
    image_pull_policy: str = setting("IfNotPresent", "for the pods of models")
    image_pull_secrets: tuple[str, ...] = setting((), "comma-separated, for the pods of models")
    model_env: str = setting(
        "[]",
        "JSON, variables of every engine as in a container, such as a proxy; a model's own win, and what Capstan "
        "relies on is left out",
        read=_read_variables,
        secret=True,
    )
    model_pod_labels: str = setting("{}", "JSON, labels of the pods of models; a model's own win", read=_read_labels)
    model_pod_annotations: str = setting(
        "{}", "JSON, annotations of the pods of models; a model's own win", read=_read_annotations
    )
    model_pod_security: str = setting(
        POD_SECURITY,
        "JSON, the whole securityContext of the pods of models; a field that is null is left out",
        read=_read_object,
    )
    model_container_security: str = setting(
        CONTAINER_SECURITY,
        "JSON, the whole securityContext of their containers; a field that is null is left out",
        read=_read_object,
    )
    ca_config_map: str = setting(
        "", "ConfigMap in the namespaces of models with the authorities that engines believe in; empty: their image's"
    )
    ca_secret: str = setting("", "or a Secret with them")
    ca_key: str = setting("ca.crt", "key of either, whose value is PEM")
    network_policies: bool = setting(
        False, "make a NetworkPolicy per model that lets in only the gateway and the operator"
    )
    install_namespace: str = setting(
        "capstan-system", "where the operator and the gateway are", variable="CAPSTAN_NAMESPACE"
    )
    rollout_patience_seconds: float = setting(
        300.0,
        "how long a new pod may wait for GPUs that old ones hold, before a rollout of several replicas goes on in "
        "place, or a person is called; `spec.rollout.patienceSeconds` wins",
        above=0,
    )
    adopt_template_changes: str = setting(
        GRADUALLY, "when models take up pod templates that no change of their spec has caused", choices=ADOPTION_MODES
    )
    queue_redis_url: str = setting(
        "",
        "Redis with the queues of models, for their workers, without a password; empty: there are no queues, and "
        "requests are dispatched directly",
        read=_read_queue_url,
    )
    queue_worker_secret: str = setting(
        "", "Secret in the namespaces of models with the workers' password of that Redis (`password`); empty: none"
    )
    queue_seal_secret: str = setting(
        "",
        "Secret in the namespaces of models with what seals the entries of their queues (`seal-key`, 16 bytes or "
        "more); empty: they are not sealed",
    )
    gateway_service: str = setting(
        "capstan-gateway", 'the gateway\'s Service; "" when no gateway is to acknowledge (render, benchmarks)'
    )
    gateway_url: str = setting("", 'what `status.endpoint` says; "" for the Service\'s address in the cluster')
    inference_pools: bool = setting(
        False, "make an InferencePool of the pods of each model that serve, where the cluster knows the kind"
    )
    endpoint_picker: str = setting(
        f"{MODEL_PLACE}-epp",
        f"Service of the endpoint picker of a model's InferencePool, in its namespace; `{MODEL_PLACE}` is the name of "
        "the LLMModel; empty: pools have none",
        read=_read_picker,
    )
    endpoint_picker_port: int = setting(9002, "its port", least=1, most=65535)
    endpoint_picker_failure_mode: str = setting(
        "FailClose", "what becomes of requests while it does not answer", choices=FAILURE_MODES
    )


@dataclass(frozen=True)
class Settings:
    """Everything else."""

    build: BuildSettings = field(default_factory=BuildSettings)
    watch_namespaces: tuple[str, ...] = setting((), "comma-separated; empty: all")
    namespace_grace_seconds: float = setting(
        300.0, "how long the models of a watched namespace that no longer exists stay", above=0
    )
    class_name: str = setting("", "work on LLMModels with this `spec.className` alone; empty: on those without one")
    gateway_config_name: str = setting(
        "capstan-gateway-config",
        "name of the ConfigMap with the gateway config (its shards append -a-1, -b-1, ...)",
        variable="CAPSTAN_GATEWAY_CONFIG",
    )
    gateway_credentials_name: str = setting(
        "capstan-gateway-credentials",
        "name of the Secret with the credentials of external models",
        variable="CAPSTAN_GATEWAY_CREDENTIALS",
    )
    gateway_privacy_name: str = setting(
        "capstan-gateway-privacy",
        "name of the Secret with the key by which gateways hash the names of users, made when it is not there; empty: "
        "none is made",
        variable="CAPSTAN_GATEWAY_PRIVACY",
    )
    gateway_admin_name: str = setting(
        "capstan-gateway-admin",
        "name of the Secret with the credential of the gateways' admin pages (`admin-key`), made when it is not there; "
        "empty: they are asked without one",
        variable="CAPSTAN_GATEWAY_ADMIN",
    )
    scorer_url: str = setting(
        "",
        "base URL of the scorers of sampled answers, which say how models stand; empty: there are none",
        variable="CAPSTAN_SCORER_URL",
    )
    scorer_key_name: str = setting(
        "",
        "name of the Secret with the API key (`key`) by which scorers ask judges, made when it is not there; empty: "
        "none is made",
        variable="CAPSTAN_SCORER_KEY",
    )
    scorer_judges: str = setting(
        "",
        "served names that this key may use, with commas between them; `*` is any run of characters; empty: all",
        variable="CAPSTAN_SCORER_JUDGES",
    )
    redis_secret_name: str = setting(
        "",
        "name of the Secret with the password (`password`) of the install's own Redis, made when it is not there; "
        "empty: none is made",
        variable="CAPSTAN_REDIS_SECRET",
    )
    require_credential_label: bool = setting(
        True, "copy keys only from Secrets that say by a label that LLMModels may use them"
    )
    credential_grace_seconds: float = setting(
        600.0, "how long a key stays in use after its Secret has gone, or its label", above=0
    )
    prune_inference_pools: bool = setting(
        False,
        "without inference_pools: take away those that were made with it; needs the right to list and delete them",
    )
    metrics_api_port: int = setting(
        0, "where external.metrics.k8s.io is served for the HPAs of models, by TLS; 0: it is not", least=0, most=65535
    )
    metrics_api_service: str = setting(
        "capstan-operator-metrics-api",
        "the Service before it (port 443), and the Secret with its authority, which is made when a model needs it",
    )
    metrics_api_owner: str = setting(
        "", "the ClusterRole that the APIService belongs to, and goes with; empty: none, and it stays"
    )
    external_scaler_port: int = setting(
        0, "where the questions of KEDA are answered, by gRPC and TLS; 0: they are not", least=0, most=65535
    )
    external_scaler_service: str = setting(
        "capstan-operator-scaler",
        "the Service before it (the same port), and the Secret with its authority, which is made when a model needs it",
    )
    gateway_admin_port: int = setting(GATEWAY_ADMIN_PORT, "where a gateway pod answers /internal/config", above=0)
    leader_election: bool = setting(
        True,
        "hold the Lease `capstan-operator`, or that of its class, in the install namespace while working",
    )
    allowed_names: NamePatterns = setting(
        (),
        "JSON, a list of patterns for each namespace that may claim only such names: "
        '{"team-a": ["team-a-*"], "*": ["*-shared"]}. "*" is every namespace that is not listed; without it those may '
        "claim any name",
        read=_read_name_patterns,
    )
    fallbacks_across_namespaces: bool = setting(
        False,
        "let models fall back to those of any namespace, not only of their own and of the install namespace",
    )
    auto_namespaces: tuple[str, ...] = setting(
        (), "comma-separated patterns: whose models the gateway's `auto` may choose; empty: all"
    )
    max_dropped_percent: int = setting(
        20,
        "when a config would drop more than this share of the live entries, of models that nobody has changed, these "
        "stay; 100: never",
        least=1,
        most=100,
    )
    resync_seconds: float = setting(
        300.0, "how often everything is reconciled although nothing was seen to change", above=0
    )
    max_concurrent_rollouts: int = setting(
        2,
        "how many models at once take up a change of these settings, such as another worker image; a change of a "
        "model's own spec does not wait",
        least=1,
    )
    workers: int = setting(
        16,
        "models worked on at once; a quarter of them in one namespace while others wait, three quarters at most",
        least=1,
    )
    health_port: int = setting(8080, "/healthz, /readyz and /metrics", above=0)
    log_level: str = setting("info", "what is logged", choices=LEVELS)
    log_format: str = setting("json", "form of the log", choices=FORMATS)


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings from the environment. Raises SettingsError."""
    return read_settings(Settings, prefix=PREFIX, environ=environ)


def check_images(environ: Mapping[str, str] = os.environ) -> None:
    """See that whoever starts the operator says where Capstan's own images are. Raises SettingsError."""
    for variable in OWN_IMAGES:
        if not environ.get(variable):
            raise SettingsError(f"{variable} is missing: an image of Capstan, where you have pushed it")
