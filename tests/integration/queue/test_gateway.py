"""Requests that wait in Redis, through a running gateway with the official client, and a worker that a test scripts."""

import asyncio
from pathlib import Path
from typing import Any

import openai
import pytest

from capstan_contract.config import Dispatch, ModelQueue, Task, Timeouts
from capstan_contract.queue.calls import Failure
from fakes.openai_upstream import FakeUpstream, Received, Wire
from support.gateway import entry
from support.queue_taker import EVENTS, Job, completion, frame, queue_worker, random_text, reply
from support.queue_worker import ScriptedEngine, consumer
from support.queued import ASKED, QUEUED, SOON, gateway_of, lose
from support.redis_server import RedisServer
from support.wait import eventually

pytestmark = pytest.mark.redis


async def never(job: Job) -> None:
    """Have it, and say nothing."""
    await job.unwanted.wait()


async def test_an_answer_in_one_piece(store: RedisServer, tmp_path: Path) -> None:
    """A request of a model at zero is answered by the worker that takes it, and its head says how it waited."""
    async with gateway_of(store, tmp_path) as gateway, gateway.client() as client:
        async with queue_worker(store.port, reply) as worker:
            raw = await client.chat.completions.with_raw_response.create(**ASKED)
        assert raw.parse().choices[0].message.content == "one two three"
        assert raw.headers["x-capstan-queue-place"] == "0"
        assert raw.headers["x-capstan-queue-expected-wait"] == "0.000"
        (job,) = worker.seen
        assert job.ask.path == "/v1/chat/completions"
        assert job.body["messages"] == ASKED["messages"]
        assert dict(job.ask.headers)["x-request-id"] == raw.headers["x-request-id"]
        assert gateway.metric("gateway_queue_dispatched_total", model="chat", way="queue") == 1


async def test_a_stream(store: RedisServer, tmp_path: Path) -> None:
    """A stream comes piece by piece: the first one is there while the worker still works."""
    more = asyncio.Event()

    async def answer(job: Job) -> None:
        await job.head(content_type=EVENTS)
        await job.chunk("one ")
        await more.wait()
        await job.chunk("two")
        await job.finish()

    async with gateway_of(store, tmp_path) as gateway, gateway.client() as client:
        async with queue_worker(store.port, answer):
            stream = await client.chat.completions.create(**ASKED, stream=True)
            texts = []
            async for chunk in stream:
                texts.append(chunk.choices[0].delta.content or "")
                more.set()
        assert "".join(texts) == "one two"


@pytest.mark.parametrize("route", ["completions", "embeddings"])
async def test_other_routes_are_queued_alike(store: RedisServer, tmp_path: Path, route: str) -> None:
    """Completions and embeddings take the same way as chat."""
    task = Task.EMBED if route == "embeddings" else Task.CHAT

    async def answer(job: Job) -> None:
        if route == "embeddings":
            vector = {"object": "embedding", "index": 0, "embedding": [0.5, 1.0]}
            usage = {"prompt_tokens": 1, "total_tokens": 1}
            await job.answer({"object": "list", "model": "chat", "data": [vector], "usage": usage})
            return
        choice = {"index": 0, "text": "there", "finish_reason": "stop"}
        await job.answer({**completion(""), "object": "text_completion", "choices": [choice]})

    async with gateway_of(store, tmp_path, entry("chat", queue=QUEUED, task=task, timeouts=SOON)) as gateway:
        async with gateway.client() as client, queue_worker(store.port, answer) as worker:
            if route == "embeddings":
                vectors = await client.embeddings.create(model="chat", input="here", encoding_format="float")
                assert vectors.data[0].embedding == [0.5, 1.0]
            else:
                said = await client.completions.create(model="chat", prompt="here")
                assert said.choices[0].text == "there"
        assert [job.ask.path for job in worker.seen] == [f"/v1/{route}"]


async def test_a_client_that_leaves_while_it_waits(store: RedisServer, tmp_path: Path) -> None:
    """What nobody has taken yet is out of the queue when its client has gone."""
    async with gateway_of(store, tmp_path) as gateway, gateway.client() as client:
        asking = asyncio.create_task(client.chat.completions.create(**ASKED))
        seen = store.client()
        await eventually(lambda: bool(list(seen.scan_iter("*entry:*"))), what="the entry")
        asking.cancel()
        await eventually(lambda: not list(seen.scan_iter("*entry:*")), what="the end of the entry")
        await gateway.settled()


