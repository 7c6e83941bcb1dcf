"""Hits by meaning, measured while they are given: a tier that is wrong too often turns itself off, and says so."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from capstan_contract.caches import CacheBody, CacheCounts, SemanticTier, cache_entry
from capstan_contract.config import ModelEntry, Price
from capstan_contract.limits import LimitRule, Mode, Per, RateLimitBody, Unit, rate_limit_entry
from capstan_gateway.caches.port import Alike, CacheKey, Entry, Found, Tier
from capstan_gateway.caches.semantic.evidence import LEAST_SAMPLES
from capstan_gateway.pipeline.caches import alike, live
from fakes.openai_upstream import FakeUpstream, Received, Wire, completion
from support.cached import ADMIN, admin_key_file
from support.gateway import RunningGateway, entry, running_gateway
from support.redis_server import redis_server
from support.wait import eventually

ID = "CachePolicy/t/c"
CHAT = "/v1/chat/completions"
SIMILARITY = 0.97
ANSWERS = {"France": "Paris is its capital.", "Ghana": "It is governed from Accra, on the Gulf of Guinea."}


class Anything:
    """Takes everything for the same question, as a tier does whose threshold is far too low; `port.AlikeEntries`."""

    def __init__(self) -> None:
        self.entries: dict[CacheKey, Entry] = {}

    async def find(self, _: Alike) -> Found | None:
        """Give what was put last."""
        for key, kept in reversed(self.entries.items()):
            return Found(kept, Tier.SEMANTIC, key, SIMILARITY)
        return None

    async def put(self, _: Alike, key: CacheKey, entry: Entry) -> None:
        """Keep it."""
        self.entries[key] = entry

    def drop(self, key: CacheKey) -> bool:
        """Forget it."""
        return self.entries.pop(key, None) is not None

    def keys(self) -> list[CacheKey]:
        """Give all."""
        return list(self.entries)

    def close(self) -> None:
        """Nothing is to be ended."""


def asked_for(received: Received) -> str:
    """Give what the user says last."""
    return str(received.document["messages"][-1]["content"])


async def right(received: Received, wire: Wire) -> None:
    """Say the same to all, in other words each time."""
    number = len(asked_for(received)) % 2
    text = ("You can return it within 30 days.", "It may be returned for 30 days after the purchase.")[number]
    await wire.json(completion(received.document["model"], text))


async def wrong(received: Received, wire: Wire) -> None:
    """Say something else to each."""
    number = "".join(letter for letter in asked_for(received) if letter.isdigit())
    await wire.json(completion(received.document["model"], f"The number that was asked for is {number}."))


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """An engine."""
    async with FakeUpstream(wrong) as fake:
        yield fake


def body(**fields: Any) -> CacheBody:
    """Give a policy that compares every hit by meaning."""
    tier = {"sampleRate": 1.0, **fields.pop("semantic", {})}
    return CacheBody(semantic=SemanticTier(**tier), **fields)


def cached(upstream: FakeUpstream) -> ModelEntry:
    """Give a model with the policy on it."""
    return entry("chat", upstream.url, policies=(ID,))


class Rig:
    """A gateway whose tier finds anything, and one client."""

    def __init__(self, gateway: RunningGateway, client: httpx2.AsyncClient) -> None:
        self.gateway, self.client = gateway, client
        self.alike = Anything()

    def take_anything(self) -> "Rig":
        """Have the tier find anything."""
        for _, room in self.gateway.gateway.caches.rooms():
            object.__setattr__(room, "alike", self.alike)
        return self

    async def ask(self, number: int | str, **fields: Any) -> httpx2.Response:
        """Ask a question of its own."""
        text = number if isinstance(number, str) else f"what is number {number}?"
        messages = [{"role": "user", "content": text}]
        said = await self.client.post(CHAT, json={"model": "chat", "messages": messages, **fields})
        assert said.status_code == 200, said.text
        return said

    @property
    def counts(self) -> CacheCounts:
        """What the gateway says of the policy."""
        return self.gateway.gateway.caches.report().policies[ID]

    async def compared(self, number: int) -> None:
        """Wait until so many hits were compared."""
        await eventually(lambda: self.counts.sampled >= number, what=f"{number} comparisons")

    def samples(self, outcome: str) -> float:
        """Give how many comparisons came to this."""
        return self.gateway.metric("llm_cache_semantic_samples_total", policy="t/c", outcome=outcome)


Start = Callable[..., Any]


@pytest.fixture
async def rig(tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[Callable[..., Awaitable[Rig]]]:
    """Start it with a policy."""
    async with AsyncExitStack() as stack:

        async def start(
            *models: ModelEntry, policy: CacheBody | None = None, folder: str = "a", real: bool = False, **settings: Any
        ) -> Rig:
            (tmp_path / folder).mkdir()
            running = running_gateway(
                tmp_path / folder,
                cached(upstream),
                *models,
                policies=(cache_entry("t", "c", policy or body()),),
                **settings,
            )
            gateway = await stack.enter_async_context(running)
            client = await stack.enter_async_context(httpx2.AsyncClient(base_url=gateway.url, timeout=60))
            made = Rig(gateway, client)
            return made if real else made.take_anything()

        yield start


async def test_a_tier_whose_hits_are_wrong_turns_itself_off_and_says_so(rig: Any, upstream: FakeUpstream) -> None:
    """Each hit is another answer than the model gives: the entry is evicted, and after as many as are believed the tier
    gives nothing any more. It says so in its report and its metrics, with an interval."""
    one: Rig = await rig()
    words = []
    for number in range(40):
        said = await one.ask(number)
        words.append(said.headers["x-cache"])
        if words[-1] == "hit-semantic":
            assert said.headers["x-cache-similarity"] == "0.970"
            await one.compared(words.count("hit-semantic"))
    assert words.count("hit-semantic") == LEAST_SAMPLES
    assert words[-20:] == ["miss"] * 20
    counts = one.counts
    assert (counts.sampled, counts.wrong, counts.semanticOff) == (LEAST_SAMPLES, LEAST_SAMPLES, True)
    assert one.samples("wrong") == LEAST_SAMPLES
    rate = [one.gateway.metric("llm_cache_semantic_false_hit_rate", policy="t/c", bound=b) for b in ("low", "mid")]
    assert 0.5 < rate[0] < rate[1] == 1.0
    assert one.gateway.metric("llm_cache_semantic_off", policy="t/c") == 1
    assert len(upstream.requests) == 40  # Each question once: as a miss, or to compare.


async def test_a_tier_whose_hits_are_right_stays_on(rig: Any, upstream: FakeUpstream) -> None:
    """The model would have said the same in other words: nothing is evicted, and the rate's upper bound falls."""
    upstream.respond = right
    one: Rig = await rig()
    words = [(await one.ask(number)).headers["x-cache"] for number in range(12)]
    assert words == ["miss"] + ["hit-semantic"] * 11
    await one.compared(11)
    assert (one.counts.wrong, one.counts.semanticOff) == (0, False)
    assert one.samples("right") == 11
    assert len(upstream.requests) == 12


