"""The sixteen faults of a public failover benchmark: a gateway process, simulated engines, the official client.

Every scenario has models of its own, so that no breaker remembers another scenario: `NN-alone` has only the engine
that breaks, `NN-pair` a second engine that is well, `NN-backed` another model to fall back to. Both engines answer a
request alike, so a complete answer can be told from any other.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import openai
import pytest

from capstan_contract.config import ModelEntry, Price, RouterBackend, RouterMember, Strategy, Timeouts
from fakes.openai_upstream import FakeUpstream, Received, Wire, answer
from support.gateway import entry
from support.gateway_process import GatewayProcess, gateway_process
from support.wait import eventually
from support.worker import Worker, worker

MESSAGES = [{"role": "user", "content": "Say something, please."}]
PREFILLED = [*MESSAGES, {"role": "assistant", "content": "Well,"}]
TIMEOUTS = Timeouts(firstTokenSeconds=30, idleSeconds=30, totalSeconds=60)
IMPATIENT = Timeouts(firstTokenSeconds=3.0, idleSeconds=3.0, totalSeconds=60)
HURRIED = Timeouts(firstTokenSeconds=1.0, idleSeconds=1.0, totalSeconds=3)
SILENT = {"06s": IMPATIENT, "06w": HURRIED, "07": IMPATIENT, "09": IMPATIENT}
"""The scenarios in which an engine says nothing for too long."""
PRICE = Price(inputPerMillion=1_000_000, outputPerMillion=1_000_000)
NUMBERS = (
    "01", "02", "03", "04s", "04w", "05", "06s", "06w", "07", "08die", "08eof", "08truncate", "09", "10", "11", "12",
    "13", "14", "15", "16s", "16w",
)  # fmt: skip
CALLS = "capstan_simulator_requests_total"
TOKENS = "vllm:generation_tokens_total"


@dataclass
class Answer:
    """What a client read."""

    text: str
    model: str
    tokens: int
    """Of input and output together, as the usage says."""


class Bench:
    """The gateway and its two engines; counts from when the fault was set."""

    def __init__(self, gateway: GatewayProcess, broken: Worker, healthy: Worker) -> None:
        self.gateway = gateway
        self.broken = broken
        self.healthy = healthy
        self.client = gateway.client()
        self._before: dict[tuple[str, str], float] = {}

    async def breaks(self, *faults: str) -> None:
        """Give the one engine these faults, and begin to count."""
        await asyncio.to_thread(self.broken.turn, faults=list(faults), accepting=True)
        for name in ("broken", "healthy"):
            for metric in (CALLS, TOKENS):
                self._before[name, metric] = await self._total(name, metric)

    async def count(self, name: str, metric: str = CALLS) -> float:
        """Give what an engine counted since."""
        return await self._total(name, metric) - self._before[name, metric]

    async def _total(self, name: str, metric: str) -> float:
        engine: Worker = getattr(self, name)
        return await asyncio.to_thread(engine.metric, metric)

    async def ask(self, model: str, *, stream: bool = True, seen: list[str] | None = None, **fields: Any) -> Answer:
        """Ask, and read to the end; the pieces of a stream go into `seen` as they come."""
        request = {"model": model, "messages": MESSAGES, **fields}
        if not stream:
            whole = await self.client.chat.completions.create(**request)
            return Answer(whole.choices[0].message.content or "", whole.model, whole.usage.total_tokens)
        pieces: list[str] = [] if seen is None else seen
        found = Answer("", "", 0)
        async for chunk in await self.client.chat.completions.create(
            **request, stream=True, stream_options={"include_usage": True}
        ):
            pieces.extend(choice.delta.content or "" for choice in chunk.choices)
            found.model = chunk.model
            found.tokens = chunk.usage.total_tokens if chunk.usage else found.tokens
        found.text = "".join(pieces)
        return found

    async def whole(self) -> str:
        """Give the text of a complete answer."""
        return (await self.ask("healthy")).text

    async def until_struck(self, model: str, *, stream: bool = True, **fields: Any) -> list[Answer]:
        """Ask as session after session until one prefers the engine that breaks; give all answers."""
        answers = []
        for number in range(64):
            headers = {"x-session-id": f"s{number}"}
            answers.append(await self.ask(model, stream=stream, extra_headers=headers, **fields))
            if await self.count("broken"):
                return answers
        raise AssertionError("no session preferred the engine that breaks")

    async def is_rescued(self, number: str, fault: str, *, stream: bool = True) -> None:
        """See that a second engine, and a fallback model, give the whole answer, and the broken one is asked once."""
        text = await self.whole()
        await self.breaks(fault)
        assert {found.text for found in await self.until_struck(f"{number}-pair", stream=stream)} == {text}
        assert await self.count("broken") == 1
        await self.breaks(fault)
        found = await self.ask(f"{number}-backed", stream=stream)
        assert (found.text, found.model) == (text, "healthy")
        assert await self.count("broken") == 1

    async def is_honest_alone(
        self, number: str, fault: str, raised: type[openai.APIStatusError], code: str, *, stream: bool = True
    ) -> openai.APIStatusError:
        """See that with nobody to take over the client is told at once what happened."""
        await self.breaks(fault)
        with pytest.raises(raised) as caught:
            await self.ask(f"{number}-alone", stream=stream)
        assert caught.value.code == code
        assert await self.count("broken") == 1
        return caught.value

    async def breaks_in_the_middle(self, number: str, fault: str) -> None:
        """See that a stream which breaks is an error behind a part of the answer, whoever else is there."""
        text = await self.whole()
        for kind in ("alone", "backed"):
            await self.breaks(fault)
            seen: list[str] = []
            with pytest.raises(openai.APIError) as caught:
                await self.ask(f"{number}-{kind}", seen=seen)
            assert caught.value.body["type"] == "server_error"
            assert "".join(seen)
            assert text.startswith("".join(seen))
            assert "".join(seen) != text
            assert await self.count("healthy") == 0
        await self.breaks()
        assert (await self.ask(f"{number}-alone")).text == text, "it is as good as before"


@pytest.fixture(scope="module")
def simulators() -> Iterator[tuple[Worker, Worker]]:
    """The engine that breaks, and one that is well; both answer alike."""
    flags = ["--model", "sim", "--answer-tokens", "20", "--seed", "1"]
    with worker("simulator", flags) as broken, worker("simulator", flags) as healthy:
        yield broken, healthy


@pytest.fixture
async def no_prefill(simulators: tuple[Worker, Worker]) -> AsyncIterator[FakeUpstream]:
    """An engine that wants the last message to be a user's."""

    async def respond(request: Received, wire: Wire) -> None:
        if request.document["messages"][-1]["role"] != "assistant":
            return await answer(request, wire)
        error = {"message": "This model does not support assistant message prefill.", "type": "invalid_request_error"}
        return await wire.json({"error": error}, 400)

    async with FakeUpstream(respond) as fake:
        yield fake


