"""How resources of the API are addressed, and those of Kubernetes itself, of KEDA, and of the Gateway API Inference
Extension, that the operator uses."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from capstan_operator.resources.resource import Manifest


@dataclass(frozen=True)
class ApiResource:
    """A resource of the API, as discovery describes it, and how to address it."""

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

    def describes(self, manifest: Manifest) -> bool:
        """Whether a manifest says that it is one of these."""
        return (manifest["apiVersion"], manifest["kind"]) == (self.api_version, self.kind)


DEPLOYMENTS: Final = ApiResource("apps", "v1", "deployments", "Deployment")
CONTROLLER_REVISIONS: Final = ApiResource("apps", "v1", "controllerrevisions", "ControllerRevision")
JOBS: Final = ApiResource("batch", "v1", "jobs", "Job")
SERVICES: Final = ApiResource("", "v1", "services", "Service")
CONFIG_MAPS: Final = ApiResource("", "v1", "configmaps", "ConfigMap")
SECRETS: Final = ApiResource("", "v1", "secrets", "Secret")
CLAIMS: Final = ApiResource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
PODS: Final = ApiResource("", "v1", "pods", "Pod")
NODES: Final = ApiResource("", "v1", "nodes", "Node", namespaced=False)
NAMESPACES: Final = ApiResource("", "v1", "namespaces", "Namespace", namespaced=False)
DISRUPTION_BUDGETS: Final = ApiResource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
NETWORK_POLICIES: Final = ApiResource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
ENDPOINT_SLICES: Final = ApiResource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
LEASES: Final = ApiResource("coordination.k8s.io", "v1", "leases", "Lease")
EVENTS: Final = ApiResource("events.k8s.io", "v1", "events", "Event")
CRDS: Final = ApiResource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)
AUTOSCALERS: Final = ApiResource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
SCALED_OBJECTS: Final = ApiResource("keda.sh", "v1alpha1", "scaledobjects", "ScaledObject")
TRIGGER_AUTHENTICATIONS: Final = ApiResource("keda.sh", "v1alpha1", "triggerauthentications", "TriggerAuthentication")
INFERENCE_POOLS: Final = ApiResource("inference.networking.k8s.io", "v1", "inferencepools", "InferencePool")
API_SERVICES: Final = ApiResource("apiregistration.k8s.io", "v1", "apiservices", "APIService", namespaced=False)
CLUSTER_ROLES: Final = ApiResource("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False)

CHILD_RESOURCES: Final = (DEPLOYMENTS, SERVICES, DISRUPTION_BUDGETS, CLAIMS, CONFIG_MAPS, NETWORK_POLICIES)
"""What a resource of ours can own; pods belong to its Deployment."""

KEDA_RESOURCES: Final = (SCALED_OBJECTS, TRIGGER_AUTHENTICATIONS)
"""What it can own as well, where KEDA is installed."""

BUILT_IN: Final = (
    *CHILD_RESOURCES,
    *KEDA_RESOURCES,
    INFERENCE_POOLS,
    AUTOSCALERS,
    CONTROLLER_REVISIONS,
    JOBS,
    SECRETS,
    PODS,
    NODES,
    ENDPOINT_SLICES,
    LEASES,
    EVENTS,
    API_SERVICES,
)


def resource_of(manifest: Manifest, known: Iterable[ApiResource] = BUILT_IN) -> ApiResource:
    """Give the resource that a manifest says it is. Raises KeyError for one that is not among the known ones."""
    found = next((resource for resource in known if resource.describes(manifest)), None)
    if found is None:
        raise KeyError((manifest.get("apiVersion"), manifest.get("kind")))
    return found
