"""A cascade over members that answer as a test says: who is asked, what is given, what it may cost, how it is told."""

import asyncio
import math
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest

from capstan_contract.config import (
    CascadeBackend,
    CascadeEstimator,
    EstimatorType,
    ExternalBackend,
    ExternalEndpoint,
    ModelEntry,
    Price,
    Provider,
    StaticBackend,
    Task,
)
from capstan_gateway.config.runtime import Runtime, ServedModel
from capstan_gateway.documents import INLINE_BYTES
from capstan_gateway.errors import GatewayError, InvalidRequest, UpstreamFailed, UpstreamRejected
from capstan_gateway.memory import MemoryBudget
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.cascade import cascade_answer
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.reply import Reply, StreamReply, WholeReply
from capstan_gateway.pipeline.request import Request, Route
from capstan_gateway.pipeline.settle import settle_whole
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.registry import EndpointRegistry
from capstan_gateway.routing.unroutable import NoEndpoint
from capstan_gateway.selection.plan import CascadePlan
from capstan_gateway.serving.exchange import FREE_BYTES
from capstan_gateway.streaming.relay import StreamRelay
from capstan_gateway.telemetry.metrics import Metrics
from capstan_gateway.tokens.usage import Usage
from capstan_gateway.upstream.errors import DeadlineExceeded, DeadlineKind
from fakes.openai_upstream import DONE, completion
from support.asks import an_ask
from support.runtimes import compile_whole
from support.threads import Counted

CHECKS = CascadeEstimator(type=EstimatorType.CHECKS)
LOGPROBS = CascadeEstimator(type=EstimatorType.LOG_PROBABILITY)
JUDGE = CascadeEstimator(type=EstimatorType.JUDGE, judge="t/judge", judgeTimeoutSeconds=1)
ENSEMBLE = CascadeEstimator(type=EstimatorType.ENSEMBLE, judge="t/judge", judgeTimeoutSeconds=1)
CHAT = Route("/v1/chat/completions", b"/chat/completions", frozenset((Task.CHAT,)), ("messages",), streams=True)
TEXT = Route("/v1/completions", b"/completions", frozenset((Task.CHAT,)), ("prompt",), streams=True)
FAILED = UpstreamFailed("failed")
LATE = DeadlineExceeded("x@1", DeadlineKind.TOTAL)
GOOD, REFUSES, EMPTY = "It is over there.", "I'm sorry, but I can't help with that.", ""
HOSTED = ExternalEndpoint(name="k", url="http://127.0.0.1/v1")


def sure(probability: float, text: str = GOOD) -> dict[str, Any]:
    """Give an answer of which an engine is as sure as this."""
    document = completion("m", text)
    document["choices"][0]["logprobs"] = {"content": [{"token": "x", "logprob": math.log(probability)}]}
    return document


