"""Draining real processes: streams are finished, late requests are served, and the exit code says that all was well."""

import asyncio
import json
import signal
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from support.ports import free_port
from support.wait import eventually, wait_until
from support.worker import Worker, get, simulator, worker

BODY = {"model": "sim", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 100, "ignore_eos": True}


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client that keeps no connection."""
    # NB: no connection is kept, because an open one counts as in flight where connections are counted.
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60), connector=connector) as session:
        yield session


@contextmanager
def sidecar_of(engine: Worker, *flags: str, kind: str = "vLLM", settle: str = "0.2") -> Iterator[Worker]:
    """Run a sidecar beside an engine."""
    own = ["--engine", kind, "--engine-url", engine.url, "--model", "sim", "--settle-seconds", settle, *flags]
    with worker("sidecar", own) as started:
        yield started


async def status_of(response: aiohttp.ClientResponse) -> int:
    """Read an answer to its end, so that its connection is closed; give its status."""
    async with response:
        await response.read()
    return response.status


async def begin_stream(client: aiohttp.ClientSession, engine: Worker) -> aiohttp.ClientResponse:
    """Give a stream whose first piece has come."""
    response = await client.post(f"{engine.url}/v1/chat/completions", json={**BODY, "stream": True})
    await response.content.readany()
    return response


async def test_sigterm_finishes_streams_and_serves_late_requests(client):
    """After SIGTERM the worker is not ready, finishes its stream, answers new requests meanwhile, and exits with 0."""
    with simulator("--tpot-ms", "60") as started:
        response = await begin_stream(client, started)
        started.process.send_signal(signal.SIGTERM)
        await eventually(lambda: get(f"{started.worker_url}/readyz") == (503, "draining\n"), what="not ready")
        late = await client.post(f"{started.url}/v1/chat/completions", json={**BODY, "max_tokens": 1})
        assert await status_of(late) == 200
        assert (await response.content.read()).endswith(b"data: [DONE]\n\n")
        assert await asyncio.to_thread(started.process.wait, 60) == 0


async def test_the_drain_hook_waits_for_the_stream(client):
    """/drain answers only when the stream has ended, and the SIGTERM that follows ends the process at once."""
    with simulator("--tpot-ms", "20", "--settle-seconds", "3") as started:
        response = await begin_stream(client, started)
        hook = asyncio.create_task(client.get(started.drain_url))
        body = await response.content.read()
        assert not hook.done()
        answer = await hook
        assert (answer.status, await answer.text()) == (200, "drained\n")
        assert body.endswith(b"data: [DONE]\n\n")
        assert started.process.poll() is None
        assert await asyncio.to_thread(started.stop) == 0


async def test_a_stream_that_does_not_end_is_cut_when_the_grace_is_nearly_over(client):
    """A drain that runs out of time says so before Kubernetes would kill, and the process still ends in order."""
    with simulator("--tpot-ms", "600000", "--grace-seconds", "1") as started:
        stream = asyncio.create_task(begin_stream(client, started))
        await eventually(lambda: started.metric("vllm:num_requests_running") == 1, what="the stream")
        answer = await client.get(started.drain_url)
        assert await answer.text() == "out of time\n"
        assert await asyncio.to_thread(started.stop) == 0
        await asyncio.gather(stream, return_exceptions=True)


async def test_a_second_signal_ends_at_once(client):
    """Whoever insists need not wait for a stream."""
    with simulator("--tpot-ms", "600000") as started:
        stream = asyncio.create_task(begin_stream(client, started))
        await eventually(lambda: started.metric("vllm:num_requests_running") == 1, what="the stream")
        started.process.send_signal(signal.SIGINT)
        await eventually(lambda: get(f"{started.worker_url}/readyz")[0] == 503, what="draining")
        started.process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(started.process.wait, 60) == 0
        await asyncio.gather(stream, return_exceptions=True)


async def test_nobody_can_drain_over_the_network(client):
    """Whoever reaches the worker port can wait with /drain, whatever they show; the worker stays ready and serves."""
    with simulator("--tpot-ms", "60") as started:
        stream = await begin_stream(client, started)
        strangers = [
            asyncio.create_task(client.get(f"{started.worker_url}/drain{query}")) for query in ("", "?token=drain")
        ]
        await eventually(lambda: started.metric("vllm:num_requests_running") == 1, what="the stream")
        assert started.is_ready()
        assert (await stream.content.read()).endswith(b"data: [DONE]\n\n")
        assert [await status_of(await stranger) for stranger in strangers] == [200, 200]
        assert started.is_ready()
        assert started.metric("capstan_worker_draining") == 0
        again = await client.post(f"{started.url}/v1/chat/completions", json={**BODY, "max_tokens": 1})
        assert await status_of(again) == 200


@pytest.mark.parametrize("kind", ["vLLM", "OpenAICompatible"])
async def test_a_sidecar_drains_its_engine(client, kind: str):
    """The sidecar waits for the engine's stream, by the engine's metrics or by its open connections."""
    with simulator("--tpot-ms", "20") as engine, sidecar_of(engine, kind=kind, settle="3") as sidecar:
        response = await begin_stream(client, engine)
        hook = asyncio.create_task(asyncio.to_thread(get, sidecar.drain_url))
        assert (await response.content.read()).endswith(b"data: [DONE]\n\n")
        assert not hook.done()
        assert await hook == (200, "drained\n")
        # The engine may have been restarted by a probe, in a pod that stays: its worker is still ready.
        assert sidecar.is_ready()
        assert await asyncio.to_thread(sidecar.stop) == 0


async def test_a_sidecar_follows_its_engine(client):
    """The sidecar becomes ready after its engine, passes its metrics on, and is not ready when the engine is gone."""
    port = free_port()
    flags = ["--engine", "vLLM", "--engine-url", f"http://127.0.0.1:{port}", "--model", "sim"]
    with worker("sidecar", [*flags, "--settle-seconds", "0"], wait_ready=False) as sidecar:
        url = f"{sidecar.worker_url}/readyz"
        await eventually(lambda: get(url) == (503, "the engine does not answer yet\n"), what="not ready")
        assert "capstan_worker_engine_up 0" in get(f"{sidecar.worker_url}/metrics")[1]
        with simulator(port=port):
            await eventually(lambda: get(url)[0] == 200, what="ready")
            text = get(f"{sidecar.worker_url}/metrics")[1]
            assert 'vllm:num_requests_running{engine="0",model_name="sim"} 0.0' in text
            assert "capstan_worker_engine_up 1" in text
        await eventually(lambda: get(url)[0] == 503, what="not ready again")
        # An engine that has ended has nothing in flight.
        assert await asyncio.to_thread(sidecar.stop) == 0


@pytest.fixture
def prefixes(tmp_path: Path) -> Path:
    """A file with one long shared prompt."""
    path = tmp_path / "prefixes.json"
    path.write_text(json.dumps([{"name": "help", "system": "You are the help desk of a harbor. " * 40}]))
    return path


@pytest.mark.parametrize("beside", [False, True])
def test_prefixes_are_warm_before_ready(prefixes: Path, beside: bool):
    """The first user's request already finds the shared prompt in the cache."""
    text = json.loads(prefixes.read_text())[0]["system"]
    messages = [{"role": "system", "content": text}, {"role": "user", "content": "Where is pier 4?"}]
    flags = () if beside else ("--prefixes", str(prefixes))
    with simulator(*flags) as engine:
        if beside:
            with sidecar_of(engine, "--prefixes", str(prefixes)):
                pass
        body = json.dumps({"model": "sim", "messages": messages}).encode()
        request = urllib.request.Request(f"{engine.url}/v1/chat/completions", data=body)  # noqa: S310  # http only
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            usage = json.load(response)["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] > 300


def test_a_prefix_that_cannot_be_warmed_does_not_keep_the_model_from_serving(tmp_path: Path):
    """A prompt that is too long for the model is left out, and the model gets ready."""
    path = tmp_path / "prefixes.json"
    path.write_text(json.dumps([{"name": "long", "system": "word " * 500}]))
    with simulator("--context-window", "64", "--prefixes", str(path)) as started:
        assert started.is_ready()
        wait_until(lambda: "prefix not warmed prefix=long reason=status 400" in started.log.read_text())


def test_a_taken_port_is_told_clearly():
    """A port that is in use ends the worker with 2 and names the address."""
    with simulator() as started, worker("simulator", ["--model", "m"], port=started.port, wait_ready=False) as second:
        assert second.process.wait(timeout=60) == 2
        assert f"cannot listen on 127.0.0.1:{started.port}: Address already in use" in second.log.read_text()
