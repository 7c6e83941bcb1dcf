"""What of a config somebody may use."""

from typing import Any

import orjson
import pytest

from capstan_contract.config import (
    CascadeBackend,
    CascadeEstimator,
    EstimatorType,
    LoraAdapter,
    ModelEntry,
    RouterBackend,
    RouterMember,
    StaticBackend,
    Task,
)
from capstan_gateway.config.runtime import Runtime
from capstan_gateway.config.views import Views
from capstan_gateway.identity.names import Patterns
from capstan_gateway.identity.principal import NOBODY, Principal
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.registry import EndpointRegistry
from support.runtimes import compile_whole


def model(name: str, **fields: Any) -> ModelEntry:
    """Give a model."""
    given = {"id": f"ns/{name}", "servedName": name, "upstreamName": name, "backend": StaticBackend(urls=())}
    return ModelEntry(**{**given, **fields})


def router(name: str, *members: str) -> ModelEntry:
    """Give a router over these."""
    return model(name, backend=RouterBackend(members=tuple(RouterMember(model=f"ns/{one}") for one in members)))


def cascade(name: str, *members: str, judge: str) -> ModelEntry:
    """Give a cascade over these."""
    estimator = CascadeEstimator(type=EstimatorType.JUDGE, judge=f"ns/{judge}")
    return model(
        name, backend=CascadeBackend(members=tuple(f"ns/{one}" for one in members), threshold=0.5, estimator=estimator)
    )


MODELS = (
    model("a", aliases=("nick",), adapters=(LoraAdapter(servedName="tuned", upstreamName="lora"),)),
    model("b"), model("c"), router("to-b", "b"), router("to-any", "a", "b", "deep"), router("to-deep", "deep"),
    cascade("deep", "b", "c", judge="a"),
)  # fmt: skip


def compiled(*models: ModelEntry) -> Runtime:
    """Give the Runtime of these models."""
    registry = EndpointRegistry()
    return compile_whole(*models, endpoints_of=lambda _: EndpointSet(registry))


def seen(runtime: Runtime, *patterns: str) -> Runtime:
    """Give what a key with this list may use."""
    return runtime.seen_by(Principal(tenant="t", key="k", models=patterns))


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (("a",), "a nick"), (("nick",), "a nick"), (("tuned",), "tuned"), (("a", "tuned"), "a nick tuned"),
        (("n*",), "a nick"), (("*",), "a nick tuned b c to-b to-any to-deep deep"), (("none",), ""), (("auto",), ""),
        (("to-b",), ""), (("to-*",), ""), (("to-b", "b"), "to-b b"), (("to-any", "tuned"), "tuned"),
        (("to-any", "b"), "to-any b"), (("deep",), ""), (("deep", "c"), "deep c"), (("to-deep", "deep"), ""),
        (("to-deep", "deep", "c"), "to-deep deep c"), (("to-deep", "c"), "c"), (("", "b"), "b"),
    ],
)  # fmt: skip
def test_what_a_list_of_names_allows(patterns: tuple[str, ...], names: str) -> None:
    """A model under all of its names, adapters by their own, virtual models as far as a member is left."""
    view = seen(compiled(*MODELS), *patterns)
    assert set(view.models) == set(names.split())
    assert [card["id"] for card in orjson.loads(view.listing)["data"]] == sorted(
        [*names.split(), *(["auto"] if names else [])]
    )
    assert (view.find("auto") is not None) is bool(names)


def test_who_may_use_all_sees_the_config_itself() -> None:
    """Without a list nothing is looked up; with one, the same view serves all who have it."""
    runtime = compiled(*MODELS)
    assert runtime.seen_by(NOBODY) is runtime
    assert seen(runtime, "a") is seen(runtime, "a")
    assert seen(runtime, "a") is not seen(runtime, "b")


def test_members_are_those_that_are_left() -> None:
    """Of routers, cascades and `auto`; a judge is the cascade's own, and is there for whoever may use that."""
    runtime = compiled(*MODELS)
    view = seen(runtime, "to-any", "deep", "c", "b")
    tasks = frozenset((Task.CHAT,))

    def members(of: Runtime, name: str) -> list[str]:
        found = of.find(name)
        assert found is not None
        return [member.model.name for member in of.members(found, tasks)]

    assert members(view, "to-any") == ["b", "deep"]
    assert members(seen(runtime, "deep", "c"), "deep") == ["c"]
    assert set(members(view, "auto")) == {"b", "c"}
    assert members(runtime, "to-any") == ["a", "b", "deep"]
    assert "ns/a" not in view.by_id
    assert view.whole is runtime
    assert seen(view, "b").whole is runtime


def test_a_model_called_auto_that_one_may_not_use_is_not_there() -> None:
    """Then the built-in one has the name, as in a config without that model."""
    runtime = compiled(model("auto"), model("b"))
    assert runtime.auto is None
    view = seen(runtime, "b")
    assert view.auto is not None
    assert view.find("auto") is view.auto


def test_who_names_a_model_has_no_other_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request of a new list of names costs the same whether there are ten models or thousands; to list them looks at
    all, once."""
    runtime = compiled(*MODELS)
    looked: list[str] = []
    real = Patterns.allows
    monkeypatch.setattr(Patterns, "allows", lambda of, name: (looked.append(name), real(of, name))[1])
    made: list[object] = []
    monkeypatch.setattr(Runtime, "_make", lambda of, patterns: (made.append(patterns), whole(of, patterns))[1])
    view = seen(runtime, "b*", "to-*")
    assert view.find("b") is not None
    assert view.find("c") is None
    assert view.models.get("nobody") is None
    assert view.find("to-b") is not None
    assert [member.model.name for member in view.members(view.models["to-b"], frozenset((Task.CHAT,)))] == ["b"]
    assert set(looked) == {"b", "c", "to-b"}
    assert made == []
    assert {name for name, _ in view.listed()} == {"auto", "b", "to-b", "to-any"}
    assert view.auto is not None
    assert made == [("b*", "to-*")]


def whole(of: Runtime, patterns: tuple[str, ...]) -> Runtime:
    """Make what a view has as a whole."""
    return MAKE(of, patterns)


MAKE = Runtime._make


def test_views_are_bounded() -> None:
    """Those that were not used for longest go first, by their number and by the names that they have together."""
    made: list[str] = []

    def make(patterns: tuple[str, ...]) -> str:
        made.append(patterns[0])
        return patterns[0]

    few: Views[str] = Views(most=2)
    for name in ("a", "b", "a", "c", "a", "b"):
        assert few.get((name,), make, len) == name
    assert made == ["a", "b", "c", "b"]
    assert len(few) == 2
    assert made == ["a", "b", "c", "b"]
    small: Views[str] = Views(most_names=5)
    for name in ("aaa", "bb", "cc", "dddddddd", "e"):
        small.get((name,), make, len)
    assert len(small) == 1
