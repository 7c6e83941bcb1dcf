"""Compiling a config to what requests run against."""

from typing import Any

import orjson
import pytest

from capstan_contract.config import (
    Capability,
    CascadeBackend,
    CascadeEstimator,
    Compatibility,
    ExternalBackend,
    ExternalEndpoint,
    GatewayConfig,
    LoraAdapter,
    MaxTokens,
    ModelEntry,
    Price,
    Provider,
    RouterBackend,
    RouterMember,
    StaticBackend,
    StickyBy,
    Strategy,
    Task,
    Timeouts,
)
from capstan_gateway.config.runtime import Runtime, ServedModel, compile_runtime, model_card
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.registry import EndpointRegistry
from capstan_gateway.selection.filters import Member
from capstan_gateway.selection.plan import CascadePlan, RouterPlan
from capstan_gateway.telemetry.metrics import Metrics, ModelMetrics
from capstan_gateway.tokens.price import Rates
from support.runtimes import compile_whole


def _entry(name: str, **fields: Any) -> ModelEntry:
    backend = StaticBackend(urls=())
    given = {"id": f"ns/{name}", "servedName": name, "upstreamName": name, "backend": backend}
    return ModelEntry(**{**given, **fields})


def _compile(*models: ModelEntry, previous: Runtime | None = None) -> Runtime:
    registry = EndpointRegistry()
    return compile_whole(*models, endpoints_of=lambda _: EndpointSet(registry), previous=previous)


def test_every_name_finds_its_model() -> None:
    """Served names and aliases share a model; an adapter is one of its own on the same endpoints."""
    adapters = (LoraAdapter(servedName="tuned", upstreamName="lora-1"),)
    runtime = _compile(_entry("base", aliases=("nick",), adapters=adapters))
    assert set(runtime.models) == {"base", "nick", "tuned"}
    assert runtime.models["nick"] is runtime.models["base"]
    assert runtime.models["tuned"].upstream_name == "lora-1"
    assert runtime.models["tuned"].endpoints is runtime.models["base"].endpoints
    assert model_card(runtime, "tuned") is not None
    assert model_card(runtime, "lora-1") is None


def test_unchanged_models_are_kept() -> None:
    """A change of one model leaves every other one as it was compiled; a change of anything in a model does not."""
    before = _compile(_entry("a"), _entry("b"))
    after = _compile(_entry("a"), _entry("b", weight=2), previous=before)
    assert after.models["a"] is before.models["a"]
    assert after.models["b"] is not before.models["b"]


def test_names_are_not_rewritten_where_they_agree() -> None:
    """Only a model with another name for its engine pays for renaming."""
    runtime = _compile(_entry("same"), _entry("other", upstreamName="engine"))
    assert runtime.models["same"].rename is None
    assert runtime.models["other"].rename is not None


def test_virtual_models_find_their_members_in_the_newest_config() -> None:
    """A router that did not change gets members that did; `auto` has every model that is not virtual, by its task."""
    router = _entry("any", backend=RouterBackend(members=(RouterMember(model="ns/a", weight=7),)))
    before = _compile(_entry("a"), router)
    after = _compile(_entry("a", weight=2), _entry("e", task=Task.EMBED), router, previous=before)
    chat = frozenset((Task.CHAT,))
    assert after.models["any"] is before.models["any"]
    assert [member.model for member in after.members(after.models["any"], chat)] == [after.models["a"]]
    assert after.members(after.models["any"], chat)[0].weight == 7
    auto = after.find("auto")
    assert auto is not None
    assert [member.model.name for member in after.members(auto, chat)] == ["a"]
    assert [member.model.name for member in after.members(auto, frozenset((Task.EMBED,)))] == ["e"]
    assert _compile().find("auto") is None


def test_a_members_weight_and_priority_come_from_who_names_it() -> None:
    """Of a router from its members, of `auto` from the models themselves; a cascade has neither. Found once."""
    member = RouterMember(model="ns/a", weight=7, priority=3)
    cascade = _entry("steps", backend=CascadeBackend(members=("ns/b", "ns/a")))
    runtime = _compile(
        _entry("a", weight=5), _entry("b"), _entry("any", backend=RouterBackend(members=(member,))), cascade
    )
    chat = frozenset((Task.CHAT,))
    a, b = runtime.models["a"], runtime.models["b"]
    found = runtime.members(runtime.models["any"], chat)
    assert found == (Member(a, 7, 3),)
    assert runtime.members(runtime.models["any"], chat) is found
    assert runtime.members(runtime.models["steps"], chat) == (Member(b), Member(a))
    assert runtime.auto is not None
    assert set(runtime.members(runtime.auto, chat)) == {Member(a, 5), Member(b, 100)}
    assert runtime.members(runtime.models["any"], frozenset((Task.EMBED,))) == ()
    assert runtime.members(a, chat) == ()


