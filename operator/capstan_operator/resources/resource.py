"""An object of a kind of ours, parsed: the same for every kind."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar

Manifest = dict[str, Any]
"""A Kubernetes object as JSON. Treated as immutable everywhere."""

S = TypeVar("S", covariant=True)


class ObjectKey(NamedTuple):
    """Which object of a kind. A tuple, because thousands of them are hashed and sorted in every pass."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class PolicyKey(NamedTuple):
    """Which policy of all kinds. Its text is the id of its entry in the gateway's config."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"

    @property
    def object(self) -> ObjectKey:
        """Which object of its kind."""
        return ObjectKey(self.namespace, self.name)


@dataclass(frozen=True)
class Fault:
    """What is wrong in a manifest: the field's path, and what is allowed. Never a value."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"`{self.field}` {self.message}" if self.field else self.message


@dataclass(frozen=True)
class Resource(Generic[S]):
    """One object with a spec of type `S`. `spec` is None exactly when `faults` is not empty."""

    key: ObjectKey
    uid: str
    generation: int
    created: str
    """RFC 3339 creation timestamp; "" for a manifest that no API server has seen."""
    spec: S | None
    faults: tuple[Fault, ...] = ()
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Its labels: they change no generation, and selectors need them."""
    asked: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """What people ask for by annotations: those of `names.ASKING`. They change no generation either."""
    status: Mapping[str, Any] = field(default_factory=dict)
    """The status as it is now."""
    deleting: bool = False
    kind: str = ""
    """As manifests write it: LLMModel."""
    tried: S | None = None
    """What is tried beside `spec`, which then is not what the object says: see `desired/rollouts`."""
    judged: tuple[Fault, ...] | None = field(default=None, compare=False, repr=False)
    """What is wrong with it, the faults beyond its schema included, once somebody has looked: each generation is judged
    once. Whoever changes `spec` must take it away."""


def is_owned(manifest: Manifest, uid: str) -> bool:
    """Whether the object with this uid owns another one."""
    return any(reference.get("uid") == uid for reference in manifest["metadata"].get("ownerReferences") or ())


def identity_of(manifest: Manifest) -> tuple[str, str]:
    """Give kind and name."""
    return manifest["kind"], manifest["metadata"]["name"]
