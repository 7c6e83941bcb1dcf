"""Answers that are sampled: which ones, what is stored of them, and that no request notices."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from capstan_contract.caches import CACHE_KIND
from capstan_contract.config import (
    Canary,
    CascadeBackend,
    CascadeEstimator,
    EstimatorType,
    RouterBackend,
    RouterMember,
    StaticBackend,
)
from capstan_contract.entries import PolicyEntry
from capstan_contract.guards import Action, GuardBody, KeywordsGuard, PiiGuard, Source, guard_entry
from capstan_contract.limits import Mode
from capstan_contract.samples import PLANS, PREFIX, samples_key
from fakes.openai_upstream import FakeUpstream, Received, Wire, completion, stream_frames
from support.gateway import RunningGateway, entry, running_gateway
from support.redis_server import RedisServer, redis_server
from support.samples import MODEL_ID, evaluation, said, stored_plan, stored_samples
from support.wait import eventually

pytestmark = pytest.mark.redis

MAIL = "ada@lovelace.example.org"
SYSTEM = {"role": "system", "content": "Be brief."}


async def repeats(request: Received, wire: Wire) -> None:
    """Say what was said last."""
    document = request.document
    said = document["messages"][-1]["content"] if "messages" in document else document["prompt"]
    text = f"You said: {said}"
    if document.get("stream"):
        await wire.stream_head()
        for piece in stream_frames(document["model"], (text[:5], text[5:])):
            await wire.chunk(piece)
        await wire.end()
    else:
        await wire.json(completion(document["model"], text))


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """An engine that repeats."""
    async with FakeUpstream(repeats) as fake:
        yield fake


@pytest.fixture
def server(tmp_path: Path) -> Any:
    """A Redis."""
    with redis_server(tmp_path) as running:
        yield running


@asynccontextmanager
async def sampling(
    folder: Path, upstream: FakeUpstream, server: RedisServer, *further: Any, policies: Any = (), evaluated: Any = None,
    fields: dict[str, Any] | None = None, **settings: Any,
) -> AsyncIterator[tuple[RunningGateway, aiohttp.ClientSession]]:  # fmt: skip
    """Run a gateway with a model that is sampled, and its judge."""
    named = tuple(policy.id for policy in policies)
    models = (
        entry("m", upstream.url, evaluation=evaluated or evaluation(), policies=named, **(fields or {})),
        entry("judge", upstream.url), *further,
    )  # fmt: skip
    options = {"redis_url": server.url, "redis_seconds": 10.0, **settings}
    async with (
        running_gateway(folder, *models, policies=policies, **options) as gateway,
        aiohttp.ClientSession(gateway.url) as client,
    ):
        yield gateway, client


def chat(text: str, **fields: Any) -> dict[str, Any]:
    """Give a chat request."""
    return {"model": "m", "messages": [{"role": "user", "content": text}], **fields}


async def ask(
    client: aiohttp.ClientSession, body: dict[str, Any], path: str = "/v1/chat/completions", **how: Any
) -> str:
    """Ask, and give the whole answer."""
    async with client.post(path, json=body, **how) as response:
        told = await response.text()
        assert response.status == 200, told
        return told


async def outcome(gateway: RunningGateway, outcome: str, times: float, model: str = "m") -> None:
    """Wait until so many answers came to that."""

    def counted() -> bool:
        return gateway.metric("gateway_evaluation_samples_total", model=model, outcome=outcome) == times

    await eventually(counted, what=f"{times} samples of outcome {outcome}", seconds=60)


async def written(gateway: RunningGateway) -> None:
    """Wait until no sample waits."""
    room = gateway.gateway.sampled
    assert room is not None
    await eventually(lambda: len(room) == 0, what="an empty outbox", seconds=60)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [SYSTEM, {"role": "user", "content": "Hi"}]}),
        ("/v1/messages", {"system": "Be brief.", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9}),
        ("/v1/responses", {"instructions": "Be brief.", "input": "Hi"}),
    ],
)  # fmt: skip
async def test_an_answer_is_stored_whatever_is_spoken(
    tmp_path: Path, upstream: FakeUpstream, server: RedisServer, path: str, body: dict[str, Any], stream: bool
) -> None:
    """In all dialects, streamed or not, a sample says what was asked and answered, which model did, and when."""
    async with sampling(tmp_path, upstream, server) as (gateway, client):
        await ask(client, {"model": "m", "stream": stream, **body}, path, headers={"x-request-id": "one"})
        await outcome(gateway, "stored", 1)
        (sample,) = stored_samples(server)
        assert [(turn.role, turn.text) for turn in sample.prompt] == [("system", "Be brief."), ("user", "Hi")]
        assert (sample.answer, sample.id, sample.model) == ("You said: Hi", "one", MODEL_ID)
        assert (sample.cached, sample.track) == (False, "")
        assert sample.at > 1_700_000_000


async def test_the_texts_of_completions_are_stored(tmp_path: Path, server: RedisServer) -> None:
    """The prompt is the user's."""

    async def completes(request: Received, wire: Wire) -> None:
        answer = {
            "object": "text_completion",
            "choices": [{"index": 0, "text": " upon a time", "finish_reason": "stop"}],
        }
        await wire.json({"id": "1", "created": 1, "model": request.document["model"], **answer})

    async with (
        FakeUpstream(completes) as upstream,
        sampling(tmp_path, upstream, server, fields={"task": "completion"}) as (gateway, client),
    ):
        await ask(client, {"model": "m", "prompt": "Once"}, "/v1/completions")
        await outcome(gateway, "stored", 1)
        (sample,) = stored_samples(server)
        assert [(turn.role, turn.text) for turn in sample.prompt] == [("user", "Once")]
        assert sample.answer == " upon a time"


