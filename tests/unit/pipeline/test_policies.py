"""From the policies of a config to the answer function of each model: what is built, kept, and stands where."""

from collections.abc import Iterable
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest

from capstan_contract.config import CascadeBackend, GatewayConfig, ModelEntry, StaticBackend
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.call import call_model
from capstan_gateway.pipeline.cascade import cascade_answer
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.fallbacks import first_answer
from capstan_gateway.pipeline.images import answer_with_images
from capstan_gateway.pipeline.layers import AnswerFunction, Order, Reads
from capstan_gateway.pipeline.policies import Policies
from capstan_gateway.pipeline.reply import Reply, WholeReply
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.registry import EndpointRegistry
from capstan_gateway.selection.plan import CascadePlan
from capstan_gateway.telemetry.metrics import Metrics, ModelMetrics
from support.asks import an_ask
from support.policies import Attached, Counting, Ledger

DEPS = cast(Deps, SimpleNamespace(images=None))
REPLY = WholeReply(200, b"application/json", b"{}")


def entry(name: str, **fields: Any) -> ModelEntry:
    """Give a model."""
    given = {"id": f"t/{name}", "servedName": name, "upstreamName": name, "backend": StaticBackend(urls=())}
    return ModelEntry(**{**given, **fields})


def served(one: ModelEntry, plan: CascadePlan | None = None) -> ServedModel:
    """Give it as it is served."""
    return ServedModel(
        one, name=one.servedName, upstream_name=one.upstreamName, endpoints=EndpointSet(EndpointRegistry()),
        metrics=ModelMetrics(Metrics(), one.servedName), plan=plan,
    )  # fmt: skip


def kind(**on: tuple[str, ...]) -> Attached:
    """Give a kind whose policies are in force on these models."""
    return Attached(Counting, Ledger(), on)


CONFIG = GatewayConfig.build([entry("a"), entry("b")])


def policies(*kinds: Any, previous: Policies | None = None, config: GatewayConfig = CONFIG) -> Policies:
    """Give those of a config."""
    return Policies(kinds, config, DEPS, previous)


def test_without_kinds_there_are_no_layers() -> None:
    """Nor where no policy is in force on a model."""
    assert policies().layers_of(entry("a")) == ()
    assert policies(kind(a=("one",))).layers_of(entry("b")) == ()


def test_each_policy_is_built_once() -> None:
    """Also when it is in force on several models; two kinds may have policies of one id."""
    one, other = kind(a=("x", "y"), b=("y",)), kind(a=("x",))
    found = policies(one, other)
    first, second = found.layers_of(entry("a")), found.layers_of(entry("b"))
    assert [layer.id for layer in first] == ["x", "y", "x"]
    assert first[0] is not first[2]
    assert second == (first[1],)
    assert second[0] is first[1]
    assert (one.built, other.built) == ({"x": 1, "y": 1}, {"x": 1})


def test_kinds_are_asked_with_the_config_and_built_with_what_it_says() -> None:
    """Who is in force is told by the whole config and the model; what acts is made of the id and what it says."""
    asked: list[Any] = []

    class Said(Attached):
        def in_force(self, config: GatewayConfig, one: ModelEntry) -> Iterable[tuple[str, object]]:
            asked.append((config, one))
            return [("x", "says")]

        def build(self, id: str, spec: object) -> Any:
            asked.append((id, spec))
            return super().build(id, spec)

    model = entry("a")
    policies(Said(Counting, Ledger(), {})).layers_of(model)
    assert asked == [(CONFIG, model), ("x", "says")]
    assert asked[0][0] is CONFIG


def test_what_is_as_it_was_is_the_same_object() -> None:
    """From config to config, as long as it says the same: also one that was not asked for in between is not kept."""
    one = kind(a=("x", "y"))
    one.specs = {"x": "says", "y": "says"}
    before = policies(one)
    x, y = before.layers_of(entry("a"))
    one.specs["y"] = "says more"
    after = policies(one, previous=before)
    again = after.layers_of(entry("a"))
    assert again[0] is x
    assert again[1] is not y
    assert one.built == {"x": 1, "y": 2}
    assert policies(one, previous=after).layers_of(entry("a")) == again
    unasked = policies(one, previous=after)
    policies(one, previous=unasked).layers_of(entry("a"))
    assert one.built == {"x": 2, "y": 3}


def function_of(answer: Any) -> Any:
    """Give the function that is called, of those that have none around it."""
    assert isinstance(answer, partial)
    return answer.func, answer.args


def test_a_plain_model_is_called() -> None:
    """As it is asked for and as one of several alike; with fallbacks, who asks it by name gets those too."""
    model = served(entry("a"))
    policies().compose(model, ())
    assert function_of(model.answer) == (call_model, (DEPS, model))
    assert model.answer_alone is model.answer
    assert model.layers == ()
    with_others = served(entry("a", fallbacks=("b",)))
    policies().compose(with_others, ())
    assert function_of(with_others.answer) == (first_answer, (DEPS, with_others))
    assert function_of(with_others.answer_alone) == (call_model, (DEPS, with_others))


def test_images_are_fetched_for_models_of_ones_own() -> None:
    """Around the call of one whose engines fetch none; a hosted API fetches by itself, and gets the URLs."""
    fetcher = cast(Any, object())
    deps = cast(Deps, SimpleNamespace(images=fetcher))
    model, hosted = served(entry("a")), served(entry("b"))
    hosted.external = True
    for one in (model, hosted):
        Policies((), CONFIG, deps, None).compose(one, ())
    function, (own, given, served_model, inner) = function_of(model.answer)
    assert (function, own, given, served_model) == (answer_with_images, deps, fetcher, model)
    assert function_of(inner) == (call_model, (deps, model))
    assert function_of(hosted.answer) == (call_model, (deps, hosted))


def test_a_cascade_is_run() -> None:
    """Alone by its plan; asked for by name, it may have fallbacks."""
    backend = CascadeBackend(members=("t/a", "t/b"))
    plan = CascadePlan(backend.members, backend.threshold, backend.maxCost, backend.estimator)
    model = served(entry("c", backend=backend), plan)
    policies().compose(model, ())
    assert function_of(model.answer_alone) == (cascade_answer, (DEPS, model, plan))
    assert function_of(model.answer) == (first_answer, (DEPS, model))


@pytest.mark.parametrize("fallbacks", [(), ("b",)])
async def test_layers_are_around_both_functions(monkeypatch: pytest.MonkeyPatch, fallbacks: tuple[str, ...]) -> None:
    """Each way to ask a model goes through what is in force on it, once."""
    asked: list[str] = []

    def answering(name: str) -> AnswerFunction:
        async def answer(deps: Deps, model: ServedModel, ask: Ask) -> Reply:
            assert (deps, model.name, ask.model) == (DEPS, "a", model)
            asked.append(name)
            return REPLY

        return cast(AnswerFunction, answer)

    monkeypatch.setattr("capstan_gateway.pipeline.policies.call_model", answering("alone"))
    monkeypatch.setattr("capstan_gateway.pipeline.policies.first_answer", answering("first"))
    model, ledger = served(entry("a", fallbacks=fallbacks)), Ledger()
    layer = Counting("x", ledger)
    policies().compose(model, (layer,))
    assert model.layers == (layer,)
    assert (model.answer is model.answer_alone) is (not fallbacks)
    for function in (model.answer, model.answer_alone):
        assert await function(an_ask(model)) is REPLY
    assert asked == (["first", "alone"] if fallbacks else ["alone", "alone"])
    assert ledger.opened == {"x": 2}
    assert (layer.order, layer.reads) == (Order.LIMITS, Reads.NOTHING)
