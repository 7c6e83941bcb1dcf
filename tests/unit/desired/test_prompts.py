"""Prompts of a model that are in ConfigMaps: what counts, what is said, what stays."""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from capstan_operator.api.kinds import Model
from capstan_operator.api.llmmodel import MOST_PROMPT_CHARACTERS
from capstan_operator.desired.entries import build_entry, default_backend
from capstan_operator.desired.model import build_model
from capstan_operator.desired.prompts import (
    PromptKey,
    Trouble,
    fill_prompts,
    last_of_children,
    last_of_entry,
    prompt_keys,
    read_prompts,
)
from capstan_operator.desired.template_changes import CAUSE_ANNOTATION, is_adopted
from capstan_operator.desired.types import Pending
from capstan_operator.desired.volumes import PREFIXES_FILE
from capstan_operator.resources.resource import Manifest, ObjectKey
from support.plainmodels import SETTINGS, deployment_of, make_model, snapshot_of

HOUSE = {"name": "house", "systemFrom": {"configMapKeyRef": {"name": "prompts", "key": "rules"}}}
BRIEF = {"name": "brief", "system": "Be brief."}
RULES = PromptKey(ObjectKey("team", "prompts"), "rules")


def _model(*prefixes: dict[str, Any], **fields: Any) -> Model:
    return make_model(prefixes=list(prefixes or (HOUSE, BRIEF)), **fields)


def _filled(text: str, **fields: Any) -> Model:
    return fill_prompts(_model(**fields), {RULES: text}, {}).model


def _prompts(model: Model) -> dict[str, str]:
    assert model.spec is not None
    return model.spec.prompts


def _written(model: Model, live: Manifest | None = None, **fields: Any) -> dict[str, Manifest]:
    children = () if live is None else (live,)
    desired = build_model(model, snapshot_of(model, *children, **fields), SETTINGS)
    return {item["kind"]: item for item in desired.objects}


def test_a_prompt_of_a_config_map_counts_like_one_in_the_spec() -> None:
    """It is in the gateway's entry and in what the pods keep warm, in the order of the manifest."""
    model = _filled("Be kind.")
    assert model.spec is not None
    expected = {"house": "Be kind.", "brief": "Be brief."}
    assert prompt_keys(model) == (RULES,)
    assert last_of_entry(build_entry(model, model.spec, default_backend(model))) == expected
    assert last_of_children(model.key.name, _written(model).values()) == expected


@pytest.mark.parametrize(
    ("manifest", "trouble"),
    [
        (None, Trouble.MISSING),
        ({}, Trouble.NO_KEY),
        ({"data": {"other": "text"}}, Trouble.NO_KEY),
        ({"data": {"rules": " \n"}}, Trouble.EMPTY),
        ({"data": {"rules": 7}}, Trouble.NOT_TEXT),
        ({"data": {"rules": "é" * (MOST_PROMPT_CHARACTERS + 1)}}, Trouble.TOO_LARGE),
        ({"binaryData": {"rules": base64.b64encode(b"\xff\xfe").decode()}}, Trouble.NOT_TEXT),
        ({"binaryData": {"rules": "%"}}, Trouble.NOT_TEXT),
    ],
)
def test_what_cannot_be_a_prompt_has_its_own_reason(manifest: Manifest | None, trouble: Trouble) -> None:
    """What is wrong is told by its reason, the ConfigMap and the key, never by what the text says."""
    assert read_prompts(manifest, ["rules"]) == {"rules": trouble}
    filled = fill_prompts(_model(), {RULES: trouble}, {})
    [(found, fault)] = filled.faults
    assert (found, fault.field) == (trouble, "spec.prefixes[0].systemFrom")
    assert "'prompts'" in fault.message
    assert "é" not in fault.message
    assert _prompts(filled.model) == {"brief": "Be brief."}


def test_texts_are_taken_as_they_are() -> None:
    """A text of the greatest length, and one that is UTF-8 among the binary data, are prompts."""
    longest = "é" * MOST_PROMPT_CHARACTERS
    binary = {"binaryData": {"rules": base64.b64encode("ä\n".encode()).decode()}}
    assert read_prompts({"data": {"rules": longest}}, ["rules"]) == {"rules": longest}
    assert read_prompts(binary, ["rules"]) == {"rules": "ä\n"}