async def test_a_share_of_the_requests_is_sampled_and_it_is_the_same_ones_on_each_replica(
    tmp_path: Path, upstream: FakeUpstream, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Of 2,000 requests at a rate of 10 % as many are samples as a fair coin of that weight gives (with a chance of
    less than one in 10 million of being outside of this); the ids decide, and no log holds a word of any."""
    caplog.set_level(logging.DEBUG)
    ids = [f"request-{number}" for number in range(2000)]
    found: list[set[str]] = []
    for replica in ("a", "b"):
        (tmp_path / replica).mkdir()
        tenth = evaluation(sampleRate=0.1)
        settings = {"evaluation_samples": 5000, "log_level": "info"}
        async with sampling(tmp_path / replica, upstream, server, evaluated=tenth, **settings) as (gateway, client):
            for number, one in enumerate(ids):
                await ask(client, chat(f"secret-word {number}"), headers={"x-request-id": one})
            await written(gateway)
        samples = stored_samples(server)
        server.client().delete(samples_key(MODEL_ID))
        found.append({sample.id for sample in samples})
        assert len(found[-1]) == len(samples)
    assert found[0] == found[1]
    assert 200 - 5.3 * 13.42 <= len(found[0]) <= 200 + 5.3 * 13.42
    assert "secret-word" not in caplog.text


async def test_requests_go_on_when_redis_does_not_answer(
    tmp_path: Path, upstream: FakeUpstream, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is answered, what is lost is counted, and the log tells of it once and not each time."""
    async with sampling(tmp_path, upstream, server) as (gateway, client):
        await ask(client, chat("before"))
        await outcome(gateway, "stored", 1)
        server.kill()
        caplog.clear()
        for number in range(50):
            assert "You said" in await ask(client, chat(f"secret-word {number}"))
        await outcome(gateway, "redis", 50)
        assert "secret-word" not in caplog.text
        assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) <= 3
        server.start()
        await eventually(lambda: gateway.gateway.stores.redis.failure is None, what="Redis", seconds=60)  # type: ignore[union-attr]
        await ask(client, chat("after"))
        await outcome(gateway, "stored", 2)


@pytest.mark.parametrize("mode", [Mode.ENFORCE, Mode.SHADOW])
@pytest.mark.parametrize("stream", [False, True])
async def test_what_guards_of_personal_data_find_is_not_stored(
    tmp_path: Path, upstream: FakeUpstream, server: RedisServer, mode: Mode, stream: bool
) -> None:
    """Neither of the prompt nor of the answer, also where the policy only looks on, and where clients get it back."""
    guards = (PiiGuard(name="pii", restore=True, appliesTo=(Source.USER,)),)
    policy = guard_entry("t", "g", GuardBody(input=guards, mode=mode))
    async with sampling(tmp_path, upstream, server, policies=[policy]) as (gateway, client):
        assert MAIL in await ask(client, chat(f"Mail {MAIL}, and me", stream=stream))
        await outcome(gateway, "stored", 1)
        (sample,) = stored_samples(server)
        assert sample.prompt[0].text == "Mail [EMAIL_1], and me"
        assert sample.answer == "You said: Mail [EMAIL_1], and me"
    raw = b"".join(fields[b"s"] for _, fields in server.client().xrange(samples_key(MODEL_ID)))  # type: ignore[union-attr]
    assert MAIL.encode() not in raw


