"""Cascades, through the official client, before upstreams that do what a test tells them."""

import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI, BadRequestError, InternalServerError

from capstan_contract.config import CascadeBackend, CascadeEstimator, EstimatorType, ModelEntry, Price, Timeouts
from fakes.openai_upstream import FakeUpstream, Received, Respond, Wire, answer, completion, stall
from support.gateway import RunningGateway, entry, running_gateway
from support.wait import eventually

MESSAGES: Any = [{"role": "user", "content": "Where is pier 4?"}]
CHECKS = CascadeEstimator(type=EstimatorType.CHECKS)
LOGPROBS = CascadeEstimator(type=EstimatorType.LOG_PROBABILITY)
JUDGE = CascadeEstimator(type=EstimatorType.JUDGE, judge="test/judge", judgeTimeoutSeconds=30)


def says(text: str, **extra: Any) -> Respond:
    """Give an engine that answers every request with this text."""

    async def respond(request: Received, wire: Wire) -> None:
        await wire.json(completion(request.document["model"], text, **extra))

    return respond


def sure(probability: float, text: str = "Over there.") -> Respond:
    """Give an engine that is as sure of its answer as this, where it is asked for it."""

    async def respond(request: Received, wire: Wire) -> None:
        document = completion(request.document["model"], text)
        if request.document.get("logprobs"):
            document["choices"][0]["logprobs"] = {"content": [{"token": "x", "logprob": math.log(probability)}]}
        await wire.json(document)

    return respond


async def fails(_: Received, wire: Wire) -> None:
    """Answer with 500."""
    await wire.json({"error": {"message": "no"}}, 500)


class Steps:
    """A gateway with a small, a middle and a large model, and a judge."""

    def __init__(self, gateway: RunningGateway, client: AsyncOpenAI, upstreams: dict[str, FakeUpstream]) -> None:
        self.gateway = gateway
        self.client = client
        self.upstreams = upstreams

    async def configure(self, estimator: CascadeEstimator = CHECKS, *names: str, **fields: Any) -> None:
        """Serve a cascade of these members: all three of them by default."""
        threshold, limit = fields.pop("threshold", 0.5), fields.pop("maxCost", None)
        limits = fields.pop("timeouts", Timeouts())
        prices = {"small": 1.0, "middle": 10.0, "large": 100.0, "judge": 1.0}
        models: list[ModelEntry] = [
            entry(name, one.url, price=Price(inputPerMillion=prices[name], outputPerMillion=prices[name]), **fields)
            for name, one in self.upstreams.items()
        ]
        members = tuple(f"test/{name}" for name in names or ("small", "middle", "large"))
        backend = CascadeBackend(members=members, threshold=threshold, maxCost=limit, estimator=estimator)
        await self.gateway.configure(*models, entry("steps", backend=backend, timeouts=limits))

    async def ask(self, **fields: Any) -> tuple[str, dict[str, str]]:
        """Give an answer's text and headers."""
        raw = await self.client.chat.completions.with_raw_response.create(model="steps", messages=MESSAGES, **fields)
        return raw.parse().choices[0].message.content or "", dict(raw.headers)

    async def stream(self, **fields: Any) -> tuple[list[Any], dict[str, str]]:
        """Give an answer's chunks and headers."""
        raw = await self.client.chat.completions.with_raw_response.create(
            model="steps", messages=MESSAGES, stream=True, **fields
        )
        return [chunk async for chunk in raw.parse()], dict(raw.headers)

    def asked(self, name: str) -> int:
        """Give how often a model was asked."""
        return len(self.upstreams[name].requests)

    def tokens(self, name: str) -> float:
        """Give how many output tokens were counted for a model."""
        return self.gateway.metric("llm_tokens_total", model=name, direction="output")

    def escalations(self, name: str, reason: str) -> float:
        """Give how often a member's answer was not good enough."""
        return self.gateway.metric("llm_cascade_escalations_total", route_model="steps", model=name, reason=reason)


@pytest.fixture
async def steps(tmp_path: Path) -> AsyncIterator[Steps]:
    """Four upstreams that answer as a healthy engine does."""
    async with (
        FakeUpstream() as small,
        FakeUpstream() as middle,
        FakeUpstream() as large,
        FakeUpstream() as judge,
        running_gateway(tmp_path) as gateway,
        gateway.client() as client,
    ):
        yield Steps(gateway, client, {"small": small, "middle": middle, "large": large, "judge": judge})


def text_of(chunks: list[Any]) -> str:
    """Join the pieces of a stream."""
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