def _models(broken: str, healthy: str) -> list[ModelEntry]:
    options: dict[str, Any] = {"upstreamName": "sim", "timeouts": TIMEOUTS, "price": PRICE}
    models = [entry("healthy", healthy, **options, contextWindow=100_000)]
    for number in NUMBERS:
        options["timeouts"] = SILENT.get(number, TIMEOUTS)
        models += [
            entry(f"{number}-alone", broken, **options, contextWindow=10_000),
            entry(f"{number}-pair", broken, healthy, **options),
            entry(f"{number}-backed", broken, **options, fallbacks=("healthy",)),
        ]
    members = (
        RouterMember(model="test/12-alone", priority=0), RouterMember(model="test/healthy", priority=1),
    )  # fmt: skip
    router = RouterBackend(strategy=Strategy.PRIORITY, members=members)
    return [*models, entry("12-routed", backend=router, timeouts=TIMEOUTS)]


@pytest.fixture(scope="module")
def gateway(
    simulators: tuple[Worker, Worker], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[GatewayProcess, list[ModelEntry]]]:
    """One gateway process for all scenarios."""
    models = _models(*(simulator.url for simulator in simulators))
    with gateway_process(tmp_path_factory.mktemp("gateway"), models) as running:
        yield running, models


@pytest.fixture
async def bench(
    gateway: tuple[GatewayProcess, list[ModelEntry]], simulators: tuple[Worker, Worker]
) -> AsyncIterator[Bench]:
    """The gateway and its engines, all of them well."""
    made = Bench(gateway[0], *simulators)
    async with made.client:
        await made.breaks()
        yield made
        await asyncio.to_thread(gateway[0].settled)


async def test_01_too_many_requests_with_retry_after(bench: Bench) -> None:
    """An engine that says 429 and until when is left alone until then; alone, the client is told when to come back."""
    await bench.is_rescued("01", "429;retry-after=600")
    for _ in range(3):
        await bench.ask("01-backed")
    assert await bench.count("broken") == 1
    error = await bench.is_honest_alone("01", "429;retry-after=7", openai.RateLimitError, "rate_limit_exceeded")
    assert error.response.headers["retry-after"] == "7"