@pytest.mark.redis
async def test_replicas_turn_it_off_together(rig: Any, tmp_path: Path) -> None:
    """With Redis what one replica finds is counted for all: the other one, which has seen no hit, is off as well, says
    so in its report, and gives nothing by meaning; until a person says otherwise at either of them."""
    with redis_server(tmp_path) as server:
        settings = {"redis_url": server.url, "redis_limit_seconds": 10.0}
        one: Rig = await rig(**settings)
        other: Rig = await rig(folder="b", **settings)
        hits, number = 0, 0
        while not one.counts.semanticOff:
            hits += (await one.ask(number)).headers["x-cache"] == "hit-semantic"
            await one.compared(hits)
            number += 1
        await eventually(lambda: other.counts.semanticOff, what="the other replica hears of it")
        assert (other.counts.sampled, other.counts.wrong) == (LEAST_SAMPLES, LEAST_SAMPLES)
        assert [(await other.ask(900 + turn)).headers["x-cache"] for turn in range(3)] == ["miss"] * 3
        assert await other.gateway.gateway.caches.reset(ID) is True
        await eventually(lambda: not one.counts.semanticOff, what="the reset is heard")


async def test_what_a_hit_costs_to_compare_is_on_no_bill(rig: Any, upstream: FakeUpstream) -> None:
    """The share that is not drawn is not asked; the one that is costs the policy, and no client."""
    one: Rig = await rig(policy=body(semantic={"sampleRate": 0.0}))
    words = [(await one.ask(number)).headers["x-cache"] for number in range(5)]
    assert words == ["miss"] + ["hit-semantic"] * 4
    assert len(upstream.requests) == 1
    assert one.counts.sampled == 0