class Steps:
    """A cascade, what its members say, and what they were asked."""

    def __init__(
        self, *members: str, estimator: CascadeEstimator = CHECKS, threshold: float = 0.5,
        limit: float | None = None, price: float | None = 1.0, providers: dict[str, Provider] | None = None,
        budget: int = 1 << 30,
    ) -> None:  # fmt: skip
        self.names = members or ("a", "b", "c")
        price_of = None if price is None else Price(inputPerMillion=price, outputPerMillion=price)

        def entry(name: str, backend: Any = None) -> ModelEntry:
            provider = (providers or {}).get(name)
            backend = ExternalBackend(provider=provider, endpoints=(HOSTED,)) if provider else backend
            return ModelEntry(
                id=f"t/{name}", servedName=name, upstreamName=f"{name}-up", price=price_of,
                backend=backend or StaticBackend(urls=()),
            )  # fmt: skip

        steps = CascadeBackend(
            members=tuple(f"t/{name}" for name in self.names), threshold=threshold, maxCost=limit, estimator=estimator
        )
        entries = [entry(name) for name in dict.fromkeys((*self.names, "judge"))]
        self.runtime: Runtime = compile_whole(
            *entries, entry("steps", steps), endpoints_of=lambda _: EndpointSet(EndpointRegistry())
        )
        self.metrics = Metrics()
        self.budget = MemoryBudget(budget)
        self.says: dict[str, Any] = {}
        self.asked: list[str] = []
        self.asks: list[Ask] = []
        self.ends: list[str] = []
        for model in self.runtime.by_id.values():
            model.answer_alone = self._answering(model)

    def _answering(self, model: ServedModel) -> Any:
        async def answer(ask: Ask) -> Reply:
            self.asked.append(model.name)
            self.asks.append(ask)
            assert ask.holders == 1, "somebody holds a call within an ask"
            ask.on_end(lambda: self.ends.append(model.name))
            ask.stats.attempts += 1
            said = self.says.get(model.name, GOOD)
            if callable(said):
                said = said(ask)
            if asyncio.isfuture(said):
                said = await said
            if isinstance(said, Exception):
                raise said
            if isinstance(said, str):
                said = completion("m", said)
            ask.answered_by = model
            if isinstance(said, StreamReply):
                return said
            body = said if isinstance(said, bytes) else orjson.dumps(said)
            usage = Usage(100, 10)
            settle_whole(ask.bill, model, ask.request, usage, body)
            return WholeReply(200, b"application/json", body)

        return answer

    async def give(
        self, *, route: Route = CHAT, stream: bool = False, usage: bool = False, spent: bool = False, **fields: Any
    ) -> Reply:
        """Ask the cascade."""
        model = self.runtime.models["steps"]
        content = {"messages": [{"role": "user", "content": "x"}]} if route is CHAT else {"prompt": "x"}
        document = {"model": "steps", **content, **({"stream": True} if stream else {}), **fields}
        ask = self.ask = an_ask(model, document=document, budget=self.budget)
        ask.request = Request(route, document, stream=stream, usage_asked=usage)
        ask.hold()
        ask.stats.spent = spent
        cast(Any, Ask).runtime.__set__(ask, self.runtime)
        with Counted() as pool:
            self.pool = pool
            deps = cast(Deps, SimpleNamespace(metrics=self.metrics, executor=pool))
            assert isinstance(model.plan, CascadePlan)
            return await cascade_answer(deps, model, model.plan, ask)

    async def text(self, **fields: Any) -> str:
        """Ask it for an answer in one piece; give its text."""
        reply = await self.give(**fields)
        assert isinstance(reply, WholeReply)
        return str(orjson.loads(reply.body)["choices"][0]["message"]["content"])

    @property
    def note(self) -> str:
        """How it is told in a header."""
        return self.ask.route_note.decode()

    def escalated(self, name: str, reason: str) -> float:
        """How often a member was not enough."""
        labels = {"route_model": "steps", "model": name, "reason": reason}
        return self.metrics.registry.get_sample_value("llm_cascade_escalations_total", labels) or 0.0

    def decided(self, name: str) -> float:
        """How often a member's answer was given."""
        labels = {"route_model": "steps", "model": name, "strategy": "cascade"}
        return self.metrics.registry.get_sample_value("llm_route_decisions_total", labels) or 0.0


async def test_the_first_answer_that_is_good_enough_is_given() -> None:
    """Nobody else is asked; who answered, how good it is and how it was come by are told."""
    steps = Steps()
    assert await steps.text() == GOOD
    assert (steps.asked, steps.note) == (["a"], "cascade; accepted=1; score=1.00")
    assert steps.ask.answered_by is steps.runtime.models["a"]
    assert (steps.decided("a"), steps.escalated("a", "score")) == (1, 0)
    assert steps.ends == ["a"], "a held answer needs its call no more"
    assert steps.ask.stats.attempts == 1
    assert await steps.text() == GOOD
    assert steps.decided("a") == 2