async def test_02_too_many_requests_for_ever(bench: Bench) -> None:
    """An engine that always says 429 is not hammered: once for a request, and then others are asked first."""
    await bench.is_rescued("02", "429")
    for _ in range(10):
        assert (await bench.ask("02-backed")).model == "healthy"
    assert await bench.count("broken") < 11
    await bench.is_honest_alone("02", "429", openai.RateLimitError, "rate_limit_exceeded")


async def test_03_one_server_error(bench: Bench) -> None:
    """One 500 is invisible; with nobody to take over it is an error that makes the client's own retry right."""
    await bench.is_rescued("03", "500;first=1")
    await bench.breaks("500;first=1")
    async with bench.gateway.client(max_retries=1) as client:
        found = await client.chat.completions.create(model="03-alone", messages=MESSAGES)
    assert found.choices[0].message.content == await bench.whole()
    assert await bench.count("broken") == 2


@pytest.mark.parametrize("stream", [True, False])
async def test_04_unavailable_for_ever(bench: Bench, stream: bool) -> None:
    """Whoever is there answers for an engine that always says 503; alone, its own error is told, after one call."""
    number = "04s" if stream else "04w"
    await bench.is_rescued(number, "503", stream=stream)
    await bench.is_honest_alone(number, "503", openai.InternalServerError, "overloaded", stream=stream)


async def test_05_connection_reset(bench: Bench) -> None:
    """A connection that is reset before the answer costs nobody an answer, not even where there is one engine only."""
    await bench.is_rescued("05", "reset;first=1")
    await bench.breaks("reset;first=1")
    assert (await bench.ask("05-alone")).text == await bench.whole()
    assert await bench.count("broken") == 2


async def test_06_no_response(bench: Bench) -> None:
    """An engine that stays silent is given up at the first-token deadline, and not asked again for that request."""
    await bench.is_rescued("06s", "stall")
    await bench.is_honest_alone("06s", "stall", openai.InternalServerError, "timeout")


async def test_06_no_response_in_one_piece(bench: Bench) -> None:
    """Of an answer in one piece nobody knows before its end whether it comes: it has the total deadline, and then the
    client is told, and no engine works on it a second time."""
    await bench.is_honest_alone("06w", "stall", openai.InternalServerError, "timeout", stream=False)
    await bench.breaks("stall")
    with pytest.raises(openai.InternalServerError):
        await bench.ask("06w-backed", stream=False)
    assert await bench.count("broken") == 1


async def test_07_slow_first_token(bench: Bench) -> None:
    """An engine that would begin after 20 s is left at the first-token deadline for one that is faster."""
    await bench.is_rescued("07", "slow;ttft-ms=20000")
    await bench.is_honest_alone("07", "slow;ttft-ms=20000", openai.InternalServerError, "timeout")


@pytest.mark.parametrize("fault", ["die", "eof", "truncate"])
async def test_08_stream_cut(bench: Bench, fault: str) -> None:
    """A stream that is cut, however politely, is an error; a whole answer that is cut is had from somebody else."""
    number = f"08{fault}"
    await bench.breaks_in_the_middle(number, f"{fault};after=5")
    if fault != "truncate":
        await bench.is_rescued(number, f"{fault};after=5", stream=False)
    await bench.breaks(f"{fault};after=5")
    found = await bench.ask(f"{number}-backed", stream=False)
    assert (found.text, found.model) == (await bench.whole(), "healthy")


async def test_09_stream_stalls(bench: Bench) -> None:
    """A stream that goes silent ends with an error at the idle deadline, and the next request is answered."""
    await bench.breaks_in_the_middle("09", "stall;after=5")


async def test_10_malformed_chunk(bench: Bench) -> None:
    """A chunk that is not JSON never reaches the client: in the middle it is an error, at the beginning a retry."""
    await bench.breaks_in_the_middle("10", "badjson;after=5")
    await bench.breaks("badjson")
    found = await bench.ask("10-backed")
    assert (found.text, found.model) == (await bench.whole(), "healthy")


async def test_11_no_end_marker(bench: Bench) -> None:
    """A complete stream without [DONE] is complete, with its usage, at once and without a second call."""
    await bench.breaks("nodone")
    for kind in ("alone", "backed"):
        found = await bench.ask(f"11-{kind}")
        assert (found.text, found.model) == (await bench.whole(), f"11-{kind}")
        assert found.tokens > 0
    assert await bench.count("broken") == 2


