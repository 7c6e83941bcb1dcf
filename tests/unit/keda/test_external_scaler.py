"""What KEDA is answered, asked by a gRPC client with the bytes that KEDA sends."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import grpc.aio
import pytest

from capstan_operator.api.kinds import Model
from capstan_operator.keda.scaler import ExternalScaler
from capstan_operator.kube.errors import Unavailable
from capstan_operator.metrics_api import loads
from capstan_operator.metrics_api.authority import CERTIFICATE_LIFE, make_authority
from capstan_operator.metrics_api.loads import SPEC_SECONDS, Loads
from capstan_operator.metrics_api.place import Place
from capstan_operator.resources.resource import ObjectKey
from capstan_operator.scaling.demand import Demand
from fakes.apply_kube import ApplyKube
from support.plainmodels import make_model
from support.ports import free_port
from support.wait import eventually

SERVICE = "/externalscaler.ExternalScaler"
METRIC = b"capstan_desired_load"
# By hand, from KEDA's externalscaler.proto: tags are (number << 3 | wire type), texts and messages have a length.
REFERENCE = b"\x0a\x0bllama-model\x12\x04team\x1a\x0e\x0a\x05model\x12\x05llama"
"""ScaledObjectRef{name: 1, namespace: 2, scalerMetadata: 3 {key: 1, value: 2}}."""
QUESTION = b"\x0a" + bytes([len(REFERENCE)]) + REFERENCE + b"\x12\x14" + METRIC
"""GetMetricsRequest{scaledObjectRef: 1, metricName: 2}."""
SCALING = {"min": 0, "max": 5, "strategy": "KEDA"}
TRUE, FALSE = b"\x08\x01", b""
"""IsActiveResponse{result: 1}; what is false is not written."""


def _listed(*fields: bytes) -> bytes:
    """A list, number 1, of one message."""
    message = b"".join(fields)
    return b"\x0a" + bytes([len(message)]) + message


class World:
    """A model, what is asked of it, and a cluster."""

    def __init__(self) -> None:
        self.place = Place(free_port(), "capstan-system", "scaler")
        self.kube = ApplyKube()
        self.now = datetime.now(UTC)
        self.authority = make_authority(self.now)
        self.trusted = self.authority.certificates
        self.demand: Demand | None = Demand(in_flight=80, ready=1)
        self.model: Model | None = make_model(scaling={**SCALING, "idleSeconds": 121}, status={"replicas": 1})
        self.failure: Exception | None = None
        self.clock = 0.0
        self.loads = Loads(lambda _: self.demand, find=self.find, now=lambda: self.now, clock=lambda: self.clock)
        self.scaler = ExternalScaler(self.kube, self.place, self.loads, now=lambda: self.now)

    async def find(self, _: ObjectKey) -> Model | None:
        if self.failure:
            raise self.failure
        return self.model

    def put_authority(self) -> None:
        metadata = {"name": self.place.service, "namespace": self.place.namespace}
        self.kube.put({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": self.authority.data})
        self.scaler.rouse()

    async def rest(self, seconds: int) -> None:
        """Let time pass, a second at a time, with what gateways say now; KEDA asks every 15 seconds."""
        for second in range(seconds):
            self.clock += 1
            self.now += timedelta(seconds=1)
            self.loads.step()
            if second % 15 == 0:
                await self.loads.is_active(ObjectKey("team", "llama"))

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve, from when there is an authority on."""
        task = asyncio.create_task(self.scaler.run())
        self.put_authority()

        async def listens() -> bool:
            if task.done():
                task.result()
            try:
                await self.ask("GetMetricSpec")
            except grpc.aio.AioRpcError:
                return False
            return True

        try:
            await eventually(listens, what="the external scaler")
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @asynccontextmanager
    async def channel(self, host: str = "") -> AsyncIterator[Any]:
        """Connect as KEDA does, with what its TriggerAuthentication says."""
        credentials = grpc.ssl_channel_credentials(self.trusted)
        options = [("grpc.ssl_target_name_override", host or self.place.host)]
        async with grpc.aio.secure_channel(f"127.0.0.1:{self.place.port}", credentials, options=options) as channel:
            yield channel

    async def ask(self, method: str, question: bytes = REFERENCE, *, host: str = "") -> bytes:
        async with self.channel(host) as channel:
            return bytes(await channel.unary_unary(f"{SERVICE}/{method}")(question, timeout=60))

    async def refuses(self, method: str, question: bytes = REFERENCE) -> tuple[Any, str]:
        """Give how a question is refused."""
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await self.ask(method, question)
        return raised.value.code(), raised.value.details() or ""


