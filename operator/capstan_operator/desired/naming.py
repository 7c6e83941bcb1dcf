"""Names of what belongs to an LLMModel. Deterministic: nothing has to be looked up to find a child."""

import hashlib
from typing import Final
from urllib.parse import urlsplit

from capstan_contract.names import (
    COMPONENT_LABEL,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    MODEL_LABEL,
    NAME_LABEL,
    STABLE,
    TRACK_LABEL,
)
from capstan_operator.api.kinds import Model
from capstan_operator.api.llmmodel import AdapterSpec, EngineType
from capstan_operator.resources.resource import ObjectKey, PolicyKey

COMPONENT: Final = "engine"
_PORTS: Final = {"http": 80, "https": 443}
POLICY_FILES: Final = "Policy"
"""No namespace has a capital letter."""
TGI_NAME: Final = "tgi"
"""TGI takes any other model name in a request for the name of an adapter."""


def workload_name(name: str, track: str = STABLE) -> str:
    """Name of the Deployment, the Service and the PodDisruptionBudget of a track of a model. The NetworkPolicy, which
    is of all tracks, is called like those of the stable one."""
    return f"{name}-model" if track == STABLE else f"{name}-{track}"


def revision_name(name: str, pod_hash: str) -> str:
    """Name of the ControllerRevision that keeps a pod template of a model."""
    return f"{name}-{pod_hash}"


def prefixes_name(name: str) -> str:
    """Name of the ConfigMap with the prefixes to warm up."""
    return f"{name}-prefixes"


def weights_name(name: str) -> str:
    """Name of the PersistentVolumeClaim that the operator makes for the weights."""
    return f"{name}-weights"


def selector_labels(name: str, track: str | None = None) -> dict[str, str]:
    """Labels that select the pods of a model: of one track, or of all."""
    return {COMPONENT_LABEL: COMPONENT, MODEL_LABEL: name} | ({TRACK_LABEL: track} if track else {})


def child_labels(name: str, track: str | None = None) -> dict[str, str]:
    """Labels of every child and pod of a model, `track` where it is of one. Labels of the LLMModel itself are never
    copied."""
    return {**selector_labels(name, track), MANAGED_BY_LABEL: MANAGED_BY, NAME_LABEL: "llmmodel"}


def served_name(model: Model) -> str:
    """Give the name that clients ask for."""
    named = model.spec.model.servedName if model.spec else None
    return named or model.key.name


def adapter_served_name(model: Model, adapter: AdapterSpec) -> str:
    """Give the name that clients ask for to get an adapter."""
    return adapter.servedName or f"{served_name(model)}:{adapter.name}"


def upstream_name(model: Model) -> str:
    """Give the name that the engine knows the model by. It does not follow servedName, so renaming restarts nothing."""
    spec = model.spec
    if spec and spec.external:
        return spec.external.model or served_name(model)
    if spec and spec.engine.type is EngineType.TGI:
        return TGI_NAME
    return model.key.name


def credential_file(
    key: ObjectKey, endpoint: str | None = None, *, uid: str = "", secret: str = "", secret_key: str = "", url: str = ""
) -> str:
    """Name of the file with the credential of a model, or of one of its endpoints.

    Neither a namespace nor the name of a model or an endpoint has a dot in it, so two never share a file. The last part
    says which object asks for which key of which Secret, and where that is sent: a value never answers for another
    reference or goes to another host, nor to a model that was made anew under the name of another one.
    """
    parts = (uid, key.namespace, secret, secret_key, origin_of(url))
    reference = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
    return f"{key.namespace}.{key.name}.{endpoint or ''}.{reference}"


QUEUE_KEY: Final = "-queue"
"""The place of what seals a model's queue among its credentials: no endpoint has such a name."""


def queue_key_file(key: ObjectKey, *, uid: str, secret: str, secret_key: str) -> str:
    """Name of the file with what seals a model's queue."""
    return credential_file(key, QUEUE_KEY, uid=uid, secret=secret, secret_key=secret_key)


SEALING: Final = "cache"
"""The place of a policy's credential that entries of its cache are sealed with."""


def policy_credential_file(
    policy: PolicyKey, place: str, *, uid: str = "", secret: str = "", secret_key: str = "", url: str = ""
) -> str:
    """Name of the file with a credential of a policy; `place` says for what of it, without a dot.

    The last part says the same as in `credential_file`, and which policy it is: names of policies may have dots.
    """
    parts = (uid, *policy, secret, secret_key, origin_of(url))
    reference = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
    return f"{POLICY_FILES}.{policy.namespace}.{place}.{reference}"


def origin_of(url: str) -> str:
    """Give the scheme, host and port of a URL: who gets what is sent there."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return url
    return f"{parts.scheme}://{parts.hostname or ''}:{port or ''}"


def plain_credential_file(file: str) -> str:
    """Name under which a former release has kept the same credential, whatever the reference."""
    key, endpoint = owner_of_credential(file)
    return f"{key.namespace}.{key.name}" + (f".{endpoint}" if endpoint else "")


def is_of_policy(file: str) -> bool:
    """Whether a credential file is one of a policy: those of models have no capital letters in the first part."""
    return file.startswith(f"{POLICY_FILES}.")


def is_sealing_key(file: str) -> bool:
    """Whether a credential file is what a policy's cache seals its entries with."""
    return is_of_policy(file) and file.split(".")[-2] == SEALING


def owner_of_credential(file: str) -> tuple[ObjectKey, str | None]:
    """Give the model, and the endpoint if any, that a credential file belongs to: `credential_file` reversed."""
    namespace, name, *endpoint = file.split(".")
    return ObjectKey(namespace, name), (endpoint[0] or None) if endpoint else None
