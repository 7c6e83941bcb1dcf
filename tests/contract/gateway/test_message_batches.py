"""What the official `anthropic` client makes of batches of messages: a real Redis, and a directory for files."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from capstan_gateway.stores.port import StoreDown
from fakes.openai_upstream import FakeUpstream
from support.batches import Engine, begun, ended, gateway_on
from support.batches import line as openais_line
from support.gateway import RunningGateway, entry, running_gateway
from support.keys import key_entry, key_text
from support.redis_server import RedisServer, redis_server
from support.wait import PATIENCE, eventually

pytestmark = pytest.mark.redis


@pytest.fixture
def engine() -> Engine:
    """An engine."""
    return Engine()


@pytest.fixture
async def upstream(engine: Engine) -> AsyncIterator[FakeUpstream]:
    """It, behind HTTP."""
    async with FakeUpstream(engine.respond) as fake:
        yield fake


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own."""
    with redis_server(tmp_path) as running:
        yield running


@pytest.fixture
async def gateway(tmp_path: Path, server: RedisServer, upstream: FakeUpstream) -> AsyncIterator[RunningGateway]:
    """A gateway that serves everybody."""
    async with gateway_on(tmp_path, server, upstream) as running:
        yield running


def client_of(gateway: RunningGateway, key: str = "unused") -> anthropic.AsyncAnthropic:
    """Give the official client, without retries."""
    return anthropic.AsyncAnthropic(base_url=gateway.url, api_key=key, max_retries=0)


@pytest.fixture
async def client(gateway: RunningGateway) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """The official client, without retries."""
    async with client_of(gateway) as made:
        yield made


def asked(number: int, text: str | None = None, **changed: Any) -> Any:
    """Give one request."""
    said = {"role": "user", "content": text or f"say {number}"}
    params = {"model": "m", "max_tokens": 9, "messages": [said], **changed}
    return {"custom_id": f"line-{number}", "params": params}


async def over(client: anthropic.AsyncAnthropic, batch_id: str) -> Any:
    """Wait until a batch has ended."""
    async with asyncio.timeout(PATIENCE):
        while (batch := await client.messages.batches.retrieve(batch_id)).processing_status != "ended":  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        return batch


async def results(client: anthropic.AsyncAnthropic, batch_id: str) -> dict[str, Any]:
    """Give the results by custom_id; each is there once."""
    found = [one async for one in await client.messages.batches.results(batch_id)]
    by_id = {one.custom_id: one.result for one in found}
    assert len(by_id) == len(found)
    return by_id


@pytest.mark.compatibility(
    table="requests", row="`/v1/messages/batches`", on="messages", sends="Anthropic's SDKs",
    does="the whole of Message Batches, where batches are on; else 501",
    source="https://github.com/ENTERPILOT/GoModel/pull/546",
)  # fmt: skip
async def test_the_way_of_a_batch(client: anthropic.AsyncAnthropic, engine: Engine) -> None:
    """The whole way, as Anthropic's documentation has it: each request has its result, of whichever model it names."""
    requests = [asked(number, model="n" if number % 2 else "m") for number in range(30)]
    made = await client.messages.batches.create(requests=requests)
    assert (made.type, made.processing_status, made.results_url, made.ended_at) == (
        "message_batch", "in_progress", None, None,
    )  # fmt: skip
    assert (made.request_counts.processing, made.id[:9]) == (30, "msgbatch_")
    assert (made.expires_at - made.created_at).total_seconds() == 86400
    batch = await over(client, made.id)
    counts = {"processing": 0, "succeeded": 30, "errored": 0, "canceled": 0, "expired": 0}
    assert batch.request_counts.model_dump() == counts
    assert batch.ended_at is not None
    found = await results(client, made.id)
    assert {name: one.message.content[0].text for name, one in found.items()} == {
        f"line-{number}": f"<say {number}>" for number in range(30)
    }
    assert found["line-0"].message.stop_reason == "end_turn"
    assert len(engine.asked) == 30


