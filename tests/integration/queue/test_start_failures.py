"""A model of which no replica comes up: who waits for one is told, and who comes is told at once."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from capstan_contract.config import Dispatch, ModelQueue, RouterBackend, RouterMember, StartFailure, Task
from fakes.openai_upstream import FakeUpstream
from support.batches import Engine, begun, ended, line, results
from support.gateway import entry
from support.queue_taker import Job, completion, queue_worker
from support.queued import ASKED, QUEUED, SOON, gateway_of
from support.redis_server import RedisServer
from support.wait import eventually

pytestmark = pytest.mark.redis
FAILURE = StartFailure(reason="ImagePullFailed", message="its image cannot be pulled", since=1777895400)
TOLD = r"the model does not come up: its image cannot be pulled \(ImagePullFailed\)"
DIRECT: Any = None
WAITS: dict[str, Any] = {"endpoint_wait_seconds": 600.0}
REQUESTS = {
    "/v1/chat/completions": {"model": "chat", "messages": [{"role": "user", "content": "x"}]},
    "/v1/completions": {"model": "chat", "prompt": "x"},
    "/v1/messages": {"model": "chat", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]},
    "/v1/responses": {"model": "chat", "input": "x"},
}


def _check(answer: httpx.Response) -> None:
    error = answer.json()["error"]
    assert answer.status_code == (529 if "messages" in str(answer.url) else 503)  # As Anthropic says it.
    assert answer.headers["retry-after"] == "30"
    assert "its image cannot be pulled (ImagePullFailed)" in error["message"]


@pytest.mark.parametrize("queue", [QUEUED, ModelQueue(), DIRECT], ids=["queue", "auto", "direct"])
async def test_whoever_waits_is_told(store: RedisServer, tmp_path: Path, queue: ModelQueue | None) -> None:
    """Requests of every dialect, streams or not, end with the reason as soon as the config has it, and so does what
    comes then; when a replica may come up again, requests wait again."""
    model = entry("chat", queue=queue)
    async with gateway_of(store, tmp_path, model, **WAITS) as gateway, httpx.AsyncClient(timeout=60) as client:

        def ask(path: str, **more: Any) -> "asyncio.Task[httpx.Response]":
            return asyncio.create_task(client.post(f"{gateway.url}{path}", json={**REQUESTS[path], **more}))

        asking = [ask(path, **more) for path in REQUESTS for more in ({}, {"stream": True})]

        def waiting() -> int:
            return gateway.gateway.demand.report().models["test/chat"].waiting

        await eventually(lambda: waiting() == len(asking), what="requests that wait")
        await gateway.configure(model.model_copy(update={"startFailure": FAILURE}))
        for answer in await asyncio.gather(*asking):
            _check(answer)
        for path in REQUESTS:
            _check(await ask(path))
        if queue is not None:
            await eventually(lambda: not list(store.client().scan_iter("*entry:*")), what="an empty queue")
        rejected = gateway.gateway.demand.report().models["test/chat"].rejected
        assert rejected == len(asking) + len(REQUESTS)
        await gateway.configure(model)
        again = ask("/v1/chat/completions")
        await eventually(lambda: waiting() == 1, what="a request that waits")
        again.cancel()
        await asyncio.gather(again, return_exceptions=True)


async def test_vectors(store: RedisServer, tmp_path: Path) -> None:
    """Embeddings are told as all others."""
    model = entry("chat", queue=QUEUED, task=Task.EMBED, startFailure=FAILURE)
    async with gateway_of(store, tmp_path, model) as gateway, gateway.client() as client:
        with pytest.raises(openai.InternalServerError, match=TOLD) as told:
            await client.embeddings.create(model="chat", input="x")
        assert told.value.code == "model_start_failed"


async def test_a_stream_with_comments_ends_with_a_frame(store: RedisServer, tmp_path: Path) -> None:
    """A stream whose head has gone out is told in a frame."""
    model = entry("chat", queue=QUEUED, timeouts=SOON.model_copy(update={"totalSeconds": 600}))
    async with gateway_of(store, tmp_path, model, stream_comment_seconds=0.05) as gateway, gateway.client() as client:
        stream = await client.chat.completions.create(**ASKED, stream=True)
        await gateway.configure(model.model_copy(update={"startFailure": FAILURE}))
        with pytest.raises(openai.APIError, match=TOLD):
            await anext(stream)


@pytest.mark.parametrize("queue", [ModelQueue(), ModelQueue(dispatch=Dispatch.DIRECT), DIRECT])
async def test_an_endpoint_that_is_there_is_asked(store: RedisServer, tmp_path: Path, queue: ModelQueue | None) -> None:
    """What the gateway sees itself counts more than what the operator has said a moment ago."""
    async with FakeUpstream(Engine().respond) as upstream:
        model = entry("chat", upstream.url, queue=queue, startFailure=FAILURE)
        async with gateway_of(store, tmp_path, model) as gateway, gateway.client() as client:
            answer = await client.chat.completions.create(**ASKED)
            assert answer.choices[0].message.content == "<hello>"


async def test_a_fallback_is_woken_instead(store: RedisServer, tmp_path: Path) -> None:
    """Of several models without an endpoint one is waited for that may come up."""
    chat = entry("chat", queue=QUEUED, fallbacks=("other",), startFailure=FAILURE)

    async def answer(job: Job) -> None:
        await job.answer(completion("there"))

    async with gateway_of(store, tmp_path, chat, entry("other", queue=QUEUED)) as gateway, gateway.client() as client:
        async with queue_worker(store.port, answer, model="test/other"):
            said = await client.chat.completions.create(**ASKED)
        assert said.choices[0].message.content == "there"


async def test_a_router_says_why(store: RedisServer, tmp_path: Path) -> None:
    """A virtual model of which no member comes up has the member's reason in its own words."""
    router = RouterBackend(members=(RouterMember(model="test/chat"),))
    models = entry("chat", startFailure=FAILURE), entry("any", backend=router)
    async with gateway_of(store, tmp_path, *models) as gateway, gateway.client() as client:
        with pytest.raises(openai.InternalServerError, match=f"no model can answer: .*{TOLD}") as told:
            await client.chat.completions.create(**{**ASKED, "model": "any"})
        assert told.value.code == "model_start_failed"


async def test_a_batch_waits(store: RedisServer, tmp_path: Path) -> None:
    """Lines of a batch have time: they stay in the queue, and are answered when somebody comes after all."""
    model = entry("m", queue=QUEUED, startFailure=FAILURE)

    async def answer(job: Job) -> None:
        await job.answer(completion("there"))

    settings = {"files_url": f"file://{tmp_path}/files"}
    async with gateway_of(store, tmp_path, model, **settings) as gateway, gateway.client() as client:
        batch = await begun(client, line(1), line(2))
        waits = {"model": "m", "class": "batch"}
        await eventually(lambda: gateway.metric("gateway_queue_waiting", **waits) == 2, what="two lines")
        await gateway.configure(model.model_copy(update={"weight": 7}))
        with pytest.raises(openai.InternalServerError, match=TOLD):
            await client.chat.completions.create(**{**ASKED, "model": "m"})
        assert gateway.metric("gateway_queue_waiting", **waits) == 2
        async with queue_worker(store.port, answer, model="test/m"):
            over = await ended(client, batch.id)
        assert (over.request_counts.completed, over.request_counts.failed) == (2, 0)
        assert len(await results(client, over.output_file_id)) == 2
