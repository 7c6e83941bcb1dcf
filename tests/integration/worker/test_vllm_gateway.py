"""Real vLLM on the CPU, in the worker's process and through the gateway.

Both engines start once for all of these tests, at the same time, because loading is what takes long.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import pytest
from openai import BadRequestError, OpenAI

from capstan_contract.config import GatewayConfig, ModelEntry, StaticBackend, Task
from capstan_contract.sharding import split_config
from capstan_worker.simulator.vectors import similarity
from support.ports import free_port
from support.queue_gateway import QueueGateway
from support.redis_server import RedisServer, redis_server
from support.vllm import ENVIRON, FLAGS, minilm, need_vllm, tiny_chat_model
from support.wait import eventually, wait_until
from support.worker import Worker, get, worker

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

SYSTEM = "You are the help desk of a harbor. Be brief and friendly. " * 4
TEXTS = ["How do I get a refund?", "I want my money back.", "The moon is made of green cheese."]


@dataclass
class Engines:
    """The two engines, the gateway before them, and a Redis from whose queue the chat model's worker takes."""

    chat: Worker
    embed: Worker
    gateway_url: str
    redis: RedisServer

    def client(self, url: str) -> OpenAI:
        """Give the official client for a server."""
        return OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=60)


@contextmanager
def gateway(folder: Path, chat: Worker, embed: Worker) -> Iterator[str]:
    """Run a gateway that serves both models under names of its own; give its URL."""
    config = folder / "config"
    config.mkdir()
    models = (
        entry("friendly", "tiny", chat, task=Task.CHAT, contextWindow=2048),
        entry("vectors", "minilm", embed, task=Task.EMBED),
    )
    for name, document in split_config(GatewayConfig.build(models)).items():
        (config / name).write_text(document)
    port = free_port()
    flags = ["--port", str(port), "--config-dir", str(config), "--insecure-no-auth", "--drain-seconds", "0"]
    with (folder / "gateway.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "capstan_gateway", *flags], stdout=log, stderr=log)
    try:
        wait_until(lambda: get(f"http://127.0.0.1:{port}/readyz")[0] == 200, what="the gateway")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=60)


def entry(served: str, upstream: str, engine: Worker, **fields: Any) -> ModelEntry:
    """Give a model whose engine knows it by another name."""
    backend = StaticBackend(urls=(engine.url,))
    return ModelEntry(
        id=f"test/{upstream}", generation=1, servedName=served, upstreamName=upstream, backend=backend, **fields
    )


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """Start a chat model and an embedding model on real vLLM, and the gateway before both."""
    python = need_vllm()
    folder = tmp_path_factory.mktemp("vllm")
    prefixes = folder / "prefixes.json"
    prefixes.write_text(json.dumps([{"name": "help", "system": SYSTEM}]))
    chat_model, embed_model = str(tiny_chat_model(python)), str(minilm(python))
    own = ["--settle-seconds", "0.3"]
    options = {"python": python, "environ": ENVIRON, "wait_ready": False}
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server(folder))
        queue = {"CAPSTAN_WORKER_REDIS_URL": redis.url, "CAPSTAN_WORKER_QUEUE_MODEL": "test/tiny"}
        rest = [chat_model, "--served-model-name", "tiny", "--max-model-len", "2048", *FLAGS]
        rest.append("--enable-prompt-tokens-details")
        queued = {**options, "environ": {**ENVIRON, **queue}}
        chat = stack.enter_context(worker("vllm", [*own, "--prefixes", str(prefixes)], rest=rest, **queued))
        rest = [embed_model, "--served-model-name", "minilm", "--runner", "pooling", *FLAGS]
        embed = stack.enter_context(worker("vllm", own, rest=rest, **options))
        url = stack.enter_context(gateway(folder, chat, embed))
        for engine in (chat, embed):
            wait_until(engine.is_ready, seconds=480, every=0.2, what="the engine's readiness")
        yield Engines(chat, embed, url, redis)


