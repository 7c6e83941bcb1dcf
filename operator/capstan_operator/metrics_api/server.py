"""The API that HPAs read: external.metrics.k8s.io/v1beta1, as much of it as they need, by TLS.

Every replica of the operator serves it, leader or not. Only the API server may call, by its front proxy's certificate:
it has asked who the client is and what that client may do before it passes a request on.
"""

import asyncio
import logging
import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from capstan_contract.names import MODEL_LABEL
from capstan_operator.kube.errors import KubeError, NotFound
from capstan_operator.kube.port import KubePort
from capstan_operator.metrics_api.authorities import find_authority
from capstan_operator.metrics_api.authority import CERTIFICATE_LIFE, RENEW_CERTIFICATE, Authority, issue
from capstan_operator.metrics_api.front_proxy import FrontProxy, FrontProxyError, read_front_proxy
from capstan_operator.metrics_api.loads import Loads
from capstan_operator.metrics_api.looks import Looks
from capstan_operator.metrics_api.place import Place
from capstan_operator.names import LOAD_METRIC
from capstan_operator.resources.resource import ObjectKey

log = logging.getLogger(__name__)

API_VERSION: Final = "external.metrics.k8s.io/v1beta1"
PATH: Final = f"/apis/{API_VERSION}"


@dataclass(frozen=True)
class _Trust:
    """What a listening socket is made of."""

    authority: Authority
    front_proxy: FrontProxy


class MetricsApi:
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
        self._runner: web.AppRunner | None = None
        self._served: _Trust | None = None
        self._ends = now()
        """When the certificate that is served ends."""

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
                await self._looks.rest(serves=self._served is not None)
        finally:
            await self._stop()

    async def _look(self, place: Place) -> None:
        """Serve by what is there now, unless that is so already.

        What others have written into a Secret or a ConfigMap, or a port that is taken, ends nothing: what was served
        before goes on where it can, and it is tried again at the next look.
        """
        found = await self._read(place)
        if found is None or (found == self._served and self._ends - self._now() >= RENEW_CERTIFICATE):
            return
        try:
            now = self._now()
            context = serving_context(found.authority, place.host, found.front_proxy, now)
            await self._stop()
            await self._listen(place, found, context)
            self._served, self._ends = found, now + CERTIFICATE_LIFE
        except (ValueError, OSError) as error:  # NB: errors of TLS are OSErrors
            self._looks.complain(f"the metrics API cannot be served: {error}")

    async def _stop(self) -> None:
        runner, self._runner, self._served = self._runner, None, None
        if runner is not None:
            await runner.cleanup()

    async def _read(self, place: Place) -> _Trust | None:
        """Read whom to trust; None when that cannot be read now: what is served goes on."""
        try:
            authority = await find_authority(self._kube, place)
            return None if authority is None else _Trust(authority, await read_front_proxy(self._kube))
        except NotFound:
            return None
        except (KubeError, FrontProxyError) as error:
            self._looks.complain(f"it cannot be read whom the metrics API is to trust: {error}")
            return None

    async def _listen(self, place: Place, trust: _Trust, context: ssl.SSLContext) -> None:
        self._runner = web.AppRunner(
            build_app(self._loads, trust.front_proxy), handle_signals=False, access_log=None, shutdown_timeout=1.0
        )
        await self._runner.setup()
        # NB: no host is every address, of both families: a cluster may have either alone.
        await web.TCPSite(self._runner, None, place.port, ssl_context=context, reuse_address=True).start()
        log.info("serving metrics for HPAs", extra={"port": place.port})


def serving_context(authority: Authority, host: str, front_proxy: FrontProxy, now: datetime) -> ssl.SSLContext:
    """Give what a server needs that only the front proxy may call."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=front_proxy.authorities)
    certificate, key = issue(authority, host, now)
    # NB: the library reads files only. The folder is this user's alone, and is gone at once.
    with tempfile.TemporaryDirectory() as folder:
        for name, value in (("tls.crt", certificate), ("tls.key", key)):
            (Path(folder) / name).write_bytes(value)
        context.load_cert_chain(Path(folder) / "tls.crt", Path(folder) / "tls.key")
    return context


def build_app(loads: Loads, front_proxy: FrontProxy) -> web.Application:
    """Give the API."""

    @web.middleware
    async def only_the_front_proxy(request: web.Request, handler: Any) -> web.StreamResponse:
        certificate = request.transport.get_extra_info("peercert") if request.transport else None
        if not certificate or not front_proxy.knows(certificate):
            return _failure(403, "Forbidden", "only the API server may ask")
        answer: web.StreamResponse = await handler(request)
        return answer

    async def discover(_: web.Request) -> web.Response:
        resource = {
            "name": LOAD_METRIC,
            "singularName": "",
            "namespaced": True,
            "kind": "ExternalMetricValueList",
            "verbs": ["get"],
        }
        found = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": API_VERSION, "resources": [resource]}
        return web.json_response(found)

    async def measure(request: web.Request) -> web.Response:
        if request.match_info["metric"] != LOAD_METRIC:
            return _failure(404, "NotFound", f"there is no such metric: there is {LOAD_METRIC}")
        name = model_of(request.query.get("labelSelector", ""))
        if name is None:
            return _failure(400, "BadRequest", f"the selector must be {MODEL_LABEL}=NAME")
        try:
            load = await loads.of(ObjectKey(request.match_info["namespace"], name))
        except KubeError as error:
            return _failure(503, "ServiceUnavailable", str(error))
        if load is None:
            return _failure(503, "ServiceUnavailable", "it is not known what is asked of the model")
        return web.json_response(_list_of(name, load))

    app = web.Application(middlewares=[only_the_front_proxy])
    app.add_routes([web.get(PATH, discover), web.get(f"{PATH}/namespaces/{{namespace}}/{{metric}}", measure)])
    return app


def model_of(selector: str) -> str | None:
    """Give the model that a label selector names; None for any other selector."""
    label, equals, name = selector.replace("==", "=").partition("=")
    return name if equals and label == MODEL_LABEL and name and "," not in name else None


def _list_of(name: str, load: float) -> dict[str, Any]:
    item = {
        "metricName": LOAD_METRIC,
        "metricLabels": {MODEL_LABEL: name},
        "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "value": f"{round(load * 1000)}m",
    }
    return {"kind": "ExternalMetricValueList", "apiVersion": API_VERSION, "metadata": {}, "items": [item]}


def _failure(code: int, reason: str, message: str) -> web.Response:
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
    return web.json_response(status, status=code)
