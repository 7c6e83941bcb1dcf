"""Which members of a router are asked for a request, in which order, and what is told when none fits."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from capstan_contract.config import (
    CascadeBackend,
    ExternalBackend,
    ExternalEndpoint,
    ModelEntry,
    Price,
    Provider,
    RouterBackend,
    RouterMember,
    StaticBackend,
    StickyBy,
    Strategy,
    Task,
)
from capstan_contract.names import AUTO
from capstan_gateway.config.runtime import Runtime
from capstan_gateway.dialects.clients.forms import Form
from capstan_gateway.errors import InvalidRequest
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.request import NativeRequest, Request, Route
from capstan_gateway.pipeline.route import is_ready, is_usable, rank, takers
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.registry import EndpointRegistry
from capstan_gateway.selection.route_memory import RouteMemory
from capstan_gateway.upstream.port import Endpoint
from support.asks import CHAT, an_ask
from support.runtimes import compile_whole

EMBEDDINGS = Route("/v1/embeddings", b"/embeddings", frozenset((Task.EMBED,)), ("input",))
HEARD = Route("/v1/audio/transcriptions", b"/audio/transcriptions", frozenset((Task.TRANSCRIBE,)), form=True)
BOTH = Route("/v1/x", b"/x", frozenset((Task.EMBED, Task.CHAT)), ("input",))
SAYS: dict[str, Any] = {"model": "r", "messages": [{"role": "user", "content": "x" * 400}]}


def entry(name: str, **fields: Any) -> ModelEntry:
    """Give a model."""
    given = {"id": f"t/{name}", "servedName": name, "upstreamName": name, "backend": StaticBackend(urls=())}
    return ModelEntry(**{**given, **fields})


def router(*members: str, strategy: Strategy = Strategy.PRIORITY, name: str = "r", **fields: Any) -> ModelEntry:
    """Give a router over these members; a name with `=` has a weight."""
    found = []
    for number, member in enumerate(members):
        model, _, weight = member.partition("=")
        found.append(RouterMember(model=f"t/{model}", priority=number, weight=int(weight or 100)))
    sticky = fields.pop("sticky", StickyBy.USER)
    return entry(name, backend=RouterBackend(strategy=strategy, members=tuple(found), stickyBy=sticky), **fields)


def hosted(name: str, provider: Provider = Provider.ANTHROPIC) -> ModelEntry:
    """Give a model of a hosted API."""
    endpoint = ExternalEndpoint(name="default", url="https://api.example.com/v1", credentialFile="key")
    return entry(name, backend=ExternalBackend(provider=provider, endpoints=(endpoint,)))


class World:
    """Models with endpoints, of which a test says how they are."""

    def __init__(self, *entries: ModelEntry, endpoints: dict[str, int] | None = None) -> None:
        registry = EndpointRegistry()

        def endpoints_of(one: ModelEntry) -> EndpointSet:
            count = (endpoints or {}).get(one.servedName, 1)
            key = "key" if isinstance(one.backend, ExternalBackend) else None
            made = [Endpoint(f"{one.id}@{number}", "127.0.0.1", 1, credential=key) for number in range(count)]
            return EndpointSet(registry, made)

        self.runtime: Runtime = compile_whole(*entries, endpoints_of=endpoints_of)
        self.keys: dict[str, bytes] = {"key": b"k"}
        self.asked_at: list[float] = []
        self.memory = RouteMemory()
        self.deps = cast(
            Deps,
            SimpleNamespace(loop_time=lambda: 77.0, memory=self.memory, credentials=SimpleNamespace(key=self.keys.get)),
        )

    def down(self, *names: str) -> None:
        """Let the breakers of these models refuse everything."""
        for name in names:
            for state in self.runtime.models[name].endpoints.states:
                state.breaker = cast(Any, SimpleNamespace(allows=self._refuse))

    def _refuse(self, now: float) -> bool:
        self.asked_at.append(now)
        return False

    def ask(
        self, *, name: str = "r", route: Route = CHAT, session: str = "", native: bool = False, **fields: Any
    ) -> Ask:
        """Give a request; `native` says that chat cannot say it."""
        document = {**SAYS, **fields}
        ask = an_ask(self.runtime.find(name), document=document)
        request = Request(route, document, stream=fields.get("stream") is True, usage_asked=False)
        if native:
            why = InvalidRequest("chat cannot say it")
            request = Request(
                route, {}, stream=False, usage_asked=False,
                native=NativeRequest(document), untranslatable=why,
            )  # fmt: skip
        made = Ask(
            request, ask.model, runtime=self.runtime, started=0.0, expires_at=1e9, budget=ask.budget, session=session
        )
        assert made.session == session
        return made

    def order(self, name: str = "r", **fields: Any) -> list[str]:
        """Give the names of the models that are asked, in their order."""
        model = self.runtime.find(name)
        assert model is not None
        return [one.name for one in rank(self.ask(name=name, **fields), self.deps, model).models]

    def refusal(self, name: str = "r", **fields: Any) -> InvalidRequest:
        """Give what is told when none fits."""
        with pytest.raises(InvalidRequest) as refused:
            self.order(name, **fields)
        return refused.value


def test_only_routers_have_an_order() -> None:
    """Asking for that of another model is a bug, which names it."""
    world = World(entry("a"))
    with pytest.raises(TypeError, match="t/a is not a router"):
        world.order("a")


def test_members_come_in_the_order_of_the_strategy() -> None:
    """What it is by, and how it came to that, is told with it."""
    world = World(entry("a"), entry("b"), router("b", "a"))
    routed = rank(world.ask(), world.deps, world.runtime.models["r"])
    assert [model.name for model in routed.models] == ["b", "a"]
    assert (routed.strategy, routed.explanation) == (Strategy.PRIORITY, "2 models serve chat")
    dear = entry("dear", price=Price(inputPerMillion=9, outputPerMillion=9))
    cheap = entry("cheap", price=Price(inputPerMillion=1, outputPerMillion=1))
    assert World(dear, cheap, router("dear", "cheap", strategy=Strategy.CHEAPEST)).order() == ["cheap", "dear"]


def test_who_is_ready_is_asked_and_nobody_else() -> None:
    """Where one is; where none is all are asked in their order, who may wait for them."""
    world = World(entry("a"), entry("b"), entry("c"), router("a", "b", "c"), endpoints={"b": 0})
    assert world.order() == ["a", "c"]
    world.down("a")
    assert world.order() == ["c"]
    assert set(world.asked_at) == {77.0}, "health is that of now"
    world.down("c")
    assert world.order() == ["a", "b", "c"]


def test_readiness_is_an_endpoint_in_good_health_with_a_key() -> None:
    """One of several is enough; without its key a hosted endpoint is of no use."""
    world = World(hosted("h"), entry("a"), endpoints={"h": 2, "a": 2})
    model = world.runtime.models["h"]
    assert is_ready(model, world.deps)
    world.keys.clear()
    assert not is_ready(model, world.deps)
    assert is_ready(world.runtime.models["a"], world.deps)
    first = world.runtime.models["a"].endpoints.states[0]
    first.breaker = cast(Any, SimpleNamespace(allows=lambda _: False))
    assert is_ready(world.runtime.models["a"], world.deps)
    world.down("a")
    assert not is_ready(world.runtime.models["a"], world.deps)


def test_a_cascade_is_ready_when_a_member_is() -> None:
    """It is asked through its members."""
    cascade = entry("c", backend=CascadeBackend(members=("t/a", "t/b")))
    world = World(entry("a"), entry("b"), cascade, entry("d"), router("c", "d"), endpoints={"a": 0, "c": 0})
    assert is_usable(world.ask(), world.runtime.models["c"], world.deps)
    assert world.order() == ["c", "d"]
    world.down("b")
    assert not is_usable(world.ask(), world.runtime.models["c"], world.deps)
    assert world.order() == ["d"]


def test_the_less_loaded_comes_first_where_nothing_else_decides() -> None:
    """By requests for each of its endpoints; a cascade has the load of its first member."""
    cascade = entry("c", backend=CascadeBackend(members=("t/m", "t/b")))
    names = ("a", "b", "c")
    given = [entry(name) for name in ("a", "b", "m")]
    world = World(*given, cascade, router(*names, strategy=Strategy.CHEAPEST), endpoints={"a": 2, "m": 1, "c": 0})

    def load(name: str, *in_flight: int) -> None:
        for state, count in zip(world.runtime.models[name].endpoints.states, in_flight, strict=True):
            state.in_flight = count

    load("a", 1, 4)
    load("b", 2)
    load("m", 3)
    assert world.order() == ["b", "a", "c"]
    load("m", 1)
    assert world.order() == ["c", "b", "a"]
    load("a", 0, 1)
    assert world.order() == ["a", "c", "b"]


def test_a_model_without_endpoints_has_no_load() -> None:
    """Nobody waits for it; where no member is ready it does not fail the choice."""
    world = World(entry("a"), entry("b"), router("b", "a", strategy=Strategy.CHEAPEST), endpoints={"a": 0, "b": 2})
    world.down("b")
    world.runtime.models["b"].endpoints.states[0].in_flight = 1
    assert world.order() == ["a", "b"]


def test_each_router_takes_its_members_in_turn() -> None:
    """Whose turn it is at one says nothing of another one."""
    both = ("a=1", "b=1")
    weighted = {"strategy": Strategy.WEIGHTED, "sticky": StickyBy.NONE}
    world = World(entry("a"), entry("b"), router(*both, **weighted), router(*both, name="s", **weighted))  # type: ignore[arg-type]
    assert [world.order(name)[0] for name in ("r", "s", "r", "s")] == ["a", "a", "b", "b"]


def test_weights_decide_before_readiness() -> None:
    """A ready member of weight 0 does not hide one that has a weight and is down."""
    world = World(entry("a"), entry("b"), router("a=0", "b=1", strategy=Strategy.WEIGHTED))
    world.down("b")
    assert world.order() == ["b"]
    assert [model.name for model in takers(world.ask(), world.runtime.models["r"])] == ["b"]


def test_nobody_has_a_weight() -> None:
    """Then nobody is asked, and the reason is told behind how many there were."""
    refused = World(entry("a"), router("a=0", strategy=Strategy.WEIGHTED)).refusal()
    assert refused.message == "no model can answer: 1 model serve chat, 0 of them have a weight above 0"
    assert (refused.code, refused.param) == ("no_model_fits", "model")


def test_without_weights_a_weight_says_nothing() -> None:
    """Members of weight 0 are asked where the strategy is another one."""
    world = World(entry("a"), entry("b"), router("a=0", "b"))
    assert world.order() == ["a", "b"]
    assert [model.name for model in takers(world.ask(), world.runtime.models["r"])] == ["a", "b"]


def test_who_cannot_take_a_request_is_left_out() -> None:
    """By its task, by what it needs; if nobody is left the condition is told that left none."""
    world = World(entry("a"), entry("e", task=Task.EMBED), router("a", "e"))
    assert world.order() == ["a"]
    assert world.order(route=EMBEDDINGS) == ["e"]
    image = {"type": "image_url", "image_url": {"url": "data:x"}}
    refused = world.refusal(messages=[{"role": "user", "content": [image]}])
    assert refused.message == "no model can answer: 1 model serve chat, 0 of them can do vision"
    assert (refused.code, refused.param) == ("no_model_fits", "model")
    assert World(entry("a"), router("a")).refusal(route=BOTH, tools=[{}]).message == (
        "no model can answer: 1 model serve chat or embed, 0 of them can use tools"
    )


def test_the_size_of_a_request_counts() -> None:
    """A window that is surely too small leaves its model out, one that probably is puts it last."""
    small, tight = entry("small", contextWindow=10), entry("tight", contextWindow=60)
    world = World(small, tight, entry("large"), router("small", "tight", "large"))
    ask = world.ask()
    assert 8 * 10 < ask.request.size < 8 * 60
    assert world.order() == ["large", "tight"]


def test_a_request_that_chat_cannot_say_goes_to_who_speaks_its_dialect() -> None:
    """To nobody through a translation, to no cascade, and to no model whose API has no such route."""
    from capstan_gateway.dialects.clients.spoken import MESSAGES

    messages = Route(
        "/v1/messages", b"/chat/completions", frozenset((Task.CHAT,)), ("messages",), streams=True, dialect=MESSAGES
    )
    cascade = entry("c", backend=CascadeBackend(members=("t/a",)))
    world = World(entry("a"), hosted("h"), hosted("o", Provider.OPENAI), cascade, router("a", "c", "o", "h"))
    assert world.order(route=messages) == ["a", "c", "o", "h"]
    assert world.order(route=messages, native=True) == ["h"]
    assert [model.name for model in takers(world.ask(route=messages, native=True), world.runtime.models["r"])] == ["h"]
    other = World(entry("a"), router("a"))
    refused = other.refusal(route=messages, native=True)
    assert refused.message == "no model can answer: 1 model serve chat, 0 of them can answer at /v1/messages"
    assert takers(other.ask(route=messages, native=True), other.runtime.models["r"]) == ()
    completions = Route("/v1/completions", b"/completions", frozenset((Task.CHAT,)), ("prompt",))
    assert world.order(route=completions) == ["a", "c", "o"]


def test_vectors_of_several_models_do_not_mix() -> None:
    """`auto` chooses for a request that makes no text only where there is one model; else the client is told which."""
    one = World(entry("e", task=Task.EMBED), entry("a"))
    assert one.order(AUTO, route=EMBEDDINGS) == ["e"]
    two = World(entry("e", task=Task.EMBED), entry("f", task=Task.EMBED)).refusal(AUTO, route=EMBEDDINGS)
    assert two.message.endswith(": name one of e, f")
    many = World(*[entry(f"e{number}", task=Task.EMBED) for number in range(9, -1, -1)])
    refused = many.refusal(AUTO, route=EMBEDDINGS)
    assert refused.message == (
        "several models serve embed, and their results do not mix: name one of e0, e1, e2, e3, e4, e5, e6, e7"
    )
    assert (refused.code, refused.param) == ("invalid_value", "model")
    world = World(entry("e", task=Task.EMBED), entry("f", task=Task.EMBED), router("e", "f"))
    assert world.order(route=EMBEDDINGS) == ["e", "f"], "who wrote a router has decided that they do"
    assert len(World(entry("a"), entry("b")).order(AUTO)) == 2
    assert len(World(entry("a"), entry("b")).order(AUTO, route=BOTH)) == 2


def weighted(sticky: StickyBy) -> World:
    """Give many members of the same weight."""
    names = [f"m{number}" for number in range(12)]
    return World(*map(entry, names), router(*names, strategy=Strategy.WEIGHTED, sticky=sticky))


def test_a_user_stays_with_a_member() -> None:
    """By what the client calls its user, under the newer name first; without one by its session; else all in turn."""
    world = weighted(StickyBy.USER)
    first = [world.order(user="u")[0] for _ in range(3)]
    assert len(set(first)) == 1
    assert world.order(user="u", session="s")[0] == first[0]
    assert world.order(safety_identifier="u")[0] == first[0]
    assert world.order(safety_identifier="u", user="other")[0] == first[0]
    session = {world.order(session="u")[0] for _ in range(3)}
    assert len(session) == 1
    assert session != set(first), "a session is no user, though they are called alike"
    assert world.order(user=7, session="u")[0] in session
    assert {world.order(user="")[0] for _ in range(12)} == {f"m{number}" for number in range(12)}


def test_a_session_stays_with_a_member() -> None:
    """By what the client calls it, or by the key of its prompt's cache; who the user is makes no difference."""
    world = weighted(StickyBy.SESSION)
    first = {world.order(session="u", user=name)[0] for name in ("a", "b", "c")}
    assert len(first) == 1
    assert {world.order(prompt_cache_key="u")[0], world.order(session="u", prompt_cache_key="x")[0]} == first
    assert first == {weighted(StickyBy.USER).order(session="u")[0]}
    assert len({world.order(user="u")[0] for _ in range(12)}) == 12


