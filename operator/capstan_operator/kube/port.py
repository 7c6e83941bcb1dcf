"""The port: which kinds there are, and the five verbs that everything else in the operator uses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from capstan_contract.names import GROUP, VERSION
from capstan_operator.desired.types import FIELD_MANAGER
from capstan_operator.snapshot import Manifest

STATUS_MANAGER: Final = "capstan-operator-status"
"""Owner of the status of the users' objects."""


@dataclass(frozen=True)
class Kind:
    """A resource of the API, and how to address it."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """What `apiVersion` says in a manifest."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path of the collection (cluster-wide without a namespace), of an object, or of its subresource."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = [root]
        if self.namespaced and namespace is not None:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part is not None]
        return "/".join(parts)


LLM_MODELS: Final = Kind(GROUP, VERSION, "llmmodels", "LLMModel")
DEPLOYMENTS: Final = Kind("apps", "v1", "deployments", "Deployment")
SERVICES: Final = Kind("", "v1", "services", "Service")
CONFIG_MAPS: Final = Kind("", "v1", "configmaps", "ConfigMap")
SECRETS: Final = Kind("", "v1", "secrets", "Secret")
CLAIMS: Final = Kind("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
PODS: Final = Kind("", "v1", "pods", "Pod")
NODES: Final = Kind("", "v1", "nodes", "Node", namespaced=False)
DISRUPTION_BUDGETS: Final = Kind("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
NETWORK_POLICIES: Final = Kind("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
ENDPOINT_SLICES: Final = Kind("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
LEASES: Final = Kind("coordination.k8s.io", "v1", "leases", "Lease")
EVENTS: Final = Kind("events.k8s.io", "v1", "events", "Event")

CHILD_KINDS: Final = (DEPLOYMENTS, SERVICES, DISRUPTION_BUDGETS, CLAIMS, CONFIG_MAPS, NETWORK_POLICIES)
"""What an LLMModel can own; pods belong to its Deployment."""

_BY_MANIFEST = {
    (kind.api_version, kind.kind): kind
    for kind in (LLM_MODELS, *CHILD_KINDS, SECRETS, PODS, NODES, ENDPOINT_SLICES, LEASES, EVENTS)
}


def kind_of(manifest: Manifest) -> Kind:
    """Give the Kind that a manifest says it is. Raises KeyError for one that the operator does not know."""
    return _BY_MANIFEST[(manifest["apiVersion"], manifest["kind"])]


@dataclass(frozen=True)
class Listing:
    """The answer of a LIST: complete, and consistent as of `resource_version`."""

    items: Sequence[Manifest]
    resource_version: str


class KubePort(Protocol):
    """Everything that the operator asks of Kubernetes. It raises kube/errors.py; every call has a deadline."""

    async def list(
        self,
        kind: Kind,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        metadata_only: bool = False,
    ) -> Listing:
        """Everything of a kind, in one namespace or in all, as it is now (never a stale cache). Items carry
        apiVersion and kind, which the API server leaves out of lists; with `metadata_only` nothing but these and
        metadata."""
        ...

    async def get(self, kind: Kind, name: str, *, namespace: str | None = None) -> Manifest:
        """One object. Raises NotFound."""
        ...

    async def apply(self, manifest: Manifest, *, manager: str = FIELD_MANAGER, force: bool = True) -> Manifest:
        """Server-side apply: the object as it then is. A metadata.uid or metadata.resourceVersion in the manifest is a
        precondition (Conflict). Without `force`, a field that somebody else has set otherwise is a Conflict too."""
        ...

    async def apply_status(self, manifest: Manifest, *, manager: str = STATUS_MANAGER) -> Manifest:
        """The same on the status subresource. Raises NotFound when the object is gone: it is never made."""
        ...

    async def delete(self, kind: Kind, name: str, *, namespace: str | None = None, uid: str | None = None) -> None:
        """Delete in the background; only if it still has this uid (Conflict). An object that is gone is a success."""
        ...
