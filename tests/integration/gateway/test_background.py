"""Bugs in the background, and objects that nobody expected: requests go on, and somebody is told."""

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from capstan_contract.config import GatewayConfig, ServiceBackend
from capstan_contract.sharding import split_config
from capstan_gateway import composition
from capstan_gateway.kubeapi import reflector
from capstan_gateway.life.jobs import Jobs, RestartSettings
from capstan_gateway.life.lifecycle import Phase
from capstan_gateway.life.outbox import Outbox
from capstan_gateway.pipeline.watch import InFlight
from capstan_gateway.process import serve
from capstan_gateway.settings import Settings
from fakes.kube_api import FakeKubeApi, fake_kube_api
from fakes.openai_upstream import DONE, FakeUpstream, Received, Wire, delta, frame
from support.gateway import RunningGateway, entry, running_gateway, write_config
from support.ports import free_port
from support.wait import eventually

CHAT = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
FAST = RestartSettings(first_seconds=0.01, most_seconds=0.05, most_failures=4)


async def ask(url: str, document: dict[str, Any] = CHAT) -> int:
    """Send a request; give its status."""
    async with aiohttp.ClientSession() as http, http.post(f"{url}/v1/chat/completions", json=document) as response:
        await response.read()
        return response.status


async def readiness(url: str) -> tuple[int, dict[str, Any]]:
    """Ask /readyz."""
    async with aiohttp.ClientSession() as http, http.get(f"{url}/readyz") as response:
        return response.status, await response.json()


async def test_a_bug_in_the_background_cuts_no_stream(
    tmp_path: Path, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that fails is begun anew: the stream that runs ends well, new requests are served, and it is told."""
    go_on, broken = asyncio.Event(), True
    work = InFlight.run

    async def run(self: InFlight) -> None:
        if broken:
            raise LookupError("a bug")
        await work(self)

    async def slow(_: Received, wire: Wire) -> None:
        await wire.stream_head()
        await wire.chunk(frame(delta("chat", "one")))
        await go_on.wait()
        await wire.chunk(frame(delta("chat", "two", "stop")) + DONE)
        await wire.end()

    monkeypatch.setattr(InFlight, "run", run)
    monkeypatch.setattr(
        composition, "Jobs", partial(Jobs, settings=RestartSettings(first_seconds=0.01, most_failures=1000))
    )
    healthy, upstream.respond = upstream.respond, slow
    async with running_gateway(tmp_path, entry("chat", upstream.url)) as gateway, aiohttp.ClientSession() as http:
        async with http.post(f"{gateway.url}/v1/chat/completions", json={**CHAT, "stream": True}) as stream:
            await stream.content.readuntil(b"\n\n")
            failed = partial(gateway.metric, "gateway_background_failures_total", job="requests")
            seen = failed()
            await eventually(lambda: failed() > seen, what="another failure")
            assert await readiness(gateway.url) == (
                200, {"status": "ready", "notes": ["work that failed is tried again: requests: LookupError"]}
            )  # fmt: skip
            upstream.respond = healthy
            assert await ask(gateway.url) == 200
            broken = False
            go_on.set()
            assert (await stream.text()).endswith("data: [DONE]\n\n")
        assert gateway.gateway.jobs.given_up is None


async def test_a_process_that_is_given_up_drains_first(
    tmp_path: Path, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stops being ready, goes on to serve for a while, ends its streams well, and ends with another exit code."""
    go_on, broken = asyncio.Event(), asyncio.Event()

    async def run(self: InFlight) -> None:
        await broken.wait()
        raise LookupError("a bug")

    async def slow(_: Received, wire: Wire) -> None:
        await wire.stream_head()
        await wire.chunk(frame(delta("chat", "one")))
        await go_on.wait()
        await wire.chunk(frame(delta("chat", "two", "stop")) + DONE)
        await wire.end()

    monkeypatch.setattr(InFlight, "run", run)
    monkeypatch.setattr(composition, "Jobs", partial(Jobs, settings=FAST))
    write_config(tmp_path, [entry("chat", upstream.url)])
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = Settings(
        config_dir=tmp_path, insecure_no_auth=True, port=port, log_level="error", probe_seconds=0.0,
        drain_seconds=5.0, grace_seconds=60.0,
    )  # fmt: skip
    process = asyncio.create_task(serve(settings))

    async def status() -> int:
        try:
            return (await readiness(url))[0]
        except aiohttp.ClientConnectionError:
            return 0

    async def is_ready() -> bool:
        return await status() == 200

    async def is_unready() -> bool:
        return await status() == 503

    await eventually(is_ready, what="readiness")
    healthy, upstream.respond = upstream.respond, slow
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{url}/v1/chat/completions", json={**CHAT, "stream": True}) as stream,
    ):
        await stream.content.readuntil(b"\n\n")
        broken.set()
        await eventually(is_unready, what="readiness to go", every=0.01)
        assert (await readiness(url))[1]["reason"] == "background work failed: requests"
        upstream.respond = healthy
        assert await ask(url) == 200
        assert not process.done()
        go_on.set()
        assert (await stream.text()).endswith("data: [DONE]\n\n")
    async with asyncio.timeout(60):
        assert await process == 1