def test_the_worker_streams_a_chat(engines: Engines):
    """The engine in the worker's process streams: role, pieces, finish reason, usage; the pieces are the answer."""
    with engines.client(engines.chat.url) as client:
        options = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8, "seed": 1}
        options["temperature"] = 0
        whole = client.chat.completions.create(**options)
        chunks = list(client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert 1 <= whole.usage.completion_tokens <= 8


def test_prefixes_were_warm_before_ready(engines: Engines):
    """The first request with the shared prompt finds it in vLLM's prefix cache."""
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "Where is pier 4?"}]
    with engines.client(engines.chat.url) as client:
        usage = client.chat.completions.create(model="tiny", messages=messages, max_tokens=1).usage
    assert usage.prompt_tokens_details.cached_tokens >= 32


def test_the_worker_passes_vllms_metrics_on(engines: Engines):
    """The worker port shows vLLM's metrics and its own."""
    text = get(f"{engines.chat.worker_url}/metrics")[1]
    assert "vllm:num_requests_running{" in text
    assert "vllm:prefix_cache_hits_total{" in text
    assert "capstan_worker_draining 0" in text


def test_the_gateway_streams_a_chat_from_vllm(engines: Engines):
    """A client of the gateway gets vLLM's answer under the name that it asked for."""
    with engines.client(engines.gateway_url) as client:
        options = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 8, "temperature": 0}
        chunks = list(
            client.chat.completions.create(
                model="friendly", **options, stream=True, stream_options={"include_usage": True}
            )
        )
        with engines.client(engines.chat.url) as direct:
            whole = direct.chat.completions.create(model="tiny", **options)
    assert {chunk.model for chunk in chunks} == {"friendly"}
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens


def test_vllm_answers_anthropics_client(engines: Engines):
    """A message, its stream and its count of tokens agree with each other."""
    ask: Any = {"model": "friendly", "messages": [{"role": "user", "content": "hello"}]}
    with anthropic.Anthropic(base_url=engines.gateway_url, api_key="unused", max_retries=0) as client:
        options: Any = {"max_tokens": 8, "extra_body": {"temperature": 0}}
        whole = client.messages.create(**ask, **options)
        with client.messages.stream(**ask, **options) as stream:
            streamed = stream.get_final_message()
        counted = client.messages.count_tokens(**ask)
    assert (whole.model, whole.content, whole.stop_reason) == ("friendly", streamed.content, streamed.stop_reason)
    assert whole.usage.output_tokens == streamed.usage.output_tokens
    for usage in (whole.usage, streamed.usage):
        assert usage.input_tokens + usage.cache_read_input_tokens == counted.input_tokens


def test_vllm_answers_as_responses(engines: Engines):
    """A response is the end of its stream."""
    ask: Any = {"model": "friendly", "input": "hello", "max_output_tokens": 8, "temperature": 0}
    with engines.client(engines.gateway_url) as client:
        whole = client.responses.create(**ask)
        with client.responses.stream(**ask) as stream:
            streamed = list(stream)[-1].response
    assert (whole.output_text, whole.status, whole.model) == (streamed.output_text, streamed.status, "friendly")
    assert whole.usage.total_tokens == streamed.usage.total_tokens


def test_the_gateway_serves_real_embeddings(engines: Engines):
    """The embeddings mean something: two ways to say one thing are nearer than two things."""
    with engines.client(engines.gateway_url) as client:
        answer = client.embeddings.create(model="vectors", input=TEXTS, encoding_format="float")
    one, same, other = (item.embedding for item in answer.data)
    assert answer.model == "vectors"
    assert len(one) == 384
    assert similarity(one, same) > 0.5 > similarity(one, other) + 0.2


def test_vllms_errors_reach_clients_in_openais_shape(engines: Engines):
    """Too long a prompt is a 400 whose code is a text, although vLLM's own code is a number."""
    with engines.client(engines.gateway_url) as client, pytest.raises(BadRequestError) as caught:
        client.chat.completions.create(model="friendly", messages=[{"role": "user", "content": "ship " * 3000}])
    assert not isinstance(caught.value.body["code"], int)


