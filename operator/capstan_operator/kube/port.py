"""The port: the five verbs that everything else in the operator uses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from capstan_operator.kube.versions import Versions
from capstan_operator.names import FIELD_MANAGER, STATUS_MANAGER
from capstan_operator.resources.api_resource import ApiResource
from capstan_operator.resources.resource import Manifest


@dataclass(frozen=True)
class Listing:
    """The answer of a LIST: complete, and consistent as of `resource_version`."""

    items: Sequence[Any]
    """Manifests, or what `shape` has made of them."""
    resource_version: str


class KubePort(Protocol):
    """Everything that the operator asks of Kubernetes. It raises kube/errors.py; every call has a deadline."""

    @property
    def versions(self) -> Versions:
        """What was seen: no LIST is older. The port notes its writes there, and whoever watches, events."""
        ...

    async def list(
        self,
        kind: ApiResource,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        metadata_only: bool = False,
        shape: Callable[[Manifest], Any] | None = None,
        known: Callable[[str, str], Any] | None = None,
    ) -> Listing:
        """Everything of a kind, in one namespace or in all, never older than what `versions` has seen of the kind.
        Items carry apiVersion and kind, which the API server leaves out of lists; with `metadata_only` nothing but
        these and metadata. With `shape`, what it makes of each item is kept in the item's place, page by page: the
        whole list is never there at once. It must not block. With `known`, an item of which it gives something, by uid
        and resourceVersion, need not be read again: that is kept in its place, and `shape` does not see it."""
        ...

    async def get(self, kind: ApiResource, name: str, *, namespace: str | None = None) -> Manifest:
        """One object. Raises NotFound."""
        ...

    async def apply(self, manifest: Manifest, *, manager: str = FIELD_MANAGER, force: bool = True) -> Manifest:
        """Server-side apply: the object as it then is. A metadata.uid or metadata.resourceVersion in the manifest is a
        precondition (Conflict). Without `force`, a field that somebody else has set otherwise is a Conflict too."""
        ...

    async def apply_status(self, manifest: Manifest, *, manager: str = STATUS_MANAGER) -> Manifest:
        """The same on the status subresource. Raises NotFound when the object is gone: it is never made."""
        ...

    async def delete(
        self, kind: ApiResource, name: str, *, namespace: str | None = None, uid: str | None = None
    ) -> None:
        """Delete in the background; only if it still has this uid (Conflict). An object that is gone is a success."""
        ...