def test_only_a_prompt_that_nobody_can_tell_of_keeps_pods_waiting() -> None:
    """A ConfigMap that is not there keeps nothing waiting, nor one that cannot be read while there is a last text."""
    unread = fill_prompts(_model(), {}, {})
    assert [trouble for trouble, _ in unread.faults] == [Trouble.UNREADABLE]
    assert unread.lacks_unread
    assert not fill_prompts(_model(), {}, {"house": "before"}).lacks_unread
    assert not fill_prompts(_model(), {RULES: Trouble.MISSING}, {}).lacks_unread


@pytest.mark.parametrize("text", ["{", "7", json.dumps([{"name": "a"}, 1, {"name": "b", "system": "B"}])])
def test_what_the_pods_have_is_read_whatever_is_in_it(text: str) -> None:
    """What somebody has made unreadable is nothing to go on with."""
    child = {"kind": "ConfigMap", "metadata": {"name": "llama-prefixes"}, "data": {PREFIXES_FILE: text}}
    assert last_of_children("llama", [child]) == ({"b": "B"} if "system" in text else {})
    assert last_of_children("llama", []) == {}


def _deployment(model: Model, live: Manifest, **options: Any) -> tuple[Manifest, Pending | None]:
    fields = {"revisions": {model.key: options.pop("revisions", ())}}
    desired = build_model(model, snapshot_of(model, live, **fields), options.pop("settings", SETTINGS), **options)
    return next(item for item in desired.objects if item["kind"] == "Deployment"), desired.pending


@pytest.mark.parametrize("has_revision", [False, True])
def test_another_text_replaces_the_pods_in_turn(has_revision: bool) -> None:
    """Many models may share its ConfigMap, which are not to be replaced at the same moment."""
    live = deployment_of(_filled("one"))
    template = live["spec"]["template"]
    revisions = (_written(_filled("one"), live, revisions={})["ControllerRevision"],) if has_revision else ()
    same, pending = _deployment(_filled("one"), live, revisions=revisions)
    assert (same["spec"]["template"], pending) == (template, None)
    waits, pending = _deployment(_filled("two"), live, revisions=revisions)
    assert (waits["spec"]["template"], pending) == (template, Pending.ADOPTION)
    turn, pending = _deployment(_filled("two"), live, revisions=revisions, adopt=True)
    assert turn["spec"]["template"] != template
    assert (pending, turn["metadata"]["annotations"][CAUSE_ANNOTATION], is_adopted(turn)) == (None, "Prompts", True)
    never = replace(SETTINGS, adopt_template_changes="OnSpecChange")
    later, pending = _deployment(_filled("two"), live, revisions=revisions, settings=never)
    assert (later["spec"]["template"], pending) == (template, Pending.NEXT_CHANGE)


def test_another_text_in_the_spec_replaces_the_pods_at_once() -> None:
    """It is the user's wish, also where another prompt is in a ConfigMap."""
    live = deployment_of(_filled("one"))
    changed = _model(HOUSE, {**BRIEF, "system": "Be briefer."}, generation=2)
    found, pending = _deployment(fill_prompts(changed, {RULES: "two"}, {}).model, live)
    assert found["spec"]["template"] != live["spec"]["template"]
    assert (pending, found["metadata"]["annotations"][CAUSE_ANNOTATION]) == (None, "Spec")


def test_what_waits_for_its_turn_is_kept_for_the_next_pods() -> None:
    """The gateway and pods that are made anew for something else have the new text at once."""
    live = deployment_of(_filled("one"))
    assert last_of_children("llama", _written(_filled("two"), live).values()) == _prompts(_filled("two"))


def test_a_model_without_a_spec_has_no_prompts() -> None:
    """A manifest that cannot be read names none."""
    model = replace(_model(), spec=None)
    assert prompt_keys(model) == ()
    assert fill_prompts(model, {}, {}).model is model
