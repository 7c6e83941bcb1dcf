"""Who is asked after whom: a model and its fallbacks, the members of a router, and those of a router among them."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from capstan_contract.config import (
    CascadeBackend,
    ModelEntry,
    RouterBackend,
    RouterMember,
    StaticBackend,
    Strategy,
    Task,
)
from capstan_gateway.config.runtime import Runtime, ServedModel
from capstan_gateway.errors import InvalidRequest, ModelNotReady, UpstreamFailed, UpstreamRejected
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.fallbacks import MAX_FALLBACKS, first_answer
from capstan_gateway.pipeline.reply import Reply, WholeReply
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.registry import EndpointRegistry
from capstan_gateway.routing.unroutable import NoEndpoint
from capstan_gateway.selection.route_memory import RouteMemory
from capstan_gateway.telemetry.metrics import Metrics
from capstan_gateway.upstream.errors import DeadlineExceeded, DeadlineKind
from capstan_gateway.upstream.port import Endpoint
from support.asks import an_ask
from support.runtimes import compile_whole

REJECTED = UpstreamRejected("no", status=400)
FAILED = UpstreamFailed("failed")
TOO_LONG = UpstreamRejected("long", status=400, code="context_length_exceeded")
BLOCKED = UpstreamRejected("blocked", status=400, code="content_filter")


def entry(name: str, **fields: Any) -> ModelEntry:
    """Give a model."""
    given = {"id": f"t/{name}", "servedName": name, "upstreamName": name, "backend": StaticBackend(urls=())}
    return ModelEntry(**{**given, **fields})


def router(name: str, *members: str, **fields: Any) -> ModelEntry:
    """Give a router that asks its members in this order."""
    found = tuple(RouterMember(model=f"t/{member}", priority=number) for number, member in enumerate(members))
    return entry(name, backend=RouterBackend(strategy=Strategy.PRIORITY, members=found), **fields)


class Models:
    """Models that answer as a test says, and what they were asked."""

    def __init__(self, *entries: ModelEntry, without: str = "", failing: str = "", budget: int = 9) -> None:
        registry = EndpointRegistry()

        def endpoints_of(one: ModelEntry) -> EndpointSet:
            there = isinstance(one.backend, StaticBackend) and one.id.removeprefix("t/") not in without
            return EndpointSet(registry, [Endpoint(f"{one.id}@1", "127.0.0.1", 1)] if there else [])

        self.runtime: Runtime = compile_whole(*entries, endpoints_of=endpoints_of)
        self.asked: list[str] = []
        self.waits: list[bool] = []
        self.paid = 0
        self.budget = budget
        self.raises: dict[str, Exception] = {}
        self.metrics = Metrics()
        self.memory = RouteMemory()
        for name in failing:
            for state in self.runtime.models[name].endpoints.states:
                state.breaker = cast(Any, SimpleNamespace(allows=lambda _: False))
        for model in self.runtime.models.values():
            model.answer_alone = self._answering(model)
        self.ask = an_ask()

    def _answering(self, model: ServedModel) -> Any:
        async def answer(ask: Ask) -> Reply:
            self.asked.append(model.name)
            self.waits.append(ask.may_wait)
            if model.name in self.raises:
                raise self.raises[model.name]
            ask.answered_by = model
            return WholeReply(200, b"application/json", model.name.encode())

        return answer

    async def give(self, name: str, *, spent: bool = False, stream: bool = False, **raises: Exception) -> str:
        """Ask a model; give who answered, or raise what is told."""
        self.raises = raises
        self.asked.clear()
        self.waits.clear()
        model = self.runtime.models[name]
        document = {"model": name, "messages": [{"role": "user", "content": "x"}], "stream": stream}
        ask = self.ask = an_ask(model, document=document)
        ask.stats.spent = spent
        cast(Any, ask).__class__.runtime.__set__(ask, self.runtime)
        deps = SimpleNamespace(
            images=None,
            clock=lambda: 5.0, loop_time=lambda: 5.0, metrics=self.metrics, memory=self.memory,
            dispatcher=SimpleNamespace(pay_for_fallback=self._pay), credentials=SimpleNamespace(key=lambda _: b"k"),
        )  # fmt: skip
        reply = await first_answer(cast(Deps, deps), model, ask)
        assert isinstance(reply, WholeReply)
        return reply.body.decode()

    def _pay(self) -> bool:
        self.paid += 1
        return self.paid <= self.budget

    def sample(self, name: str, **labels: str) -> float:
        """Give a number of the metrics page."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