async def test_an_answer_that_is_not_good_enough_goes_on_to_the_next() -> None:
    """The threshold itself is enough; less is not. Whatever the last one says is given, unscored."""
    steps = Steps(estimator=LOGPROBS, threshold=0.5)
    steps.says = {"a": sure(0.499), "b": sure(0.500001)}
    await steps.text()
    assert (steps.asked, steps.note) == (["a", "b"], "cascade; accepted=2; score=0.50")
    assert (steps.escalated("a", "score"), steps.escalated("b", "score"), steps.decided("b")) == (1, 0, 1)
    steps.says = {"a": sure(0.1), "b": sure(0.1), "c": EMPTY}
    assert await steps.text() == EMPTY
    assert (steps.asked[2:], steps.note) == (["a", "b", "c"], "cascade; accepted=3")
    assert steps.ask.answered_by is steps.runtime.models["c"]
    assert steps.decided("c") == 1
    exact = Steps(threshold=1.0)
    await exact.text()
    assert exact.asked == ["a"]


async def test_an_answer_that_nobody_can_score_is_not_good_enough() -> None:
    """Whatever the threshold; where it is the best there is it is given without a score."""
    steps = Steps("a", "b", estimator=LOGPROBS, threshold=0.0)
    steps.says = {"a": GOOD, "b": FAILED}
    assert await steps.text() == GOOD
    assert (steps.asked, steps.note) == (["a", "b"], "cascade; best=1; stopped=failed")
    steps = Steps(estimator=LOGPROBS, threshold=0.9)
    steps.says = {"a": GOOD, "b": sure(0.3, "b"), "c": FAILED}
    assert await steps.text() == "b"
    steps.says = {"a": sure(0.3, "a"), "b": GOOD, "c": FAILED}
    assert await steps.text() == "a"


async def test_the_best_answer_so_far_is_given_when_the_others_fail() -> None:
    """Of equals the first one."""
    steps = Steps("a", "b", "c", "d", estimator=LOGPROBS, threshold=0.9)
    steps.says = {"a": sure(0.4, "a"), "b": sure(0.6, "b"), "c": sure(0.6, "c"), "d": FAILED}
    assert await steps.text() == "b"
    assert steps.note == "cascade; best=2; score=0.60; stopped=failed"
    assert steps.ask.answered_by is steps.runtime.models["b"]
    assert [steps.decided(name) for name in "abcd"] == [0, 1, 0, 0]
    assert (steps.escalated("c", "score"), steps.escalated("d", "failed")) == (1, 1)


async def test_what_was_held_of_a_worse_answer_is_given_back() -> None:
    """Of a large answer as much memory is taken as long as it is the best there is; the rest goes with the ask."""
    large = "x" * FREE_BYTES
    held: list[int] = []
    for first, second in ((0.4, 0.6), (0.6, 0.4)):
        steps = Steps(estimator=LOGPROBS, threshold=0.9)

        def look(_: Ask, steps: Steps = steps) -> Any:
            held.append(steps.budget.held)
            return FAILED

        steps.says = {"a": sure(first, large), "b": sure(second, large), "c": look}
        await steps.text()
        size = steps.budget.held
        assert held.pop() == size > 2 * FREE_BYTES
        single = 2 * len(orjson.dumps(sure(first, large)))
        assert size < 1.5 * single, "one answer, not two"
        steps.ask.leave()
        assert steps.budget.held == 0


async def test_a_large_answer_is_counted_beside_the_loop() -> None:
    """In the thread for what is large, so that others are served."""
    steps = Steps()
    steps.says = {"a": GOOD + "x" * INLINE_BYTES}
    await steps.text()
    assert steps.pool.count == 1


async def test_time_of_a_last_member_that_failed_is_time_that_was_waited() -> None:
    """What the client waits for is the answer that is given."""
    steps = Steps("a", "b", threshold=0.9)

    def fails(ask: Ask) -> Any:
        ask.stats.first_byte, ask.stats.read = 5.0, 2.0
        return FAILED

    steps.says = {"a": REFUSES, "b": fails}
    assert await steps.text() == REFUSES
    assert (steps.ask.stats.waited, steps.ask.stats.first_byte, steps.ask.stats.read) == (7.0, 0.0, 0.0)


