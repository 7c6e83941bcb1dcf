"""What the official `openai` client makes of responses in the background: a real Redis behind the gateway."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from capstan_contract.config import Price, Provider
from capstan_contract.guards import Action, GuardBody, PiiGuard, Source, guard_entry
from capstan_contract.limits import LimitRule, Per, RateLimitBody, Unit, rate_limit_entry
from capstan_gateway.background.names import Names
from capstan_gateway.identity.principal import EVERYBODY
from fakes.openai_upstream import FakeUpstream, Received, Wire
from support.background import Engine, over
from support.gateway import RunningGateway, entry, hosted_by, running_gateway
from support.keys import key_entry, key_text
from support.redis_server import RedisServer, redis_server
from support.wait import eventually

pytestmark = pytest.mark.redis
ASK: dict[str, Any] = {"model": "m", "input": "hello", "background": True}


@pytest.fixture
def fake() -> Engine:
    """An engine."""
    return Engine()


@pytest.fixture
async def upstream(fake: Engine) -> AsyncIterator[FakeUpstream]:
    """It, behind HTTP."""
    async with FakeUpstream(fake.respond) as running:
        yield running


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own."""
    with redis_server(tmp_path) as running:
        yield running


def options(server: RedisServer, **settings: Any) -> dict[str, Any]:
    """Give settings with that Redis."""
    return {"redis_url": server.url, "redis_seconds": 10.0, "redis_limit_seconds": 10.0, **settings}


@pytest.fixture
async def gateway(tmp_path: Path, server: RedisServer, upstream: FakeUpstream) -> AsyncIterator[RunningGateway]:
    """A gateway that serves everybody."""
    async with running_gateway(tmp_path, entry("m", upstream.url), **options(server)) as running:
        yield running


@pytest.fixture
async def client(gateway: RunningGateway) -> AsyncIterator[openai.AsyncOpenAI]:
    """The official client, without retries."""
    async with gateway.client() as made:
        yield made


@pytest.mark.compatibility(
    table="requests", row="`background: true`", on="responses", sends="OpenAI's SDKs, for long answers",
    does="an id at once, and the response by it, where responses are stored; else refused",
    source="https://github.com/maximhq/bifrost/issues/3121",
)  # fmt: skip
async def test_the_way_of_a_response(client: openai.AsyncOpenAI, gateway: RunningGateway, fake: Engine) -> None:
    """The whole way, as OpenAI's documentation has it: an id at once, polled until it is over, then as any stored
    response; and what is told of it meanwhile stays so."""
    begun = await client.responses.create(**ASK, instructions="Be brief.", metadata={"job": "night"})
    assert (begun.status, begun.background, begun.to_dict()["store"], begun.output) == ("queued", True, True, [])
    assert (begun.instructions, begun.metadata, begun.error, begun.usage) == ("Be brief.", {"job": "night"}, None, None)

    async def works() -> bool:
        return (await client.responses.retrieve(begun.id)).status == "in_progress"

    await eventually(works, what="the beginning")
    items = [item.to_dict() async for item in client.responses.input_items.list(begun.id)]
    assert [item["content"][0]["text"] for item in items] == ["hello"]
    fake.gate.set()
    done = await over(client, begun.id)
    assert (done.status, done.output_text, done.background, done.to_dict()["store"]) == (
        "completed", "<hello>", True, True,
    )  # fmt: skip
    assert (done.id, done.created_at, done.metadata) == (begun.id, begun.created_at, {"job": "night"})
    assert done.completed_at is not None
    assert done.usage is not None
    assert fake.asked == ["hello"]
    following = await client.responses.create(model="m", input="and?", previous_response_id=begun.id)
    assert following.output_text == "<and?>"
    assert [one["content"] for one in fake.requests[-1].document["messages"]] == ["hello", "<hello>", "and?"]
    counted = "gateway_background_responses_total"
    await eventually(lambda: gateway.metric(counted, status="completed") == 1, what="the count")
    await eventually(lambda: gateway.metric("gateway_background_responses_running") == 0, what="the end of its work")
    await client.responses.delete(begun.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(begun.id)


async def test_a_response_goes_on_from_another(client: openai.AsyncOpenAI, fake: Engine) -> None:
    """A response in the background has the turns before it, in what is asked and in what is listed."""
    fake.gate.set()
    first = await client.responses.create(model="m", input="one")
    begun = await client.responses.create(**ASK, previous_response_id=first.id)
    done = await over(client, begun.id)
    assert done.previous_response_id == begun.previous_response_id == first.id
    assert [one["content"] for one in fake.requests[-1].document["messages"]] == ["one", "<one>", "hello"]
    items: list[Any] = [item.to_dict() async for item in client.responses.input_items.list(begun.id, order="asc")]
    assert [item["content"][0]["text"] for item in items] == ["one", "<one>", "hello"]
    with pytest.raises(openai.BadRequestError, match="not found"):
        await client.responses.create(**ASK, previous_response_id="resp_cs" + "0" * 40)
    fake.gate.clear()
    going = await client.responses.create(**ASK)
    for said in (ASK, {"model": "m", "input": "and?"}):
        with pytest.raises(openai.BadRequestError, match="is not over yet"):
            await client.responses.create(**said, previous_response_id=going.id)
    fake.gate.set()
    assert (await over(client, going.id)).status == "completed"


async def test_a_response_that_reaches_its_limit_is_incomplete(client: openai.AsyncOpenAI, fake: Engine) -> None:
    """What was said until then is there, as when somebody waits."""
    fake.finish = "length"
    fake.gate.set()
    done = await over(client, (await client.responses.create(**ASK)).id)
    assert (done.status, done.incomplete_details.reason, done.output_text) == (
        "incomplete", "max_output_tokens", "<hello>",
    )  # fmt: skip


async def test_to_cancel_reaches_the_engine(
    client: openai.AsyncOpenAI, gateway: RunningGateway, upstream: FakeUpstream, fake: Engine
) -> None:
    """A cancelled response is over at once, its engine is not asked any more, and to cancel again gives the same."""
    begun = await client.responses.create(**ASK, instructions="Be brief.")
    await eventually(lambda: fake.asked, what="the engine")
    stopped = await client.responses.cancel(begun.id)
    assert (stopped.id, stopped.status, stopped.output, stopped.error) == (begun.id, "cancelled", [], None)
    await eventually(lambda: upstream.gone == 1, what="the end of what the engine was asked")
    assert await client.responses.cancel(begun.id) == stopped
    assert await client.responses.retrieve(begun.id) == stopped
    fake.gate.set()
    await gateway.settled()
    assert (await client.responses.retrieve(begun.id)).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="no answer that could be gone on from"):
        await client.responses.create(model="m", input="and?", previous_response_id=begun.id)
    assert gateway.metric("gateway_background_responses_total", status="cancelled") == 1


