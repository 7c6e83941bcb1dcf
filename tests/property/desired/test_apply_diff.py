import json
from copy import deepcopy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.names import APPLIED_HASH_ANNOTATION
from capstan_operator.desired.diff import is_subset, needs_apply, with_applied_hash
from capstan_operator.desired.quantity import parse_quantity

KEYS = st.sampled_from(["a", "b", "env", "volumes", "args", "limits"])
SCALARS = st.one_of(st.text(max_size=3), st.integers(1, 9), st.booleans())
NAMED = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from("xyz"), "value": st.text(min_size=1, max_size=2)}),
    max_size=3,
    unique_by=lambda item: item["name"],
)
JSON = st.recursive(
    SCALARS | NAMED, lambda inner: st.dictionaries(KEYS, inner, max_size=4) | st.lists(inner, max_size=3), max_leaves=12
)
MANIFESTS = st.fixed_dictionaries({"metadata": st.just({"name": "m"}), "spec": st.dictionaries(KEYS, JSON, max_size=4)})


def _as_stored(value: Any, extra: Any) -> Any:
    """Do what an API server does: add fields, and items to lists of named items; drop nothing that was asked for."""
    if isinstance(value, dict):
        return {key: _stored_field(key, item, extra) for key, item in value.items()} | {"defaulted": extra}
    return value


def _stored_field(key: str, value: Any, extra: Any) -> Any:
    if key in ("env", "volumes") and isinstance(value, list) and value and all(isinstance(i, dict) for i in value):
        if all("name" in item for item in value):
            return [{"name": "injected", "value": "1"}, *(_as_stored(item, extra) for item in reversed(value))]
        return value
    return _as_stored(value, extra)


def _text(manifest: dict[str, Any]) -> str:
    return json.dumps(manifest, sort_keys=True)  # NB: True == 1 in Python, and not in JSON


@given(MANIFESTS, SCALARS)
def test_defaults_and_added_items_need_no_write(manifest: dict[str, Any], extra: Any) -> None:
    """What an API server adds to an applied object is not a difference."""
    desired = with_applied_hash(manifest)
    live = {**desired, "spec": _as_stored(desired["spec"], extra), "status": {"x": 1}}
    assert not needs_apply(desired, live)


@given(MANIFESTS, MANIFESTS)
def test_another_manifest_is_written(one: dict[str, Any], other: dict[str, Any]) -> None:
    """What was applied before and is not what is wanted now is written, even where it only lacks a field."""
    assert needs_apply(with_applied_hash(other), with_applied_hash(one)) == (_text(one) != _text(other))


@given(MANIFESTS)
def test_absent_object_is_written(manifest: dict[str, Any]) -> None:
    """What is not there is written."""
    assert needs_apply(with_applied_hash(manifest), None)


@given(MANIFESTS, SCALARS.filter(lambda value: value not in ("", False)))
def test_changed_field_is_noticed(manifest: dict[str, Any], value: Any) -> None:
    """A field that somebody else changed or took away is written again."""
    desired = with_applied_hash({**manifest, "spec": {**manifest["spec"], "mine": {"deep": [value]}}})
    for spec in ({**desired["spec"], "mine": {"deep": ["else", "where"]}}, {**desired["spec"], "mine": None}):
        assert needs_apply(desired, {**desired, "spec": spec})


@given(MANIFESTS)
def test_hash_is_stable_and_changes_nothing_else(manifest: dict[str, Any]) -> None:
    """The annotation is the same however often it is put on, and the manifest that came in is left alone."""
    before = deepcopy(manifest)
    once = with_applied_hash(manifest)
    assert with_applied_hash(once) == once
    assert manifest == before
    assert once["metadata"]["annotations"].keys() == {APPLIED_HASH_ANNOTATION}


@given(st.integers(1, 10_000))
def test_quantities_are_compared_by_value(number: int) -> None:
    """The spelling of a quantity does not count, its value does."""
    assert is_subset({"limits": {"cpu": f"{number * 1000}m"}}, {"limits": {"cpu": str(number)}})
    assert is_subset({"limits": {"memory": f"{number * 1024}Mi"}}, {"limits": {"memory": f"{number}Gi"}})
    assert not is_subset({"limits": {"memory": f"{number}M"}}, {"limits": {"memory": f"{number}Mi"}})
    assert not is_subset({"args": {"memory": "1000m"}}, {"args": {"memory": "1"}})


def test_quantity_of_nothing() -> None:
    """What is no quantity has no value."""
    for text in ("", "x", "1Xi", "1.2.3", None, True, []):
        assert parse_quantity(text) is None
    assert parse_quantity("1e3") == 1000


def test_true_is_not_one() -> None:
    """true and 1 are different in JSON."""
    assert not is_subset({"a": True}, {"a": 1})
    assert not is_subset({"a": 1}, {"a": True})
