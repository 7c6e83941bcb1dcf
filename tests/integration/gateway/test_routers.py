"""Routers and `auto`, through the official client, before upstreams that do what a test tells them."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI, BadRequestError, InternalServerError, NotFoundError

from capstan_contract.config import (
    Capability,
    CascadeBackend,
    ModelEntry,
    Price,
    RouterBackend,
    RouterMember,
    StickyBy,
    Strategy,
    Task,
)
from fakes.openai_upstream import FakeUpstream, Received, Wire
from support.gateway import RunningGateway, entry, running_gateway
from support.wait import eventually

MESSAGES: Any = [{"role": "user", "content": "Hello"}]
PICTURE: Any = [
    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}
]
TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]


def router(name: str, *members: RouterMember, strategy: Strategy = Strategy.CHEAPEST, **fields: Any) -> ModelEntry:
    """Give a router."""
    sticky = fields.pop("stickyBy", StickyBy.USER)
    return entry(name, backend=RouterBackend(strategy=strategy, stickyBy=sticky, members=members), **fields)


def member(name: str, **fields: Any) -> RouterMember:
    """Name a member."""
    return RouterMember(model=f"test/{name}", **fields)


def price(dollars: float) -> Price:
    """Give a price for a million tokens."""
    return Price(inputPerMillion=dollars, outputPerMillion=dollars)


class Fleet:
    """A gateway, and an upstream for each model."""

    def __init__(self, gateway: RunningGateway, client: AsyncOpenAI, upstreams: dict[str, FakeUpstream]) -> None:
        self.gateway = gateway
        self.client = client
        self.upstreams = upstreams

    async def configure(self, *virtual: ModelEntry, **fields: dict[str, Any]) -> None:
        """Serve every upstream as a model with these fields, and these virtual models."""
        models = [entry(name, one.url, **fields.get(name, {})) for name, one in self.upstreams.items()]
        await self.gateway.configure(*models, *virtual)

    async def ask(self, model: str, messages: Any = MESSAGES, **fields: Any) -> dict[str, str]:
        """Give the headers of an answer."""
        raw = await self.client.chat.completions.with_raw_response.create(model=model, messages=messages, **fields)
        return dict(raw.headers)

    async def who(self, model: str, messages: Any = MESSAGES, **fields: Any) -> str:
        """Give the model that answers."""
        return (await self.ask(model, messages, **fields))["x-capstan-model"]


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    """Three upstreams: a, b and c."""
    async with open_fleet(tmp_path) as found:
        yield found


@asynccontextmanager
async def open_fleet(tmp_path: Path, **settings: Any) -> AsyncIterator[Fleet]:
    """Start three upstreams and a gateway with these settings."""
    async with AsyncExitStack() as stack:
        upstreams = {name: await stack.enter_async_context(FakeUpstream()) for name in "abc"}
        gateway = await stack.enter_async_context(running_gateway(tmp_path, **settings))
        client = await stack.enter_async_context(gateway.client())
        yield Fleet(gateway, client, upstreams)


async def fails(_: Received, wire: Wire) -> None:
    """Answer with 500."""
    await wire.json({"error": {"message": "no"}}, 500)


async def test_auto_takes_the_cheapest_that_can(fleet: Fleet) -> None:
    """`auto` is any model that fits: the cheapest that does. Headers say which, how, for how much."""
    await fleet.configure(
        a={"price": price(1)},
        b={"price": price(5), "capabilities": (Capability.VISION,)},
        c={"price": price(9), "capabilities": (Capability.VISION, Capability.TOOLS)},
    )
    headers = await fleet.ask("auto")
    assert headers["x-capstan-model"] == "a"
    assert headers["x-capstan-route"] == "cheapest"
    assert float(headers["x-capstan-cost"]) == pytest.approx(7e-6)
    assert await fleet.who("auto", PICTURE) == "b"
    assert await fleet.who("auto", PICTURE, tools=TOOLS) == "c"
    assert fleet.gateway.metric("llm_route_decisions_total", route_model="auto", model="a", strategy="cheapest") == 1
    assert fleet.gateway.metric("llm_requests_total", model="auto", status="200") == 3
    assert fleet.gateway.metric("llm_tokens_total", model="a", direction="output") == 2


async def test_limits_are_filters(fleet: Fleet) -> None:
    """A prompt or an answer that is too long for a model goes to one with more room."""
    await fleet.configure(
        a={"price": price(1), "contextWindow": 1000, "maxOutputTokens": 100},
        b={"price": price(5), "contextWindow": 100_000, "maxOutputTokens": 5000},
        c={"price": price(9)},
    )
    long: Any = [{"role": "user", "content": "x" * 20_000}]
    assert await fleet.who("auto") == "a"
    assert await fleet.who("auto", long) == "b"
    assert await fleet.who("auto", max_tokens=1000) == "b"
    assert await fleet.who("auto", max_tokens=8000) == "c"


async def test_the_filter_that_emptied_the_list_is_named(fleet: Fleet) -> None:
    """When no model fits, the error says how many there are and what they cannot do."""
    await fleet.configure(a={"capabilities": (Capability.TOOLS,)})
    with pytest.raises(BadRequestError, match="no model can answer: 3 models serve chat, 0 of them can do vision") as e:
        await fleet.who("auto", PICTURE)
    assert e.value.code == "no_model_fits"
    assert e.value.param == "model"
    with pytest.raises(BadRequestError, match="0 models serve embed"):
        await fleet.client.embeddings.create(model="auto", input="x")


async def test_auto_does_not_mix_vectors(fleet: Fleet) -> None:
    """With one embedding model `auto` is that one; with two the client has to say which."""
    await fleet.configure(a={"task": Task.EMBED})
    raw = await fleet.client.embeddings.with_raw_response.create(model="auto", input="x", encoding_format="float")
    assert raw.headers["x-capstan-model"] == "a"
    await fleet.configure(a={"task": Task.EMBED}, b={"task": Task.EMBED})
    with pytest.raises(BadRequestError, match="name one of a, b"):
        await fleet.client.embeddings.create(model="auto", input="x")


async def test_virtual_models_are_listed(fleet: Fleet) -> None:
    """/v1/models has routers and `auto`; a model that is called auto takes the place of the built-in one."""
    await fleet.configure(router("any", member("a")))
    assert [model.id async for model in fleet.client.models.list()] == ["a", "any", "auto", "b", "c"]
    assert (await fleet.client.models.retrieve("auto")).owned_by == "capstan"
    await fleet.configure(router("any", member("a"), servedName="auto"))
    assert await fleet.who("auto") == "a"


async def test_auto_is_nothing_without_models(fleet: Fleet) -> None:
    """A gateway without models has no `auto` either."""
    await fleet.gateway.configure()
    with pytest.raises(NotFoundError):
        await fleet.ask("auto")


async def test_weights_are_exact_without_users(fleet: Fleet) -> None:
    """A canary gets exactly its share of requests; a member of weight 0 gets none, not even as a fallback."""
    members = (member("a", weight=3), member("b", weight=1), member("c", weight=0))
    await fleet.configure(router("canary", *members, strategy=Strategy.WEIGHTED))
    assert Counter([await fleet.who("canary") for _ in range(40)]) == {"a": 30, "b": 10}
    fleet.upstreams["a"].respond = fails
    fleet.upstreams["b"].respond = fails
    with pytest.raises(InternalServerError):
        await fleet.ask("canary")
    assert not fleet.upstreams["c"].requests


@pytest.mark.parametrize(
    ("sticky", "fields"),
    [
        (StickyBy.USER, {"user": "{}"}),
        (StickyBy.USER, {"safety_identifier": "{}"}),
        (StickyBy.SESSION, {"extra_headers": {"x-session-id": "{}"}}),
    ],
)
async def test_who_is_known_keeps_a_member(fleet: Fleet, sticky: StickyBy, fields: dict[str, Any]) -> None:
    """A user, or a session, gets the same member each time; different ones are spread over all."""
    members = (member("a", weight=50), member("b", weight=50))
    await fleet.configure(router("canary", *members, strategy=Strategy.WEIGHTED, stickyBy=sticky))

    def of(who: str) -> dict[str, Any]:
        return {name: dict.fromkeys(value, who) if isinstance(value, dict) else who for name, value in fields.items()}

    first = {who: await fleet.who("canary", **of(who)) for who in map(str, range(12))}
    assert {who: await fleet.who("canary", **of(who)) for who in first} == first
    assert set(first.values()) == {"a", "b"}


async def test_priorities_and_what_stands_by(fleet: Fleet) -> None:
    """The first priority answers; when it fails, the next does, before the first byte, also for streams."""
    members = (member("a", priority=1), member("b", priority=0), member("c", priority=2))
    await fleet.configure(router("first", *members, strategy=Strategy.PRIORITY))
    assert await fleet.who("first") == "b"
    fleet.upstreams["b"].respond = fails
    headers = await fleet.ask("first")
    assert headers["x-capstan-model"] == "a"
    assert headers["x-capstan-route"] == "priority; fallback"
    stream = await fleet.client.chat.completions.create(model="first", messages=MESSAGES, stream=True)
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello!"
    assert {chunk.model for chunk in chunks} == {"a"}


async def test_unhealthy_models_come_last(fleet: Fleet) -> None:
    """A model whose endpoints are left alone is not asked, as long as another one is well."""
    await fleet.configure(router("first", member("a", priority=0), member("b", priority=1), strategy=Strategy.PRIORITY))
    fleet.upstreams["a"].respond = fails
    for _ in range(3):
        await fleet.ask("first")
    asked = len(fleet.upstreams["a"].requests)
    headers = await fleet.ask("first")
    assert headers["x-gateway-attempts"] == "1"
    assert headers["x-capstan-model"] == "b"
    assert len(fleet.upstreams["a"].requests) == asked


async def test_the_fastest_is_measured(fleet: Fleet) -> None:
    """The model that begins to answer first gets the requests, but the others are looked at now and then."""
    await fleet.configure(router("fast", member("a"), member("b"), strategy=Strategy.FASTEST))
    memory = fleet.gateway.gateway.deps.memory
    memory.observe("test/a", 30.0, stream=False)
    memory.observe("test/b", 10.0, stream=False)
    counted = Counter([await fleet.who("fast") for _ in range(10)])
    assert counted == {"b": 9, "a": 1}
    assert memory.speed("test/b", stream=False) < 10.0  # type: ignore[operator]


async def test_a_context_length_error_goes_to_a_larger_window_only(fleet: Fleet) -> None:
    """Of the members only one with a larger window is asked again; without one the error is the answer."""

    async def too_long(_: Received, wire: Wire) -> None:
        await wire.json({"error": {"message": "maximum context length is 10", "code": 400}}, 400)

    members = (member("a", priority=0), member("b", priority=1), member("c", priority=2))
    windows = {"a": 1000, "b": 1000, "c": 2000}
    fields = {name: {"contextWindow": window} for name, window in windows.items()}
    await fleet.configure(router("first", *members, strategy=Strategy.PRIORITY), **fields)
    fleet.upstreams["a"].respond = too_long
    assert await fleet.who("first") == "c"
    assert not fleet.upstreams["b"].requests
    fleet.upstreams["c"].respond = too_long
    with pytest.raises(BadRequestError) as error:
        await fleet.ask("first")
    assert error.value.code == "context_length_exceeded"


async def test_a_guards_block_is_never_routed_around(fleet: Fleet) -> None:
    """When an engine refuses a request for its content, no other member is asked."""

    async def blocked(_: Received, wire: Wire) -> None:
        await wire.json({"error": {"message": "blocked", "code": "content_filter"}}, 400)

    await fleet.configure(router("first", member("a", priority=0), member("b", priority=1), strategy=Strategy.PRIORITY))
    fleet.upstreams["a"].respond = blocked
    with pytest.raises(BadRequestError) as error:
        await fleet.ask("first")
    assert error.value.code == "content_filter"
    assert not fleet.upstreams["b"].requests


async def test_nothing_ready_is_said(tmp_path: Path) -> None:
    """A router whose members have no endpoint waits as long as a model does, then says that none is ready."""
    async with running_gateway(tmp_path, endpoint_wait_seconds=0.05) as gateway, gateway.client() as client:
        await gateway.configure(entry("a"), entry("b"), router("any", member("a"), member("b")))
        with pytest.raises(InternalServerError, match="2 models serve chat, 0 of them are ready") as error:
            await client.chat.completions.create(model="any", messages=MESSAGES)
        assert error.value.status_code == 503
        assert error.value.response.headers["retry-after"]


async def test_a_member_without_weight_hides_no_other(fleet: Fleet, tmp_path: Path) -> None:
    """When the member with weight is down, that is a passing trouble, although one without weight is ready."""
    async with running_gateway(tmp_path, endpoint_wait_seconds=0.05) as gateway, gateway.client() as client:
        await gateway.configure(
            entry("a"),
            entry("b", fleet.upstreams["b"].url),
            router("split", member("a", weight=100), member("b", weight=0), strategy=Strategy.WEIGHTED),
        )
        with pytest.raises(InternalServerError) as error:
            await client.chat.completions.create(model="split", messages=MESSAGES)
        assert error.value.status_code == 503
    assert not fleet.upstreams["b"].requests


async def test_a_fallback_may_be_a_router(fleet: Fleet) -> None:
    """A model's fallback can be virtual; then one of its members answers."""
    models = [entry(name, one.url) for name, one in fleet.upstreams.items() if name != "a"]
    first = entry("a", fleet.upstreams["a"].url, fallbacks=("any",))
    await fleet.gateway.configure(first, *models, router("any", member("b"), member("c")))
    fleet.upstreams["a"].respond = fails
    assert await fleet.who("a") == "b"