def test_every_name_has_its_card() -> None:
    """Sorted, also the gateway's own name and those of adapters; who owns a model is who hosts it."""
    endpoint = ExternalEndpoint(name="a", url="https://h/v1")
    hosted = ExternalBackend(provider=Provider.OPENAI, endpoints=(endpoint,))
    runtime = _compile(_entry("z", created=7, aliases=("b",)), _entry("a", backend=hosted, created=9))
    said = (("a", 9, "OpenAI"), ("auto", 0, "capstan"), ("b", 7, "capstan"), ("z", 7, "capstan"))
    cards = [{"id": name, "object": "model", "created": at, "owned_by": owner} for name, at, owner in said]
    assert orjson.loads(runtime.listing) == {"object": "list", "data": cards}
    assert [model_card(runtime, name) for name, _, _ in said] == cards
    assert model_card(runtime, "nobody") is None


def test_a_model_of_the_config_may_be_called_auto() -> None:
    """It is the one that is found, and there is no other."""
    runtime = _compile(_entry("auto"), _entry("a"))
    assert runtime.auto is None
    assert runtime.find("auto") is runtime.models["auto"]
    assert [card["id"] for card in orjson.loads(runtime.listing)["data"]] == ["a", "auto"]
    assert orjson.loads(_compile().listing) == {"object": "list", "data": []}


def test_what_a_model_is_comes_from_its_entry() -> None:
    """Field by field; what is reckoned with is made beforehand."""
    price, timeouts = Price(inputPerMillion=1), Timeouts(totalSeconds=9)
    said = {
        "task": Task.CHAT, "created": 7, "contextWindow": 100, "maxOutputTokens": 50, "weight": 3, "auto": False,
        "fallbacks": ("b",), "capabilities": (Capability.TOOLS,), "price": price, "timeouts": timeouts,
        "compatibility": Compatibility(maxTokens=MaxTokens.REFUSE),
    }  # fmt: skip
    model = _compile(_entry("a", **said), _entry("b")).models["a"]
    assert (model.id, model.name, model.name_lines) == ("ns/a", "a", b"x-capstan-model: a\r\n")
    assert (model.target.said, model.target.max_output_tokens) == (Compatibility(maxTokens=MaxTokens.REFUSE), 50)
    assert _compile(_entry("b")).models["b"].target.said == Compatibility()
    assert (model.task, model.created, model.context_window, model.max_output_tokens) == (Task.CHAT, 7, 100, 50)
    assert (model.weight, model.auto, model.fallbacks, model.capabilities) == (3, False, ("b",), {Capability.TOOLS})
    assert (model.price, model.rates, model.timeouts) == (price, Rates.of(price), timeouts)
    assert (model.external, model.provider, model.speaks_anthropic, model.layers, model.plan) == (
        False, "", False, (), None,
    )  # fmt: skip
    assert _compile(_entry("a")).models["a"].rates is None


@pytest.mark.parametrize("provider", list(Provider))
def test_a_hosted_model_knows_its_provider(provider: Provider) -> None:
    """And whether it speaks Anthropic's dialect."""
    backend = ExternalBackend(provider=provider, endpoints=(ExternalEndpoint(name="a", url="https://h/v1"),))
    model = _compile(_entry("a", backend=backend)).models["a"]
    assert (model.external, model.provider) == (True, provider)
    assert model.speaks_anthropic == (provider is Provider.ANTHROPIC)


async def test_a_model_without_an_answer_function_says_so() -> None:
    """It would be a bug to ask it."""
    model = _compile(_entry("a")).models["a"]
    for answer in (model.answer, model.answer_alone):
        with pytest.raises(RuntimeError, match=r"^no answer function was composed for 'x'$"):
            await answer("x")


class Layered:
    """Gives models these layers, and says which it has composed."""

    def __init__(self, **layers: tuple[object, ...]) -> None:
        self.layers, self.composed = layers, list[str]()

    def layers_of(self, entry: ModelEntry) -> tuple[object, ...]:
        """Give those of a model."""
        return self.layers.get(entry.servedName, ())

    def compose(self, model: ServedModel, layers: tuple[object, ...]) -> None:
        """Take note."""
        model.layers = layers
        self.composed.append(model.name)