async def test_what_is_over_is_not_cancelled(client: openai.AsyncOpenAI, fake: Engine) -> None:
    """To cancel a response that is complete gives it as it is; one that somebody waited for cannot be cancelled."""
    fake.gate.set()
    done = await over(client, (await client.responses.create(**ASK)).id)
    assert await client.responses.cancel(done.id) == done
    waited = await client.responses.create(model="m", input="hello")
    with pytest.raises(openai.BadRequestError, match="Cannot cancel a synchronous response"):
        await client.responses.cancel(waited.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.cancel("resp_cs" + "0" * 40)


async def test_one_that_is_deleted_is_stopped(client: openai.AsyncOpenAI, upstream: FakeUpstream, fake: Engine) -> None:
    """Who deletes a response that is not over leaves nothing of it, also in the engine."""
    begun = await client.responses.create(**ASK)
    await eventually(lambda: fake.asked, what="the engine")
    await client.responses.delete(begun.id)
    await eventually(lambda: upstream.gone == 1, what="the end of what the engine was asked")
    for call in (client.responses.retrieve, client.responses.delete, client.responses.cancel):
        with pytest.raises(openai.NotFoundError):
            await call(begun.id)


async def test_limits_are_waited_for(client: openai.AsyncOpenAI, fake: Engine) -> None:
    """An engine that has no room is asked again when it has; one that fails is not, and says why."""
    fake.gate.set()
    fake.fails = [(429, "retry-after: 1"), (429, "retry-after: 1")]
    done = await over(client, (await client.responses.create(**ASK)).id)
    assert (done.status, len(fake.asked)) == ("completed", 3)
    fake.fails = [(400, "x: y")]
    failed = await over(client, (await client.responses.create(**ASK)).id)
    assert (failed.status, failed.error.code, failed.error.message) == ("failed", "invalid_prompt", "no")
    assert (failed.output, failed.background) == ([], True)


async def test_what_is_to_wait_long_holds_no_place(
    tmp_path: Path, server: RedisServer, upstream: FakeUpstream, fake: Engine
) -> None:
    """Whose limit is reached for long leaves the place to others until then; and also what must not be sent twice is
    sent again, because nobody has had it."""
    fake.gate.set()
    fake.fails = [(429, "retry-after: 3000")]
    settings = options(server, background_concurrency=1)
    async with (
        running_gateway(tmp_path, entry("m", upstream.url), **settings) as gateway,
        gateway.client() as client,
    ):
        waits = await client.responses.create(**ASK, extra_body={"web_search_options": {}})
        await eventually(lambda: len(fake.asked) == 1, what="the engine")
        assert (await over(client, (await client.responses.create(**ASK)).id)).status == "completed"
        assert (await client.responses.retrieve(waits.id)).status == "in_progress"
        with server.client() as looking:
            looking.hset(Names.of(EVERYBODY).response(waits.id), "until", 0)
        folder = tmp_path / "another"
        folder.mkdir()
        async with running_gateway(folder, entry("m", upstream.url), **settings):
            assert (await over(client, waits.id)).status == "completed"
        assert len(fake.asked) == 3


async def test_a_response_that_takes_too_long_fails(
    tmp_path: Path, server: RedisServer, upstream: FakeUpstream
) -> None:
    """What is not over in its time has failed, and its engine is not asked any more."""
    settings = options(server, background_seconds=1)
    async with (
        running_gateway(tmp_path, entry("m", upstream.url), **settings) as gateway,
        gateway.client() as client,
    ):
        failed = await over(client, (await client.responses.create(**ASK)).id)
        assert (failed.status, failed.error.code, failed.error.message) == (
            "failed", "server_error", "The response was not there in time.",
        )  # fmt: skip


async def test_places_are_bounded(tmp_path: Path, server: RedisServer, upstream: FakeUpstream, fake: Engine) -> None:
    """A gateway asks for so many at once, and the next when one is over; a tenant has so many that are not over."""
    settings = options(server, background_concurrency=2, background_responses=4)
    async with (
        running_gateway(tmp_path, entry("m", upstream.url), **settings) as gateway,
        gateway.client() as client,
    ):
        begun = [await client.responses.create(**{**ASK, "input": f"say {number}"}) for number in range(4)]
        await eventually(lambda: len(fake.asked) == 2, what="two requests")
        assert gateway.metric("gateway_background_responses_running") == 2
        with pytest.raises(openai.RateLimitError, match="4 background responses already") as raised:
            await client.responses.create(**ASK)
        assert raised.value.code == "too_many_background_responses"
        assert [(await client.responses.retrieve(one.id)).status for one in begun[2:]] == ["queued", "queued"]
        assert (await client.responses.cancel(begun[3].id)).status == "cancelled"
        fake.gate.set()
        done = [await over(client, one.id) for one in begun]
        assert [one.status for one in done] == ["completed", "completed", "completed", "cancelled"]
        assert sorted(fake.asked) == ["say 0", "say 1", "say 2"]
        await over(client, (await client.responses.create(**ASK)).id)


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"stream": True}, "`stream` must be false with `background`"),
        ({"store": False}, "`store` must be true with `background`"),
        ({"background": "yes"}, "`background` must be true or false"),
        ({"temperature": "hot"}, "`temperature` must be a number"),
        ({"model": "none"}, "`none` does not exist"),
        ({"input": "x" * 1_100_000}, "a request in the background may be about"),
        ({"extra_body": {"capstan": {"nonsense": 1}}}, "`capstan` may have the fields"),
    ],
)
async def test_what_cannot_be_is_refused_at_once(
    client: openai.AsyncOpenAI, fake: Engine, changed: dict[str, Any], what: str
) -> None:
    """What is wrong with a request is said before it is taken."""
    with pytest.raises(openai.APIStatusError, match=what) as raised:
        await client.responses.create(**{**ASK, **changed})
    assert raised.value.status_code in (400, 404, 413)
    assert fake.asked == []