async def test_a_good_answer_is_given_at_once(steps: Steps) -> None:
    """The first member's answer is enough: no other one is asked, and headers say which and how good it is."""
    await steps.configure()
    text, headers = await steps.ask()
    assert text == "Hello there"
    assert headers["x-capstan-model"] == "small"
    assert headers["x-capstan-route"] == "cascade; accepted=1; score=1.00"
    assert float(headers["x-capstan-cost"]) == pytest.approx(7e-6)
    assert steps.asked("middle") == 0
    assert steps.tokens("small") == 2
    assert "stream" not in steps.upstreams["small"].requests[0].document


async def test_answers_that_are_not_good_enough_go_on(steps: Steps) -> None:
    """An empty answer and a refusal go on to the last member, whose answer is given whatever it is; all are paid."""
    await steps.configure()
    steps.upstreams["small"].respond = says("")
    steps.upstreams["middle"].respond = says("I'm sorry, but I can't help with that.")
    text, headers = await steps.ask()
    assert text == "Hello there"
    assert headers["x-capstan-route"] == "cascade; accepted=3"
    assert headers["x-gateway-attempts"] == "3"
    assert float(headers["x-capstan-cost"]) == pytest.approx(7e-6 * 111)
    assert [steps.tokens(name) for name in ("small", "middle", "large")] == [2, 2, 2]
    assert (steps.escalations("small", "score"), steps.escalations("middle", "score")) == (1, 1)
    cost = sum(steps.gateway.metric("llm_cost_dollars", model=name) for name in ("small", "middle", "large"))
    assert cost == pytest.approx(7e-6 * 111)


async def test_a_held_answer_is_streamed(steps: Steps) -> None:
    """A client that streams gets a held answer as chunks, with usage as it asked."""
    await steps.configure()
    chunks, headers = await steps.stream(stream_options={"include_usage": True})
    assert text_of(chunks) == "Hello there"
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["x-capstan-route"] == "cascade; accepted=1; score=1.00"
    assert float(headers["x-capstan-cost"]) == pytest.approx(7e-6)
    assert chunks[-1].usage.total_tokens == 7
    assert chunks[-2].choices[0].finish_reason == "stop"
    chunks, _ = await steps.stream()
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    assert steps.tokens("small") == 4


async def test_the_last_member_streams_through(steps: Steps) -> None:
    """The last member's chunks reach the client as they come, and its usage is settled once."""
    gate = asyncio.Event()

    async def halting(request: Received, wire: Wire) -> None:
        assert request.document["stream"] is True
        await answer(request, _Halting(wire, gate))  # type: ignore[arg-type]

    await steps.configure(CHECKS, "small", "large")
    steps.upstreams["small"].respond = says("")
    steps.upstreams["large"].respond = halting
    raw = await steps.client.chat.completions.with_raw_response.create(model="steps", messages=MESSAGES, stream=True)
    chunks = raw.parse().__aiter__()
    assert (await chunks.__anext__()).choices[0].delta.content == "Hel"
    gate.set()
    assert text_of([chunk async for chunk in chunks]) == "lo!"
    assert raw.headers["x-capstan-route"] == "cascade; accepted=2"
    await steps.gateway.settled()
    assert (steps.tokens("small"), steps.tokens("large")) == (2, 3)


class _Halting:
    """A wire that stops after its first chunk until it is told to go on."""

    def __init__(self, wire: Wire, gate: asyncio.Event) -> None:
        self._wire = wire
        self._gate = gate
        self._sent = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wire, name)

    async def chunk(self, data: bytes) -> None:
        if self._sent:
            await self._gate.wait()
        self._sent += 1
        await self._wire.chunk(data)


async def test_cost_bounds_the_steps(steps: Steps) -> None:
    """When the next member would probably cost more than allowed, the best answer so far is given."""
    await steps.configure(threshold=0.9, maxCost=20 * 7e-6)
    steps.upstreams["small"].respond = says("I cannot assist with that.")
    steps.upstreams["middle"].respond = says("")
    text, headers = await steps.ask()
    assert text == "I cannot assist with that."
    assert headers["x-capstan-route"] == "cascade; best=1; score=0.10; stopped=max-cost"
    assert steps.asked("large") == 0
    assert float(headers["x-capstan-cost"]) == pytest.approx(11 * 7e-6)


async def test_the_bound_counts_what_was_spent(steps: Steps) -> None:
    """A member whose price alone is within the bound is not asked when it is not together with the calls before it."""
    steps.upstreams["small"].respond = says("I cannot assist with that.")
    for bound, asked in ((75e-6, 0), (78e-6, 1)):
        await steps.configure(CHECKS, "small", "middle", threshold=0.9, maxCost=bound)
        await steps.ask()
        assert steps.asked("middle") == asked


