"""The faults of a failover benchmark, on the simulator: what a client of the gateway sees of each."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import openai
import pytest

from capstan_contract.config import Timeouts
from support.gateway import RunningGateway, entry, running_gateway
from support.wait import eventually
from support.worker import Worker, worker

MESSAGES = [{"role": "user", "content": "Say something, please."}]
TIMEOUTS = Timeouts(firstTokenSeconds=2, idleSeconds=2, totalSeconds=8)


@pytest.fixture(scope="module")
def simulators() -> Iterator[tuple[Worker, Worker]]:
    """Two simulators: one to break, one to fall back to."""
    flags = ["--answer-tokens", "8", "--seed", "1"]
    with (
        worker("simulator", ["--model", "broken", *flags]) as broken,
        worker("simulator", ["--model", "healthy", *flags]) as healthy,
    ):
        yield broken, healthy


@pytest.fixture
async def broken(simulators: tuple[Worker, Worker]) -> AsyncIterator[Worker]:
    """The simulator to break; whole again afterwards."""
    yield simulators[0]
    await asyncio.to_thread(simulators[0].turn, faults=[], accepting=True)


@pytest.fixture
async def gateway(tmp_path: Path, simulators: tuple[Worker, Worker]) -> AsyncIterator[RunningGateway]:
    """`alone` has the broken engine only, `backed` another model to fall back to, `pair` both engines."""
    broken, healthy = simulators
    options = {"upstreamName": "broken", "timeouts": TIMEOUTS}
    models = (
        entry("alone", broken.url, **options),
        entry("backed", broken.url, fallbacks=("healthy",), **options),
        entry("healthy", healthy.url),
    )
    async with running_gateway(tmp_path, *models) as running:
        yield running


async def _ask(gateway: RunningGateway, model: str, *, stream: bool) -> str:
    """Give what a client reads to its end."""
    async with gateway.client() as client:
        if not stream:
            answer = await client.chat.completions.create(model=model, messages=MESSAGES)
            return answer.choices[0].message.content or ""
        chunks = await client.chat.completions.create(model=model, messages=MESSAGES, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices])


BEFORE_THE_FIRST_BYTE = ["429", "500", "502", "503", "504", "reset", "errorevent;after=0"]
LATE = ["stall", "slow;ttft-ms=600000"]


@pytest.mark.parametrize(
    ("fault", "stream"),
    [
        *((fault, stream) for stream in (False, True) for fault in BEFORE_THE_FIRST_BYTE),
        *((fault, True) for fault in LATE),
    ],
)
async def test_another_model_takes_over(gateway: RunningGateway, broken: Worker, fault: str, stream: bool) -> None:
    """What fails before the first byte, however often, the fallback answers; the client sees nothing of it."""
    await asyncio.to_thread(broken.turn, faults=[fault])
    assert await _ask(gateway, "backed", stream=stream)
    await gateway.settled()
    assert gateway.metric("llm_requests_total", model="backed", status="200") == 1
    assert gateway.metric("gateway_retries_total", model="backed", kind="fallback") == 1


async def test_a_plain_answer_may_be_slower_than_a_first_token(gateway: RunningGateway, broken: Worker) -> None:
    """Nobody takes over from an engine that is at work on it: it is asked once, and its breaker hears of nothing."""
    await asyncio.to_thread(broken.turn, faults=["slow;ttft-ms=3000"])
    assert await _ask(gateway, "backed", stream=False)
    await gateway.settled()
    assert gateway.metric("gateway_retries_total", model="backed", kind="fallback") == 0
    assert gateway.metric("gateway_retries_total", model="backed", kind="endpoint") == 0


@pytest.mark.parametrize(
    ("fault", "raised", "code"),
    [
        ("429;retry-after=7", openai.RateLimitError, "rate_limit_exceeded"),
        ("500", openai.InternalServerError, "upstream_error"),
        ("503", openai.InternalServerError, "overloaded"),
        ("reset", openai.InternalServerError, "upstream_error"),
        ("stall", openai.InternalServerError, "timeout"),
        ("slow;ttft-ms=600000", openai.InternalServerError, "timeout"),
        ("badjson", openai.InternalServerError, "upstream_error"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_alone_it_is_an_honest_error(
    gateway: RunningGateway, broken: Worker, fault: str, raised: type[openai.APIStatusError], code: str, stream: bool
) -> None:
    """Without anybody to take over the client gets the right class and code, and Retry-After if the engine said so."""
    await asyncio.to_thread(broken.turn, faults=[fault])
    with pytest.raises(raised) as caught:
        await _ask(gateway, "alone", stream=stream)
    assert caught.value.code == code
    if "retry-after" in fault:
        assert caught.value.response.headers["retry-after"] == "7"


@pytest.mark.parametrize("fault", ["500;first=1", "503;first=1", "reset;first=1", "429;first=1"])
async def test_client_retry_after_a_single_failure(gateway: RunningGateway, broken: Worker, fault: str) -> None:
    """An engine that fails once answers the client's own retry: the error says that retrying is right."""
    await asyncio.to_thread(broken.turn, faults=[fault])
    async with gateway.client(max_retries=2) as client:
        answer = await client.chat.completions.create(model="alone", messages=MESSAGES)
    assert answer.choices[0].message.content