async def test_errors_are_their_requests_own(client: anthropic.AsyncAnthropic, engine: Engine) -> None:
    """A request that is wrong, or is for a model that there is not, has its own error; others are answered, and what
    only needs room or another try is waited for."""
    engine.fails = {"busy": [429, 503, 500], "bad": [400]}
    made = await client.messages.batches.create(
        requests=[
            asked(0, "busy"),
            asked(1, "bad"),
            asked(2, model="nobody"),
            asked(3, max_tokens="many"),
            asked(4),
            asked(5, max_tokens=None),
        ]
    )
    batch = await over(client, made.id)
    found = await results(client, made.id)
    assert (batch.request_counts.succeeded, batch.request_counts.errored) == (2, 4), found
    assert {name: one.type for name, one in found.items()} == {
        "line-0": "succeeded", "line-4": "succeeded", **{f"line-{one}": "errored" for one in (1, 2, 3, 5)},
    }  # fmt: skip
    errors = {name: one.error.error for name, one in found.items() if one.type == "errored"}
    assert (errors["line-2"].type, "nobody" in errors["line-2"].message) == ("not_found_error", True)
    assert {errors[f"line-{one}"].type for one in (1, 3, 5)} == {"invalid_request_error"}


async def test_a_cancelled_batch(client: anthropic.AsyncAnthropic, engine: Engine) -> None:
    """To cancel stops within seconds; what is done is given, and the rest is told to be canceled."""
    made = await client.messages.batches.create(requests=[asked(number) for number in range(20)])
    await eventually(lambda: len(engine.asked) > 3, what="some requests")
    engine.gate.clear()
    stopping = await client.messages.batches.cancel(made.id)
    assert stopping.processing_status in ("canceling", "ended")
    batch = await over(client, made.id)
    assert batch.cancel_initiated_at is not None
    counts = batch.request_counts
    assert (counts.succeeded + counts.canceled, counts.processing, counts.canceled > 0) == (20, 0, True)
    found = await results(client, made.id)
    assert sum(one.type == "canceled" for one in found.values()) == counts.canceled
    assert len(found) == 20
    with pytest.raises(anthropic.BadRequestError, match="cannot be canceled"):
        await client.messages.batches.cancel(made.id)


async def test_a_batch_expires(client: anthropic.AsyncAnthropic, gateway: RunningGateway, engine: Engine) -> None:
    """When its time is over, what is done is given, and each request that is not is told to be expired."""
    engine.gate.clear()
    made = await client.messages.batches.create(requests=[asked(number) for number in range(3)])
    await eventually(lambda: len(engine.asked) == 3, what="three requests")
    room = gateway.gateway.batches
    assert room is not None
    room.batches.wall = lambda: made.expires_at.timestamp() + 1.0
    batch = await over(client, made.id)
    assert (batch.request_counts.expired, batch.request_counts.errored) == (3, 0)
    assert {one.type for one in (await results(client, made.id)).values()} == {"expired"}


async def test_batches_are_listed_and_deleted(
    client: anthropic.AsyncAnthropic, gateway: RunningGateway, engine: Engine, tmp_path: Path
) -> None:
    """Page by page in both directions; one that is being processed is not deleted, one that has ended leaves nothing;
    and those of one API are not there in the other one."""
    made = []
    for number in range(5):
        batch = await client.messages.batches.create(requests=[asked(number)])
        made.append(batch.id)
        await over(client, batch.id)
    async with gateway.client() as openais:
        others = await ended(openais, (await begun(openais, openais_line(1))).id)
        assert [one.id async for one in openais.batches.list()] == [others.id]
        with pytest.raises(openai.NotFoundError):
            await openais.batches.retrieve(made[0])
    listed = [one.id async for one in await client.messages.batches.list(limit=2)]
    assert sorted(listed) == sorted(made)
    page = await client.messages.batches.list(limit=2, before_id=listed[3])
    assert ([one.id for one in page.data], page.has_more) == (listed[1:3], True)
    with pytest.raises(anthropic.NotFoundError):
        await client.messages.batches.retrieve(others.id)
    engine.gate.clear()
    going = await client.messages.batches.create(requests=[asked(9)])
    with pytest.raises(anthropic.BadRequestError, match="cancel it first"):
        await client.messages.batches.delete(going.id)
    with pytest.raises(anthropic.AnthropicError, match="results_url"):
        await client.messages.batches.results(going.id)
    assert (await client.messages.batches.delete(made[0])).type == "message_batch_deleted"
    for call in (client.messages.batches.retrieve, client.messages.batches.delete, client.messages.batches.cancel):
        with pytest.raises(anthropic.NotFoundError):
            await call(made[0])
    assert made[0] not in [one.id async for one in await client.messages.batches.list()]
    room = gateway.gateway.batches
    assert room is not None
    # Four that have ended have input and output, as OpenAI's has; the one that goes on has its input.
    assert len({path.parent for path in (tmp_path / "files").rglob("*") if path.is_file()}) == 4 * 2 + 2 + 1
    engine.gate.set()
    await over(client, going.id)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ({"requests": []}, "at least one request"),
        ({"requests": [{"custom_id": "a", "params": 1}]}, "`requests.0.params` must be an object"),
        ({"requests": [asked(1), asked(1)]}, "`requests.1.custom_id` must be unique"),
        ({"requests": [{"custom_id": "a b", "params": {}}]}, "`requests.0.custom_id` must be 1 to 64"),
        ({"requests": [asked(1, stream=True)]}, "`requests.0.params.stream` must be false"),
        ({"requests": [{**asked(1), "url": "x"}]}, "`requests.0.url` is not known"),
        ({"requests": [asked(1)], "model": "m"}, "must be an object with the list `requests`"),
        ({"requests": [asked(number) for number in range(6)]}, "may have 5 requests at most"),
        ({"requests": [asked(1, "x" * 60_000)]}, "`requests.0` is larger than 50000 bytes"),
        ({"requests": [asked(1), asked(2, "x" * 49_890)]}, "`requests.1` is larger than 50000 bytes"),
        ([], "must be an object with the list `requests`"),
    ],
)  # fmt: skip
async def test_what_is_asked_wrongly_is_refused(
    tmp_path: Path, server: RedisServer, upstream: FakeUpstream, body: Any, what: str
) -> None:
    """What cannot be a batch is refused with the place of what is wrong, in Anthropic's form, and leaves nothing."""
    async with (
        gateway_on(tmp_path, server, upstream, batch_lines=5, max_body_bytes=50_000) as gateway,
        httpx2.AsyncClient(base_url=gateway.url, timeout=60) as http,
    ):
        answer = await http.post("/v1/messages/batches", json=body)
        assert answer.status_code in (400, 413)
        told = answer.json()
        assert (told["type"], what in told["error"]["message"]) == ("error", True), told
        assert [path for path in (tmp_path / "files").rglob("*") if path.is_file()] == []
        assert (await http.get("/v1/messages/batches")).json()["data"] == []
        assert (await http.get("/v1/files")).json()["data"] == []