async def test_keda_reads_what_an_hpa_would() -> None:
    """One metric, of which each replica is meant to have 1, with the load that the API of HPAs serves; beside it as a
    whole number for releases that read no other."""
    world = World()
    async with world.serving():
        target = b"\x0a\x14" + METRIC + b"\x10\x01\x19" + struct.pack("<d", 1.0)
        assert await world.ask("GetMetricSpec") == _listed(target)
        load = await world.loads.of(ObjectKey("team", "llama"))
        assert load == 2.5
        measured = b"\x0a\x14" + METRIC + b"\x10\x03\x19" + struct.pack("<d", load)
        assert await world.ask("GetMetrics", QUESTION) == _listed(measured)


async def test_what_is_not_known_is_no_number_and_takes_nothing_away() -> None:
    """KEDA's HPA changes nothing on an error; and a model that runs stays active while no gateway, or the API server,
    says anything."""
    world = World()
    async with world.serving():
        assert await world.ask("IsActive") == TRUE
        world.demand = None
        await world.rest(3600)
        code, details = await world.refuses("GetMetrics", QUESTION)
        assert (code, details) == (grpc.StatusCode.UNAVAILABLE, "it is not known what is asked of the model")
        assert await world.ask("IsActive") == TRUE
        world.failure = Unavailable("no answer")
        world.clock += 10 * SPEC_SECONDS
        assert await world.ask("IsActive") == TRUE
        code, details = await world.refuses("GetMetrics", QUESTION)
        assert code is grpc.StatusCode.UNAVAILABLE


async def test_a_model_is_active_until_nothing_was_asked_for_its_idle_time() -> None:
    """And again with the first request that waits."""
    world = World()
    async with world.serving():
        assert await world.ask("IsActive") == TRUE
        world.demand = Demand(ready=1)
        await world.rest(120)
        assert await world.ask("IsActive") == TRUE
        await world.rest(330)
        assert await world.ask("IsActive") == FALSE
        world.demand = Demand()
        await world.rest(100)
        assert await world.ask("IsActive") == FALSE
        world.demand = Demand(waiting=1)
        await world.rest(1)
        assert await world.ask("IsActive") == TRUE


@pytest.mark.parametrize("replicas", [0, 1])
async def test_a_replica_that_is_on_its_way_is_none_too_many(replicas: int) -> None:
    """A process that begins while one comes up that nobody asks for any more leaves it there for the idle time."""
    world = World()
    world.model = make_model(scaling={**SCALING, "idleSeconds": 121}, status={"replicas": replicas})
    world.demand = Demand()
    async with world.serving():
        assert await world.ask("IsActive") == (TRUE if replicas else FALSE)


async def test_a_new_process_goes_on_from_the_status() -> None:
    """What the leader has told of the idle time counts; it is seen for a while all the same."""
    world = World()
    since = (world.now - timedelta(hours=2)).isoformat()
    world.model = make_model(
        scaling={**SCALING, "idleSeconds": 3600}, status={"replicas": 1, "scaling": {"idleSince": since}}
    )
    world.demand = None
    async with world.serving():
        assert await world.ask("IsActive") == TRUE
        world.demand = Demand(ready=1)
        await world.rest(290)
        assert await world.ask("IsActive") == TRUE
        await world.rest(30)
        assert await world.ask("IsActive") == FALSE


