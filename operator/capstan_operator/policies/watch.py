"""What policies have done: asked of the gateway's replicas now and then, for the status.

It is for people, and written seldom: a policy is woken at most once in each round, and only where the numbers are
others than they were.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import aiohttp

from capstan_operator.gateway_config.pages import AdminKey, read_page
from capstan_operator.gateway_config.replicas import Replica
from capstan_operator.kube.errors import KubeError
from capstan_operator.resources.resource import PolicyKey

log = logging.getLogger(__name__)

INTERVAL: Final = 30.0
"""Seconds between two rounds."""
ANSWER: Final = 2.0
"""Deadline of one question."""


class Tally(Protocol):
    """What is made of the answers of all replicas, for the policies of one kind."""

    kind: str
    path: str
    """The admin page that is asked for."""

    def take(
        self, wanted: Mapping[PolicyKey, str], answers: Mapping[str, bytes | None]
    ) -> Mapping[PolicyKey, Mapping[str, Any]]:
        """Take in what the ready replicas say, None for one that says nothing; give what is to be said of the policies
        that are `wanted` (with their uids), without the time. Nothing of one means that nothing is known of it."""
        ...


class CountsWatch:
    """Asks until cancelled; `of` gives what is known of a policy."""

    def __init__(
        self,
        tally: Tally,
        *,
        replicas: Callable[[], Awaitable[tuple[Replica, ...]]],
        policies: Callable[[], Mapping[PolicyKey, str]],
        wake: Callable[[PolicyKey], None],
        port: int,
        admin_key: AdminKey | None = None,
        interval: float = INTERVAL,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`policies` gives those that are in the config, with their uids: without any of the kind, nobody is asked."""
        self._tally = tally
        self._replicas = replicas
        self._policies = policies
        self._wake = wake
        self._port = port
        self._admin_key = admin_key
        self._interval = interval
        self._now = now
        self._known: dict[PolicyKey, Mapping[str, Any]] = {}

    def of(self, key: PolicyKey) -> Mapping[str, Any] | None:
        """Give what is known of a policy, as its status says it; None when nothing is."""
        return self._known.get(key)

    async def run(self) -> None:
        """Ask until cancelled."""
        timeout = aiohttp.ClientTimeout(total=ANSWER)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=16)) as session:
            while True:
                await asyncio.sleep(self._interval)
                try:
                    await self._round(session)
                except KubeError as error:
                    log.debug("could not list the gateway's replicas", extra={"error": str(error)})

    async def _round(self, session: aiohttp.ClientSession) -> None:
        wanted = {key: uid for key, uid in self._policies().items() if key.kind == self._tally.kind}
        self._known = {key: known for key, known in self._known.items() if key in wanted}
        if not wanted:
            return
        replicas = await self._replicas()
        answers = await asyncio.gather(*(self._ask(session, replica) for replica in replicas))
        said = self._tally.take(wanted, {one.id: told for one, told in zip(replicas, answers, strict=True)})
        time = self._now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for key, found in sorted(said.items()):
            before = self._known.get(key)
            # NB: what is said first is told in any case: the status may have what a process before has seen.
            if before is None or {**before, "observedTime": ""} != {**found, "observedTime": ""}:
                self._known[key] = {"observedTime": time, **found}
                self._wake(key)

    async def _ask(self, session: aiohttp.ClientSession, replica: Replica) -> bytes | None:
        for address in replica.addresses:
            path = self._tally.path
            text = await read_page(session, address, port=self._port, path=path, key=self._admin_key)
            if text is not None:
                return text
        return None