def test_a_client_that_goes_away_aborts_vllms_request(engines: Engines):
    """When a client of the gateway leaves its stream, vLLM stops long before the answer would have been complete."""
    before = engines.chat.metric("vllm:generation_tokens_total")
    with engines.client(engines.gateway_url) as client:
        stream = client.chat.completions.create(
            model="friendly",
            messages=[{"role": "user", "content": "hello"}],
            max_tokens=2000,
            stream=True,
            extra_body={"ignore_eos": True, "min_tokens": 2000},
        )
        next(stream)
        stream.close()
        wait_until(lambda: engines.chat.metric("vllm:generation_tokens_total") > before, what="its first tokens")
        wait_until(lambda: engines.chat.metric("vllm:num_requests_running") == 0, what="nothing running")
    assert engines.chat.metric("vllm:generation_tokens_total") - before < 2000


async def test_vllm_takes_queued_work(engines: Engines):
    """In the worker's process, without a connection: a chat that waits in Redis is answered as a direct one is."""
    asked = {"max_tokens": 8, "temperature": 0}
    with engines.redis.client() as redis, engines.client(engines.chat.url) as direct:
        queue = QueueGateway(redis, "test/tiny")
        (answer,) = await queue.done(queue.chat("hello", model="tiny", more=asked))
        whole = direct.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "hello"}], **asked)
    assert answer.ends == ["end"]
    assert answer.head is not None
    assert answer.head.content_type.startswith("text/event-stream")
    lines = [line.removeprefix(b"data: ") for line in answer.body.split(b"\n\n") if line]
    chunks = [json.loads(line) for line in lines if line != b"[DONE]"]
    text = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    assert text == whole.choices[0].message.content


async def test_a_cancel_of_queued_work_reaches_vllm(engines: Engines):
    """vLLM stops computing what nobody wants any more, in the middle of the answer."""
    running, generated = "vllm:num_requests_running", "vllm:generation_tokens_total"
    with engines.redis.client() as redis:
        queue = QueueGateway(redis, "test/tiny", name="another")
        before = engines.chat.metric(generated)
        # So many answers, of which four are computed at once, take far longer than any cancel.
        asked = {"max_tokens": 1900, "ignore_eos": True, "n": 32}
        one = queue.chat("count", model="tiny", stream=False, more=asked)
        await eventually(lambda: engines.chat.metric(generated) > before, what="vLLM's work")
        queue.cancel(one)
        await eventually(lambda: engines.chat.metric("capstan_worker_queue_in_flight") == 0, what="the worker's end")
        await eventually(lambda: engines.chat.metric(running) == 0, what="vLLM's end")
        queue.read()
        assert not queue.answers[one].ends
        assert engines.chat.metric(generated) - before < 32 * 1900


def test_vllm_drains(engines: Engines):
    """SIGTERM lets a running stream end, and the worker exits with 0. It comes last: the engine is gone after it."""
    received = []
    with engines.client(engines.chat.url) as client:
        options = {"model": "tiny", "prompt": "once", "max_tokens": 400, "stream": True}
        stream = client.completions.create(**options, extra_body={"ignore_eos": True, "min_tokens": 400})
        received.append(next(stream))
        codes: list[int] = []
        stopper = threading.Thread(target=lambda: codes.append(engines.chat.stop(seconds=240)))
        stopper.start()
        wait_until(lambda: get(f"{engines.chat.worker_url}/readyz") == (503, "draining\n"), what="draining")
        received.extend(stream)
    stopper.join(timeout=240)
    assert received[-1].choices[0].finish_reason == "length"
    assert codes == [0]


def test_vllm_refuses_a_model_that_is_not_there():
    """A model that vLLM cannot find ends the worker with 2 and vLLM's reason."""
    with worker("vllm", rest=["/nowhere/model"], python=need_vllm(), environ=ENVIRON, wait_ready=False) as started:
        assert started.process.wait(timeout=240) == 2
        assert "capstan-worker: vLLM does not start with these arguments" in started.log.read_text()
