"""Names that cross a process boundary: labels, headers, object names, ports, reasons.

A name that only one process uses lives in that process.
"""

from typing import Final

GROUP: Final = "capstan.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
CATEGORY: Final = "capstan"

# --- labels and annotations on objects that Capstan owns -----------------------------------------------------------

MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "capstan"
NAME_LABEL: Final = "app.kubernetes.io/name"
COMPONENT_LABEL: Final = "app.kubernetes.io/component"
MODEL_LABEL: Final = f"{GROUP}/model"
"""On every child of an LLMModel and on its pods: metadata.name of the LLMModel."""
TRACK_LABEL: Final = f"{GROUP}/track"
"""On the Deployment, the Service and the pods of a model: which of its variants they are."""
STABLE: Final = "stable"
"""The track that every model has."""
CANARY: Final = "canary"
"""The track of a revision that is tried beside the stable one (see `config.Canary`)."""
POD_HASH_LABEL: Final = f"{GROUP}/pod-hash"
"""On every model pod: a hash of everything in the pod template. Pods with another value are out of date."""
APPLIED_HASH_ANNOTATION: Final = f"{GROUP}/applied-hash"
"""On every owned object: a hash of what the operator applied last, so that a removed field is noticed."""

# --- the gateway config in a cluster --------------------------------------------------------------------------------

CONFIG_FILE: Final = "config.json"
"""Key of the ConfigMap, and name of the file in a directory: a whole GatewayConfig or a ConfigIndex."""
MAX_CONFIG_SHARDS: Final = 16
SHARD_BYTES: Final = 900 * 1024
"""Most bytes in one ConfigMap; Kubernetes refuses more than 1 MiB for the whole object."""


MAX_ENTRY_BYTES: Final = SHARD_BYTES // 4
"""Most bytes of one model's entry: with larger ones, two in the same shard could be too many."""
SHARD_SETS: Final = ("a", "b")
"""A config in shards is written into the set that the live index does not name."""


def shard_file(shard_set: str, number: int) -> str:
    """Key and file name of shard `number` of a set, counted from 1."""
    return f"shard-{shard_set}-{number}.json"


def shard_object(config_name: str, file: str) -> str:
    """Name of the ConfigMap that holds this shard of the config object `config_name`."""
    return f"{config_name}-{file.removeprefix('shard-').removesuffix('.json')}"


# --- models ---------------------------------------------------------------------------------------------------------


def canary_id(model_id: str) -> str:
    """Give the id of a model's canary, from the `namespace/name` of the model: the key of all state about it, and what
    the workers of its pods take queued work of. No model has such an id."""
    return f"{model_id}@{CANARY}"


def stable_id(model_id: str) -> str:
    """Give the id of the model of which this is the id, or that of its canary."""
    return model_id.removesuffix(f"@{CANARY}")


AUTO: Final = "auto"
"""Name of the gateway's built-in virtual model: any model that can answer the request. No LLMModel may have it."""

# --- credentials of hosted models in a cluster ----------------------------------------------------------------------

CREDENTIAL_LABEL: Final = f"{GROUP}/credential"
"""On a Secret, with the value "true": LLMModels of its namespace may use it as the API key of a hosted model."""
CREDENTIAL_SHARDS_ANNOTATION: Final = f"{GROUP}/credential-shards"
"""On the gateway's Secret: how many further ones there are beside it. Absent: none."""
MAX_CREDENTIAL_SHARDS: Final = 16
"""Most of these further ones."""


def credential_object(name: str, shard: int) -> str:
    """Name of the Secret that holds a shard of the gateway's credentials; shard 0 is the Secret `name` itself."""
    return f"{name}-{shard}" if shard else name


PRIVACY_KEY: Final = "privacy-key"
"""In a Secret of its own: the key by which gateways hash the names of users."""

# --- API keys of clients in a cluster --------------------------------------------------------------------------------

API_KEY_LABEL: Final = f"{GROUP}/api-key"
"""On a Secret of the install namespace, with the value "true": what it holds is an API key of the gateway."""
API_KEY_FIELD: Final = "key"
"""In such a Secret: the key itself."""
KEY_USER_ANNOTATION: Final = f"{GROUP}/user"
KEY_TEAM_ANNOTATION: Final = f"{GROUP}/team"
KEY_TENANT_ANNOTATION: Final = f"{GROUP}/tenant"
KEY_TIER_ANNOTATION: Final = f"{GROUP}/tier"
KEY_MODELS_ANNOTATION: Final = f"{GROUP}/models"
"""On such a Secret: served names that the key may use, with commas between them; `*` is any run of characters."""
KEY_EXPIRES_ANNOTATION: Final = f"{GROUP}/expires"
"""On such a Secret: the time (RFC 3339) from which on the key is refused."""
ADMIN_KEY_FIELD: Final = "admin-key"
"""In a Secret of its own: the credential of the gateway's admin endpoints."""

# --- ports ----------------------------------------------------------------------------------------------------------

ENGINE_PORT: Final = 8000
"""Where a model pod speaks the OpenAI API (port name ``http``)."""
ENGINE_PORT_NAME: Final = "http"
WORKER_PORT: Final = 8001
"""Where the worker in a model pod answers /healthz, /readyz, /metrics, /drain and /kv-events (port name ``worker``)."""
WORKER_PORT_NAME: Final = "worker"
GATEWAY_PORT: Final = 8080
GATEWAY_ADMIN_PORT: Final = 9090

# --- headers --------------------------------------------------------------------------------------------------------

REQUEST_ID_HEADER: Final = "x-request-id"