async def test_a_stream_is_compared_as_well(rig: Any, upstream: FakeUpstream) -> None:
    """A hit that is replayed as a stream is compared with an answer in one piece; what was wrong is evicted, so that
    also who asks the very same is given another one."""
    one: Rig = await rig()
    await one.ask(1)
    said = await one.ask(2, stream=True)
    assert said.headers["x-cache"] == "hit-semantic"
    assert said.text.endswith("data: [DONE]\n\n")
    await one.compared(1)
    assert one.counts.wrong == 1
    assert upstream.requests[-1].document.get("stream") is not True
    assert (await one.ask(1)).headers["x-cache"] == "miss"


async def test_a_judge_decides_where_one_is_named(rig: Any, upstream: FakeUpstream) -> None:
    """What the judge takes for the same is, whatever the words; it is shown both answers as data, and no client's
    request names it."""

    async def judging(received: Received, wire: Wire) -> None:
        if received.document["model"] == "judge":
            await wire.json(completion("judge", '{"same": true}'))
        else:
            await wrong(received, wire)

    upstream.respond = judging
    judge = entry("judge", upstream.url)
    one: Rig = await rig(judge, policy=body(semantic={"judge": "test/judge"}))
    for number in range(8):
        await one.ask(number)
    await one.compared(7)
    assert (one.counts.wrong, one.counts.semanticOff) == (0, False)
    shown = next(received for received in upstream.requests if received.document["model"] == "judge")
    assert "what is number 1?" in asked_for(shown)
    assert asked_for(shown).count("The number that was asked for is") == 2


async def test_a_judge_that_cannot_tell_counts_as_neither(rig: Any, upstream: FakeUpstream) -> None:
    """A verdict in another form than was asked for is none."""

    async def babbling(received: Received, wire: Wire) -> None:
        if received.document["model"] == "judge":
            await wire.json(completion("judge", "They are the same, I think."))
        else:
            await wrong(received, wire)

    upstream.respond = babbling
    one: Rig = await rig(entry("judge", upstream.url), policy=body(semantic={"judge": "test/judge"}))
    for number in range(4):
        await one.ask(number)
    await eventually(lambda: one.samples("undecided") == 3)
    assert one.counts.sampled == 0


async def test_shadow_compares_for_nothing(rig: Any, upstream: FakeUpstream) -> None:
    """In mode Shadow the model answers each request, and what would have been a hit is compared with that: how often it
    would have been wrong is known, and not one more request was sent."""
    one: Rig = await rig(policy=body(mode=Mode.SHADOW))
    for number in range(8):
        said = await one.ask(number)
        assert "x-cache" not in said.headers
        await eventually(lambda: one.counts.misses + one.counts.semanticHits == number + 1)  # noqa: B023
    await one.compared(4)
    await asyncio.sleep(0)
    assert len(upstream.requests) == 8
    assert one.counts.wrong == one.counts.sampled == one.counts.semanticHits


async def test_a_model_that_fails_says_nothing_about_a_hit(rig: Any, upstream: FakeUpstream) -> None:
    """A comparison for which the model cannot be asked is counted as failed, and as neither right nor wrong."""
    one: Rig = await rig()
    await one.ask(0)

    async def failing(received: Received, wire: Wire) -> None:
        await wire.json({"error": {"message": "no", "type": "server_error"}}, 500)

    upstream.respond = failing
    assert (await one.ask(1)).headers["x-cache"] == "hit-semantic"
    await eventually(lambda: one.samples("failed") == 1)
    assert one.counts.sampled == 0


