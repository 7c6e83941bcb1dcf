"""How the gateway's replicas are asked: whom, how often, and what an answer is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from capstan_contract.config import ConfigReport
from capstan_operator.gateway_config.acknowledge import Acknowledger, Expected, Rhythm
from capstan_operator.gateway_config.ledger import Recorded
from capstan_operator.gateway_config.replicas import ABSENT_FOR
from capstan_operator.metrics import Metrics
from capstan_operator.resources.resource import Manifest, ObjectKey
from capstan_operator.settings import BuildSettings, Settings
from capstan_operator.status.types import AckState
from fakes.apply_kube import ApplyKube
from support.needs import lacking
from support.ports import free_port
from support.rawserver import raw_server
from support.virtualtime import run_virtually
from support.wait import eventually

KEY = ObjectKey("team", "a")
SERVICE = "capstan-gateway"


def slice_of(*addresses: str, name: str = "s", namespace: str = "capstan", service: str = SERVICE) -> Manifest:
    """Give an EndpointSlice."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": namespace, "labels": {"kubernetes.io/service-name": service}},
        "endpoints": [{"addresses": [address]} for address in addresses],
    }


def settings_of(port: int = 9000, service: str = SERVICE) -> Settings:
    """Give the settings of an install."""
    build = BuildSettings(gateway_service=service, install_namespace="capstan")
    return Settings(build=build, gateway_admin_port=port)


class Timed(Acknowledger):
    """Replicas that answer at once, and when they were asked."""

    def __init__(self, *addresses: str, **options: Any) -> None:
        self.kube = ApplyKube()
        self.kube.put(slice_of(*addresses))
        self.metrics = Metrics()
        super().__init__(self.kube, settings_of(), wake=lambda _: None, metrics=self.metrics, **options)
        self.answer: str | None = "new"
        self.began = asyncio.get_running_loop().time()
        self.asked: list[float] = []

    async def _ask(self, session: aiohttp.ClientSession, address: str) -> ConfigReport | None:
        self.asked.append(round(asyncio.get_running_loop().time() - self.began, 3))
        return ConfigReport(hash=self.answer) if self.answer else None

    def write(self, config: str, generation: int) -> None:
        """Say that a config is written."""
        self.ledger.record(config, {str(KEY): Recorded("u", generation)})
        self.expect(config, {KEY: Expected("u", generation, True)})


def test_it_asks_fast_after_a_write_and_slowly_at_rest() -> None:
    """Every 0.15 seconds until all run what was written, then every 30; a write ends the rest at once."""

    async def scenario() -> None:
        gateway = Timed("10.0.0.1")
        gateway.answer = "old"
        gateway.ledger.record("old", {})
        gateway.write("new", 1)
        running = asyncio.create_task(gateway.run())
        await asyncio.sleep(0.4)
        assert gateway.asked == [0.0, 0.15, 0.3]
        gateway.answer = "new"
        await asyncio.sleep(60.2)
        assert gateway.asked == [0.0, 0.15, 0.3, 0.45, 30.45, 60.45]
        gateway.write("newer", 2)
        await asyncio.sleep(0.01)
        assert gateway.asked[6:] == [60.6]
        running.cancel()

    run_virtually(scenario())


def test_before_anything_is_written_it_asks_slowly() -> None:
    """An operator that has just begun knows what the replicas run when it comes to say what they should."""

    async def scenario() -> None:
        gateway = Timed("10.0.0.1")
        running = asyncio.create_task(gateway.run())
        await asyncio.sleep(7)
        assert gateway.asked == [0.0, 5.0]
        assert not running.done()
        running.cancel()

    run_virtually(scenario())


def test_a_replica_that_does_not_follow_is_asked_slowly_in_the_end() -> None:
    """Half a minute after the write every five seconds: it may never come."""

    async def scenario() -> None:
        gateway = Timed("10.0.0.1")
        gateway.answer = None
        gateway.write("new", 1)
        running = asyncio.create_task(gateway.run())
        await asyncio.sleep(45)
        late = [at for at in gateway.asked if at > 29.9][-3:]
        assert len(gateway.asked) > 150
        assert [round(second - first, 3) for first, second in pairwise(late)] == [5.0, 5.0]
        running.cancel()

    run_virtually(scenario())