async def test_a_client_may_prefer_not_to_wait(client: openai.AsyncOpenAI, fake: Engine) -> None:
    """`Prefer: respond-async` is answered with 202, what was done of it and where the answer will be (RFC 7240); with a
    stream, or where nothing is to be stored, it is left aside."""
    prefer = {"Prefer": "wait=5, respond-async"}
    raw = await client.responses.with_raw_response.create(model="m", input="hello", extra_headers=prefer)
    begun: Any = raw.parse()
    assert (raw.status_code, raw.headers["preference-applied"]) == (202, "respond-async")
    assert raw.headers["location"] == f"/v1/responses/{begun.id}"
    fake.gate.set()
    assert (await over(client, begun.id)).output_text == "<hello>"
    waited = await client.responses.with_raw_response.create(
        model="m", input="hello", store=False, extra_headers=prefer
    )
    assert (waited.status_code, "preference-applied" in waited.headers) == (200, False)
    assert waited.parse().output_text == "<hello>"


async def test_another_tenant_sees_nothing(
    tmp_path: Path, server: RedisServer, upstream: FakeUpstream, fake: Engine
) -> None:
    """A response of one tenant does not exist for another one, before and after its end; and one whose key is revoked
    before it was asked has failed."""
    settings = options(server, insecure_no_auth=False, background_concurrency=1)
    models = (entry("m", upstream.url),)
    keys = key_entry("one", tenant="acme"), key_entry("two", tenant="other"), key_entry("three", tenant="acme")
    async with running_gateway(tmp_path, **settings) as gateway:
        await gateway.configure(*models, keys=keys)
        async with (
            gateway.client(api_key=key_text("one")) as one,
            gateway.client(api_key=key_text("two")) as two,
            gateway.client(api_key=key_text("three")) as three,
        ):
            begun = await three.responses.create(**ASK)
            await eventually(lambda: fake.asked, what="the engine")
            waits = await one.responses.create(**ASK)
            for call in (two.responses.retrieve, two.responses.cancel, two.responses.delete):
                with pytest.raises(openai.NotFoundError):
                    await call(begun.id)
            await gateway.configure(*models, keys=keys[1:])
            fake.gate.set()
            assert (await over(three, begun.id)).status == "completed"
            failed = await over(three, waits.id)
            assert (failed.status, failed.error.message) == (
                "failed", "The API key that asked for this response is not valid any more.",
            )  # fmt: skip
            for call in (two.responses.retrieve, two.responses.cancel, two.responses.delete):
                with pytest.raises(openai.NotFoundError):
                    await call(begun.id)