async def test_a_sample_that_cannot_be_redacted_is_not_stored(
    tmp_path: Path, upstream: FakeUpstream, server: RedisServer, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """It is dropped and counted, and the log says by which kind of error, once."""

    def broken(*_: object) -> Any:
        raise ValueError(f"a fault that quotes {MAIL}")

    monkeypatch.setattr("capstan_gateway.pipeline.sampling.redaction.redact", broken)
    policy = guard_entry("t", "g", GuardBody(input=(PiiGuard(name="pii", appliesTo=(Source.USER,)),), mode=Mode.SHADOW))
    async with sampling(tmp_path, upstream, server, policies=[policy]) as (gateway, client):
        for _ in range(3):
            await ask(client, chat(f"Mail {MAIL}"))
        await outcome(gateway, "redaction", 3)
        assert stored_samples(server) == []
        assert MAIL not in caplog.text
        assert caplog.text.count("could not be prepared") == 1


async def test_what_was_refused_is_no_sample(tmp_path: Path, upstream: FakeUpstream, server: RedisServer) -> None:
    """A request that a guard blocks, an answer that one withholds, a request that the engine refuses."""
    words = GuardBody(
        input=(KeywordsGuard(name="in", appliesTo=(Source.USER,), action=Action.BLOCK, keywords=("forbidden",)),),
        output=(KeywordsGuard(name="out", appliesTo=(Source.TEXT,), action=Action.BLOCK, keywords=("leaked",)),),
    )
    async with sampling(tmp_path, upstream, server, policies=[guard_entry("t", "g", words)]) as (gateway, client):
        for text in ("a forbidden word", "a leaked word"):
            async with client.post("/v1/chat/completions", json=chat(text)) as response:
                assert response.status in (200, 400)
                assert "You said" not in await response.text()
        await ask(client, chat("fine"))
        await outcome(gateway, "stored", 1)
        assert [sample.answer for sample in stored_samples(server)] == ["You said: fine"]
        await outcome(gateway, "withheld", 1)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_hit_of_a_cache_is_a_sample_that_says_so(
    tmp_path: Path, upstream: FakeUpstream, server: RedisServer, stream: bool
) -> None:
    """It is an answer that a user got."""
    cache = PolicyEntry(id="CachePolicy/t/c", kind=CACHE_KIND, body={"memory": {}})
    async with sampling(tmp_path, upstream, server, policies=[cache]) as (gateway, client):
        for _ in range(2):
            await ask(client, chat("Hi", temperature=0, stream=stream))
        await outcome(gateway, "stored", 2)
        assert {sample.answer for sample in stored_samples(server)} == {"You said: Hi"}
        assert [sample.cached for sample in stored_samples(server)] == [False, True]


async def test_the_member_that_answers_is_sampled_and_judges_are_not(tmp_path: Path, server: RedisServer) -> None:
    """Of a router its member; of a cascade each member that is asked, and never what its judge says."""

    async def rates(request: Received, wire: Wire) -> None:
        is_judge = request.document["model"] == "judge"
        await wire.json(completion(request.document["model"], '{"score": 1.0}' if is_judge else "An answer."))

    cascade = CascadeBackend(
        members=("test/m",), estimator=CascadeEstimator(type=EstimatorType.JUDGE, judge="test/grader")
    )
    async with FakeUpstream(rates) as upstream:
        grader = entry("grader", upstream.url, upstreamName="judge", evaluation=evaluation())
        further = (
            entry("router", backend=RouterBackend(members=(RouterMember(model="test/m"),))),
            entry("cascade", backend=cascade), grader,
        )  # fmt: skip
        async with sampling(tmp_path, upstream, server, *further) as (gateway, client):
            for name in ("router", "cascade"):
                await ask(client, chat("Hi") | {"model": name})
            await outcome(gateway, "stored", 2)
            assert {sample.model for sample in stored_samples(server)} == {MODEL_ID}
            assert stored_samples(server, "test/grader") == []


async def test_the_scorers_own_requests_are_no_samples(
    tmp_path: Path, upstream: FakeUpstream, server: RedisServer
) -> None:
    """Else judges would be judged, and their judges, for ever."""
    async with sampling(tmp_path, upstream, server) as (gateway, client):
        await ask(client, chat("Judge this"), headers={"x-request-id": "capstan-eval-1"})
        await ask(client, chat("Hi"))
        await outcome(gateway, "stored", 1)
        assert [sample.answer for sample in stored_samples(server)] == ["You said: Hi"]


async def test_a_stream_that_its_client_leaves_is_no_sample(tmp_path: Path, server: RedisServer) -> None:
    """Half an answer is judged by nobody."""

    async def endless(request: Received, wire: Wire) -> None:
        await wire.stream_head()
        for piece in stream_frames(request.document["model"], ("a",) * 3)[:-2]:
            await wire.chunk(piece)
        await wire.gone()

    async with FakeUpstream(endless) as upstream, sampling(tmp_path, upstream, server) as (gateway, client):
        async with client.post("/v1/chat/completions", json=chat("Hi", stream=True)) as response:
            await response.content.readline()
        await outcome(gateway, "incomplete", 1)
        assert stored_samples(server) == []


async def test_bounds_hold(tmp_path: Path, upstream: FakeUpstream, server: RedisServer) -> None:
    """A stream holds about so many samples; one that is too large is none; all of it expires."""
    settings = {"evaluation_samples": 10, "evaluation_sample_bytes": 2048}
    kept = evaluation(retentionSeconds=600)
    async with sampling(tmp_path, upstream, server, evaluated=kept, **settings) as (gateway, client):
        await ask(client, chat("x" * 4096))
        await outcome(gateway, "size", 1)
        for number in range(300):
            await ask(client, chat(f"{number}" + "y" * 200))
            if number % 100 == 99:
                await outcome(gateway, "stored", number + 1)
        redis: Any = server.client()
        assert 10 <= redis.xlen(samples_key(MODEL_ID)) < 200
        assert 0 < redis.pttl(samples_key(MODEL_ID)) <= 600_000
        assert 3600 < redis.ttl(PLANS) <= 7200
        plan = stored_plan(server)
        assert plan is not None
        assert (plan.judge, plan.model, plan.evaluation) == ("judge", "m", kept)


async def test_samples_that_are_too_old_go_with_the_next_one(
    tmp_path: Path, upstream: FakeUpstream, server: RedisServer
) -> None:
    """A text that a model keeps being asked beside does not stay longer than it may."""
    async with sampling(tmp_path, upstream, server) as (gateway, client):
        server.client().xadd(samples_key(MODEL_ID), {"s": b"old"}, id="1-1")
        await ask(client, chat("new"))
        await outcome(gateway, "stored", 1)
        assert [sample.answer for sample in stored_samples(server)] == ["You said: new"]


async def test_replicas_take_no_more_an_hour_together_than_they_may(
    tmp_path: Path, upstream: FakeUpstream, server: RedisServer
) -> None:
    """What Redis has counted in this hour is not exceeded, however many offer."""
    hourly = evaluation(perHour=100_000)
    async with sampling(tmp_path, upstream, server, evaluated=hourly) as (gateway, client):
        await ask(client, chat("one"))
        await outcome(gateway, "stored", 1)
        redis: Any = server.client()
        (hour,) = redis.keys(f"{PREFIX}taken:*")
        assert 0 < redis.ttl(hour) <= 7200
        for key in (
            hour,
            hour[:-1] + str((int(hour[-1:]) + 1) % 10).encode(),
        ):  # Also of the next hour, should it begin.
            redis.set(key, 100_000)
        offered = gateway.metric("gateway_evaluation_samples_total", model="m", outcome="stored")
        while not gateway.metric("gateway_evaluation_samples_total", model="m", outcome="budget"):
            await ask(client, chat("two"))
        assert gateway.metric("gateway_evaluation_samples_total", model="m", outcome="stored") == offered


async def test_samples_are_sealed_where_there_is_a_key(
    tmp_path: Path, upstream: FakeUpstream, server: RedisServer
) -> None:
    """Who reads Redis reads nothing; who has the key reads the sample."""
    secret = "a secret of thirty-two characters"
    async with sampling(tmp_path, upstream, server, evaluation_secret=secret) as (gateway, client):
        await ask(client, chat("secret-word"))
        await outcome(gateway, "stored", 1)
        found: Any = server.client().xrange(samples_key(MODEL_ID))
        assert b"secret-word" not in found[0][1][b"s"]
        (sample,) = stored_samples(server, secret=secret.encode())
        assert "secret-word" in said(sample)


async def test_without_a_judge_or_a_redis_nothing_is_sampled(
    tmp_path: Path, upstream: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    """Requests are answered, and it is said once that evaluation has no effect without a Redis."""
    models = (entry("m", upstream.url, evaluation=evaluation()), entry("judge", upstream.url))
    async with running_gateway(tmp_path, *models) as gateway, aiohttp.ClientSession(gateway.url) as client:
        await ask(client, chat("Hi"))
        await gateway.configure(*models, entry("other", upstream.url, evaluation=evaluation()))
        await ask(client, chat("Hi"))
        assert caplog.text.count("there is no Redis for samples") == 1


async def test_a_sample_says_which_revision_has_given_it(
    tmp_path: Path, upstream: FakeUpstream, server: RedisServer
) -> None:
    """While a revision is tried, its answers are samples of the model, and told apart from those of the stable one."""
    for weight, told in ((100, ("canary", "r2")), (0, ("stable", "r1"))):
        tried = Canary(id="r2-1", revision="r2", weight=weight, backend=StaticBackend(urls=(upstream.url,)))
        folder = tmp_path / told[0]
        folder.mkdir()
        fields = {"revision": "r1", "canary": tried}
        async with sampling(folder, upstream, server, fields=fields) as (gateway, client):
            await ask(client, chat("hello"))
            await written(gateway)
        sample = stored_samples(server)[-1]
        assert (sample.model, sample.track, sample.revision) == (MODEL_ID, *told)