@pytest.mark.parametrize("fault", ["die", "eof", "truncate", "stall;after=3", "badjson;after=3", "errorevent"])
@pytest.mark.parametrize("model", ["alone", "backed"])
async def test_broken_stream_is_an_error(gateway: RunningGateway, broken: Worker, fault: str, model: str) -> None:
    """Once bytes have reached the client nobody takes over, and the end is an exception, never a short answer."""
    await asyncio.to_thread(broken.turn, faults=[fault])
    with pytest.raises(openai.APIError):
        await _ask(gateway, model, stream=True)
    await gateway.settled()
    assert gateway.metric("gateway_retries_total", model=model, kind="fallback") == 0
    assert gateway.metric("llm_tokens_total", model=model, direction="output") > 0


async def test_missing_end_marker_is_no_fault(gateway: RunningGateway, broken: Worker) -> None:
    """A stream with a finish reason and without [DONE] is complete."""
    await asyncio.to_thread(broken.turn, faults=["nodone"])
    assert await _ask(gateway, "alone", stream=True)


@pytest.mark.parametrize(
    ("fault", "code"), [("content-filter", "content_filter"), ("context-length", "context_length_exceeded")]
)
@pytest.mark.parametrize("stream", [False, True])
async def test_never_around_a_refusal(
    gateway: RunningGateway, broken: Worker, fault: str, code: str, stream: bool
) -> None:
    """A blocked prompt, or one that is too long, is the request's own fault: no fallback, no retry."""
    await asyncio.to_thread(broken.turn, faults=[fault])
    with pytest.raises(openai.BadRequestError) as caught:
        await _ask(gateway, "backed", stream=stream)
    assert caught.value.code == code
    await gateway.settled()
    assert gateway.metric("gateway_retries_total", model="backed", kind="fallback") == 0


async def test_dead_engine_of_two(tmp_path: Path, broken: Worker, simulators: tuple[Worker, Worker]) -> None:
    """An engine that refuses connections costs no request, and none is charged twice."""
    pair = entry("pair", *(simulator.url for simulator in simulators), upstreamName="healthy")
    async with running_gateway(tmp_path, pair, endpoint_wait_seconds=15.0) as gateway:
        await asyncio.to_thread(broken.turn, accepting=False)
        answers = await asyncio.gather(*(_ask(gateway, "pair", stream=bool(number % 2)) for number in range(20)))
        assert all(answers)
        await gateway.settled()
        assert gateway.metric("llm_requests_total", model="pair", status="200") == 20


async def test_client_that_leaves_frees_the_engine(gateway: RunningGateway, simulators: tuple[Worker, Worker]) -> None:
    """The simulator sees its request aborted, as vLLM would."""
    broken, _ = simulators
    await asyncio.to_thread(broken.turn, ttftMs=600_000, faults=[])
    aborted = await asyncio.to_thread(broken.metric, "capstan_simulator_aborted_total")
    asking = asyncio.create_task(_ask(gateway, "alone", stream=True))

    async def runs() -> bool:
        return await asyncio.to_thread(broken.metric, "vllm:num_requests_running") == 1

    await eventually(runs, what="the request")
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)

    async def noticed() -> bool:
        return await asyncio.to_thread(broken.metric, "capstan_simulator_aborted_total") == aborted + 1

    await eventually(noticed, what="the abort")
    await asyncio.to_thread(broken.turn, ttftMs=0)