def test_nobody_stays_where_nobody_shall() -> None:
    """Everybody in turn, and under another strategy as well."""
    world = weighted(StickyBy.NONE)
    assert len({world.order(user="u", session="s")[0] for _ in range(12)}) == 12


def test_streams_are_as_fast_as_streams_were() -> None:
    """The fastest strategy goes by what was measured of requests of the same kind."""
    world = World(entry("a"), entry("b"), router("a", "b", strategy=Strategy.FASTEST))
    for model, stream, seconds in (("t/a", True, 1.0), ("t/b", True, 2.0), ("t/a", False, 2.0), ("t/b", False, 1.0)):
        world.memory.observe(model, seconds, stream=stream)
    assert world.order(stream=True) == ["a", "b"]
    assert world.order() == ["b", "a"]
    # Each tenth request of a route looks at the one that was asked longest ago.
    assert [world.order()[0] for _ in range(8)] == ["b"] * 7 + ["a"]


def test_who_hears_for_least_is_by_what_the_sound_costs() -> None:
    """A model that charges for minutes is not free because it charges for no tokens."""
    given = {"task": Task.TRANSCRIBE}
    minutes = entry("minutes", price=Price(audioInputPerMinute=0.006), **given)
    tokens = entry("tokens", price=Price(inputPerMillion=1), **given)
    world = World(minutes, tokens, router("minutes", "tokens", strategy=Strategy.CHEAPEST, **given))
    ask = world.ask()
    file = Form(b"b", "file", b"audio/wav", memoryview(bytes(1 << 20)))
    ask.request = Request(HEARD, {"model": "r"}, stream=False, usage_asked=False, form=file)
    assert [one.name for one in rank(ask, world.deps, world.runtime.models["r"]).models] == ["tokens", "minutes"]
