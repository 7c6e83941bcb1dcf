"""Every fault of the simulator, seen from a client."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from support.wait import eventually
from support.worker import Worker, get, simulator

BODY = {"model": "sim", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 10}


@pytest.fixture(scope="module")
def faulty() -> Iterator[Worker]:
    """A simulator that takes its faults from a header."""
    with simulator("--allow-fault-headers") as started:
        yield started


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client that keeps no connection."""
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield session


async def ask(client: aiohttp.ClientSession, worker: Worker, fault: str, *, stream: bool) -> aiohttp.ClientResponse:
    """Send a request that gets this fault."""
    url = f"{worker.url}/v1/chat/completions"
    return await client.post(url, json={**BODY, "stream": stream}, headers={"x-simulator-fault": fault})


async def status_of(response: aiohttp.ClientResponse) -> int:
    """Read an answer to its end, so that its connection is closed; give its status."""
    async with response:
        await response.read()
    return response.status


async def read_events(response: aiohttp.ClientResponse) -> tuple[list[str], Exception | None]:
    """Give the data of the events that came, and the error that ended them."""
    received = b""
    problem: Exception | None = None
    try:
        async for piece in response.content.iter_any():
            received += piece
    except aiohttp.ClientError as error:
        problem = error
    finally:
        response.close()
    return [event.removeprefix("data: ") for event in received.decode().split("\n\n") if event], problem


async def test_a_healthy_stream_is_complete(client, faulty: Worker):
    """Without a fault there is a role, ten tokens, and the end."""
    response = await client.post(f"{faulty.url}/v1/chat/completions", json={**BODY, "stream": True})
    events, problem = await read_events(response)
    assert problem is None
    assert len(events) == 12
    assert events[-1] == "[DONE]"


@pytest.mark.parametrize("stream", [False, True])
async def test_reset_answers_nothing(client, faulty: Worker, stream: bool):
    """The connection is reset before an answer."""
    with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
        await ask(client, faulty, "reset", stream=stream)


@pytest.mark.parametrize("fault", ["die", "eof"])
@pytest.mark.parametrize("after", [1, 4, 100])
async def test_a_stream_breaks_in_the_middle(client, faulty: Worker, fault: str, after: int):
    """After that many chunks (or at the end of a shorter stream) the connection breaks without an end of the body."""
    events, problem = await read_events(await ask(client, faulty, f"{fault};after={after}", stream=True))
    assert problem is not None
    assert "[DONE]" not in events
    # What was written just before a reset may get lost on the way.
    assert len(events) == min(after, 11) if fault == "eof" else len(events) <= min(after, 11)


@pytest.mark.parametrize("fault", ["die", "eof"])
async def test_a_whole_answer_breaks_in_the_middle(client, faulty: Worker, fault: str):
    """The body is shorter than its content-length said."""
    with pytest.raises(aiohttp.ClientError):
        async with await ask(client, faulty, fault, stream=False) as response:
            await response.read()


async def test_truncate_ends_properly_but_too_early(client, faulty: Worker):
    """HTTP is satisfied, and yet there is no finish reason and no [DONE]."""
    events, problem = await read_events(await ask(client, faulty, "truncate;after=2", stream=True))
    assert problem is None
    assert [json.loads(event)["choices"][0]["finish_reason"] for event in events] == [None, None]
    whole = await ask(client, faulty, "truncate", stream=False)
    with pytest.raises(ValueError):
        json.loads(await whole.text())


async def test_done_is_missing(client, faulty: Worker):
    """The stream is complete but for [DONE]."""
    events, problem = await read_events(await ask(client, faulty, "nodone", stream=True))
    assert problem is None
    assert json.loads(events[-1])["choices"][0]["finish_reason"] == "length"


async def test_bad_json(client, faulty: Worker):
    """One event among good ones, or the whole answer, is not JSON."""
    events, _ = await read_events(await ask(client, faulty, "badjson;after=3", stream=True))
    bad = []
    for number, event in enumerate(events[:-1]):
        try:
            json.loads(event)
        except ValueError:
            bad.append(number)
    assert bad == [3]
    whole = await ask(client, faulty, "badjson", stream=False)
    assert whole.status == 200
    with pytest.raises(ValueError):
        json.loads(await whole.text())


