"""Which generation of which model the gateway's ready replicas run.

Every ready replica is asked for /internal/config: fast after a write until all of them run the new config, slowly while
some still do not, and at rest only now and then. Models whose acknowledgement changed are woken; nobody else is.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp
from pydantic import ValidationError

from capstan_contract.config import ConfigReport
from capstan_operator.kube.errors import KubeError
from capstan_operator.kube.port import KubePort
from capstan_operator.metrics import Metrics
from capstan_operator.resources.api_resource import ENDPOINT_SLICES
from capstan_operator.resources.resource import Manifest, ObjectKey
from capstan_operator.settings import Settings
from capstan_operator.status.types import Acknowledgement, AckState, judge_acknowledgement

log = logging.getLogger(__name__)

NOT_NEEDED: Final = Acknowledgement(AckState.NOT_NEEDED)
UNKNOWN: Final = Acknowledgement(AckState.UNKNOWN)
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


class Acknowledger:
    """Asks the gateway: `run` until cancelled, `expect` after a write, `acknowledgement` when a status is computed."""

    def __init__(
        self,
        kube: KubePort,
        settings: Settings,
        *,
        wake: Callable[[ObjectKey], None],
        metrics: Metrics,
        rhythm: Rhythm = Rhythm(),
    ) -> None:
        self._kube = kube
        self._settings = settings
        self._wake = wake
        self._metrics = metrics
        self._rhythm = rhythm
        self._expected_hash: str | None = None
        self._expected: Mapping[ObjectKey, tuple[int, bool]] = {}
        self._reports: Sequence[ConfigReport | None] | None = None
        self._told: dict[ObjectKey, tuple[int, bool, AckState]] = {}
        self._replicas: tuple[float, tuple[str, ...]] | None = None
        self._fast_until = 0.0
        self._roused = asyncio.Event()

    def expect(self, config_hash: str | None, models: Mapping[ObjectKey, tuple[int, bool]]) -> None:
        """A config was written, or its models changed: `models` gives generation and whether it is served."""
        if config_hash != self._expected_hash:
            self._expected_hash = config_hash
            self._fast_until = asyncio.get_running_loop().time() + self._rhythm.fast_for
            self._roused.set()
        self._expected = models

    def rouse(self) -> None:
        """The gateway's replicas changed: look at once."""
        self._replicas = None
        self._roused.set()

    def acknowledgement(self, key: ObjectKey, *, generation: int, served: bool) -> Acknowledgement:
        """What the last answers say about a generation of a model."""
        if not self._settings.build.gateway_service:
            return NOT_NEEDED
        if self._reports is None:
            return UNKNOWN
        return judge_acknowledgement(str(key), generation=generation, served=served, reports=self._reports)

    @property
    def pending(self) -> bool:
        """Whether some ready replica is not known to run the expected config."""
        return self._reports is None or any(
            report is None or report.hash != self._expected_hash for report in self._reports
        )

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
        fast = asyncio.get_running_loop().time() < self._fast_until
        return self._rhythm.fast if fast and self._reports else self._rhythm.pending

    async def _ask_all(self, session: aiohttp.ClientSession) -> None:
        try:
            addresses = await self._addresses()
        except KubeError as error:
            log.warning("could not list the gateway's replicas", extra={"error": str(error)})
            return
        self._reports = await asyncio.gather(*(self._ask(session, address) for address in addresses))
        current = sum(report is not None and report.hash == self._expected_hash for report in self._reports)
        self._metrics.gateways.labels("ready").set(len(self._reports))
        self._metrics.gateways.labels("current").set(current)
        self._tell()

    def _tell(self) -> None:
        """Wake the models for which the answer is another one than last time."""
        told = {
            key: (generation, served, self.acknowledgement(key, generation=generation, served=served).state)
            for key, (generation, served) in self._expected.items()
        }
        before, self._told = self._told, told
        for key, answer in told.items():
            if before.get(key) != answer:
                self._wake(key)

    async def _addresses(self) -> tuple[str, ...]:
        now = asyncio.get_running_loop().time()
        if self._replicas is None or now - self._replicas[0] >= self._rhythm.replicas:
            listing = await self._kube.list(
                ENDPOINT_SLICES,
                namespace=self._settings.build.install_namespace,
                label_selector=f"{SERVICE_LABEL}={self._settings.build.gateway_service}",
            )
            self._replicas = (now, ready_addresses(listing.items))
        return self._replicas[1]

    async def _ask(self, session: aiohttp.ClientSession, address: str) -> ConfigReport | None:
        host = f"[{address}]" if ":" in address else address
        url = f"http://{host}:{self._settings.gateway_admin_port}/internal/config"
        try:
            async with session.get(url) as response:
                if response.status != 200:
                    return None
                return ConfigReport.model_validate_json(await response.read(), extra="ignore")
        except (aiohttp.ClientError, TimeoutError, ConnectionError, ValidationError) as error:
            log.debug("gateway replica did not report", extra={"address": address, "error": type(error).__name__})
            return None


def ready_addresses(slices: Sequence[Manifest]) -> tuple[str, ...]:
    """Give the addresses of the ready endpoints, each once. `ready` absent means ready, as the API says."""
    return tuple(
        sorted(
            {
                endpoint["addresses"][0]
                for item in slices
                for endpoint in item.get("endpoints") or ()
                if (endpoint.get("conditions") or {}).get("ready") is not False and endpoint.get("addresses")
            }
        )
    )