async def test_a_member_that_fails_is_skipped(steps: Steps) -> None:
    """A failure is as good as a bad answer; when the last one fails, the best answer so far is given."""
    await steps.configure()
    steps.upstreams["small"].respond = fails
    _, headers = await steps.ask()
    assert headers["x-capstan-route"] == "cascade; accepted=2; score=1.00"
    assert steps.escalations("small", "failed") == 1
    steps.upstreams["middle"].respond = says("I must decline.")
    steps.upstreams["large"].respond = fails
    text, headers = await steps.ask()
    assert text == "I must decline."
    assert headers["x-capstan-route"] == "cascade; best=2; score=0.10; stopped=failed"
    steps.upstreams["middle"].respond = fails
    with pytest.raises(InternalServerError):
        await steps.ask()


async def test_the_requests_own_fault_ends_it(steps: Steps) -> None:
    """What a member refuses as wrong, or blocks, is the answer: no other one is asked."""

    async def refuses(_: Received, wire: Wire) -> None:
        await wire.json({"error": {"message": "blocked", "code": "content_filter"}}, 400)

    await steps.configure()
    steps.upstreams["small"].respond = refuses
    with pytest.raises(BadRequestError) as error:
        await steps.ask()
    assert error.value.code == "content_filter"
    assert steps.asked("middle") == 0


async def test_log_probabilities_decide_and_stay_inside(steps: Steps) -> None:
    """They are asked for, make the score, and are in the answer only when the client asked for them."""
    await steps.configure(LOGPROBS, threshold=0.6)
    steps.upstreams["small"].respond = sure(0.3)
    steps.upstreams["middle"].respond = sure(0.8, "At the harbor.")
    raw = await steps.client.chat.completions.with_raw_response.create(model="steps", messages=MESSAGES)
    assert raw.headers["x-capstan-route"] == "cascade; accepted=2; score=0.80"
    assert raw.parse().choices[0].logprobs is None
    assert steps.upstreams["small"].requests[0].document["logprobs"] is True
    whole = await steps.client.chat.completions.create(model="steps", messages=MESSAGES, logprobs=True)
    assert whole.choices[0].logprobs is not None


async def test_engines_that_refuse_log_probabilities_are_asked_without(steps: Steps) -> None:
    """A client that did not ask for them gets no error about them; the ensemble goes by the rest."""

    async def refuses(request: Received, wire: Wire) -> None:
        if request.document.get("logprobs"):
            await wire.json({"error": {"message": "not supported", "param": "logprobs"}}, 400)
        else:
            await answer(request, wire)

    await steps.configure(CascadeEstimator(type=EstimatorType.ENSEMBLE))
    steps.upstreams["small"].respond = refuses
    _, headers = await steps.ask()
    assert headers["x-capstan-route"] == "cascade; accepted=1; score=1.00"


async def test_a_judge_grades(steps: Steps) -> None:
    """The judge sees question and answer and gives the score; it is paid like any model, and never sees the headers."""
    await steps.configure(JUDGE, threshold=0.7)
    steps.upstreams["judge"].respond = says("0.2")
    _, headers = await steps.ask()
    assert headers["x-capstan-route"] == "cascade; accepted=3"
    assert steps.asked("judge") == 2
    prompt = steps.upstreams["judge"].requests[0].document["messages"][1]["content"]
    assert "Where is pier 4?" in prompt
    assert "Hello there" in prompt
    assert steps.tokens("judge") == 4
    assert float(headers["x-capstan-cost"]) == pytest.approx(7e-6 * (1 + 10 + 100 + 2))
    steps.upstreams["judge"].respond = says("0.9")
    _, headers = await steps.ask()
    assert headers["x-capstan-route"] == "cascade; accepted=1; score=0.90"


@pytest.mark.parametrize(
    ("respond", "word", "patience"), [(fails, "failed", 30), (says("good"), "failed", 30), (stall, "timeout", 0.1)]
)
async def test_a_judge_that_fails_accepts_nothing(steps: Steps, respond: Respond, word: str, patience: float) -> None:
    """Without a grade the next member is asked; the header says why, and a slow judge is cut off."""
    estimator = CascadeEstimator(type=EstimatorType.JUDGE, judge="test/judge", judgeTimeoutSeconds=patience)
    await steps.configure(estimator, "small", "large")
    steps.upstreams["judge"].respond = respond
    _, headers = await steps.ask()
    assert headers["x-capstan-route"] == f"cascade; accepted=2; judge={word}"
    await eventually(lambda: steps.upstreams["judge"].active == 0, what="the end of the judge's call")