@pytest.mark.parametrize("begun", [False, True])
async def test_a_client_that_leaves_while_a_worker_has_it(store: RedisServer, tmp_path: Path, begun: bool) -> None:
    """A worker hears that nobody wants an answer any more, before its first token and in the middle of it."""

    async def answer(job: Job) -> None:
        await job.head(content_type=EVENTS)
        if begun:
            await job.chunk("one ")
        await job.unwanted.wait()

    async with (
        gateway_of(store, tmp_path) as gateway, gateway.client() as client, queue_worker(store.port, answer) as worker
    ):  # fmt: skip
        stream = asyncio.create_task(client.chat.completions.create(**ASKED, stream=True))
        await eventually(lambda: len(worker.seen) == 1, what="the job")
        if begun:
            await (await stream).close()
        else:
            stream.cancel()
        async with asyncio.timeout(60):
            await worker.seen[0].unwanted.wait()
        await gateway.settled()


async def test_a_worker_that_is_lost_before_it_answers(store: RedisServer, tmp_path: Path) -> None:
    """Another worker answers, and the client sees nothing of it."""
    async with gateway_of(store, tmp_path) as gateway, gateway.client() as client:
        asking = asyncio.create_task(client.chat.completions.create(**ASKED))
        async with queue_worker(store.port, never, places=1) as lost:
            await eventually(lambda: len(lost.seen) == 1, what="the job")
        await lose(store, lost)
        async with queue_worker(store.port, reply) as worker:
            assert (await asking).choices[0].message.content == "one two three"
        assert worker.seen[0].taken.attempt == 2


async def test_a_worker_that_is_lost_in_the_middle(store: RedisServer, tmp_path: Path) -> None:
    """Behind its first piece an answer ends with an error frame, and not as if it were whole."""

    async def answer(job: Job) -> None:
        await job.head(content_type=EVENTS)
        await job.chunk("one ")
        await job.unwanted.wait()

    async with gateway_of(store, tmp_path) as gateway, gateway.client() as client:
        async with queue_worker(store.port, answer) as worker:
            stream = await client.chat.completions.create(**ASKED, stream=True)
            texts = [(await anext(stream)).choices[0].delta.content]
        await lose(store, worker)
        with pytest.raises(openai.APIError, match="broke off"):
            await anext(stream)
        assert texts == ["one "]


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (Failure.POISON, 500, "request_poisoned"),
        (Failure.EXPIRED, 504, "timeout"),
        (Failure.ENGINE, 502, "upstream_error"),
        (Failure.UNREADABLE, 502, "upstream_error"),
    ],
)
async def test_failures(store: RedisServer, tmp_path: Path, failure: Failure, status: int, code: str) -> None:
    """Each failure is told as a broken engine's, a deadline's, or as what it is."""
    # NB: whoever is told that the time is over waits for its end, by its own clock.
    timeouts = Timeouts(totalSeconds=10) if failure is Failure.EXPIRED else SOON
    model = entry("chat", queue=QUEUED, timeouts=timeouts)
    async with gateway_of(store, tmp_path, model) as gateway, gateway.client() as client:
        async with queue_worker(store.port, lambda job: job.fail(failure)):  # type: ignore[arg-type,return-value]
            with pytest.raises(openai.APIStatusError) as failed:
                await client.chat.completions.create(**ASKED)
        assert (failed.value.status_code, failed.value.code) == (status, code)


async def test_errors_of_engines(store: RedisServer, tmp_path: Path) -> None:
    """What an engine refuses is the client's to see, as it is when it was asked directly."""
    refusal = {"error": {"message": "no such thing", "type": "BadRequestError", "code": 400}}

    async with (
        gateway_of(store, tmp_path) as gateway, gateway.client() as client,
        queue_worker(store.port, lambda job: job.answer(refusal, 400)),
    ):  # fmt: skip
        with pytest.raises(openai.BadRequestError, match="no such thing"):
            await client.chat.completions.create(**ASKED)


async def test_a_full_queue(store: RedisServer, tmp_path: Path) -> None:
    """As many wait as may: one more is refused at once, with the time to come back at."""
    model = entry("chat", queue=ModelQueue(dispatch=Dispatch.QUEUE, maxEntries=1))
    async with gateway_of(store, tmp_path, model) as gateway, gateway.client() as client:
        first = asyncio.create_task(client.chat.completions.create(**ASKED))
        seen = store.client()
        await eventually(lambda: bool(list(seen.scan_iter("*entry:*"))), what="the entry")
        with pytest.raises(openai.RateLimitError) as refused:
            await client.chat.completions.create(**ASKED)
        assert refused.value.code == "queue_full"
        assert int(refused.value.response.headers["retry-after"]) >= 1
        assert gateway.metric("gateway_queue_rejected_total", model="chat", reason="length") == 1
        async with queue_worker(store.port, reply):
            assert (await first).choices[0].message.content == "one two three"


