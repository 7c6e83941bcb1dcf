"""What gateways have counted of the models whose canary gets requests: asked every few seconds while there is one."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import aiohttp

from capstan_contract.names import CANARY, STABLE
from capstan_contract.tracks import TRACKS_PATH, Counters, TracksError, TracksReport, read_tracks, tracks_of
from capstan_operator.gateway_config.pages import AdminKey, read_page
from capstan_operator.gateway_config.replicas import Replica
from capstan_operator.kube.errors import KubeError
from capstan_operator.resources.resource import ObjectKey

log = logging.getLogger(__name__)

EVERY: Final = 5.0
"""Seconds between two rounds."""
ANSWER: Final = 2.0
"""Deadline of one question."""
LARGE: Final = 128 * 1024
"""Bytes from which on a page is read in a thread: the loop goes on meanwhile."""

Counts = tuple[Counters, Counters]
"""Of the stable pods and of the canary, since the canary got its first request."""


class TracksWatch:
    """Asks until cancelled; `of` gives what was said last of a try. What a replica said stays until it says more, or is
    no replica any more."""

    def __init__(
        self,
        *,
        replicas: Callable[[], Awaitable[tuple[Replica, ...]]],
        wake: Callable[[ObjectKey], None],
        port: int,
        admin_key: AdminKey | None = None,
        every: float = EVERY,
    ) -> None:
        self._replicas = replicas
        self._wake = wake
        self._port = port
        self._admin_key = admin_key
        self._every = every
        self._wanted: dict[ObjectKey, str] = {}
        self._said: dict[str, TracksReport] = {}
        self._told: dict[ObjectKey, Counts] = {}
        self._changed = asyncio.Event()

    def want(self, key: ObjectKey, tried: str | None) -> None:
        """Say which try of a model is to be followed; None: none."""
        if tried is None:
            self._wanted.pop(key, None)
            self._told.pop(key, None)
        elif self._wanted.get(key) != tried:
            self._wanted[key] = tried
            self._changed.set()

    def of(self, key: ObjectKey, tried: str) -> Counts | None:
        """Give what was said last of a try; None where nobody has said anything of it."""
        found = tracks_of(self._said.values(), str(key), epoch=tried)
        if not found:
            return None
        return found.get(STABLE, Counters()), found.get(CANARY, Counters())

    async def run(self) -> None:
        """Ask until cancelled."""
        timeout = aiohttp.ClientTimeout(total=ANSWER)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=16)) as session:
            while True:
                self._changed.clear()
                if not self._wanted:
                    self._said = {}
                    await self._changed.wait()
                try:
                    await self._round(session)
                except KubeError as error:
                    log.debug("could not list the gateway's replicas", extra={"error": str(error)})
                await asyncio.sleep(self._every)

    async def _round(self, session: aiohttp.ClientSession) -> None:
        replicas = await self._replicas()
        answers = await asyncio.gather(*(self._ask(session, replica) for replica in replicas))
        said: Mapping[str, TracksReport | None] = {
            replica.id: answer or self._said.get(replica.id) for replica, answer in zip(replicas, answers, strict=True)
        }
        self._said = {id_: report for id_, report in said.items() if report is not None}
        for key, tried in sorted(self._wanted.items()):
            found = self.of(key, tried)
            if found is not None and found != self._told.get(key):
                self._told[key] = found
                self._wake(key)

    async def _ask(self, session: aiohttp.ClientSession, replica: Replica) -> TracksReport | None:
        for address in replica.addresses:
            text = await read_page(session, address, port=self._port, path=TRACKS_PATH, key=self._admin_key)
            if text is None:
                continue
            try:
                return read_tracks(text) if len(text) < LARGE else await asyncio.to_thread(read_tracks, text)
            except TracksError as error:
                log.debug("a page of counts cannot be read", extra={"address": address, "error": str(error)})
        return None