async def test_fallbacks_are_asked_in_their_order() -> None:
    """Each once, after a failure; whoever waits for an endpoint is the last that is left."""
    models = Models(
        entry("a", fallbacks=("b", "gone", "b", "e", "c")), entry("b"), entry("c"), entry("e", task=Task.EMBED)
    )
    assert await models.give("a") == "a"
    assert (models.asked, models.waits, models.paid) == (["a"], [False], 0)
    assert await models.give("a", a=FAILED, b=NoEndpoint("x", retry_after=1)) == "c"
    assert (models.asked, models.waits, models.paid) == (["a", "b", "c"], [False, False, True], 2)
    assert models.sample("gateway_retries_total", model="a", kind="fallback") == 2
    assert models.ask.route_note == b""
    with pytest.raises(UpstreamFailed, match=r"^failed$"):
        await models.give("b", b=FAILED)
    assert (models.asked, models.waits) == (["b"], [True])


async def test_no_more_fallbacks_are_asked_than_may_be() -> None:
    """However many a model names."""
    names = [f"m{number}" for number in range(8)]
    models = Models(entry("a", fallbacks=tuple(names)), *map(entry, names))
    with pytest.raises(UpstreamFailed):
        await models.give("a", a=FAILED, **dict.fromkeys(names, FAILED))
    assert models.asked == ["a", *names[:MAX_FALLBACKS]]


async def test_without_budget_nobody_else_is_asked() -> None:
    """The error of the model that failed is told, and no attempt counted that was not made."""
    models = Models(entry("a", fallbacks=("b",)), entry("b"), budget=0)
    with pytest.raises(UpstreamFailed, match=r"^failed$"):
        await models.give("a", a=FAILED)
    assert (models.asked, models.paid) == (["a"], 1)
    assert models.sample("gateway_retries_total", model="a", kind="fallback") == 0


@pytest.mark.parametrize(
    ("raises", "asked", "told"),
    [
        ({"a": REJECTED}, ["a"], REJECTED),
        ({"a": BLOCKED}, ["a"], BLOCKED),
        ({"a": TOO_LONG}, ["a"], TOO_LONG),
        ({"a": InvalidRequest("no")}, ["a"], None),
        ({"a": DeadlineExceeded("a@1", DeadlineKind.TOTAL)}, ["a"], None),
        ({"a": FAILED, "b": REJECTED, "c": REJECTED}, ["a", "b", "c"], FAILED),
        ({"a": FAILED, "b": REJECTED}, ["a", "b", "c"], None),
        ({"a": FAILED, "b": BLOCKED}, ["a", "b"], BLOCKED),
        ({"a": FAILED, "b": UpstreamFailed("b"), "c": REJECTED}, ["a", "b", "c"], "b"),
    ],
)
async def test_what_is_told_is_what_says_most(raises: dict[str, Exception], asked: list[str], told: Any) -> None:
    """The request's own fault ends it; that a fallback cannot take the request says nothing of the model asked for."""
    models = Models(entry("a", fallbacks=("b", "c"), contextWindow=10), entry("b", contextWindow=99), entry("c"))
    if len(raises) < len(asked):
        assert await models.give("a", **raises) == asked[-1]
    else:
        with pytest.raises(Exception) as raised:
            await models.give("a", **raises)
        assert told is None or raised.value is told or str(raised.value) == told
    assert models.asked == asked