async def test_a_fallback_that_cannot_take_the_request_changes_nothing(fleet: Fleet) -> None:
    """A router of which no member fits is no fallback: the model that was asked for answers, or says what is wrong."""
    picture: dict[str, Any] = {"capabilities": (Capability.VISION,)}
    first = entry("a", fleet.upstreams["a"].url, fallbacks=("any",), **picture)
    await fleet.gateway.configure(first, entry("b", fleet.upstreams["b"].url), router("any", member("b")))
    assert await fleet.who("a", PICTURE) == "a"
    fleet.upstreams["a"].respond = fails
    with pytest.raises(InternalServerError, match="the model's engine failed"):
        await fleet.ask("a", PICTURE)
    assert not fleet.upstreams["b"].requests


async def test_a_fallback_takes_no_turns_while_it_is_not_needed(fleet: Fleet) -> None:
    """The shares of a router are those of the requests that it gets, whoever has it for a fallback."""
    models = [entry(name, one.url) for name, one in fleet.upstreams.items() if name != "a"]
    first = entry("a", fleet.upstreams["a"].url, fallbacks=("split",))
    split = router("split", member("b"), member("c"), strategy=Strategy.WEIGHTED)
    await fleet.gateway.configure(first, *models, split)
    answered = Counter[str]()
    for _ in range(4):
        answered[await fleet.who("split")] += 1
        assert await fleet.who("a") == "a"
    assert answered == {"b": 2, "c": 2}
    fleet.upstreams["a"].respond = fails
    for _ in range(2):
        answered[await fleet.who("a")] += 1
    assert answered == {"b": 3, "c": 3}