async def test_12_context_length_exceeded(bench: Bench) -> None:
    """Too long a prompt is asked once and told with its code; a router gives it to a member with a larger window."""
    await bench.breaks("context-length")
    for number, kind in enumerate(("alone", "backed"), 1):
        with pytest.raises(openai.BadRequestError) as caught:
            await bench.ask(f"12-{kind}")
        assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")
        assert await bench.count("broken") == number
    assert await bench.count("healthy") == 0
    found = await bench.ask("12-routed")
    assert (found.text, found.model) == (await bench.whole(), "healthy")


@pytest.mark.parametrize("stream", [True, False])
async def test_13_content_filter(bench: Bench, stream: bool) -> None:
    """A blocked prompt is asked once and nowhere else, and the client is told the reason."""
    await bench.breaks("content-filter")
    for kind in ("alone", "backed"):
        with pytest.raises(openai.BadRequestError, match="filtered") as caught:
            await bench.ask(f"13-{kind}", stream=stream)
        assert caught.value.code == "content_filter"
    assert await bench.count("broken") == 2
    assert await bench.count("healthy") == 0


async def test_14_fallback_rejects_prefill(
    bench: Bench, gateway: tuple[GatewayProcess, list[ModelEntry]], no_prefill: FakeUpstream
) -> None:
    """What a fallback cannot take never hides what happened: no answer that has begun is continued by another model,
    a fallback that refuses the request is passed over, and when none is left the first failure is told."""
    running, models = gateway
    fields: dict[str, Any] = {"upstreamName": "sim", "timeouts": TIMEOUTS}
    await asyncio.to_thread(
        running.configure,
        [
            *models,
            entry("picky", no_prefill.url, timeouts=TIMEOUTS),
            entry("14-picky", bench.broken.url, fallbacks=("picky",), **fields),
            entry("14-chain", bench.broken.url, fallbacks=("picky", "healthy"), **fields),
        ],
    )
    await bench.breaks("die;after=5")
    with pytest.raises(openai.APIError) as cut:
        await bench.ask("14-picky")
    assert cut.value.body["code"] == "upstream_error"
    assert no_prefill.requests == []
    await bench.breaks("503")
    assert (await bench.ask("14-chain", messages=PREFILLED)).model == "healthy"
    with pytest.raises(openai.InternalServerError) as caught:
        await bench.ask("14-picky", messages=PREFILLED)
    assert caught.value.code == "overloaded"
    assert [sent.document["messages"] for sent in no_prefill.requests] == [PREFILLED, PREFILLED]
    assert (await bench.ask("14-picky")).model == "picky", "its own beginning is nobody's prefill"


async def test_15_flapping(bench: Bench) -> None:
    """While an engine is down others answer, and it is only tried now and then; when it is back, so is its traffic."""
    for kind in ("pair", "backed"):
        await bench.breaks("503")
        text = await bench.whole()
        assert {(await bench.ask(f"15-{kind}")).text for _ in range(20)} == {text}
        assert await bench.count("broken") < 10
        await bench.breaks()

        async def is_back(model: str = f"15-{kind}") -> bool:
            await bench.ask(model)
            return await bench.count("broken") > 3

        await eventually(is_back, what="the traffic's return", seconds=60)


@pytest.mark.parametrize("stream", [True, False])
async def test_16_accounting(bench: Bench, stream: bool) -> None:
    """Only what answered is counted, once: the client's usage, the engines' counters, tokens and costs agree."""
    running, number = bench.gateway, "16s" if stream else "16w"

    def counted(name: str, **labels: str) -> float:
        return sum(
            running.metric(name, model=model, **labels) for model in (f"{number}-pair", f"{number}-backed", "healthy")
        )

    before = counted("llm_tokens_total"), counted("llm_cost_dollars"), counted("llm_requests_total", status="200")
    own = running.metric("llm_tokens_total", model=f"{number}-backed")
    await bench.breaks("503")
    answers = [await bench.ask(f"{number}-backed", stream=stream) for _ in range(4)]
    assert {found.model for found in answers} == {"healthy"}
    answers += await bench.until_struck(f"{number}-pair", stream=stream)
    await asyncio.to_thread(running.settled)
    told = sum(found.tokens for found in answers)
    assert told > 0
    assert counted("llm_tokens_total") - before[0] == told
    assert counted("llm_cost_dollars") - before[1] == pytest.approx(told)
    assert counted("llm_requests_total", status="200") - before[2] == len(answers)
    assert running.metric("llm_tokens_total", model=f"{number}-backed") == own, "it answered nothing"
    assert await bench.count("broken", TOKENS) == 0
    assert await bench.count("healthy") == len(answers)
    assert await bench.count("healthy", TOKENS) < told