def compiled(answering: Layered, *models: ModelEntry, previous: Runtime | None = None) -> Runtime:
    """Compile; a step for each model."""
    registry = EndpointRegistry()
    steps = compile_runtime(
        GatewayConfig.build(models), endpoints_of=lambda _: EndpointSet(registry), metrics=Metrics(),
        answering=answering, previous=previous,
    )  # fmt: skip
    taken = 0
    while True:
        try:
            next(steps)
            taken += 1
        except StopIteration as end:
            assert taken == len(models)
            runtime: Runtime = end.value
            return runtime


def test_a_model_is_composed_again_when_its_layers_are_other_ones() -> None:
    """By identity: the same layers again leave it as it was, others do not, however equal they look."""
    one, other = [1], [1]
    models = (_entry("a", aliases=("x",), adapters=(LoraAdapter(servedName="t", upstreamName="u"),)), _entry("b"))
    before = compiled(first := Layered(a=(one,)), *models)
    assert sorted(first.composed) == ["a", "auto", "b", "t"]
    same = compiled(again := Layered(a=(one,)), *models, previous=before)
    assert again.composed == ["auto"]
    assert same.models["a"] is before.models["a"]
    for layers in ((other,), (one, one), ()):
        changed = Layered(a=layers)
        after = compiled(changed, *models, previous=before)
        assert sorted(changed.composed) == ["a", "auto", "t"]
        assert after.models["b"] is before.models["b"]


def test_a_model_has_the_endpoints_and_the_layers_that_are_its_own() -> None:
    """Also the gateway's own one; a name that differs from the engine's is renamed in answers."""
    registry, one = EndpointRegistry(), [1]
    sets: dict[str, EndpointSet] = {}
    answering = Layered(auto=(one,))
    steps = compile_runtime(
        GatewayConfig.build((_entry("a", upstreamName="engine"),)), metrics=Metrics(), answering=answering,
        endpoints_of=lambda entry: sets.setdefault(entry.id, EndpointSet(registry)),
    )  # fmt: skip
    next(steps)
    with pytest.raises(StopIteration) as end:
        next(steps)
    runtime: Runtime = end.value.value
    model, auto = runtime.models["a"], runtime.auto
    assert auto is not None
    assert (model.endpoints, auto.endpoints) == (sets["ns/a"], sets["auto"])
    assert (runtime.answering, auto.layers, model.layers) == (answering, (one,), ())
    assert isinstance(model.metrics, ModelMetrics)
    assert isinstance(auto.plan, RouterPlan)
    assert auto.plan.strategy is Strategy.CHEAPEST
    assert model.rename is not None
    assert model.rename(b'{"model":"engine"}') == b'{"model":"a"}'


def test_auto_is_a_router_over_all() -> None:
    """It is compiled with each config; plans of virtual models are what their entries say."""
    runtime = _compile(_entry("a"))
    assert runtime.auto is not None
    assert (runtime.auto.id, runtime.auto.name, runtime.auto.upstream_name) == ("auto", "auto", "auto")
    assert isinstance(runtime.auto.plan, RouterPlan)
    assert (runtime.auto.plan.sticky_by, runtime.auto.plan.members) == (StickyBy.USER, None)
    member = RouterMember(model="ns/a")
    router = RouterBackend(strategy=Strategy.FASTEST, stickyBy=StickyBy.NONE, members=(member,))
    cascade = CascadeBackend(members=("ns/a",), threshold=0.7, maxCost=0.5)
    virtual = _compile(_entry("a"), _entry("r", backend=router), _entry("c", backend=cascade))
    assert virtual.models["r"].plan == RouterPlan(Strategy.FASTEST, StickyBy.NONE, (member,))
    assert virtual.models["c"].plan == CascadePlan(("ns/a",), 0.7, 0.5, CascadeEstimator())


def test_auto_chooses_among_those_that_it_may_choose() -> None:
    """Models that an administrator has not offered to everybody are found by their own names alone."""
    runtime = _compile(_entry("a"), _entry("b", auto=False))
    assert runtime.auto is not None
    assert [one.model.name for one in runtime.members(runtime.auto, frozenset({Task.CHAT}))] == ["a"]
    assert runtime.find("b") is not None
