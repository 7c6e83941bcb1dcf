"""A revision that is tried beside the stable one: its share, whose requests it gets, and what its failures become."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import APIError, AsyncOpenAI, BadRequestError

from capstan_contract.caches import CacheBody, cache_entry
from capstan_contract.config import (
    Canary,
    CascadeBackend,
    ModelEntry,
    PolicyEntry,
    Price,
    RouterBackend,
    RouterMember,
    StaticBackend,
    StickyBy,
    Strategy,
    Task,
)
from capstan_contract.names import CANARY, STABLE
from capstan_contract.tracks import TRACKS_PATH, Counters, Quantity, read_tracks, tracks_of
from capstan_gateway.pipeline.call import call_model
from fakes.openai_upstream import FakeUpstream, Received, Wire, completion
from support.gateway import RunningGateway, entry, running_gateway
from support.wait import eventually

MESSAGES: Any = [{"role": "user", "content": "Hello"}]
EPOCH = "r2-1"
TRACK = "x-capstan-track"
ADMIN = "the-admin-key-of-this-test"
CHUNK = (
    b'data: {"id":"x","object":"chat.completion.chunk",'
    b'"choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":%b}]}\n\n'
)


class Pair:
    """A gateway before a model of two revisions, each with an engine of its own."""

    def __init__(
        self, gateway: RunningGateway, client: AsyncOpenAI, stable: FakeUpstream, canary: FakeUpstream
    ) -> None:
        self.gateway = gateway
        self.client = client
        self.stable = stable
        self.canary = canary

    def model(
        self, weight: float = 0, *, epoch: str = EPOCH, sticky_by: StickyBy = StickyBy.USER, **fields: Any
    ) -> ModelEntry:
        """Give the model."""
        backend = StaticBackend(urls=(self.canary.url,))
        tried = Canary(id=epoch, revision="r2", weight=weight, stickyBy=sticky_by, backend=backend)
        return entry("m", self.stable.url, **{"revision": "r1", "canary": tried, **fields})

    async def ask(self, model: str = "m", messages: Any = MESSAGES, **fields: Any) -> str:
        """Give the track that answers a chat."""
        raw = await self.client.chat.completions.with_raw_response.create(model=model, messages=messages, **fields)
        return raw.headers[TRACK]

    async def shares(self, count: int, **fields: Any) -> Counter[str]:
        """Ask so often, some at a time, and count who answers."""
        asked: Counter[str] = Counter()
        for start in range(0, count, 20):
            asked.update(await asyncio.gather(*(self.ask(**fields) for _ in range(min(20, count - start)))))
        return asked

    async def counted(self, epoch: str = EPOCH) -> dict[str, Counters]:
        """Read what was counted of both tracks."""
        await self.gateway.settled()
        headers = {"authorization": f"Bearer {ADMIN}"}
        async with httpx.AsyncClient(timeout=60) as http:
            page = await http.get(f"{self.gateway.url}{TRACKS_PATH}", headers=headers)
        assert page.status_code == 200
        return tracks_of([read_tracks(page.content)], "test/m", epoch=epoch)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """Two engines, and a gateway."""
    async with AsyncExitStack() as stack:
        stable, canary = [await stack.enter_async_context(FakeUpstream()) for _ in range(2)]
        key = tmp_path / "admin-key"
        key.write_text(ADMIN)
        gateway = await stack.enter_async_context(running_gateway(tmp_path, admin_key_file=key))
        client = await stack.enter_async_context(gateway.client())
        yield Pair(gateway, client, stable, canary)


async def fails(_: Received, wire: Wire) -> None:
    """Answer with 500."""
    await wire.json({"error": {"message": "no"}}, 500)


async def refuses(_: Received, wire: Wire) -> None:
    """Say that the request is wrong."""
    await wire.json({"error": {"message": "no such template", "type": "invalid_request_error"}}, 400)


async def cuts(_: Received, wire: Wire) -> None:
    """Die before anything is said."""
    wire.reset()


async def breaks_off(_: Received, wire: Wire) -> None:
    """Begin a stream, and die."""
    await wire.stream_head()
    await wire.chunk(CHUNK % (b"Hi", b"null"))
    wire.reset()


# --- the share --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [0, 5, 50, 100])
async def test_requests_of_nobody_are_split_exactly(pair: Pair, weight: float) -> None:
    """Of 200 requests the canary gets its weight's share, off by five at most; with 0 none, with 100 all."""
    await pair.gateway.configure(pair.model(weight))
    asked = await pair.shares(200)
    assert abs(asked[CANARY] - 2 * weight) <= (5 if 0 < weight < 100 else 0)
    assert len(pair.canary.requests) == asked[CANARY]
    assert len(pair.stable.requests) == asked[STABLE]


