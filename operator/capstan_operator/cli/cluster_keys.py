"""API keys of a cluster: Secrets of the namespace that Capstan is installed in, by server-side apply."""

import secrets
from typing import Final

from capstan_contract.names import KEY_EXPIRES_ANNOTATION
from capstan_operator.desired.api_keys import KeyFault
from capstan_operator.desired.issued import Issued, Terms, build_key_secret, issued_of, time_text
from capstan_operator.kube.errors import Conflict, NotFound
from capstan_operator.kube.port import KubePort
from capstan_operator.loaders.api_keys import SELECTOR
from capstan_operator.resources.api_resource import SECRETS

MANAGER: Final = "capstan-cli"
"""The beginning of a field manager that each new key has for itself: of two that are made under one name at once the
second one is a conflict, and nobody is shown a key that is none."""
EXPIRY_MANAGER: Final = "capstan-cli-expiry"
"""A field manager of its own, so that an end that is set is all that it owns of a Secret that others apply."""


class ClusterKeys:
    """The keys of one namespace."""

    def __init__(self, kube: KubePort, namespace: str) -> None:
        self._kube = kube
        self._namespace = namespace

    async def all(self) -> list[Issued]:
        """Give those that were made: their metadata alone are asked for. Raises KubeError."""
        listing = await self._kube.list(SECRETS, namespace=self._namespace, label_selector=SELECTOR, metadata_only=True)
        return [issued_of(item["metadata"]) for item in listing.items]

    async def create(self, name: str, value: str, terms: Terms) -> None:
        """Write the Secret. Raises KubeError, and KeyFault where there is one of this name, whatever it is."""
        try:
            await self._kube.get(SECRETS, name, namespace=self._namespace)
        except NotFound:
            pass
        else:
            raise KeyFault(f"there is a Secret '{name}' in the namespace '{self._namespace}' already")
        manager = f"{MANAGER}-{secrets.token_hex(8)}"
        try:
            await self._kube.apply(build_key_secret(name, self._namespace, value, terms), manager=manager, force=False)
        except Conflict:
            raise KeyFault(f"somebody else has just made a Secret '{name}' in '{self._namespace}'") from None

    async def expire(self, issued: Issued, at: int) -> None:
        """Have a key end; nothing else of its Secret is written. Raises KubeError."""
        metadata = {
            "name": issued.name,
            "namespace": self._namespace,
            "uid": issued.uid,
            "annotations": {KEY_EXPIRES_ANNOTATION: time_text(at)},
        }
        manifest = {"apiVersion": SECRETS.api_version, "kind": SECRETS.kind, "metadata": metadata}
        await self._kube.apply(manifest, manager=EXPIRY_MANAGER)

    async def delete(self, issued: Issued) -> None:
        """Delete the Secret that was listed, and no other one of its name. Raises KubeError."""
        await self._kube.delete(SECRETS, issued.name, namespace=self._namespace, uid=issued.uid)

    async def replaced(self, old: Issued, value: str) -> None:
        """Nowhere in a cluster is a key kept beside its own Secret."""