async def test_an_ensemble_is_the_mean(steps: Steps) -> None:
    """Checks, log-probabilities and judge together; what cannot tell has no say."""
    estimator = CascadeEstimator(type=EstimatorType.ENSEMBLE, judge="test/judge", judgeTimeoutSeconds=30)
    await steps.configure(estimator)
    steps.upstreams["small"].respond = sure(0.6)
    steps.upstreams["judge"].respond = says("0.5")
    _, headers = await steps.ask()
    assert headers["x-capstan-route"] == "cascade; accepted=1; score=0.70"
    steps.upstreams["judge"].respond = fails
    _, headers = await steps.ask()
    assert headers["x-capstan-route"] == "cascade; accepted=1; score=0.80; judge=failed"


@pytest.mark.parametrize("waiting", ["small", "judge", "large"])
async def test_a_client_that_goes_away_stops_whatever_runs(steps: Steps, waiting: str) -> None:
    """A member or the judge at work is aborted; what was answered before is settled, and only that."""
    await steps.configure(JUDGE, "small", "large")
    steps.upstreams["judge"].respond = says("0.1")
    steps.upstreams[waiting].respond = stall
    asking = asyncio.create_task(steps.ask())
    await eventually(lambda: steps.upstreams[waiting].active == 1, what="the call")
    asking.cancel()
    await eventually(lambda: steps.upstreams[waiting].gone == 1, what="the abort")
    await steps.gateway.settled()
    order = ["small", "judge", "large"]
    assert [steps.tokens(name) for name in order] == [2.0 * (at < order.index(waiting)) for at in range(3)]
    assert steps.gateway.metric("llm_requests_total", model="steps", status="499") == 1
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_members_that_cannot_are_left_out(steps: Steps) -> None:
    """A member whose window is too small for the request is not asked at all; with none left the error says so."""
    await steps.configure(contextWindow=100)
    with pytest.raises(BadRequestError, match="3 models serve chat, 0 of them have a context window") as error:
        await steps.ask(max_tokens=500)
    assert error.value.code == "no_model_fits"


async def test_completions_cascade_too(steps: Steps) -> None:
    """/v1/completions is answered the same way, streamed or not."""

    async def text(request: Received, wire: Wire) -> None:
        choice = {"index": 0, "text": "four", "finish_reason": "stop", "logprobs": None}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        document = {"id": "c", "object": "text_completion", "created": 1, "model": request.document["model"]}
        await wire.json({**document, "choices": [choice], "usage": usage})

    await steps.configure()
    steps.upstreams["small"].respond = text
    whole = await steps.client.completions.create(model="steps", prompt="two and two")
    assert whole.choices[0].text == "four"
    stream = await steps.client.completions.create(model="steps", prompt="two and two", stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == "four"


@pytest.mark.parametrize("good", [True, False])
async def test_other_dialects_cascade_too(steps: Steps, good: bool) -> None:
    """A request to /v1/messages gets a held or a passed-on answer in its own dialect, streamed or not."""
    await steps.configure(CHECKS, "small", "large")
    if not good:
        steps.upstreams["small"].respond = says("")
    async with AsyncAnthropic(base_url=steps.gateway.url, api_key="unused", max_retries=0) as client:
        whole = await client.messages.create(model="steps", max_tokens=50, messages=MESSAGES)
        assert whole.content[0].text == "Hello there"
        async with client.messages.stream(model="steps", max_tokens=50, messages=MESSAGES) as stream:
            final = await stream.get_final_message()
    assert final.content[0].text == ("Hello there" if good else "Hello!")
    assert final.usage.output_tokens == (2 if good else 3)
    assert steps.asked("large") == (0 if good else 2)


async def test_a_large_answer_that_is_no_json_is_a_failure(steps: Steps) -> None:
    """An engine that answers nonsense is passed over, however much of it there is."""

    async def nonsense(_: Received, wire: Wire) -> None:
        await wire.json(b'{"choices": [' + b"x" * 20_000 + b"]}")

    await steps.configure()
    steps.upstreams["small"].respond = nonsense
    _, headers = await steps.ask()
    assert headers["x-capstan-route"] == "cascade; accepted=2; score=1.00"
    assert steps.escalations("small", "failed") == 1


async def test_the_end_of_the_time_gives_the_best_so_far(steps: Steps) -> None:
    """When the cascade's total deadline passes while a better answer is tried, the one that is there is given."""
    await steps.configure(timeouts=Timeouts(totalSeconds=4))
    steps.upstreams["small"].respond = says("I must decline.")
    steps.upstreams["middle"].respond = stall
    text, headers = await steps.ask()
    assert text == "I must decline."
    assert headers["x-capstan-route"] == "cascade; best=1; score=0.10; stopped=failed"
    assert steps.asked("large") == 0