async def test_users_stay_and_only_come_with_more_weight(pair: Pair) -> None:
    """A user has one revision at each weight, and never leaves the canary while the weight grows."""
    before: set[str] = set()
    for weight in (0, 10, 30, 60, 100, 0):
        await pair.gateway.configure(pair.model(weight))
        users = [f"user-{number}" for number in range(60)]
        first = await asyncio.gather(*(pair.ask(user=user) for user in users))
        assert await asyncio.gather(*(pair.ask(user=user) for user in users)) == first
        drawn = {user for user, track in zip(users, first, strict=True) if track == CANARY}
        assert before <= drawn or weight == 0
        before = drawn
    assert not before


async def test_every_replica_draws_the_same_users(pair: Pair, tmp_path: Path) -> None:
    """Another gateway, or the same one after a restart, gives each user the same revision."""
    await pair.gateway.configure(pair.model(40))
    users = [f"user-{number}" for number in range(40)]
    first = await asyncio.gather(*(pair.ask(user=user) for user in users))
    other = tmp_path / "other"
    other.mkdir()
    async with running_gateway(other, pair.model(40)) as gateway, gateway.client() as client:
        second = Pair(gateway, client, pair.stable, pair.canary)
        assert await asyncio.gather(*(second.ask(user=user) for user in users)) == first
    assert len(set(first)) == 2


async def test_sessions_stay_where_they_are_what_is_kept(pair: Pair) -> None:
    """With `stickyBy: Session` a session has one revision, whatever its user; with None nobody has."""
    await pair.gateway.configure(pair.model(50, sticky_by=StickyBy.SESSION))
    tracks = set()
    for number in range(12):
        header = {"x-session-id": f"session-{number}"}
        found = {await pair.ask(user=f"user-{turn}", extra_headers=header) for turn in range(3)}
        assert len(found) == 1
        tracks |= found
    assert tracks == {STABLE, CANARY}
    await pair.gateway.configure(pair.model(50, sticky_by=StickyBy.NONE))
    assert set(await asyncio.gather(*(pair.ask(user="one") for _ in range(20)))) == {STABLE, CANARY}


async def test_a_model_without_a_canary_pays_nothing(pair: Pair) -> None:
    """Nothing is told, and nothing counted or chosen, of a model of which no revision is tried."""
    await pair.gateway.configure(pair.model(canary=None))
    raw = await pair.client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES)
    assert TRACK not in raw.headers
    assert await pair.counted() == {}
    runtime = pair.gateway.gateway.current()
    assert runtime is not None
    model = runtime.models["m"]
    assert model.layers == ()
    assert isinstance(model.answer, partial)
    assert model.answer.func is call_model, "nothing is between a request and its model"


# --- every way of a request -------------------------------------------------------------------------------------------


async def test_members_of_virtual_models_and_fallbacks_are_split_too(pair: Pair) -> None:
    """A router, a cascade, `auto` and a model whose fallback it is: none of them leads around the split."""
    router = RouterBackend(strategy=Strategy.WEIGHTED, members=(RouterMember(model="test/m"),))
    await pair.gateway.configure(
        pair.model(100),
        entry("r", backend=router),
        entry("c", backend=CascadeBackend(members=("test/m",))),
        entry("f", auto=False, fallbacks=("m",)),
    )
    for name in ("r", "c", "auto", "f"):
        assert await pair.ask(name) == CANARY, name
    assert pair.gateway.metric("llm_route_decisions_total", route_model="r", model="m", strategy="weighted") == 1
    assert not pair.stable.requests


async def test_a_model_with_fallbacks_is_split_outside_of_them(pair: Pair) -> None:
    """What the canary does not answer the stable revision does, before any fallback is asked."""
    await pair.gateway.configure(pair.model(100, fallbacks=("other",)), entry("other", pair.stable.url))
    assert await pair.ask() == CANARY
    pair.canary.respond = fails
    assert await pair.ask() == STABLE


async def test_all_dialects_are_split(pair: Pair) -> None:
    """Messages, responses and completions come to the revision that chat would come to."""
    await pair.gateway.configure(pair.model(100))
    async with httpx.AsyncClient(base_url=pair.gateway.url, timeout=60) as http:
        bodies: dict[str, dict[str, Any]] = {
            "/v1/messages": {"model": "m", "max_tokens": 5, "messages": MESSAGES},
            "/v1/responses": {"model": "m", "input": "Hello"},
            "/v1/completions": {"model": "m", "prompt": "Hello"},
        }
        for path, body in bodies.items():
            answer = await http.post(path, json=body)
            assert (answer.status_code, answer.headers[TRACK]) == (200, CANARY), (path, answer.text)
    assert not pair.stable.requests