async def test_what_waits_in_an_outbox_is_written_at_the_end_and_before_its_store_ends(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    """Listeners, outboxes, stores, clients: a store that a test makes gets everything before it is closed."""
    told: list[object] = []

    class Store:
        name = "store"

        async def run(self) -> None:
            await asyncio.Event().wait()

        def not_ready(self) -> str | None:
            return None

        async def aclose(self) -> None:
            told.append("closed")

        async def write(self, batch: list[int]) -> None:
            told.extend(batch)

    store = Store()
    async with running_gateway(tmp_path, entry("chat", upstream.url)) as gateway:
        # As composition adds them before the process runs.
        box = Outbox("test", store.write, every_seconds=3600)
        gateway.gateway.lifecycle.add(store, Phase.STORE)
        gateway.gateway.lifecycle.add(box, Phase.OUTBOX)
        assert await ask(gateway.url) == 200
        for item in range(3):
            box.put(item)
        assert told == []
    assert told == [0, 1, 2, "closed"]


# --- objects that nobody expected ---


def slice_of(port: int, name: str = "chat-1") -> dict[str, Any]:
    """An EndpointSlice with one ready pod on this machine."""
    return {
        "metadata": {"namespace": "ns", "name": name, "labels": {"kubernetes.io/service-name": "chat"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port}],
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
    }


NOBODYS: dict[str, Any] = {"metadata": None}
"""Belongs to no Service, and so is no poison."""
POISON: list[Any] = [
    None,
    5,
    NOBODYS,
    {"metadata": {"labels": {"kubernetes.io/service-name": "chat"}}},
    {"metadata": {"labels": ["x"]}},
    {**slice_of(1, "bad"), "ports": "http"},
    {**slice_of(1, "bad"), "ports": [{"name": "http", "port": "http"}]},
    {**slice_of(1, "bad"), "ports": [{"name": "http", "port": 0}]},
    {**slice_of(1, "bad"), "endpoints": [7]},
    {**slice_of(1, "bad"), "endpoints": [{"addresses": [None]}]},
]


def config_map(**data: object) -> dict[str, Any]:
    """The gateway's ConfigMap."""
    return {"metadata": {"namespace": "ns", "name": "config"}, "data": data}


@pytest.fixture
async def api() -> AsyncIterator[FakeKubeApi]:
    """A Kubernetes API with the config of one model in the cluster."""
    backend = ServiceBackend(namespace="ns", service="chat", portName="http")
    async with fake_kube_api() as fake:
        fake.lists["configmaps"] = [config_map(**split_config(GatewayConfig.build((entry("chat", backend=backend),))))]
        yield fake


async def ready(gateway: RunningGateway) -> bool:
    """Whether requests may come."""
    return (await readiness(gateway.url))[0] == 200


@pytest.mark.parametrize("poison", POISON)
async def test_an_object_that_cannot_be_read_costs_nobody_else(
    tmp_path: Path, upstream: FakeUpstream, api: FakeKubeApi, poison: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a list or in a watch: it alone is refused, counted and named; the others are served, also later ones."""
    monkeypatch.setattr(reflector, "BACKOFF_FIRST", 0.01)
    api.lists["endpointslices"] = [poison, slice_of(upstream.port), poison]
    options: dict[str, Any] = {"kube_url": api.url, "kube_namespace": "ns", "kube_config_map": "config"}
    async with running_gateway(tmp_path, **options) as gateway:
        await eventually(lambda: ready(gateway), what="readiness")
        assert await ask(gateway.url) == 200
        jobs = gateway.gateway.jobs
        refused = partial(gateway.metric, "gateway_refused_objects_total", source="endpointslices")
        counted = refused()
        assert counted or poison == NOBODYS
        await eventually(lambda: api.watches["endpointslices"], what="the watch")
        api.tell("endpointslices", "MODIFIED", poison)
        api.lists["endpointslices"] = [poison]
        api.tell("endpointslices", "MODIFIED", {**slice_of(upstream.port), "endpoints": []})
        await eventually(lambda: gateway.metric("gateway_endpoints_ready", model="chat") == 0, what="the next event")
        assert (jobs.given_up, jobs.failing) == (None, ())
        if counted:
            notes = (await readiness(gateway.url))[1]["notes"]
            assert any("endpointslices refused" in note for note in notes)


async def test_an_endpoint_whose_slice_becomes_unreadable_stays(
    tmp_path: Path, upstream: FakeUpstream, api: FakeKubeApi
) -> None:
    """What it said last is still believed, in a watch and in a list; when it can be read again, so is what it says."""
    api.lists["endpointslices"] = [slice_of(upstream.port)]
    options: dict[str, Any] = {"kube_url": api.url, "kube_namespace": "ns", "kube_config_map": "config"}
    async with running_gateway(tmp_path, **options) as gateway:
        await eventually(lambda: ready(gateway), what="readiness")
        await eventually(lambda: api.watches["endpointslices"], what="the watch")
        broken = {**slice_of(upstream.port), "endpoints": [7]}
        api.tell("endpointslices", "MODIFIED", broken)
        refused = partial(gateway.metric, "gateway_refused_objects_total", source="endpointslices")
        await eventually(refused, what="the refusal")
        assert await ask(gateway.url) == 200
        assert (await readiness(gateway.url))[1]["notes"] == ["1 of endpointslices refused: ns/chat-1"]
        gateway.gateway._index.replace([broken], namespace=None)
        assert await ask(gateway.url) == 200
        api.tell("endpointslices", "MODIFIED", slice_of(upstream.port))
        await eventually(lambda: not gateway.gateway.notes(), what="the end of the refusal")
        assert await ask(gateway.url) == 200


@pytest.mark.parametrize(
    "data", [5, ["x"], {"config.json": 5}, {"config.json": None}, {"config.json": "{"}, {"x": "y"}]
)
async def test_a_config_map_that_holds_something_else_changes_nothing(
    tmp_path: Path, upstream: FakeUpstream, api: FakeKubeApi, data: Any
) -> None:
    """The last good config stays, the reason is shown, and the next good one is taken."""
    api.lists["endpointslices"] = [slice_of(upstream.port)]
    options: dict[str, Any] = {"kube_url": api.url, "kube_namespace": "ns", "kube_config_map": "config"}
    async with running_gateway(tmp_path, **options) as gateway:
        await eventually(lambda: ready(gateway), what="readiness")
        await eventually(lambda: api.watches["configmaps"], what="the watch")
        api.tell("configmaps", "MODIFIED", {**config_map(), "data": data})
        await eventually(lambda: gateway.gateway.store.error, what="the error")
        assert await ask(gateway.url) == 200
        other = entry("other", upstream.url)
        api.tell("configmaps", "MODIFIED", config_map(**split_config(GatewayConfig.build((other,)))))
        await eventually(lambda: (run := gateway.gateway.current()) and "other" in run.models, what="the next config")
        assert (gateway.gateway.jobs.failing, gateway.gateway.store.error) == ((), None)


@pytest.mark.parametrize("data", [5, ["x"], {"key": 5}, {"key": "no base64!"}])
async def test_a_secret_that_holds_something_else_changes_nothing_else(
    tmp_path: Path, upstream: FakeUpstream, api: FakeKubeApi, data: Any
) -> None:
    """What can be read of it is used, and the next version of it is taken."""
    api.lists["endpointslices"] = [slice_of(upstream.port)]
    api.lists["secrets"] = [{"metadata": {"namespace": "ns", "name": "keys"}, "data": data}]
    options: dict[str, Any] = {"kube_url": api.url, "kube_namespace": "ns", "kube_config_map": "config"}
    async with running_gateway(tmp_path, kube_credentials="keys", **options) as gateway:
        await eventually(lambda: ready(gateway), what="readiness")
        assert await ask(gateway.url) == 200
        await eventually(lambda: api.watches["secrets"], what="the watch")
        good = {"metadata": {"namespace": "ns", "name": "keys"}, "data": {"key": "c2VjcmV0"}}
        api.tell("secrets", "MODIFIED", good)
        await eventually(lambda: gateway.gateway.credentials.key("key") == b"secret", what="the key")
        assert gateway.gateway.jobs.failing == ()
        assert "c2VjcmV0" not in json.dumps(gateway.gateway.notes())