async def test_a_hosted_model_answers_under_our_id(tmp_path: Path, server: RedisServer) -> None:
    """What a hosted API of the same dialect answers is stored here, under the id that the client knows: it is asked
    without `background`, and to store nothing."""
    asked: list[dict[str, Any]] = []

    async def respond(request: Received, wire: Wire) -> None:
        asked.append(request.document)
        part = {"type": "output_text", "text": "there", "annotations": []}
        message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
        await wire.json(
            {"id": "resp_theirs", "object": "response", "created_at": 1, "status": "completed", "model": "gpt-x",
             "output": [message], "store": False, "background": False, "parallel_tool_calls": True,
             "tool_choice": "auto", "tools": [], "usage": None}
        )  # fmt: skip

    async with FakeUpstream(respond) as openais:
        model = entry("gpt", upstreamName="gpt-x", backend=hosted_by(Provider.OPENAI, openais.url, key=None))
        async with (
            running_gateway(tmp_path, model, **options(server)) as gateway,
            gateway.client() as client,
        ):
            begun = await client.responses.create(model="gpt", input="hello", background=True)
            done = await over(client, begun.id)
            assert (done.id, done.output_text, done.created_at) == (begun.id, "there", begun.created_at)
            assert (done.background, done.to_dict()["store"]) == (True, True)
            assert ("background" in asked[0], asked[0]["store"]) == (False, False)
            assert [item.type async for item in client.responses.input_items.list(begun.id)] == ["message"]


async def test_a_hosted_model_goes_on_from_all_turns(tmp_path: Path, server: RedisServer) -> None:
    """What a hosted API answers natively is kept with all turns before it, small or large, so that the next one says
    the whole conversation; and it tells from which response it goes on."""
    asked: list[list[str]] = []

    async def respond(request: Received, wire: Wire) -> None:
        given = request.document["input"]
        texts = [one["content"] for one in given] if isinstance(given, list) else [given]
        asked.append([text if isinstance(text, str) else text[0]["text"] for text in texts])
        part = {"type": "output_text", "text": f"<{asked[-1][-1]}>", "annotations": []}
        message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
        await wire.json(
            {"id": "resp_theirs", "object": "response", "created_at": 1, "status": "completed", "model": "gpt-x",
             "output": [message], "previous_response_id": None, "parallel_tool_calls": True, "tool_choice": "auto",
             "tools": [], "usage": None}
        )  # fmt: skip

    large = "long " * 60_000
    async with FakeUpstream(respond) as openais:
        model = entry("gpt", upstreamName="gpt-x", backend=hosted_by(Provider.OPENAI, openais.url, key=None))
        async with running_gateway(tmp_path, model, **options(server)) as gateway, gateway.client() as client:
            previous: Any = None
            for text in ("one", large, "three"):
                begun = await client.responses.create(
                    model="gpt", input=text, background=True, previous_response_id=previous
                )
                done = await over(client, begun.id)
                assert (done.status, done.previous_response_id) == ("completed", previous)
                previous = done.id
            assert asked[-1] == ["one", "<one>", large, f"<{large}>", "three"]
            items: list[Any] = [one async for one in client.responses.input_items.list(previous, order="asc")]
            assert [one.content[0].text for one in items] == asked[-1]