async def test_without_any_answer_the_last_failure_is_told() -> None:
    """After everybody was asked, and each failure counted."""
    steps = Steps()
    second = UpstreamFailed("b")
    last = UpstreamFailed("c")
    steps.says = {"a": NoEndpoint("x", retry_after=1), "b": second, "c": last}
    with pytest.raises(UpstreamFailed) as raised:
        await steps.text()
    assert (raised.value, steps.asked) == (last, ["a", "b", "c"])
    assert [steps.escalated(name, "failed") for name in "abc"] == [1, 1, 1]
    assert steps.ask.stats.attempts == 3
    assert [steps.decided(name) for name in "abc"] == [0, 0, 0]


@pytest.mark.parametrize("error", [UpstreamRejected("no", status=400), InvalidRequest("no")])
async def test_the_requests_own_fault_ends_it(error: GatewayError) -> None:
    """Also behind an answer: nobody else takes such a request either."""
    steps = Steps(threshold=0.9)
    steps.says = {"a": error}
    with pytest.raises(GatewayError) as raised:
        await steps.text()
    assert (raised.value, steps.asked) == (error, ["a"])
    steps.says = {"a": REFUSES, "b": error}
    with pytest.raises(GatewayError):
        await steps.text()
    assert steps.escalated("b", "failed") == 0


async def test_when_time_is_up_the_best_answer_so_far_is_given() -> None:
    """And nobody else asked; without an answer the time-out is told."""
    steps = Steps(threshold=0.9)
    steps.says = {"a": REFUSES, "b": LATE}
    assert await steps.text() == REFUSES
    assert (steps.asked, steps.note) == (["a", "b"], "cascade; best=1; score=0.10; stopped=failed")
    assert steps.escalated("b", "failed") == 0
    steps.says = {"a": LATE}
    with pytest.raises(DeadlineExceeded):
        await steps.text()


async def test_what_was_sent_once_is_answered_by_the_first_answer() -> None:
    """However good it is; and a failure is the end."""
    steps = Steps(threshold=0.9)

    def spends(ask: Ask) -> Any:
        ask.stats.spent = True
        return REFUSES

    steps.says = {"a": spends}
    assert await steps.text() == REFUSES
    assert (steps.asked, steps.note) == (["a"], "cascade; best=1; score=0.10; stopped=sent-once")
    assert steps.escalated("a", "score") == 0

    def fails(ask: Ask) -> Any:
        ask.stats.spent = True
        return FAILED

    steps.says = {"a": fails}
    with pytest.raises(UpstreamFailed):
        await steps.text()
    assert steps.asked == ["a", "a"]


# --- what it may cost -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "asked"),
    [(219e-6, ["a"]), (220e-6, ["a", "b"]), (329e-6, ["a", "b"]), (330e-6, ["a", "b", "c"]), (None, ["a", "b", "c"])],
)
async def test_what_it_may_cost_counts_what_was_spent(limit: float | None, asked: list[str]) -> None:
    """A call more, as long as the one before, must fit beside what is on the bill; the limit itself may be reached."""
    steps = Steps(threshold=0.9, limit=limit)
    steps.says = {"a": REFUSES, "b": REFUSES, "c": GOOD}
    assert await steps.text() == (GOOD if len(asked) == 3 else REFUSES)
    assert steps.asked == asked
    if len(asked) < 3:
        assert steps.note == "cascade; best=1; score=0.10; stopped=max-cost"


async def test_the_longest_answer_that_is_allowed_counts() -> None:
    """Where the client says it; where nobody has answered yet the first member is asked whatever it costs."""
    steps = Steps(threshold=0.9, limit=250e-6)
    steps.says = {"a": REFUSES}
    await steps.text(max_tokens=40)
    assert steps.asked == ["a", "b"]
    steps = Steps(threshold=0.9, limit=249e-6)
    steps.says = {"a": REFUSES}
    await steps.text(max_tokens=40)
    assert steps.asked == ["a"]
    steps = Steps(limit=1e-9)
    assert await steps.text() == GOOD