async def test_a_stream_tells_of_changes_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is so at once, and then each change, once; it does not wait for its spec to be read anew."""
    monkeypatch.setattr(loads, "SPEC_SECONDS", 1e6)
    world = World()
    async with world.serving(), world.channel() as channel:
        stream = channel.unary_stream(f"{SERVICE}/StreamIsActive")(REFERENCE)
        assert await stream.read() == TRUE
        world.demand = Demand()
        await world.rest(1000)
        assert await stream.read() == FALSE
        world.demand = Demand(waiting=1)
        await world.rest(5)
        assert await stream.read() == TRUE
        stream.cancel()


async def test_a_stream_ends_with_the_model() -> None:
    """Nobody waits for ever for news of what is gone."""
    world = World()
    world.model = None
    async with world.serving():
        async with world.channel() as channel:
            stream = channel.unary_stream(f"{SERVICE}/StreamIsActive")(REFERENCE)
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await stream.read()
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND
        assert (await world.refuses("IsActive"))[0] is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("method", "question", "code", "said"),
    [
        ("IsActive", b"\x0a\x01x\x12\x04team", grpc.StatusCode.INVALID_ARGUMENT, "must name an LLMModel"),
        ("IsActive", b"", grpc.StatusCode.INVALID_ARGUMENT, "must name an LLMModel"),
        ("GetMetrics", QUESTION[:-1] + b"x", grpc.StatusCode.NOT_FOUND, "there is capstan_desired_load"),
        ("IsActive", b"\x0a" + b"\xff\xff\x07" + bytes(131_071), grpc.StatusCode.RESOURCE_EXHAUSTED, ""),
        ("Anything", b"", grpc.StatusCode.UNIMPLEMENTED, ""),
        ("StreamMetricSpec", REFERENCE, grpc.StatusCode.UNIMPLEMENTED, ""),
    ],
)
async def test_another_question_is_refused_and_harms_nothing(
    method: str, question: bytes, code: Any, said: str
) -> None:
    """What is not about a model, too long, or asked by a release of KEDA that knows more: and that harms nothing."""
    world = World()
    async with world.serving():
        found, details = await world.refuses(method, question)
        assert found is code
        assert said in details
        assert await world.ask("IsActive") == TRUE


async def test_what_is_no_message_is_refused() -> None:
    """A question that cannot be read ends its call and nothing else."""
    world = World()
    async with world.serving():
        await world.refuses("IsActive", b"\xff\xff\xff")
        assert await world.ask("IsActive") == TRUE


async def test_another_host_has_no_certificate() -> None:
    """Whoever stands in for the operator is not believed, and the certificate is for the name of the Service alone."""
    world = World()
    async with world.serving():
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await world.ask("IsActive", host="another.capstan-system.svc")
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        world.trusted = make_authority(world.now).certificates
        with pytest.raises(grpc.aio.AioRpcError):
            await world.ask("IsActive")


async def test_a_successor_of_the_authority_ends_no_stream() -> None:
    """Those who connect from then on are shown its certificate; whoever is there stays."""
    world = World()
    async with world.serving(), world.channel() as channel:
        stream = channel.unary_stream(f"{SERVICE}/StreamIsActive")(REFERENCE)
        assert await stream.read() == TRUE
        world.authority = make_authority(world.now, world.authority)
        world.trusted = world.authority.certificates.split(b"-----END CERTIFICATE-----\n")[0] + (
            b"-----END CERTIFICATE-----\n"
        )
        world.put_authority()

        async def is_shown() -> bool:
            try:
                return await world.ask("IsActive") == TRUE
            except grpc.aio.AioRpcError:
                return False

        await eventually(is_shown, what="the certificate of the successor")
        world.demand = Demand()
        await world.rest(1000)
        assert await stream.read() == FALSE
        stream.cancel()


async def test_a_certificate_is_renewed_before_it_ends() -> None:
    """By a look that finds it old; the authority is the same."""
    world = World()
    async with world.serving():
        before = world.scaler._server
        assert before
        shown = before.certificate
        world.now += CERTIFICATE_LIFE - timedelta(days=1)
        world.scaler.rouse()

        async def is_renewed() -> bool:
            return before.certificate != shown

        await eventually(is_renewed, what="another certificate")
        assert world.scaler._server is before


async def test_a_port_that_is_taken_ends_nothing() -> None:
    """It is tried again, and served when it is free."""
    world = World()
    other = World()
    other.place = world.place
    async with world.serving():
        scaler = ExternalScaler(world.kube, world.place, world.loads)
        await scaler._look(world.place)
        assert scaler._server is None
        assert "cannot be served" in scaler._looks.said