async def test_vectors_are_split_by_user(pair: Pair) -> None:
    """An embedding model is split as any other; who is with one revision gets all vectors of that."""
    await pair.gateway.configure(pair.model(50, task=Task.EMBED))
    for user in ("a", "b", "c", "d", "e", "f"):
        found = set()
        for _ in range(3):
            raw = await pair.client.embeddings.with_raw_response.create(model="m", input="x", user=user)
            found.add(raw.headers[TRACK])
        assert len(found) == 1


# --- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("respond", [fails, cuts, refuses])
@pytest.mark.parametrize("stream", [False, True])
async def test_no_request_fails_by_the_canary(pair: Pair, respond: Any, stream: bool) -> None:
    """Whatever the canary does before its first byte, the stable revision answers, and the canary has failed."""
    pair.canary.respond = respond
    await pair.gateway.configure(pair.model(100))
    for _ in range(5):
        answer = await pair.client.chat.completions.create(model="m", messages=MESSAGES, stream=stream)
        if stream:
            assert [chunk async for chunk in answer]
    await pair.gateway.settled()
    counted = await pair.counted()
    errors = counted[CANARY].of(Quantity.ERROR)
    assert (errors.count, errors.sum) == (5, 5)
    stable = counted[STABLE].of(Quantity.ERROR)
    assert (stable.count, stable.sum) == (5, 0)
    replaced = sum(
        pair.gateway.metric("gateway_canary_replaced_total", model="m", reason=reason)
        for reason in ("unready", "failed", "refused")
    )
    assert replaced == 5


async def test_a_request_that_is_wrong_is_no_error_of_the_canary(pair: Pair) -> None:
    """What both revisions refuse is the client's fault: it is told so, and counts against neither."""
    pair.canary.respond = pair.stable.respond = refuses
    await pair.gateway.configure(pair.model(100))
    with pytest.raises(BadRequestError, match="no such template"):
        await pair.ask()
    counted = await pair.counted()
    assert not counted[CANARY].requests
    assert not counted[STABLE].requests


async def test_a_canary_without_endpoints_takes_nothing_away(pair: Pair) -> None:
    """While none of its pods is ready the stable revision answers, at once, and the canary is said to have failed."""
    tried = Canary(id=EPOCH, revision="r2", weight=100, backend=StaticBackend(urls=()))
    await pair.gateway.configure(pair.model(canary=tried))
    assert await pair.ask() == STABLE
    assert pair.gateway.metric("gateway_canary_replaced_total", model="m", reason="unready") == 1
    assert (await pair.counted())[CANARY].of(Quantity.ERROR).sum == 1


async def test_a_stream_that_breaks_off_is_an_error_of_its_revision(pair: Pair) -> None:
    """Behind the first byte nobody stands in: the client is told as ever, and the canary is blamed."""
    pair.canary.respond = breaks_off
    await pair.gateway.configure(pair.model(100))
    stream = await pair.client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    with pytest.raises(APIError):
        [chunk async for chunk in stream]
    await pair.gateway.settled()
    counted = await pair.counted()
    assert counted[CANARY].of(Quantity.ERROR).sum == 1
    assert not counted[STABLE].requests
    assert not pair.stable.requests


async def test_weight_zero_and_death_under_load_fail_nothing(pair: Pair) -> None:
    """While clients ask without a pause the weight grows, the canary dies, comes back, and is taken to 0: every request
    is answered, and none comes to the canary that begins behind the last config."""
    await pair.gateway.configure(pair.model(50))
    answered: Counter[str] = Counter()
    stop = asyncio.Event()

    async def client() -> None:
        while not stop.is_set():
            answered[await pair.ask()] += 1

    async def more(count: int) -> None:
        goal = sum(answered.values()) + count
        await eventually(lambda: sum(answered.values()) >= goal, what="more answers")

    async with asyncio.TaskGroup() as clients:
        for _ in range(8):
            clients.create_task(client())
        try:
            await more(50)
            pair.canary.respond, answers = cuts, pair.canary.respond
            await more(50)
            pair.canary.respond = answers
            await pair.gateway.configure(pair.model(80))
            await more(50)
            await pair.gateway.configure(pair.model(0))
        finally:
            stop.set()
    came = len(pair.canary.requests)
    assert answered[CANARY]
    assert await pair.shares(40) == {STABLE: 40}
    assert len(pair.canary.requests) == came


