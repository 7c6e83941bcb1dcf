"""Gateway replicas of a test: what they say at their admin pages, and the EndpointSlice that has them ready."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from capstan_contract.config import ConfigReport, GatewayConfig
from capstan_contract.demand import DEMAND_PATH, DemandReport, ModelDemand
from capstan_contract.tracks import TRACKS_PATH, Track, TracksReport
from capstan_operator.resources.api_resource import ENDPOINT_SLICES


def own_address() -> str:
    """An address of this machine that is not the loopback one, which EndpointSlices may not hold."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.200", 9))  # sends nothing: it only chooses the interface
        return str(probe.getsockname()[0])


class Replica:
    """What a gateway replica says."""

    def __init__(self) -> None:
        self.report = ConfigReport(hash=None)
        self.asked = 0
        self.silences = 0
        """How often a question had no answer."""
        self.silent = False
        self.demand: dict[str, ModelDemand] | None = None
        """What is asked of models; None: it has no such page, as one of a release before it."""
        self.tracks: dict[str, tuple[Track, ...]] = {}
        """What it has counted of models of which a revision is tried."""
        self.wants = ""
        """The credential without which it does not say that; empty: it says it to anybody."""

    def load(self, config: GatewayConfig) -> None:
        """Run a config."""
        self.report = ConfigReport(hash=config.hash)

    async def answer(self, _: web.Request) -> web.Response:
        """Report, as a newer release does: with a field that this one does not know."""
        self.asked += 1
        if self.silent and self.asked % 2:
            self.silences += 1
            await asyncio.sleep(60)
        return web.json_response({**self.report.model_dump(), "ofANewerRelease": {"n": 1}})

    async def say_demand(self, request: web.Request) -> web.Response:
        """Say what is asked of models."""
        if self.wants and request.headers.get("Authorization") != f"Bearer {self.wants}":
            raise web.HTTPUnauthorized
        if self.demand is None:
            raise web.HTTPNotFound
        report = DemandReport(models=self.demand)
        return web.Response(body=report.model_dump_json(), content_type="application/json")

    async def say_tracks(self, _: web.Request) -> web.Response:
        """Say what it has counted."""
        report = TracksReport(boot="one", models=self.tracks)
        return web.Response(body=report.model_dump_json(), content_type="application/json")


@asynccontextmanager
async def serve(replica: Replica, port: int) -> AsyncIterator[None]:
    """Serve a replica's admin port."""
    app = web.Application()
    app.add_routes(
        [
            web.get("/internal/config", replica.answer),
            web.get(DEMAND_PATH, replica.say_demand),
            web.get(TRACKS_PATH, replica.say_tracks),
        ]
    )
    # A question that is still unanswered in the end is not waited for.
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, own_address(), port).start()
    try:
        yield
    finally:
        await runner.cleanup()


def slice_in(namespace: str, *pods: str, **annotations: str) -> dict[str, Any]:
    """What says that one gateway replica is ready; or these pods, which are asked at one address."""
    endpoint = {"addresses": [own_address()], "conditions": {"ready": True}}
    named = [{**endpoint, "targetRef": {"kind": "Pod", "name": pod, "uid": pod}} for pod in pods]
    return {
        "apiVersion": ENDPOINT_SLICES.api_version,
        "kind": ENDPOINT_SLICES.kind,
        "metadata": {
            "name": "gw-1",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": "gw"},
            "annotations": annotations,
        },
        "addressType": "IPv4",
        "endpoints": named or [endpoint],
        "ports": [{"name": "http", "port": 8080}],
    }
