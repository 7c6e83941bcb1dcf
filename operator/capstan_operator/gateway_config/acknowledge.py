"""Which generation of which model and policy the gateway's ready replicas run.

Every ready replica is asked for /internal/config: fast after a write until all of them run the new config, slowly while
some still do not, and at rest only now and then. It answers with a hash; the ledger knows which generations that is.
Those whose acknowledgement changed are woken; nobody else is.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType
from typing import Final

import aiohttp
from pydantic import ValidationError

from capstan_contract.config import ConfigReport
from capstan_contract.names import canary_id
from capstan_operator.gateway_config.ledger import Ledger, Recorded, holds
from capstan_operator.gateway_config.pages import AdminKey, read_page
from capstan_operator.gateway_config.replicas import Replica, Replicas, View, leaving_replicas, ready_replicas
from capstan_operator.kube.errors import KubeError
from capstan_operator.kube.port import KubePort
from capstan_operator.metrics import Metrics
from capstan_operator.resources.api_resource import ENDPOINT_SLICES
from capstan_operator.resources.resource import ObjectKey, PolicyKey
from capstan_operator.settings import Settings
from capstan_operator.status.types import Acknowledgement, AckState, Problem

log = logging.getLogger(__name__)

NOT_NEEDED: Final = Acknowledgement(AckState.NOT_NEEDED)
UNKNOWN: Final = Acknowledgement(AckState.UNKNOWN)
Key = ObjectKey | PolicyKey
SERVICE_LABEL: Final = "kubernetes.io/service-name"


@dataclass(frozen=True)
class Rhythm:
    """Seconds between two rounds of questions."""

    fast: float = 0.15
    fast_for: float = 30.0
    """How long after a write the fast rhythm lasts, unless everything is acknowledged earlier."""
    pending: float = 5.0
    rest: float = 30.0
    answer: float = 1.0
    """Deadline of one question."""
    replicas: float = 1.0
    """How old the list of replicas may be."""


@dataclass(frozen=True)
class Expected:
    """What is to be acknowledged of a model, or of a policy."""

    uid: str
    generation: int
    served: bool
    """Whether it belongs into the config at all."""


class Acknowledger:
    """Asks the gateway: `run` until cancelled, `expect` after a write, `acknowledgement` when a status is computed."""

    def __init__(
        self,
        kube: KubePort,
        settings: Settings,
        *,
        wake: Callable[[ObjectKey], None],
        metrics: Metrics,
        wake_policy: Callable[[PolicyKey], None] = lambda _: None,
        ledger: Ledger | None = None,
        admin_key: AdminKey | None = None,
        rhythm: Rhythm = Rhythm(),
    ) -> None:
        self._kube = kube
        self._settings = settings
        self._wake = wake
        self._wake_policy = wake_policy
        self._metrics = metrics
        self._rhythm = rhythm
        self._expected_hash: str | None = None
        self._expected: Mapping[ObjectKey, Expected] = {}
        self._expected_policies: Mapping[PolicyKey, Expected] = {}
        self._problem: Problem | None = None
        self._admin_key = admin_key
        self.ledger = ledger or Ledger()
        self._said = Replicas()
        self._asked = False
        self._view: tuple[int, View] | None = None
        self._told: dict[Key, tuple[Expected, AckState]] = {}
        self._replicas: tuple[float, tuple[Replica, ...], tuple[Replica, ...]] | None = None
        """When they were listed; those that are ready, and those that are leaving."""
        self._fast_until = 0.0
        self._roused = asyncio.Event()

    def expect(
        self,
        config_hash: str | None,
        models: Mapping[ObjectKey, Expected],
        *,
        policies: Mapping[PolicyKey, Expected] = MappingProxyType({}),
        problem: Problem | None = None,
    ) -> None:
        """Say what is written (`problem`: and why nothing newer), and what is wanted of each model and policy."""
        if config_hash != self._expected_hash:
            self._expected_hash = config_hash
            self._fast_until = asyncio.get_running_loop().time() + self._rhythm.fast_for
            self._roused.set()
        self._expected, self._expected_policies, self._problem = models, policies, problem
        self._tell()

    def expect_same(self, before: str, after: str) -> None:
        """Say that a config with the same models is written in place of the one before: other keys, perhaps."""
        if (records := self.ledger.records(before)) is not None:
            self.ledger.record(after, records)
        self.expect(after, self._expected, policies=self._expected_policies, problem=self._problem)

    def rouse(self) -> None:
        """The gateway's replicas changed: look at once."""
        self._replicas = None
        self._roused.set()

    def acknowledgement(self, key: Key, *, uid: str, generation: int, served: bool) -> Acknowledgement:
        """What the replicas have said about a generation of a model or a policy."""
        if not self._settings.build.gateway_service:
            return NOT_NEEDED
        if self._problem and served:
            written = self.ledger.records(self._expected_hash) or {}
            if not holds(written, str(key), uid=uid, generation=generation):
                return Acknowledgement(AckState.BLOCKED, problem=self._problem)
        if not self._asked:
            return UNKNOWN
        return self._current_view().judge(str(key), uid=uid, generation=generation, served=served)

    def split(self, key: ObjectKey) -> Recorded | None:
        """Which try of a model all ready replicas send requests to, and how many hundredths of a percent; UNKNOWN where
        they send them to none, None where that cannot be said of all of them."""
        if not self._settings.build.gateway_service or not self._asked:
            return None
        return self._current_view().recorded(canary_id(str(key)))

    def _current_view(self) -> View:
        if self._view is None or self._view[0] != self.ledger.version:
            self._view = (self.ledger.version, self._said.view(self.ledger))
        return self._view[1]

    @property
    def pending(self) -> bool:
        """Whether some ready replica is not known to run the expected config."""
        return not self._asked or self._said.is_absent or self._current < len(self._said.said)

    @property
    def _current(self) -> int:
        return sum(said is not None and said.hash == self._expected_hash for said in self._said.said.values())

    async def run(self) -> None:
        """Ask until cancelled."""
        if not self._settings.build.gateway_service:
            await asyncio.Event().wait()
        timeout = aiohttp.ClientTimeout(total=self._rhythm.answer)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=64)) as session:
            while True:
                self._roused.clear()
                await self._ask_all(session)
                try:
                    async with asyncio.timeout(self._pause()):
                        await self._roused.wait()
                except TimeoutError:
                    pass  # the next round is due

    def _pause(self) -> float:
        if not self.pending:
            return self._rhythm.rest
        if self._said.is_absent:
            return self._rhythm.pending
        fast = asyncio.get_running_loop().time() < self._fast_until
        return self._rhythm.fast if fast and self._said.said else self._rhythm.pending

    async def _ask_all(self, session: aiohttp.ClientSession) -> None:
        try:
            replicas = await self.ready_replicas_now()
        except KubeError as error:
            log.warning("could not list the gateway's replicas", extra={"error": str(error)})
            return
        reports = await asyncio.gather(*(self._ask_anywhere(session, replica) for replica in replicas))
        answers = dict(zip(replicas, reports, strict=True))
        is_new = self._said.hear(answers, self.ledger, now=asyncio.get_running_loop().time())
        self._metrics.gateways.labels("ready").set(len(replicas))
        self._metrics.gateways.labels("current").set(self._current)
        if self._said.is_absent:
            return  # NB: of those that count if there were some; else nothing is known yet
        if is_new or not self._asked:
            self._asked, self._view = True, None
            self._tell()

    def _tell(self) -> None:
        """Wake those for which the answer is another one than last time.

        One of which something else is expected than before is under way: whoever expects it sees to that.
        """
        before, self._told = self._told, {}
        everything: Iterable[tuple[Key, Expected]] = chain(self._expected.items(), self._expected_policies.items())
        for key, expected in everything:
            found = self.acknowledgement(
                key, uid=expected.uid, generation=expected.generation, served=expected.served
            ).state
            self._told[key] = (expected, found)
            known = before.get(key)
            if known is not None and known[0] == expected and known[1] is not found:
                self._wake_one(key)

    def _wake_one(self, key: Key) -> None:
        if isinstance(key, PolicyKey):
            self._wake_policy(key)
        else:
            self._wake(key)

    async def ready_replicas_now(self) -> tuple[Replica, ...]:
        """Give the gateway's ready replicas, as they were a moment ago. Raises KubeError."""
        return (await self._list_replicas())[0]

    async def leaving_replicas_now(self) -> tuple[Replica, ...]:
        """Give those that take nothing new and have not ended, as they were a moment ago. Raises KubeError."""
        return (await self._list_replicas())[1]

    async def _list_replicas(self) -> tuple[tuple[Replica, ...], tuple[Replica, ...]]:
        now = asyncio.get_running_loop().time()
        if self._replicas is None or now - self._replicas[0] >= self._rhythm.replicas:
            listing = await self._kube.list(
                ENDPOINT_SLICES,
                namespace=self._settings.build.install_namespace,
                label_selector=f"{SERVICE_LABEL}={self._settings.build.gateway_service}",
            )
            self._replicas = (now, ready_replicas(listing.items), leaving_replicas(listing.items))
        return self._replicas[1:]

    async def _ask_anywhere(self, session: aiohttp.ClientSession, replica: Replica) -> ConfigReport | None:
        """Ask at one address after the other: the operator may have no route to those of one family."""
        for address in replica.addresses:
            if (report := await self._ask(session, address)) is not None:
                return report
        return None

    async def _ask(self, session: aiohttp.ClientSession, address: str) -> ConfigReport | None:
        text = await read_page(
            session, address, port=self._settings.gateway_admin_port, path="/internal/config", key=self._admin_key
        )
        try:
            return None if text is None else ConfigReport.model_validate_json(text, extra="ignore")
        except ValidationError as error:
            log.debug("gateway replica did not report", extra={"address": address, "error": type(error).__name__})
            return None
