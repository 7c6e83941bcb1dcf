"""Compiling a config to what requests run against."""

from typing import Any

from capstan_contract.config import (
    LoraAdapter,
    ModelEntry,
    RouterBackend,
    RouterMember,
    StaticBackend,
    Task,
)
from capstan_gateway.config.runtime import Runtime, model_card
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.registry import EndpointRegistry
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


def test_auto_chooses_among_those_that_it_may_choose() -> None:
    """Models that an administrator has not offered to everybody are found by their own names alone."""
    runtime = _compile(_entry("a"), _entry("b", auto=False))
    assert runtime.auto is not None
    assert [one.model.name for one in runtime.members(runtime.auto, frozenset({Task.CHAT}))] == ["a"]
    assert runtime.find("b") is not None