async def test_without_a_call_before_it_the_prompt_is_estimated() -> None:
    """A member that failed says nothing of how long the prompt is."""
    for limit, asked in ((600e-6, ["a", "b", "c"]), (1e-6, ["a", "b"])):
        steps = Steps(threshold=0.9, limit=limit)
        steps.says = {"a": FAILED, "b": REFUSES, "c": GOOD}
        await steps.text()
        assert steps.asked == asked


async def test_an_answer_that_nobody_was_paid_for_tells_no_length() -> None:
    """One of a cache, say: what the next member would cost is estimated by the request."""
    for limit, asked in ((1.0, ["b"]), (1e-6, [])):
        steps = Steps("a", "b", threshold=0.9, limit=limit)

        async def cached(_: Ask) -> Reply:
            return WholeReply(200, b"application/json", orjson.dumps(completion("m", REFUSES)))

        steps.runtime.models["a"].answer_alone = cached
        await steps.text()
        assert steps.asked == asked


async def test_what_has_no_price_costs_nothing() -> None:
    """However little the request may cost."""
    steps = Steps(threshold=0.9, limit=1e-9, price=None)
    steps.says = {"a": REFUSES}
    assert await steps.text() == GOOD


# --- how members are asked --------------------------------------------------------------------------------------------


async def test_held_members_are_asked_for_whole_answers() -> None:
    """Without the wish for a stream; they wait for no endpoint, and the last one only where nobody has answered."""
    steps = Steps(threshold=0.9)
    steps.says = {"a": REFUSES, "b": FAILED, "c": GOOD}
    await steps.give(stream=True, stream_options={"include_usage": True}, temperature=1)
    first, _, last = steps.asks
    assert first.request.document == {
        "model": "steps", "messages": [{"role": "user", "content": "x"}], "temperature": 1,
    }  # fmt: skip
    assert (first.request.stream, last.request.stream) == (False, True)
    assert last.request is steps.ask.request
    assert [ask.may_wait for ask in steps.asks] == [False, False, False]
    assert steps.ends == ["a", "b"], "the last one's answer is the ask's"
    steps.ask.leave()
    assert steps.ends == ["a", "b", "c"]
    steps = Steps()
    steps.says = dict.fromkeys("ab", FAILED)
    await steps.text()
    assert [ask.may_wait for ask in steps.asks] == [False, False, True]


async def test_probabilities_are_asked_for_where_they_are_needed_and_given_to_nobody() -> None:
    """In the way of the route; not of those who have none, and not twice of who refuses them."""
    steps = Steps(estimator=LOGPROBS)
    steps.says = {"a": sure(0.9)}
    reply = await steps.give()
    assert isinstance(reply, WholeReply)
    assert orjson.loads(reply.body)["choices"][0]["logprobs"] is None
    assert steps.asks[0].request.document["logprobs"] is True
    reply = await steps.give(logprobs=True)
    assert isinstance(reply, WholeReply)
    assert orjson.loads(reply.body)["choices"][0]["logprobs"] is not None, "the client asked for them"
    steps.asks.clear()
    await steps.give(route=TEXT)
    assert steps.asks[0].request.document["logprobs"] == 1
    plain = Steps()
    await plain.text()
    assert "logprobs" not in plain.asks[0].request.document
    hosted = Steps(estimator=LOGPROBS, providers={"a": Provider.ANTHROPIC})
    await hosted.text()
    assert "logprobs" not in hosted.asks[0].request.document


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (UpstreamRejected("logprobs are not supported", status=400), True),
        (UpstreamRejected("no", status=400, param="top_logprobs"), True),
        (UpstreamRejected("no", status=400), False),
        (UpstreamRejected("logprobs are not supported", status=422), False),
    ],
)
async def test_who_refuses_probabilities_is_asked_without_them(error: UpstreamRejected, again: bool) -> None:
    """Once more, and then cannot be scored by them; any other refusal is what it is."""
    steps = Steps("a", "b", estimator=LOGPROBS)
    steps.says = {"a": lambda ask: error if "logprobs" in ask.request.document else GOOD, "b": "b"}
    if again:
        assert await steps.text() == "b"
        assert steps.asked == ["a", "a", "b"]
        assert "logprobs" not in steps.asks[1].request.document
    else:
        with pytest.raises(UpstreamRejected):
            await steps.text()
        assert steps.asked == ["a"]
    steps = Steps("a", "b")
    steps.says = {"a": error}
    with pytest.raises(UpstreamRejected):
        await steps.text()
    assert steps.asked == ["a"], "who was not asked for them is not asked again"