async def test_a_person_turns_it_on_again(rig: Any, tmp_path: Path) -> None:
    """A tier that has turned itself off is on again when somebody with the admin credential says so, and measures
    anew; a policy that is not there, or compares nothing, is an error that says so."""
    one: Rig = await rig(admin_key_file=admin_key_file(tmp_path))
    hits, number = 0, 0
    while not one.counts.semanticOff:
        hits += (await one.ask(number)).headers["x-cache"] == "hit-semantic"
        await one.compared(hits)
        number += 1
    page = "/admin/cache/reset"
    assert (await one.client.post(page, json={"policy": "t/c"})).status_code == 401
    for body, status in (({"policy": "t/x"}, 404), ({"policy": "c"}, 400), ({"policies": "t/c"}, 400), ([], 400)):
        said = await one.client.post(page, json=body, headers=ADMIN)
        assert said.status_code == status, said.text
    said = await one.client.post(page, json={"policy": "t/c"}, headers=ADMIN)
    assert said.json()["everywhere"] is False
    assert (one.counts.sampled, one.counts.semanticOff) == (0, False)
    one.alike.entries.clear()
    words = [(await one.ask(100 + number)).headers["x-cache"] for number in range(2)]
    assert words == ["miss", "hit-semantic"]


async def test_a_report_asks_for_more_likeness_and_leaves_the_rate_alone(rig: Any, upstream: FakeUpstream) -> None:
    """A hit by meaning that a client reports is evicted; when the same is kept again, as alike is not alike enough. The
    rate is of hits that were chosen by chance, and has nothing of it."""
    one: Rig = await rig(policy=body(semantic={"sampleRate": 0.0}))
    await one.ask(0)
    hit = await one.ask(1)
    assert hit.headers["x-cache"] == "hit-semantic"
    report = {"cache_key": hit.headers["x-cache-key"], "wrong": True}
    assert (await one.client.post("/v1/feedback", json=report)).status_code == 200
    assert (await one.ask(0)).headers["x-cache"] == "miss"
    assert (await one.ask(1)).headers["x-cache"] == "miss"
    assert (one.counts.sampled, one.counts.wrong) == (0, 0)


async def test_comparing_takes_nothing_of_the_limits_of_who_asked(tmp_path: Path, upstream: FakeUpstream) -> None:
    """Each request is one to its limits, whether its answer is compared behind its back or not; and what the model was
    asked for that is the policy's own cost."""
    upstream.respond = right
    rule = LimitRule(name="few", per=Per.KEY, unit=Unit.REQUESTS, amount=6, windowMillis=86_400_000, burst=6)
    few = rate_limit_entry("t", "few", RateLimitBody(limits=(rule,)))
    price = Price(inputPerMillion=1.0, outputPerMillion=1.0)
    model = entry("chat", upstream.url, policies=(ID, few.id), price=price)
    async with (
        running_gateway(tmp_path, model, policies=(cache_entry("t", "c", body()), few)) as gateway,
        httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):
        one = Rig(gateway, client).take_anything()
        said = []
        for number in range(6):
            said.append(await one.ask(number))
            await one.compared(number)
        cost = one.gateway.metric("llm_cache_semantic_sampling_cost_dollars", policy="t/c")
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in said] == ["5", "4", "3", "2", "1", "0"]
    assert cost > 0
    assert len(upstream.requests) == 6