async def test_options_of_the_gateway_count(
    client: openai.AsyncOpenAI, gateway: RunningGateway, upstream: FakeUpstream, fake: Engine
) -> None:
    """What a client asks of the gateway itself, in the body and in headers, holds for what is asked later."""
    await gateway.configure(entry("m", upstream.url, price=Price(inputPerMillion=1000, outputPerMillion=2000)))
    fake.gate.set()
    for said in ({"extra_body": {"capstan": {"max_cost": 0}}}, {"extra_headers": {"x-capstan-max-cost": "0"}}):
        failed = await over(client, (await client.responses.create(**ASK, **said)).id)  # type: ignore[arg-type]
        assert (failed.status, failed.error.code) == ("failed", "invalid_prompt")
        assert "cost" in failed.error.message
    assert fake.asked == []
    trace = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    raw = await client.responses.with_raw_response.create(**ASK, extra_headers=trace)
    await over(client, raw.parse().id)
    headers = fake.requests[-1].headers
    assert headers["traceparent"].split("-")[1] == "0af7651916cd43dd8448eb211c80319c"
    assert headers["x-request-id"] == raw.headers["x-request-id"]


async def test_policies_are_in_force(
    client: openai.AsyncOpenAI, gateway: RunningGateway, upstream: FakeUpstream, fake: Engine, server: RedisServer
) -> None:
    """Guards and limits decide as for a client that waits; of what was redacted nothing is kept when it is over, and a
    limit that is reached for long ends it at once."""
    fake.gate.set()
    mail = "ada@lovelace.example.org"
    asked: dict[str, Any] = {"model": "m", "background": True, "input": f"write to {mail}", "instructions": mail}
    guards = guard_entry(
        "t", "g", GuardBody(input=(PiiGuard(name="pii", appliesTo=(Source.USER, Source.SYSTEM), timeoutMillis=60_000),))
    )
    model = entry("m", upstream.url, policies=("GuardPolicy/t/g",))
    await gateway.configure(model, policies=[guards])
    done = await over(client, (await client.responses.create(**asked)).id)
    assert (done.status, done.output_text) == ("completed", "<write to [EMAIL_1]>")
    fake.fails = [(400, "x: y")]
    failed = await over(client, (await client.responses.create(**asked)).id)
    assert failed.status == "failed"
    with server.client() as looking:
        kept = b"".join(b"".join(looking.hgetall(key).values()) for key in looking.keys("capstan:responses:*resp_*"))
    assert b"[EMAIL_1]" in kept
    assert mail.encode() not in kept
    block = GuardBody(
        input=(PiiGuard(name="pii", appliesTo=(Source.USER,), timeoutMillis=60_000, action=Action.BLOCK),)
    )
    await gateway.configure(model, policies=[guard_entry("t", "g", block)])
    before = len(fake.asked)
    blocked = await over(client, (await client.responses.create(**asked)).id)
    assert (blocked.status, blocked.error.code) == ("failed", "invalid_prompt")
    limit = LimitRule(name="l", per=Per.TENANT, unit=Unit.REQUESTS, amount=1, windowMillis=86_400_000, burst=1)
    limited = entry("m", upstream.url, policies=("RateLimitPolicy/t/l",))
    await gateway.configure(limited, policies=[rate_limit_entry("t", "l", RateLimitBody(limits=(limit,)))])
    assert (await over(client, (await client.responses.create(**asked)).id)).status == "completed"
    refused = await over(client, (await client.responses.create(**asked)).id)
    assert (refused.status, refused.error.code) == ("failed", "rate_limit_exceeded")
    assert len(fake.asked) == before + 1


async def test_without_a_store_there_are_none(tmp_path: Path, upstream: FakeUpstream, fake: Engine) -> None:
    """Where no responses are stored `background` is refused, and a preference is left aside."""
    fake.gate.set()
    async with running_gateway(tmp_path, entry("m", upstream.url)) as gateway, gateway.client() as client:
        with pytest.raises(openai.BadRequestError, match="`background` is not supported"):
            await client.responses.create(**ASK)
        waited = await client.responses.create(model="m", input="hi", extra_headers={"Prefer": "respond-async"})
        assert waited.output_text == "<hi>"