@pytest.mark.parametrize("body", [b"nonsense", b"[1]", b"null"])
async def test_an_answer_that_cannot_be_read_is_a_failure(body: bytes) -> None:
    """The next member is asked."""
    steps = Steps()
    steps.says = {"a": body}
    assert await steps.text() == GOOD
    assert (steps.asked, steps.escalated("a", "failed")) == (["a", "b"], 1)
    steps = Steps("a", "b")
    steps.says = {"a": body, "b": FAILED}
    with pytest.raises(UpstreamFailed):
        await steps.text()


async def test_a_stream_in_place_of_an_answer_is_a_failure() -> None:
    """It is in another form than was asked for."""
    steps = Steps("a", "b")
    source: Any = None
    steps.says = {"a": StreamReply(b"", source, StreamRelay(strip_usage=True)), "b": GOOD}
    assert await steps.text() == GOOD
    assert steps.escalated("a", "failed") == 1


@pytest.mark.parametrize("usage", [True, False])
async def test_a_held_answer_is_streamed_to_who_wants_a_stream(usage: bool) -> None:
    """With its end, and usage where that was asked for; there is nothing more to receive, and nobody to blame."""
    steps = Steps()
    reply = await steps.give(stream=True, usage=usage)
    assert isinstance(reply, StreamReply)
    assert reply.first.endswith(DONE)
    assert GOOD.encode() in reply.first
    assert (b'"usage":{' in reply.first) is usage
    assert reply.relay.done
    source = reply.source
    assert (source.complete, source.status, source.headers, source.endpoint.id) == (True, 200, [], "t/a@held")
    assert (source.endpoint.host, source.endpoint.port, source.whole, source.opening) == ("", 0, None, None)
    assert [await source.receive(), await source.read(9), await source.read_beginning(9)] == [b""] * 3
    source.finish()
    source.blame("x")
    source.close()


# --- the judge --------------------------------------------------------------------------------------------------------


async def test_a_judge_grades_an_answer() -> None:
    """It is asked in its own name about the conversation and the answer; its call is on the bill of the request."""
    steps = Steps(estimator=JUDGE)
    steps.says = {"judge": "0.75"}
    assert await steps.text() == GOOD
    assert steps.note == "cascade; accepted=1; score=0.75"
    asked = steps.asks[1]
    assert asked.request.document["model"] == "judge-up"
    assert asked.request.document["max_tokens"] == 256
    assert asked.request.route.upstream_path == b"/chat/completions"
    assert asked.request.route.tasks == {Task.CHAT}
    assert GOOD in asked.request.document["messages"][1]["content"]
    assert (asked.may_wait, asked.bill is steps.ask.bill) == (False, True)
    assert steps.ask.bill.calls == 2
    assert steps.ends == ["a", "judge"]
    assert steps.ask.answered_by is steps.runtime.models["a"]
    hosted = Steps(estimator=JUDGE, providers={"judge": Provider.OPENAI})
    hosted.says = {"judge": "0.75"}
    await hosted.text()
    assert hosted.asks[1].request.document["max_completion_tokens"] == 256
    assert "max_tokens" not in hosted.asks[1].request.document


