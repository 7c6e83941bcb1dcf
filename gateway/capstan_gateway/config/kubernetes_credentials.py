"""The keys of hosted models from their Secrets, watched through the Kubernetes API.

The kubelet brings a changed Secret into a mounted file after a minute or so. A model that just became Ready needs its
key at once. One Secret holds all keys until they no longer fit; it says how many further ones there are.
"""

import asyncio
import base64
import binascii
import logging
import random
from typing import Final

from capstan_contract.names import CREDENTIAL_SHARDS_ANNOTATION, MAX_CREDENTIAL_SHARDS, credential_object
from capstan_gateway.config.credentials import Credentials
from capstan_gateway.kubeapi.client import Json, KubeClient
from capstan_gateway.kubeapi.reflector import Reflector
from capstan_gateway.life.refusals import Refusals

log = logging.getLogger(__name__)

FIRST: Final = 0
"""The Secret that is always there, and says how many others there are."""


class SecretShards:
    """What is known of each Secret. Pure: whoever watches tells it."""

    def __init__(self) -> None:
        self._files: dict[int, dict[str, bytes] | None] = {FIRST: None}

    def heard(self, shard: int, item: Json) -> list[int]:
        """A Secret is as `item` says; give the further ones that are to be watched from now on."""
        self._files[shard] = decode_secret(item)
        if shard != FIRST:
            return []
        new = [number for number in range(1, shards_of(item) + 1) if number not in self._files]
        self._files |= dict.fromkeys(new)
        return new

    def absent(self, shard: int) -> None:
        """A Secret is not there; the one that is always there is then on its way, and changes nothing."""
        if shard != FIRST and self._files[shard] is None:
            self._files[shard] = {}

    @property
    def known(self) -> tuple[int, ...]:
        """The numbers of all Secrets that are to be watched."""
        return tuple(self._files)

    @property
    def complete(self) -> bool:
        """Whether every Secret was heard of."""
        return None not in self._files.values()

    @property
    def files(self) -> dict[str, bytes]:
        """All keys. One that is on the move is in two Secrets for a moment."""
        merged: dict[str, bytes] = {}
        for shard in sorted(self._files, reverse=True):
            merged |= self._files[shard] or {}
        return merged


class SecretSource:
    """Hands the Secrets' keys to the credentials whenever they change. A Secret that is deleted changes nothing."""

    def __init__(
        self,
        client: KubeClient,
        *,
        namespace: str,
        name: str,
        credentials: Credentials,
        rng: random.Random,
        refusals: Refusals | None = None,
    ) -> None:
        self._refusals = refusals
        self._client = client
        self._namespace = namespace
        self._name = name
        self._credentials = credentials
        self._rng = rng
        self._shards = SecretShards()

    async def run(self) -> None:
        """Watch for ever: also the further Secrets that were found before it was begun anew."""
        async with asyncio.TaskGroup() as group:
            for shard in self._shards.known:
                self._watch(group, shard)

    def _watch(self, group: asyncio.TaskGroup, shard: int) -> None:
        def replaced(items: list[Json]) -> None:
            if items:
                changed("MODIFIED", items[0])
            elif shard != FIRST:
                self._shards.absent(shard)
                self._hand_on()

        def changed(kind: str, item: Json) -> None:
            if kind == "DELETED":
                return
            for number in self._shards.heard(shard, item):
                self._watch(group, number)
            self._hand_on()

        reflector = Reflector(
            self._client,
            f"/api/v1/namespaces/{self._namespace}/secrets",
            {"fieldSelector": f"metadata.name={credential_object(self._name, shard)}"},
            replaced=replaced,
            changed=changed,
            rng=self._rng,
            refusals=self._refusals,
        )
        group.create_task(reflector.run())

    def _hand_on(self) -> None:
        self._credentials.take_from_api(self._shards.files, complete=self._shards.complete)


def shards_of(item: Json) -> int:
    """Give how many further Secrets there are beside this one."""
    text = str(((item.get("metadata") or {}).get("annotations") or {}).get(CREDENTIAL_SHARDS_ANNOTATION, ""))
    return min(int(text), MAX_CREDENTIAL_SHARDS) if text.isascii() and text.isdigit() else 0


def decode_secret(item: Json) -> dict[str, bytes]:
    """Give the data of a Secret, decoded; a value that is not base64 is left out, and its name logged."""
    files: dict[str, bytes] = {}
    for name, text in (item.get("data") or {}).items():
        try:
            files[name] = base64.b64decode(text, validate=True)
        except (binascii.Error, TypeError, ValueError):
            log.warning("left out a credential that is not base64", extra={"file": name})
    return files
