"""The Secrets that are API keys of the gateway: what is known of them, from lists, single looks and the watch.

A value is hashed while the answer that it came in is read, and nothing else of it is kept. The watch brings metadata
alone: a Secret that it shows deleted is gone at once, one that it shows changed is looked at by name, and a list makes
up for what it has missed. While Secrets cannot be listed, what is known of them stays; so it does when a list lacks
some that are there when they are asked for by name.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping
from typing import Any, Final, TypeVar

from capstan_contract.config import GatewayConfig
from capstan_contract.keys import KeyEntry
from capstan_contract.names import API_KEY_LABEL
from capstan_operator.desired.api_keys import IS_KEY, CompiledKeys, KeySecret, compile_keys, is_key, read_key
from capstan_operator.errors import Retryable
from capstan_operator.kube.errors import Forbidden, NotFound
from capstan_operator.kube.port import KubePort
from capstan_operator.resources.api_resource import SECRETS

log = logging.getLogger(__name__)

T = TypeVar("T")

SELECTOR: Final = f"{API_KEY_LABEL}={IS_KEY}"
FEW: Final = 32
"""So many Secrets are looked at one by one; where more have changed, all are listed."""
MOST_DOUBTED: Final = 8
"""So many of the keys that a list does not have are asked for before it is believed."""
MOST_NOTED: Final = 65_536
"""Bound of what is noted of the watch while nothing can be read."""


class ApiKeys:
    """What is known of the keys of one namespace. `read` is called by one at a time."""

    def __init__(self, kube: KubePort, *, namespace: str) -> None:
        self._kube = kube
        self._namespace = namespace
        self._salt = ""
        self._known: dict[str, KeySecret] | None = None
        """By name; None until they were listed."""
        self._changed: dict[str, None] = {}
        self._gone: dict[str, None] = {}
        """Names that were seen deleted before anything was listed."""
        self._left: dict[tuple[str, str], None] = {}
        """Names and uids that were seen deleted since the list that is under way has begun."""
        self._is_list_due = True

    def saw(self, type_: str | None, metadata: Mapping[str, Any]) -> bool:
        """Take in an event of the watch: its type (None: of a list), and the Secret's metadata. Says whether a key is
        gone by it, which needs no look."""
        name = str(metadata["name"])
        if type_ == "DELETED" or not is_key(metadata):
            return self._drop(name, metadata)
        found = (self._known or {}).get(name)
        if found and (found.uid, found.version) == (metadata.get("uid"), metadata.get("resourceVersion")):
            return False
        if type_ is None:
            self._is_list_due = True  # the watch has begun anew: what it has missed is in no event
        _note(self._changed, name)
        return False

    def _drop(self, name: str, metadata: Mapping[str, Any]) -> bool:
        _note(self._changed, name)  # another one of this name may be there by now
        _note(self._left, (name, str(metadata.get("uid") or "")))
        if self._known is None:
            _note(self._gone, name)
            return True
        found = self._known.get(name)
        if found is None or (metadata.get("uid") or found.uid) != found.uid:
            return False
        del self._known[name]
        return True

    def suspect_all(self) -> None:
        """Have the next read list all of them."""
        self._is_list_due = True

    @property
    def has_news(self) -> bool:
        """Whether there is something to be read."""
        return bool(self._is_list_due or self._changed)

    async def read(self, salt: str, *, live: Collection[str] = ()) -> None:
        """Bring what is known up to date; `salt` is what keys are hashed with, `live` are the names of those that are
        valid before any were listed. Raises KubeError, or Retryable for a list that lacks keys: all stays as it is."""
        if salt != self._salt:
            self._salt, self._known = salt, None
        if self._known is None or self._is_list_due or len(self._changed) > FEW:
            await self._list(salt, live)
        else:
            known, names = self._known, list(self._changed)
            found = await asyncio.gather(*(self._look(known, name, salt) for name in names), return_exceptions=True)
            for error in found:
                if isinstance(error, BaseException):
                    raise error

    async def _list(self, salt: str, live: Collection[str]) -> None:
        noted, self._changed, self._left, self._is_list_due = self._changed, {}, {}, False
        by_uid = {one.uid: one for one in (self._known or {}).values()}

        def known(uid: str, version: str) -> KeySecret | None:
            found = by_uid.get(uid)
            return found if found is not None and found.version == version else None

        try:
            listing = await self._kube.list(
                SECRETS,
                namespace=self._namespace,
                label_selector=SELECTOR,
                shape=lambda secret: read_key(secret, salt) if is_key(secret["metadata"]) else None,
                known=known,
            )
            await self._doubt({one.name for one in listing.items if one is not None}, live)
        except BaseException:
            self._changed, self._is_list_due = noted | self._changed, True
            raise
        # NB: what was seen deleted meanwhile must not come back; what was seen to change is in, and is looked at again.
        self._known = {one.name: one for one in listing.items if one is not None and not self._has_left(one)}
        self._gone, self._left = {}, {}

    async def _doubt(self, listed: Collection[str], live: Collection[str]) -> None:
        """Do not believe that keys are gone that no event has shown deleted, before some were asked for by name."""
        expected = (name for name in live if name not in self._gone) if self._known is None else self._known
        missing = sorted(name for name in expected if name not in listed)
        step = max(len(missing) // MOST_DOUBTED, 1)
        found = await asyncio.gather(*(self._is_there(name) for name in missing[::step][:MOST_DOUBTED]))
        if any(found):
            raise Retryable("the list of API keys does not have some that are there")

    async def _is_there(self, name: str) -> bool:
        """Whether there is a key of this name: who may not ask cannot tell, and goes by the list."""
        try:
            secret = await self._kube.get(SECRETS, name, namespace=self._namespace)
        except (NotFound, Forbidden):
            return False
        return is_key(secret["metadata"])

    def _has_left(self, secret: KeySecret) -> bool:
        return (secret.name, secret.uid) in self._left or (secret.name, "") in self._left

    async def _look(self, known: dict[str, KeySecret], name: str, salt: str) -> None:
        self._changed.pop(name, None)
        try:
            secret = await self._kube.get(SECRETS, name, namespace=self._namespace)
        except NotFound:
            known.pop(name, None)
            return
        except BaseException:
            _note(self._changed, name)
            raise
        if not is_key(secret["metadata"]):
            known.pop(name, None)
        elif name not in self._changed:  # else it was seen to change meanwhile, and is looked at again
            known[name] = read_key(secret, salt)

    def compile(self, *, now: float) -> CompiledKeys | None:
        """Give the keys, as far as they are known; None when they were never listed."""
        return None if self._known is None else compile_keys(tuple(self._known.values()), now=now)

    def secret(self, name: str) -> KeySecret | None:
        """Give what is known of one of them."""
        return (self._known or {}).get(name)

    def kept(self, live: GatewayConfig | None) -> tuple[KeyEntry, ...]:
        """Give the keys of the live config, for as long as nothing could be listed, without those seen gone."""
        return tuple(key for key in (live.keys if live else ()) if key.id not in self._gone)


def _note(names: dict[T, None], name: T) -> None:
    if len(names) < MOST_NOTED or name in names:
        names[name] = None