def test_without_a_replica_nobody_is_asked_until_one_comes() -> None:
    """There is nobody to be fast for; whoever sees a replica come rouses the questions. Only until it is believed that
    there is none is it looked for one every 5 s."""

    async def scenario() -> None:
        gateway = Timed()
        gateway.write("new", 1)
        running = asyncio.create_task(gateway.run())
        await asyncio.sleep(52)
        assert len(gateway.kube.calls) == ABSENT_FOR / 5 + 1
        gateway.kube.put(slice_of("10.0.0.1"))
        gateway.rouse()
        await asyncio.sleep(0.01)
        assert gateway.asked == [52.0]
        running.cancel()

    run_virtually(scenario())


def test_a_replica_that_goes_back_is_believed_after_a_while() -> None:
    """Time is told to whoever judges the answers."""

    async def scenario() -> None:
        gateway = Timed("10.0.0.1", rhythm=Rhythm(rest=10.0, pending=10.0))
        gateway.ledger.record("old", {})
        gateway.write("new", 1)

        def state() -> AckState:
            return gateway.acknowledgement(KEY, uid="u", generation=1, served=True).state

        running = asyncio.create_task(gateway.run())
        await asyncio.sleep(1)
        assert state() is AckState.ACKNOWLEDGED
        gateway.answer = "old"
        await asyncio.sleep(20)
        assert state() is AckState.ACKNOWLEDGED
        await asyncio.sleep(30)
        assert state() is AckState.PENDING
        running.cancel()

    run_virtually(scenario())


def test_the_list_of_replicas_is_a_second_old_at_most() -> None:
    """Fast questions share it; only the gateway's own slices, of its own namespace, are asked."""

    async def scenario() -> None:
        gateway = Timed("10.0.0.1")
        gateway.kube.put(slice_of("10.0.0.2", name="other", service="other"))
        gateway.kube.put(slice_of("10.0.0.3", name="elsewhere", namespace="elsewhere"))
        gateway.answer = None
        gateway.write("new", 1)
        running = asyncio.create_task(gateway.run())
        await asyncio.sleep(2.0)
        assert len(gateway.asked) == 14
        assert len(gateway.kube.calls) == 2
        gauge = next(metric for metric in gateway.metrics.gateways.collect())
        assert {one.labels["state"]: one.value for one in gauge.samples} == {"ready": 1, "current": 0}
        running.cancel()

    run_virtually(scenario())


async def test_an_install_without_a_gateway_asks_nobody() -> None:
    """Nothing has to be acknowledged then."""
    kube = ApplyKube()
    gateway = Acknowledger(kube, settings_of(service=""), wake=lambda _: None, metrics=Metrics())
    running = asyncio.create_task(gateway.run())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not running.done()
    assert kube.calls == []
    found = gateway.acknowledgement(KEY, uid="u", generation=1, served=True)
    assert found.state is AckState.NOT_NEEDED
    running.cancel()


@asynccontextmanager
async def replica(answer: web.Response, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """Run a gateway's admin port."""

    async def report(_: web.Request) -> web.Response:
        return answer

    app = web.Application()
    app.router.add_get("/internal/config", report)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, host, port).start()
    try:
        yield port
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"text": '{"hash": "x", "novel": 1}'}, ConfigReport(hash="x")),
        ({"text": '{"hash": null}'}, ConfigReport(hash=None)),
        ({"text": "not a report"}, None),
        ({"text": '{"hash": "x"}', "status": 503}, None),
    ],
)
async def test_an_answer_is_a_report_or_none(answer: dict[str, Any], says: ConfigReport | None) -> None:
    """A newer gateway may say more; what is no report, and a refusal, is as silence."""
    async with replica(web.Response(**answer)) as port, aiohttp.ClientSession() as session:
        gateway = Acknowledger(ApplyKube(), settings_of(port), wake=lambda _: None, metrics=Metrics())
        assert await gateway._ask(session, "127.0.0.1") == says