async def test_what_was_sent_once_goes_nowhere_else() -> None:
    """Whatever became of it: neither to a fallback nor to another member."""
    models = Models(entry("a", fallbacks=("b",)), entry("b"), router("r", "a", "b"))
    for name in ("a", "r"):
        with pytest.raises(UpstreamFailed):
            await models.give(name, spent=True, a=FAILED)
        assert models.asked == ["a"]


async def test_who_has_no_endpoint_is_passed_over_while_another_one_has() -> None:
    """And who fails at the moment comes last; where nobody has one, the first one is asked, and may wait."""
    chain = (entry("a", fallbacks=("b", "c")), entry("b"), entry("c"))
    models = Models(*chain, without="a")
    assert await models.give("a") == "b"
    models = Models(*chain, failing="ab")
    assert await models.give("a") == "c"
    with pytest.raises(UpstreamFailed):
        await models.give("a", a=FAILED, b=FAILED, c=FAILED)
    assert models.asked == ["c", "a", "b"]
    models = Models(*chain, without="abc")
    assert await models.give("a") == "a"
    assert models.waits == [True]


async def test_a_cascade_is_there_when_one_of_its_members_is() -> None:
    """Its own endpoints are none."""
    steps = entry("s", backend=CascadeBackend(members=("t/b", "t/c")))
    models = Models(entry("a", fallbacks=("s",)), entry("b"), entry("c"), steps, without="ab")
    assert await models.give("a") == "s"
    models = Models(entry("a", fallbacks=("s",)), entry("b"), entry("c"), steps, without="bc")
    with pytest.raises(UpstreamFailed):
        await models.give("a", a=FAILED)
    assert models.asked == ["a"]


async def test_members_of_a_router_are_asked_in_its_order() -> None:
    """What each took is remembered, and said: how it was routed, and whether it was the first choice."""
    models = Models(entry("a"), entry("b"), router("r", "b", "a"))
    assert await models.give("r") == "b"
    assert (models.ask.route_note, models.waits) == (b"priority", [False])
    assert models.sample("llm_route_decisions_total", route_model="r", model="b", strategy="priority") == 1
    assert (models.memory.speed("t/b", stream=False), models.memory.speed("t/a", stream=False)) == (0.0, None)
    assert await models.give("r", stream=True, b=FAILED) == "a"
    assert models.ask.route_note == b"priority; fallback"
    assert models.memory.speed("t/a", stream=True) == 0.0
    assert models.memory.speed("t/b", stream=True) is None
    assert models.memory.looked_at("t/b", stream=True) == 2
    for refusal in (REJECTED, BLOCKED):
        with pytest.raises(UpstreamRejected) as refused:
            await models.give("r", b=refusal)
        assert (refused.value, models.asked) == (refusal, ["b"])
    assert await models.give("r") == "b"
    assert models.sample("llm_route_decisions_total", route_model="r", model="b", strategy="priority") == 2


async def test_a_plain_model_is_not_remembered() -> None:
    """Nobody chooses by what it took."""
    models = Models(entry("a", fallbacks=("b",)), entry("b"))
    assert await models.give("a", a=FAILED) == "b"
    assert [models.memory.looked_at(f"t/{name}", stream=False) for name in "ab"] == [0, 0]


async def test_too_long_a_prompt_goes_to_a_member_with_a_larger_window() -> None:
    """And to nobody whose window is as small, or not known."""
    windows = {"a": 100_000, "b": 100_000, "c": None, "d": 200_000}
    entries = [entry(name, contextWindow=window) for name, window in windows.items()]
    models = Models(*entries, router("r", *windows))
    assert await models.give("r", a=TOO_LONG) == "d"
    assert models.asked == ["a", "d"]
    models = Models(*entries, router("r", "c", "d"))
    with pytest.raises(UpstreamRejected):
        await models.give("r", c=TOO_LONG)
    assert models.asked == ["c"]