async def test_what_has_no_room_is_dropped_and_counted(
    rig: Any, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many are compared at once as may be; the client of the next one has its answer all the same."""
    monkeypatch.setattr(live, "MOST_AT_ONCE", 0)
    one: Rig = await rig()
    assert [(await one.ask(number)).headers["x-cache"] for number in range(2)] == ["miss", "hit-semantic"]
    await eventually(lambda: one.samples("dropped") == 1)
    assert len(upstream.requests) == 1


@pytest.mark.redis
async def test_who_cannot_ask_whether_it_is_off_gives_nothing(rig: Any, tmp_path: Path) -> None:
    """A replica that begins while Redis is away may not know that the tier is off: it asks the model."""
    with redis_server(tmp_path) as server:
        url = server.url
    one: Rig = await rig(redis_url=url, redis_limit_seconds=0.2)
    assert [(await one.ask(number)).headers["x-cache"] for number in range(3)] == ["miss"] * 3


async def test_a_policy_that_changes_how_it_finds_hits_measures_anew(rig: Any, upstream: FakeUpstream) -> None:
    """Off stays off while something else of the policy changes; any change of how hits are found begins anew, and
    without such hits nothing is said of them any more."""
    one: Rig = await rig()
    hits, number = 0, 0
    while not one.counts.semanticOff:
        hits += (await one.ask(number)).headers["x-cache"] == "hit-semantic"
        await one.compared(hits)
        number += 1
    model = cached(upstream)
    await one.gateway.configure(model, policies=(cache_entry("t", "c", body(ttlSeconds=60)),))
    assert (one.counts.semanticOff, one.counts.sampled) == (True, hits)
    await one.gateway.configure(model, policies=(cache_entry("t", "c", body(semantic={"topK": 3})),))
    assert (one.counts.semanticOff, one.counts.sampled) == (False, 0)
    assert one.gateway.metric("llm_cache_semantic_off", policy="t/c") == 0
    await one.gateway.configure(model, policies=(cache_entry("t", "c", CacheBody()),))
    assert one.gateway.gateway.metrics.cache_false_hits.cells == {}


PARAPHRASES = (
    "How do I reset my password?", "How can I reset my password?", "how could i reset my password",
    "How do you reset my password?", "How can I reset my password please?",
)  # fmt: skip
PIZZAS = tuple(
    f"Which {kind} does {what} pizza dough need{end}"
    for kind in ("ingredients", "flour")
    for what in ("a good", "a bad", "a thin", "a thick", "a sweet", "a fast")
    for end in ("?", " today?")
)


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine takes its time to load the weights, and to compare."""
    monkeypatch.setattr(alike, "FIND_SECONDS", 120.0)
    monkeypatch.setattr(alike, "PUT_SECONDS", 120.0)


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("mode", list(Mode))
async def test_the_tier_itself_turns_off_where_it_was_made_too_loose(
    mode: Mode, rig: Any, upstream: FakeUpstream
) -> None:
    """With rules off and a similarity that takes anything for the same, the tier's own hits are wrong: it is off after
    few, whether it gives them or only looks on, and who only looks on asked for nothing more than its clients did."""
    told: dict[str, int] = {}

    async def numbered(received: Received, wire: Wire) -> None:
        number = told.setdefault(asked_for(received), 100 + 17 * len(told))
        await wire.json(completion(received.document["model"], f"It needs {number} grams."))

    upstream.respond = numbered
    one: Rig = await rig(real=True, policy=body(mode=mode, semantic={"similarity": 0.3, "verify": False}))
    seen = 0
    for text in PIZZAS:
        await one.ask(text)
        seen += 1
        if mode is Mode.SHADOW:
            await eventually(lambda: one.counts.misses + one.counts.semanticHits >= seen)  # noqa: B023
        await eventually(lambda: one.counts.sampled >= min(one.counts.semanticHits, LEAST_SAMPLES))
        if one.counts.semanticOff:
            break
    counts = one.counts
    assert counts.semanticOff
    assert counts.wrong == counts.sampled >= LEAST_SAMPLES
    assert mode is Mode.ENFORCE or len(upstream.requests) == seen


@pytest.mark.usefixtures("patience")
async def test_paraphrases_are_right_and_the_tier_stays_on(rig: Any, upstream: FakeUpstream) -> None:
    """As the tier comes it finds other wordings of a question, and the model would have said the same."""
    upstream.respond = right
    one: Rig = await rig(real=True)
    words = [(await one.ask(text)).headers["x-cache"] for text in PARAPHRASES]
    hits = words.count("hit-semantic")
    assert hits >= 2
    await one.compared(hits)
    assert (one.counts.sampled, one.counts.wrong, one.counts.semanticOff) == (hits, 0, False)