async def test_a_promotion_fails_nothing_and_streams_go_on(pair: Pair) -> None:
    """The canary's revision becomes the stable one: a stream that the canary had begun comes to its end."""
    go = asyncio.Event()

    async def slow(_: Received, wire: Wire) -> None:
        await wire.stream_head()
        await wire.chunk(CHUNK % (b"one", b"null"))
        await go.wait()
        await wire.chunk(CHUNK % (b" two", b'"stop"') + b"data: [DONE]\n\n")
        await wire.end()

    pair.canary.respond, answers = slow, pair.canary.respond
    await pair.gateway.configure(pair.model(100))
    stream = await pair.client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    first = await anext(aiter(stream))
    pair.canary.respond = answers
    await pair.gateway.configure(entry("m", pair.canary.url, revision="r2"))
    raw = await pair.client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES)
    assert TRACK not in raw.headers
    go.set()
    rest = [chunk async for chunk in stream]
    said = "".join(one.choices[0].delta.content or "" for one in (first, *rest) if one.choices)
    assert said == "one two"
    assert not pair.stable.requests


# --- what is kept -----------------------------------------------------------------------------------------------------


def caching() -> PolicyEntry:
    """Keep all answers."""
    return cache_entry("test", "all", CacheBody())


async def test_an_answer_of_one_revision_is_never_given_for_the_other(pair: Pair) -> None:
    """Each revision has a cache of its own: what one has said the other is asked for all the same."""
    for upstream, text in ((pair.stable, "from the stable"), (pair.canary, "from the canary")):

        async def says(received: Received, wire: Wire, text: str = text) -> None:
            await wire.json(completion(received.document["model"], text))

        upstream.respond = says
    policy = caching()

    async def said() -> tuple[str, str]:
        raw = await pair.client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES, temperature=0)
        return raw.headers[TRACK], str(raw.parse().choices[0].message.content)

    for weight, expected in ((0, (STABLE, "from the stable")), (100, (CANARY, "from the canary"))):
        for fallbacks in ((), ("other",)):
            model = pair.model(weight, policies=(policy.id,), fallbacks=fallbacks)
            await pair.gateway.configure(model, entry("other", pair.stable.url), policies=[policy])
            assert [await said(), await said()] == [expected, expected]
    assert (len(pair.stable.requests), len(pair.canary.requests)) == (1, 1)
    counted = await pair.counted()
    assert (counted[STABLE].requests, counted[CANARY].requests) == (1, 1)


async def test_a_purge_of_a_model_is_of_both_revisions(pair: Pair) -> None:
    """Whatever revision has said it: what is kept of a model is not given again."""
    policy = caching()
    await pair.gateway.configure(pair.model(100, policies=(policy.id,)), policies=[policy])
    assert [await pair.ask(), await pair.ask()] == [CANARY, CANARY]
    assert len(pair.canary.requests) == 1
    headers = {"authorization": f"Bearer {ADMIN}"}
    async with httpx.AsyncClient(base_url=pair.gateway.url, headers=headers, timeout=60) as http:
        assert (await http.post("/admin/cache/purge", json={"model": "m"})).status_code == 200
    assert await pair.ask() == CANARY
    assert len(pair.canary.requests) == 2


# --- what is counted --------------------------------------------------------------------------------------------------


async def test_times_costs_and_requests_are_counted_by_track(pair: Pair) -> None:
    """Streams have a first token and, where there is more than one, a time between two; costs are the call's."""
    price = Price(inputPerMillion=1000, outputPerMillion=1000)
    await pair.gateway.configure(pair.model(100, price=price))
    for stream in (True, True, False):
        answer = await pair.client.chat.completions.create(model="m", messages=MESSAGES, stream=stream)
        if stream:
            assert [chunk async for chunk in answer]
    await pair.gateway.settled()
    canary = (await pair.counted())[CANARY]
    assert (canary.requests, canary.of(Quantity.ERROR).sum) == (3, 0)
    assert canary.of(Quantity.FIRST_TOKEN).count == 2
    assert canary.of(Quantity.INTER_TOKEN).count == 2
    assert canary.of(Quantity.LATENCY).count == 3
    assert canary.of(Quantity.COST).count == 3
    assert canary.of(Quantity.COST).sum > 0
    assert pair.gateway.metric("gateway_track_requests_total", model="m", track="canary", outcome="answered") == 3


async def test_another_try_counts_from_nothing(pair: Pair) -> None:
    """Counts last as long as the try, whatever becomes of its weight, and no longer."""
    await pair.gateway.configure(pair.model(100))
    await pair.ask()
    await pair.gateway.configure(pair.model(0))
    assert (await pair.counted())[CANARY].requests == 1
    await pair.gateway.configure(pair.model(0, epoch="r3-1"))
    assert await pair.counted() == {}
    assert (await pair.counted("r3-1"))[CANARY].requests == 0