async def test_a_deadline_that_passes_while_it_waits(store: RedisServer, tmp_path: Path) -> None:
    """A request that nobody takes in its time is told so as when an engine was too slow, and is out of the queue."""
    model = entry("chat", queue=QUEUED, timeouts=Timeouts(totalSeconds=1, firstTokenSeconds=1, idleSeconds=1))
    async with gateway_of(store, tmp_path, model) as gateway, gateway.client() as client:
        with pytest.raises(openai.APIStatusError) as late:
            await client.chat.completions.create(**ASKED)
        assert late.value.status_code == 504
        seen = store.client()
        await eventually(lambda: not list(seen.scan_iter("*entry:*")), what="the end of the entry")


async def test_sealed(store: RedisServer, tmp_path: Path) -> None:
    """What is sealed is read by a worker that has the secret, and by nobody who looks into Redis."""
    secret = "a-secret-of-enough-bytes"
    model = entry("chat", queue=ModelQueue(dispatch=Dispatch.QUEUE, secretFile="seal"))
    async with gateway_of(store, tmp_path, model, credentials={"seal": secret}) as gateway, gateway.client() as client:
        asking = asyncio.create_task(client.chat.completions.create(**ASKED))
        seen = store.client()
        await eventually(lambda: bool(list(seen.scan_iter("*entry:*"))), what="the entry")
        (key,) = seen.scan_iter("*entry:*")
        assert b"hello" not in b"".join(seen.hgetall(key).values())
        async with queue_worker(store.port, reply, secret=secret.encode()):
            assert (await asking).choices[0].message.content == "one two three"


async def test_without_its_secret_nothing_is_queued(store: RedisServer, tmp_path: Path) -> None:
    """A prompt that is to be sealed is never written without that; the request goes directly, and finds nobody."""
    model = entry("chat", queue=ModelQueue(dispatch=Dispatch.QUEUE, secretFile="seal"))
    async with gateway_of(store, tmp_path, model, endpoint_wait_seconds=0.1) as gateway, gateway.client() as client:
        with pytest.raises(openai.APIStatusError) as failed:
            await client.chat.completions.create(**ASKED)
        assert failed.value.code == "model_not_ready"
        assert any("seal" in note for note in gateway.gateway.notes())
        assert not list(store.client().scan_iter("*entry:*"))


async def test_a_slow_reader_holds_up_its_worker_alone(store: RedisServer, tmp_path: Path) -> None:
    """Of an answer that its client does not read a worker gets rid of a window, and of the rest when that is read."""
    refused = asyncio.Event()
    text, pieces = random_text(200_000), 200

    async def answer(job: Job) -> None:
        if not job.body.get("stream"):
            await reply(job)
            return
        await job.head(content_type=EVENTS)
        for _ in range(pieces):
            while (await job.chunk(text)).value == "full":
                refused.set()
                await job.go_on.wait()
                job.go_on.clear()
        await job.finish()

    # What 40 MB take on a busy machine.
    patient = entry("chat", queue=QUEUED, timeouts=Timeouts(totalSeconds=240))
    async with gateway_of(store, tmp_path, patient) as gateway, gateway.client() as client:
        async with queue_worker(store.port, answer):
            stream = await client.chat.completions.create(**ASKED, stream=True)
            async with asyncio.timeout(60):
                await refused.wait()
            assert (await client.chat.completions.create(**ASKED)).choices[0].message.content == "one two three"
            size = 0
            async for chunk in stream:
                size += len(chunk.choices[0].delta.content or "")
        assert size == pieces * len(text)


async def test_streams_that_wait_get_comments(store: RedisServer, tmp_path: Path) -> None:
    """Before anybody has taken it a stream says that it is there; then it comes as it does without that."""
    async with gateway_of(store, tmp_path, stream_comment_seconds=0.05) as gateway, gateway.client() as client:
        stream = await client.chat.completions.create(**ASKED, stream=True)  # The head is there.
        assert "x-request-id" in stream.response.headers
        await eventually(lambda: bool(list(store.client().scan_iter("*entry:*"))), what="the entry")
        async with queue_worker(store.port, reply):
            assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "one two three"