@pytest.mark.parametrize("said", ["no number", FAILED, NoEndpoint("x", retry_after=1), LATE, b"nonsense"])
async def test_a_judge_that_gives_no_grade_is_told(said: Any) -> None:
    """It has no say, and the answer cannot be accepted by it."""
    steps = Steps("a", "b", estimator=JUDGE, threshold=0.0)
    steps.says = {"judge": said}
    await steps.text()
    assert steps.asked == ["a", "judge", "b"]
    assert steps.note == "cascade; accepted=2; judge=failed"
    ensemble = Steps("a", "b", estimator=ENSEMBLE)
    ensemble.says = {"judge": said, "a": sure(0.6)}
    await ensemble.text()
    assert ensemble.note == "cascade; accepted=1; score=0.80; judge=failed"


async def test_a_judge_has_a_deadline() -> None:
    """Behind it the answer has no grade; what an earlier judgement failed with is not told of a later one."""
    steps = Steps(estimator=CascadeEstimator(type=EstimatorType.JUDGE, judge="t/judge", judgeTimeoutSeconds=0.01))
    steps.says = {"judge": lambda _: asyncio.get_running_loop().create_future()}
    await steps.text()
    assert steps.note == "cascade; accepted=3; judge=timeout"
    grades = iter([FAILED, "0.9"])
    steps = Steps(estimator=JUDGE)
    steps.says = {"judge": lambda _: next(grades)}
    await steps.text()
    assert steps.note == "cascade; accepted=2; score=0.90"


async def test_all_that_can_tell_have_a_say() -> None:
    """The mean of checks, probability and judge."""
    steps = Steps(estimator=ENSEMBLE)
    steps.says = {"a": sure(0.5), "judge": "0.3"}
    await steps.text()
    assert steps.note == "cascade; accepted=1; score=0.60"
    nobody = Steps(estimator=CascadeEstimator(type=EstimatorType.ENSEMBLE))
    nobody.says = {"a": sure(0.5)}
    await nobody.text()
    assert (nobody.asked, nobody.note) == (["a"], "cascade; accepted=1; score=0.75")


async def test_who_answered_is_told_of_answers_alone() -> None:
    """Not of one that nobody could read, nor of the judge; and each member that was not enough is counted each time."""
    steps = Steps("a", "b", estimator=JUDGE)
    steps.says = {"a": b"nonsense", "b": FAILED}
    for times in (1, 2):
        with pytest.raises(UpstreamFailed, match=r"^failed$"):
            await steps.text()
        assert steps.ask.answered_by is None
        assert steps.escalated("a", "failed") == times
    judged = Steps("a", "b", estimator=JUDGE)
    judged.says = {"a": GOOD, "judge": "0.1", "b": FAILED}

    def look(ask: Ask) -> Any:
        assert judged.ask.answered_by is None
        return FAILED

    judged.says["b"] = look
    await judged.text()
    assert judged.ask.answered_by is judged.runtime.models["a"]


async def test_a_judge_is_asked_as_a_chat_whatever_was_asked() -> None:
    """Also about a text completion; an answer that is far too long is no grade."""
    steps = Steps(estimator=JUDGE)
    steps.says = {"judge": "0.75"}
    await steps.give(route=TEXT)
    assert steps.asks[1].request.route.upstream_path == b"/chat/completions"
    assert steps.asks[1].inside == ()
    steps = Steps(estimator=JUDGE)
    steps.says = {"judge": "x" * 300_000 + " 0.75"}
    await steps.text()
    assert "judge=failed" in steps.note
    whole = orjson.dumps(completion("m", "0.75"))
    for size, graded in ((INLINE_BYTES, True), (INLINE_BYTES + 1, False)):
        steps = Steps(estimator=JUDGE)
        steps.says = {"judge": whole + b" " * (size - len(whole))}
        await steps.text()
        assert ("judge=failed" not in steps.note) is graded
