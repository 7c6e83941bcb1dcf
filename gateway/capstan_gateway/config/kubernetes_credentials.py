"""The keys of hosted models from their Secret, watched through the Kubernetes API.

The kubelet brings a changed Secret into a mounted file after a minute or so. A model that just became Ready needs its
key at once.
"""

import base64
import binascii
import logging
import random

from capstan_gateway.config.credentials import Credentials
from capstan_gateway.kubeapi.client import Json, KubeClient
from capstan_gateway.kubeapi.reflector import Reflector

log = logging.getLogger(__name__)


class SecretSource:
    """Hands the Secret's keys to the credentials whenever it changes. A Secret that is deleted changes nothing."""

    def __init__(
        self, client: KubeClient, *, namespace: str, name: str, credentials: Credentials, rng: random.Random
    ) -> None:
        self._credentials = credentials
        self._reflector = Reflector(
            client,
            f"/api/v1/namespaces/{namespace}/secrets",
            {"fieldSelector": f"metadata.name={name}"},
            replaced=self._replaced,
            changed=self._changed,
            rng=rng,
        )

    async def run(self) -> None:
        """Watch for ever."""
        await self._reflector.run()

    def _replaced(self, items: list[Json]) -> None:
        if items:
            self._changed("MODIFIED", items[0])

    def _changed(self, kind: str, item: Json) -> None:
        if kind != "DELETED":
            self._credentials.take_from_api(decode_secret(item))


def decode_secret(item: Json) -> dict[str, bytes]:
    """Give the data of a Secret, decoded; a value that is not base64 is left out, and its name logged."""
    files: dict[str, bytes] = {}
    for name, text in (item.get("data") or {}).items():
        try:
            files[name] = base64.b64decode(text, validate=True)
        except (binascii.Error, TypeError, ValueError):
            log.warning("left out a credential that is not base64", extra={"file": name})
    return files