async def test_a_router_without_a_ready_member_says_so() -> None:
    """With how it was looked for, and when it is worth to try again; a plain model says what it always says."""
    models = Models(entry("a"), router("r", "a"))
    with pytest.raises(ModelNotReady, match=r"^no model can answer: .*, 0 of them are ready$") as not_ready:
        await models.give("r", a=NoEndpoint("x", retry_after=7))
    assert dict(not_ready.value.headers)[b"retry-after"] == b"7"
    with pytest.raises(NoEndpoint):
        await models.give("a", a=NoEndpoint("x", retry_after=7))


async def test_a_router_may_be_a_fallback() -> None:
    """Its members are asked in its order, inside of what is in force on it, but none a second time."""
    models = Models(
        entry("a", fallbacks=("r",)), entry("b"), entry("c"), router("r", "c", "a", "b"),
    )  # fmt: skip
    seen: list[str] = []

    class Guard:
        order, reads = 2, False

        async def answer(self, ask: Ask, inner: Any) -> Reply:
            seen.append("guard")
            return cast(Reply, await inner(ask))

    models.runtime.models["r"].layers = (Guard(),)
    assert await models.give("a", a=FAILED, c=FAILED) == "b"
    assert (models.asked, seen) == (["a", "c", "b"], ["guard", "guard"])


async def test_a_router_may_be_the_first_that_there_is() -> None:
    """Where the model asked for has no endpoint its members are asked at once, and then the next fallback."""
    models = Models(
        entry("a", fallbacks=("r", "d")), entry("b"), entry("c"), entry("d"), router("r", "b", "c"), without="a"
    )
    assert await models.give("a") == "b"
    assert await models.give("a", b=FAILED, c=FAILED) == "d"
    assert models.asked == ["b", "c", "d"]


async def test_a_model_is_no_fallback_of_its_own() -> None:
    """It stays the one that was asked for: its refusal is the answer."""
    models = Models(entry("a", fallbacks=("a", "b")), entry("b"))
    with pytest.raises(UpstreamRejected):
        await models.give("a", a=REJECTED)
    assert models.asked == ["a"]


async def test_of_two_the_one_that_is_ready_comes_first() -> None:
    """A cascade is as ready as one of its members."""
    models = Models(entry("a", fallbacks=("b",)), entry("b"), failing="a")
    assert await models.give("a") == "b"
    steps = entry("s", backend=CascadeBackend(members=("t/b", "t/c")))
    models = Models(entry("a", fallbacks=("s",)), entry("b"), entry("c"), steps, failing="ab")
    assert await models.give("a") == "s"
    models = Models(entry("a", fallbacks=("s",)), entry("b"), entry("c"), steps, failing="bc")
    assert await models.give("a") == "a"


async def test_a_member_that_cannot_take_a_request_which_others_failed_says_nothing() -> None:
    """The next one is asked, and in the end the failure is told; too long a prompt narrows those that are left."""
    windows = {"a": 100_000, "b": 100_000, "c": None, "d": 200_000}
    models = Models(*(entry(name, contextWindow=window) for name, window in windows.items()), router("r", *windows))
    assert await models.give("r", a=FAILED, b=REJECTED) == "c"
    with pytest.raises(UpstreamFailed):
        await models.give("r", a=FAILED, b=REJECTED, c=REJECTED, d=REJECTED)
    assert models.asked == ["a", "b", "c", "d"]
    assert await models.give("r", a=FAILED, b=TOO_LONG) == "d"
    assert models.asked == ["a", "b", "d"]
    with pytest.raises(UpstreamRejected) as refused:
        await models.give("r", a=TOO_LONG, d=REJECTED)
    assert (refused.value, models.asked) == (TOO_LONG, ["a", "d"])