async def test_what_is_made_is_told_so(
    client: anthropic.AsyncAnthropic, gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that is made is told to its client also where Redis is away the next moment: who is told otherwise would
    make it once more."""
    room = gateway.gateway.batches
    assert room is not None

    async def away(*_: object) -> None:
        raise StoreDown("away")

    with monkeypatch.context() as patched:
        patched.setattr(room.batches, "find", away)
        made = await client.messages.batches.create(requests=[asked(1)])
        assert (made.processing_status, made.request_counts.processing) == ("in_progress", 1)
    await over(client, made.id)


async def test_another_tenant_sees_nothing(
    tmp_path: Path, server: RedisServer, upstream: FakeUpstream, engine: Engine
) -> None:
    """Batches of one tenant do not exist for another one, and a key that is revoked ends them with errors."""
    async with gateway_on(tmp_path, server, upstream, insecure_no_auth=False) as gateway:
        models = entry("m", upstream.url), entry("n", upstream.url)
        keys = key_entry("one", tenant="acme"), key_entry("two", tenant="other"), key_entry("three", tenant="acme")
        await gateway.configure(*models, keys=keys)
        engine.gate.clear()
        async with (
            client_of(gateway, key_text("one")) as one,
            client_of(gateway, key_text("two")) as two,
            client_of(gateway, key_text("three")) as three,
        ):
            made = await one.messages.batches.create(requests=[asked(number) for number in range(20)])
            assert [found.id async for found in await two.messages.batches.list()] == []
            for call in (two.messages.batches.retrieve, two.messages.batches.cancel, two.messages.batches.results):
                with pytest.raises(anthropic.NotFoundError):
                    await call(made.id)
            await eventually(lambda: len(engine.asked) >= 8, what="requests of the batch")
            await gateway.configure(*models, keys=keys[1:])
            engine.gate.set()
            batch = await over(three, made.id)
            counts = batch.request_counts
            assert (counts.succeeded + counts.errored, counts.errored > 0) == (20, True)
            found = await results(three, made.id)
            assert {one.error.error.type for one in found.values() if one.type == "errored"} == {"authentication_error"}


async def test_without_a_place_for_files_there_are_none(tmp_path: Path, upstream: FakeUpstream) -> None:
    """Where batches are not turned on the routes say so, in Anthropic's envelope."""
    async with running_gateway(tmp_path, entry("m", upstream.url)) as gateway, client_of(gateway) as client:
        for call in (
            client.messages.batches.create(requests=[asked(1)]), client.messages.batches.retrieve("msgbatch_1"),
        ):  # fmt: skip
            with pytest.raises(anthropic.InternalServerError, match="--files-url and --redis-url"):
                await call
