"""The cluster as one reconcile sees it: plain, immutable data.

The shell (reconcile.py) fills a Snapshot with LISTs; the pure part (desired/, status/) reads nothing else. Local mode
and `capstan render` fill one from a folder of manifests.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NewType

from capstan_operator.api.llmmodel import LLMModelSpec

Manifest = dict[str, Any]
"""A Kubernetes object as JSON. Treated as immutable everywhere."""

PodHash = NewType("PodHash", str)


@dataclass(frozen=True, order=True)
class ModelKey:
    """Which LLMModel."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class SpecError:
    """A fault in a manifest: the field's path, and what is allowed."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"`{self.field}` {self.message}" if self.field else self.message


@dataclass(frozen=True)
class Model:
    """An LLMModel, parsed. `spec` is None exactly when `errors` is not empty."""

    key: ModelKey
    uid: str
    generation: int
    created: str
    """RFC 3339 creation timestamp; "" for a manifest that no API server has seen."""
    spec: LLMModelSpec | None
    errors: tuple[SpecError, ...] = ()
    status: Mapping[str, Any] = field(default_factory=dict)
    """The status as it is now."""
    deleting: bool = False


@dataclass(frozen=True)
class NodeCapacity:
    """Extended resources (GPUs) of one schedulable node: what it offers minus what its pods request."""

    name: str
    free: Mapping[str, int]


@dataclass(frozen=True)
class Snapshot:
    """What one reconcile has listed."""

    models: Mapping[ModelKey, Model]
    """Those to reconcile, and those that virtual ones among them name."""
    children: Mapping[ModelKey, tuple[Manifest, ...]] = field(default_factory=dict)
    """Objects that carry our labels, by the model that they name: Deployment, Service, PodDisruptionBudget, ..."""
    pods: Mapping[ModelKey, tuple[Manifest, ...]] = field(default_factory=dict)
    claims: Mapping[ModelKey, Manifest] = field(default_factory=dict)
    """Existing PersistentVolumeClaims that a model names (pvc:// or cache.claimName), under (namespace, claim name)."""
    nodes: tuple[NodeCapacity, ...] | None = None
    """None: not listed, because nothing in this reconcile depends on it or because RBAC does not allow it."""
