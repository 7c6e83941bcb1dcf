"""The cluster as one reconcile sees it: plain, immutable data.

The shell (loaders/) fills a Snapshot with LISTs; the pure part (desired/, status/) reads nothing else. Local mode
and `capstan render` fill one from a folder of manifests.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NewType

from capstan_operator.api.kinds import Model
from capstan_operator.errors import OperatorError
from capstan_operator.resources.resource import Manifest, ObjectKey

PodHash = NewType("PodHash", str)


@dataclass(frozen=True)
class NodeCapacity:
    """Extended resources (GPUs) of one schedulable node: what it offers minus what its pods request."""

    name: str
    free: Mapping[str, int]
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Snapshot:
    """What one reconcile has listed."""

    models: Mapping[ObjectKey, Model]
    """Those to reconcile, and those that virtual ones among them name."""
    children: Mapping[ObjectKey, tuple[Manifest, ...]] = field(default_factory=dict)
    """Objects that carry our labels, by the model that they name: Deployment, Service, PodDisruptionBudget, ..."""
    autoscalers: bool = False
    """Whether HorizontalPodAutoscalers are among the children: they were listed, because a model may have one."""
    scaled_objects: bool = False
    """Whether ScaledObjects and TriggerAuthentications are among the children, for the same reason."""
    inference_pools: bool = False
    """Whether InferencePools are among the children: the API server knows them, and RBAC allows to list them."""
    pods: Mapping[ObjectKey, tuple[Manifest, ...]] = field(default_factory=dict)
    revisions: Mapping[ObjectKey, tuple[Manifest, ...]] | None = None
    """ControllerRevisions that carry our labels, by the model that they name; mostly without their data. None: there is
    no API server, or RBAC does not allow to list them, so none is kept."""
    claims: Mapping[ObjectKey, Manifest] = field(default_factory=dict)
    """Existing PersistentVolumeClaims that a model names (pvc:// or cache.claimName), under (namespace, claim name)."""
    mounted: Mapping[ObjectKey, Manifest | None] = field(default_factory=dict)
    """ConfigMaps that pods mount which their nodes have not prepared yet; None: there is none of this name. Others were
    not looked for, or could not be read."""
    unread: Mapping[ObjectKey, OperatorError] = field(default_factory=dict)
    """Models of which something could not be read this time, and why: nothing may be decided about them."""
    nodes: tuple[NodeCapacity, ...] | None = None
    """None: not listed, because nothing in this reconcile depends on it or because RBAC does not allow it."""
    places: Mapping[str, Manifest] | None = None
    """The nodes by name. None: not listed, because nothing depends on it, or because RBAC does not allow it."""
    now: datetime | None = None
    """When it was taken, with a time zone. None: nothing has lasted for long (render, local mode)."""