async def test_an_error_comes_as_an_event(client, faulty: Worker):
    """Generation fails in the middle: an error event, then [DONE], as vLLM does."""
    events, _ = await read_events(await ask(client, faulty, "errorevent;after=2", stream=True))
    assert json.loads(events[2])["error"]["code"] == 500
    assert events[3:] == ["[DONE]"]
    assert await status_of(await ask(client, faulty, "errorevent", stream=False)) == 500


@pytest.mark.parametrize(
    ("fault", "status", "retry_after"),
    [("429", 429, "1"), ("429;retry-after=7", 429, "7"), ("500", 500, None), ("503;retry-after=0.5", 503, "0.5")],
)
async def test_statuses(client, faulty: Worker, fault: str, status: int, retry_after: str | None):
    """The status comes with Retry-After where one is set, in vLLM's envelope."""
    response = await ask(client, faulty, fault, stream=True)
    assert (response.status, response.headers.get("retry-after")) == (status, retry_after)
    assert (await response.json())["error"]["code"] == status


@pytest.mark.parametrize(
    ("fault", "code", "says"), [("content-filter", "content_filter", "filtered"), ("context-length", 400, "maximum")]
)
async def test_refusals(client, faulty: Worker, fault: str, code: object, says: str):
    """A content filter has its code; too long a prompt has vLLM's message."""
    response = await ask(client, faulty, fault, stream=False)
    error = (await response.json())["error"]
    assert (response.status, error["code"]) == (400, code)
    assert says in error["message"]


@pytest.mark.parametrize("fault", ["stall", "stall;after=2", "slow;ttft-ms=60000", "slow;ttft-ms=0;tpot-ms=60000"])
async def test_a_client_that_gives_up_aborts_the_request(client, faulty: Worker, fault: str):
    """A stalled or slow request ends when its client goes; the abort is counted and nothing stays in flight."""
    name = fault.split(";")[0]
    before = faulty.metric("capstan_simulator_aborted_total")
    struck = faulty.metric("capstan_simulator_faults_total", fault=name)
    task = asyncio.create_task(read_all(client, faulty, fault))
    await eventually(lambda: faulty.metric("capstan_simulator_faults_total", fault=name) > struck, what="the fault")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await eventually(lambda: faulty.metric("capstan_simulator_aborted_total") == before + 1, what="the abort")
    assert faulty.metric("vllm:num_requests_running") == 0


async def read_all(client: aiohttp.ClientSession, worker: Worker, fault: str) -> None:
    """Read a stream to its end, or to the end of this task."""
    async with await ask(client, worker, fault, stream=True) as response:
        await response.read()


async def test_a_wrong_fault_header_is_refused(client, faulty: Worker):
    """A header that cannot be obeyed is an error and not ignored."""
    response = await ask(client, faulty, "explode", stream=False)
    assert response.status == 400
    assert "known are" in (await response.json())["error"]["message"]


async def test_headers_are_obeyed_only_when_allowed(client):
    """Without --allow-fault-headers the header means nothing."""
    with simulator() as started:
        assert await status_of(await ask(client, started, "500", stream=False)) == 200


async def test_faults_are_set_at_the_start_and_while_running(client):
    """Flags and the settings route set faults with counts; turning another dial does not count them anew."""
    with simulator("--fault", "500;first=1") as started:
        url = f"{started.url}/v1/chat/completions"
        statuses = []
        for _ in range(2):
            statuses.append(await status_of(await client.post(url, json=BODY)))
        started.turn(faults=["503;first=2"])
        statuses.append(await status_of(await client.post(url, json=BODY)))
        assert started.turn(ttftMs=1)["faults"] == ["503;first=2"]
        for _ in range(2):
            statuses.append(await status_of(await client.post(url, json=BODY)))
    assert statuses == [500, 200, 503, 503, 200]


async def test_a_closed_port_refuses_and_breaks(client):
    """Not accepting: running streams are reset, new connections are refused, readiness is gone; then all is well."""
    with simulator("--tpot-ms", "50", "--answer-tokens", "2000") as started:
        url = f"{started.url}/v1/chat/completions"
        response = await client.post(url, json={"messages": BODY["messages"], "stream": True})
        await response.content.readany()
        await asyncio.to_thread(started.turn, accepting=False)
        _, problem = await read_events(response)
        assert problem is not None
        with pytest.raises(aiohttp.ClientConnectorError):
            await client.post(url, json=BODY)
        assert get(f"{started.worker_url}/readyz") == (503, "turned off\n")
        await asyncio.to_thread(started.turn, accepting=True)
        started.turn(tpotMs=0)
        assert await status_of(await client.post(url, json=BODY)) == 200
