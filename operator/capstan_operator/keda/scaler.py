"""The life of the external scaler that KEDA asks: by which certificate it is served, and from when on.

Every replica of the operator serves it, leader or not. KEDA has no certificate that it could show: who may ask is for
the network to say (a NetworkPolicy of the chart). What is told is how many replicas a model is asked for, and nothing
can be changed by asking.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from capstan_operator.kube.errors import KubeError
from capstan_operator.kube.port import KubePort
from capstan_operator.metrics_api.authorities import find_authority
from capstan_operator.metrics_api.authority import CERTIFICATE_LIFE, RENEW_CERTIFICATE, Authority, issue
from capstan_operator.metrics_api.loads import Loads
from capstan_operator.metrics_api.looks import Looks
from capstan_operator.metrics_api.place import Place

log = logging.getLogger(__name__)


class Serving(Protocol):
    """A server that runs."""

    certificate: tuple[bytes, bytes]
    """What is shown to those who connect from now on, and its key, both PEM."""

    async def stop(self) -> None:
        """End it."""
        ...


class ExternalScaler:
    """Serves until cancelled, from when there is an authority on."""

    def __init__(
        self,
        kube: KubePort,
        place: Place | None,
        loads: Loads,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Without a place nothing is served."""
        self._kube = kube
        self._place = place
        self._loads = loads
        self._now = now
        self._looks = Looks(log)
        self._server: Serving | None = None
        self._authority: Authority | None = None
        self._ends = now()
        """When the certificate that is shown ends."""

    def rouse(self) -> None:
        """There may be an authority now."""
        self._looks.rouse()

    async def run(self) -> None:
        """Serve until cancelled."""
        if self._place is None:
            await asyncio.Event().wait()
            return
        try:
            while True:
                await self._look(self._place)
                await self._looks.rest(serves=self._server is not None)
        finally:
            if self._server is not None:
                await self._server.stop()

    async def _look(self, place: Place) -> None:
        """Serve by what is there now. What others have written into the Secret, or a port that is taken, ends nothing:
        what was served before goes on, and it is tried again at the next look."""
        try:
            found = await find_authority(self._kube, place)
        except KubeError as error:
            self._looks.complain(f"the authority of the external scaler cannot be read: {error}")
            return
        if found is None:
            return
        try:
            if found != self._authority or self._ends - self._now() < RENEW_CERTIFICATE:
                now = self._now()
                await self._show(place, issue(found, place.host, now))
                self._authority, self._ends = found, now + CERTIFICATE_LIFE
        except (ValueError, OSError, RuntimeError) as error:  # NB: a port that is taken is a RuntimeError
            self._looks.complain(f"the external scaler cannot be served: {error}")

    async def _show(self, place: Place, certificate: tuple[bytes, bytes]) -> None:
        """Show a certificate, and its key, to those who connect from now on; begin to serve where nothing is served."""
        if self._server is not None:
            self._server.certificate = certificate
            return
        # NB: gRPC is loaded only where KEDA is to be answered.
        from capstan_operator.keda.server import serve

        self._server = await serve(self._loads, place.port, certificate)
        log.info("serving KEDA", extra={"port": place.port})