async def test_a_router_may_have_a_cascade(fleet: Fleet) -> None:
    """A member of a router may be a cascade; the header tells both."""
    cascade = entry("steps", backend=CascadeBackend(members=("test/a", "test/b")))
    await fleet.configure(cascade, router("any", member("steps")))
    headers = await fleet.ask("any")
    assert headers["x-capstan-model"] == "a"
    assert headers["x-capstan-route"] == "cheapest; cascade; accepted=1; score=1.00"


async def test_a_reload_keeps_the_turns(fleet: Fleet) -> None:
    """A new config does not begin the shares anew; models that are gone are forgotten."""
    members = (member("a", weight=2), member("b", weight=1))
    turns = []
    for number in range(6):
        await fleet.configure(router("canary", *members, strategy=Strategy.WEIGHTED, generation=number + 1))
        turns.append(await fleet.who("canary"))
    assert Counter(turns) == {"a": 4, "b": 2}
    await fleet.configure()
    await eventually(
        lambda: (
            fleet.gateway.metric("llm_route_decisions_total", route_model="canary", model="a", strategy="weighted") == 0
        ),
        what="a gone route",
    )


async def test_other_dialects_are_routed(fleet: Fleet) -> None:
    """A request to /v1/responses for `auto` is answered in its dialect, with the same headers."""
    await fleet.configure(a={"price": price(1)})
    raw = await fleet.client.responses.with_raw_response.create(model="auto", input="Hello")
    assert raw.headers["x-capstan-model"] == "a"
    assert raw.parse().output_text == "Hello there"
