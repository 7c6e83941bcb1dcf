"""What is asked of models, by the gateway's replicas: asked once a second while anybody wants to know."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import aiohttp

from capstan_contract.demand import DEMAND_PATH, DemandError, ModelDemand, ReadDemand, read_demand
from capstan_operator.gateway_config.pages import AdminKey, read_page
from capstan_operator.gateway_config.replicas import Replica
from capstan_operator.kube.errors import KubeError
from capstan_operator.resources.resource import ObjectKey
from capstan_operator.scaling.demand import Demand, add_up

log = logging.getLogger(__name__)

CONNECTIONS: Final = 16
LARGE: Final = 128 * 1024
"""Bytes from which on a page is read in a thread: the loop goes on meanwhile."""


@dataclass(frozen=True)
class Rhythm:
    """Seconds of the questions."""

    every: float = 1.0
    """Between two rounds."""
    share: float = 0.2
    """The share of the time that rounds may take: when they take long, they are fewer."""
    answer: float = 1.0
    """Deadline of one question."""
    fresh: float = 5.0
    """How old what was said last may be. Then it is as if nothing had been said."""


async def _nobody() -> tuple[Replica, ...]:
    return ()


class DemandWatch:
    """Asks until cancelled; `of` gives what was said last of a model."""

    def __init__(
        self,
        *,
        replicas: Callable[[], Awaitable[tuple[Replica, ...]]],
        leaving: Callable[[], Awaitable[tuple[Replica, ...]]] = _nobody,
        port: int,
        is_wanted: Callable[[], bool],
        on_round: Callable[[], None],
        admin_key: AdminKey | None = None,
        rhythm: Rhythm = Rhythm(),
    ) -> None:
        """`replicas` gives those that are ready, `leaving` those that take nothing new and may still answer requests;
        `on_round` is called after each round, also one that told nothing."""
        self._replicas = replicas
        self._leaving = leaving
        self._port = port
        self._is_wanted = is_wanted
        self._on_round = on_round
        self._admin_key = admin_key
        self._rhythm = rhythm
        self._said: dict[str, ReadDemand | None] = {}
        self._before: dict[str, ReadDemand] = {}
        """What each replica had said the last time before that."""
        self._left: dict[str, ReadDemand] = {}
        """What those said that are leaving."""
        self._silent: frozenset[str] = frozenset()
        """Those of them that did not answer once: they may be of a node that is gone."""
        self._said_at: float | None = None

    def of(self, key: ObjectKey) -> Demand | None:
        """Give what is asked of a model; None when nobody says."""
        now = asyncio.get_running_loop().time()
        if self._said_at is None or now - self._said_at > self._rhythm.fresh:
            return None
        if not any(_of(said, key) for said in self._said.values()):
            return None  # Nobody says it who may be given more of it.
        everybody = {**self._said, **self._left}
        return add_up([(_of(said, key), _of(self._before.get(id_), key)) for id_, said in everybody.items()])

    async def run(self) -> None:
        """Ask until cancelled."""
        loop = asyncio.get_running_loop()
        timeout = aiohttp.ClientTimeout(total=self._rhythm.answer)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as session:
            while True:
                began = loop.time()
                if self._is_wanted():
                    await self._round(session)
                    self._on_round()
                took = loop.time() - began
                await asyncio.sleep(max(self._rhythm.every - took, took / self._rhythm.share - took, 0.0))

    async def _round(self, session: aiohttp.ClientSession) -> None:
        try:
            replicas, leaving = await self._replicas(), await self._leaving()
        except KubeError as error:
            log.debug("could not list the gateway's replicas", extra={"error": str(error)})
            return
        # NB: of those that are leaving nothing is missing that does not come: they may be gone at any moment.
        asked = [one for one in leaving if one.id not in self._silent]
        said = await asyncio.gather(*(self._ask(session, replica) for replica in (*replicas, *asked)))
        known = {**self._before, **{id_: one for id_, one in self._said.items() if one is not None}, **self._left}
        self._said = {replica.id: one for replica, one in zip(replicas, said, strict=False)}
        left = {replica.id: one for replica, one in zip(asked, said[len(replicas) :], strict=True)}
        self._left = {id_: one for id_, one in left.items() if one is not None}
        self._silent = frozenset(one.id for one in leaving if one.id not in self._left)
        self._before = {id_: one for id_, one in known.items() if id_ in self._said or id_ in self._left}
        self._said_at = asyncio.get_running_loop().time()

    async def _ask(self, session: aiohttp.ClientSession, replica: Replica) -> ReadDemand | None:
        """Ask one replica, at one of its addresses after the other."""
        for address in replica.addresses:
            text = await read_page(session, address, port=self._port, path=DEMAND_PATH, key=self._admin_key)
            if text is not None:
                return await self._read(text, address)
        return None

    async def _read(self, text: bytes, address: str) -> ReadDemand | None:
        try:
            return read_demand(text) if len(text) < LARGE else await asyncio.to_thread(read_demand, text)
        except DemandError as error:
            log.debug("gateway replica did not say its demand", extra={"address": address, "error": str(error)})
            return None


def _of(said: ReadDemand | None, key: ObjectKey) -> ModelDemand | None:
    return said.models.get(str(key)) if said else None