async def test_errors_behind_a_comment(store: RedisServer, tmp_path: Path) -> None:
    """What goes wrong behind a comment is told in a frame, as the head has been sent; the count is of what it was."""
    model = entry("chat", queue=QUEUED, timeouts=Timeouts(totalSeconds=3))
    async with gateway_of(store, tmp_path, model, stream_comment_seconds=0.05) as gateway, gateway.client() as client:
        stream = await client.chat.completions.create(**ASKED, stream=True)
        assert stream.response.status_code == 200
        with pytest.raises(openai.APIError, match="did not finish"):
            await anext(stream)
        await gateway.settled()
        assert gateway.metric("llm_requests_total", model="chat", status="504") == 1


@pytest.mark.parametrize("status", [0, 503])
async def test_what_failed_is_asked_for_again(store: RedisServer, tmp_path: Path, status: int) -> None:
    """An engine that failed before anything was given out, or has no room, is not the last word."""
    tries: list[Job] = []

    async def answer(job: Job) -> None:
        tries.append(job)
        if len(tries) > 1:
            await reply(job)
        elif status:
            await job.answer({"error": {"message": "full"}}, status)
        else:
            await job.fail(Failure.ENGINE)

    async with gateway_of(store, tmp_path) as gateway, gateway.client() as client, queue_worker(store.port, answer):
        raw = await client.chat.completions.with_raw_response.create(**ASKED)
    assert raw.parse().choices[0].message.content == "one two three"
    assert raw.headers["x-gateway-attempts"] == "2"


async def test_what_must_not_be_sent_twice_is_put_in_once(store: RedisServer, tmp_path: Path) -> None:
    """A request that has effects, of a model at zero, is not put in again when an engine failed on it."""
    tool: Any = {"type": "web_search"}

    async def answer(job: Job) -> None:
        await job.fail(Failure.ENGINE)

    async with gateway_of(store, tmp_path) as gateway, gateway.client() as client:
        async with queue_worker(store.port, answer) as worker:
            with pytest.raises(openai.APIStatusError):
                await client.chat.completions.create(**ASKED, tools=[tool])
        assert len(worker.seen) == 1


async def test_with_the_worker_itself(store: RedisServer, tmp_path: Path) -> None:
    """What gateways put in is taken, asked of an engine and answered by workers as they are."""
    engine = ScriptedEngine(at_once=b"".join([frame("one "), frame("two", "stop"), b"data: [DONE]\n\n"]))
    async with gateway_of(store, tmp_path) as gateway, gateway.client() as client:
        async with consumer(store.url, engine, model="test/chat"):
            stream = await client.chat.completions.create(**ASKED, stream=True)
            assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "one two"
        (asked,) = engine.asked
        assert asked.path == "/v1/chat/completions"


async def test_a_fallback_is_asked_when_the_queue_is_full(store: RedisServer, tmp_path: Path) -> None:
    """What the queue does not take another model answers, if there is one."""
    async with FakeUpstream() as engine:
        full = ModelQueue(dispatch=Dispatch.QUEUE, maxEntries=1)
        models = [
            entry("chat", engine.url, queue=full, fallbacks=("other",), timeouts=SOON), entry("other", engine.url),
        ]  # fmt: skip
        async with gateway_of(store, tmp_path, *models) as gateway, gateway.client() as client:
            first = asyncio.create_task(client.chat.completions.create(**ASKED))
            await eventually(lambda: bool(list(store.client().scan_iter("*entry:*"))), what="the entry")
            raw = await client.chat.completions.with_raw_response.create(**ASKED)
            assert raw.headers["x-capstan-model"] == "other"
            assert "x-capstan-queue-place" not in raw.headers
            async with queue_worker(store.port, reply):
                assert (await first).choices[0].message.content == "one two three"


async def test_sound_is_not_put_into_a_queue(store: RedisServer, tmp_path: Path) -> None:
    """Whatever the config says: a form goes to an endpoint at once, and no worker is asked for it."""

    async def hears(_: Received, wire: Wire) -> None:
        await wire.json({"text": "hello"})

    async with FakeUpstream(hears) as upstream:
        ears = entry("ears", upstream.url, task=Task.TRANSCRIBE, queue=QUEUED, timeouts=SOON)
        async with gateway_of(store, tmp_path, ears) as gateway, gateway.client() as client:
            heard = await client.audio.transcriptions.create(model="ears", file=("a.wav", b"RIFF"))
            assert gateway.metric("gateway_queue_dispatched_total", model="ears", way="queue") == 0
    assert (heard.text, len(upstream.requests)) == ("hello", 1)