class Keys:
    """The credential as the operator knows it."""

    def __init__(self, *keys: str) -> None:
        self.keys = keys
        self.doubts = 0

    def doubt(self) -> None:
        """Count."""
        self.doubts += 1


@asynccontextmanager
async def locked(*valid: str) -> AsyncIterator[int]:
    """Run a gateway's admin port that asks for one of these credentials."""

    async def report(request: web.Request) -> web.Response:
        is_known = request.headers.get("authorization", "") in {f"Bearer {key}" for key in valid}
        return web.Response(text='{"hash": "x"}') if is_known else web.Response(status=401)

    app = web.Application()
    app.router.add_get("/internal/config", report)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield port
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("valid", "keys", "answers", "doubts"),
    [
        (["new"], ["new"], True, 0),
        (["old"], ["new", "old"], True, 0),
        (["other"], ["new", "old"], False, 1),
        (["other"], [], False, 1),
    ],
)
async def test_gateways_are_asked_with_the_credential(
    valid: list[str], keys: list[str], answers: bool, doubts: int
) -> None:
    """With the one before as well; where none is taken the Secret is looked at anew."""
    async with locked(*valid) as port, aiohttp.ClientSession() as session:
        admin = Keys(*keys)
        gateway = Acknowledger(ApplyKube(), settings_of(port), wake=lambda _: None, metrics=Metrics(), admin_key=admin)
        assert (await gateway._ask(session, "127.0.0.1") is not None, admin.doubts) == (answers, doubts)


async def test_a_gateway_of_before_the_credential_is_asked_all_the_same() -> None:
    """It looks at no header, and so does one that has no key yet."""
    for keys in ((), ("key",)):
        async with replica(web.Response(text='{"hash": "x"}')) as port, aiohttp.ClientSession() as session:
            gateway = Acknowledger(
                ApplyKube(), settings_of(port), wake=lambda _: None, metrics=Metrics(), admin_key=Keys(*keys)
            )
            assert await gateway._ask(session, "127.0.0.1") == ConfigReport(hash="x")


async def test_a_replica_with_an_address_of_ipv6_is_asked() -> None:
    """In a URL such an address stands in brackets."""
    try:
        async with replica(web.Response(text='{"hash": "x"}'), "::1") as port, aiohttp.ClientSession() as session:
            gateway = Acknowledger(ApplyKube(), settings_of(port), wake=lambda _: None, metrics=Metrics())
            assert await gateway._ask(session, "::1") == ConfigReport(hash="x")
    except OSError:
        lacking("IPv6 on the loopback")


async def test_a_replica_that_is_not_there_is_silent() -> None:
    """A refused connection, by IPv4 or IPv6, ends no round of questions."""
    gateway = Acknowledger(ApplyKube(), settings_of(free_port()), wake=lambda _: None, metrics=Metrics())
    async with aiohttp.ClientSession() as session:
        assert await gateway._ask(session, "127.0.0.1") is None
        assert await gateway._ask(session, "::1") is None


async def test_a_round_of_questions_has_a_deadline() -> None:
    """A replica that accepts and says nothing holds nobody up."""
    kube = ApplyKube()
    kube.put(slice_of("127.0.0.1"))
    rhythm = Rhythm(answer=0.05, pending=3600.0)
    async with raw_server(lambda peer: peer.gone()) as server:
        gateway = Acknowledger(kube, settings_of(server.port), wake=lambda _: None, metrics=Metrics(), rhythm=rhythm)
        gateway.expect("x", {KEY: Expected("u", 1, True)})
        running = asyncio.create_task(gateway.run())
        await eventually(lambda: gateway.acknowledgement(KEY, uid="u", generation=1, served=True).ready == 1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
