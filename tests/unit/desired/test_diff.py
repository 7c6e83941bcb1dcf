"""When an object is as it should be: what is the same although it looks otherwise, and what is not."""

from types import MappingProxyType
from typing import Any

import pytest

from capstan_contract.names import APPLIED_HASH_ANNOTATION
from capstan_operator.desired.diff import digest, is_subset, needs_apply, with_applied_hash


@pytest.mark.parametrize(
    "nothing",
    ["", 0, False, None],
)
def test_what_is_nothing_may_be_absent(nothing: object) -> None:
    """An API server drops it, or was never told; but where it is something else, that is a difference."""
    assert is_subset({"a": nothing}, {})
    assert is_subset({"a": nothing}, {"a": None})
    assert not is_subset({"a": nothing}, {"a": "something"})


@pytest.mark.parametrize("live", [None, [], ()])
def test_an_empty_list_is_no_list(live: object) -> None:
    """Both ways round; one with items is another."""
    assert is_subset({"a": []}, {"a": live})
    assert not is_subset({"a": []}, {"a": ["x"]})
    assert not is_subset({"a": ["x"]}, {"a": live})


def test_an_empty_map_is_any_map() -> None:
    """`emptyDir: {}` says only that there is one, and nothing of what is in it."""
    assert is_subset({"a": {}}, {})
    assert is_subset({"a": {}}, {"a": {"b": 1}})
    assert not is_subset({"a": {}}, {"a": "text"})
    assert not is_subset({"a": {"b": 1}}, {"a": "text"})
    assert not is_subset({"a": {"b": 1}}, {})


def test_plain_lists_are_compared_item_by_item() -> None:
    """Arguments have an order, and no item may come or go."""
    assert is_subset({"args": ["a", "b"]}, {"args": ["a", "b"]})
    for other in (["b", "a"], ["a"], ["a", "b", "c"], "ab"):
        assert not is_subset({"args": ["a", "b"]}, {"args": other})


@pytest.mark.parametrize(
    ("field", "keys"),
    [
        ("containers", ("name",)),
        ("initContainers", ("name",)),
        ("volumes", ("name",)),
        ("env", ("name",)),
        ("imagePullSecrets", ("name",)),
        ("volumeMounts", ("mountPath",)),
        ("volumeDevices", ("devicePath",)),
        ("ownerReferences", ("uid",)),
        ("topologySpreadConstraints", ("topologyKey", "whenUnsatisfiable")),
        ("hostAliases", ("ip",)),
        ("resourceClaims", ("name",)),
        ("schedulingGates", ("name",)),
        ("ports", ("containerPort",)),
        ("ports", ("port",)),
    ],
)
def test_others_may_add_items_to_lists_with_identity(field: str, keys: tuple[str, ...]) -> None:
    """A sidecar that somebody injects is no difference; an item of ours that is gone, or another one, is."""

    def item(name: str, value: int) -> dict[str, Any]:
        return {**dict.fromkeys(keys, name), "value": value}

    ours, theirs = item("ours", 1), item("theirs", 2)
    assert is_subset({field: [ours]}, {field: [theirs, ours]})
    assert not is_subset({field: [ours]}, {field: [theirs]})
    assert not is_subset({field: [ours]}, {field: [item("ours", 3), theirs]})


def test_identity_is_of_all_its_fields() -> None:
    """Two constraints of one topology differ in what they do when it cannot be met."""
    hard = {"topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "maxSkew": 1}
    soft = {**hard, "whenUnsatisfiable": "ScheduleAnyway"}
    assert not is_subset({"topologySpreadConstraints": [hard]}, {"topologySpreadConstraints": [soft]})


def test_items_without_their_identity_are_a_plain_list() -> None:
    """Ports of which only some have a number, and items that are no maps."""
    assert not is_subset({"ports": [{"name": "x"}]}, {"ports": [{"name": "x"}, {"name": "y"}]})
    assert not is_subset({"env": ["x"]}, {"env": ["x", "y"]})
    assert not is_subset({"env": [{"name": "x"}, "y"]}, {"env": [{"name": "x"}]})
    assert not is_subset({"env": [{"name": "x"}]}, {"env": ["x"]})


@pytest.mark.parametrize("field", ["requests", "limits", "capacity", "sizeLimit", "storage"])
def test_quantities_are_the_same_by_value(field: str) -> None:
    """Below these fields and nowhere else, however deep; text that is no quantity is text."""
    assert is_subset({field: "1Gi"}, {field: "1024Mi"})
    assert is_subset({field: {"x": {"y": "1Gi"}}}, {field: {"x": {"y": "1024Mi"}}})
    assert not is_subset({field: "1Gi"}, {field: "1G"})
    assert not is_subset({field: "some"}, {field: "other"})
    assert not is_subset({"other": "1Gi"}, {"other": "1024Mi"})


def test_the_applied_hash_is_of_everything_but_itself() -> None:
    """The order of keys does not count, an annotation of ours does, and putting it on twice changes nothing."""
    one = {"kind": "X", "metadata": {"name": "m", "annotations": {"a": "1"}}, "spec": {"b": 1, "c": 2}}
    other = {"spec": {"c": 2, "b": 1}, "metadata": {"annotations": {"a": "1"}, "name": "m"}, "kind": "X"}
    first = with_applied_hash(one)
    assert first == with_applied_hash(other) == with_applied_hash(first)
    assert first["metadata"]["annotations"]["a"] == "1"
    bare = {**one, "metadata": {"name": "m"}}
    assert with_applied_hash(bare)["metadata"]["annotations"][APPLIED_HASH_ANNOTATION] == digest(bare)
    assert with_applied_hash(bare) == with_applied_hash({**one, "metadata": {"name": "m", "annotations": {}}})
    assert with_applied_hash(bare)["metadata"]["annotations"] != first["metadata"]["annotations"]
    assert with_applied_hash({"spec": {}})["metadata"]["annotations"].keys() == {APPLIED_HASH_ANNOTATION}


def test_a_digest_is_that_of_the_json() -> None:
    """It was written into the annotations of live objects: another one would restart every pod of a fleet."""
    assert digest({"b": [1, True, None], "a": "ä"}) == digest({"a": "ä", "b": [1, True, None]})
    assert digest({"a": "ä", "b": [1, True, None]}) == "0a884a37e8c5845d"
    with pytest.raises(ValueError, match="Out of range"):
        digest(float("nan"))


def test_what_is_not_there_is_applied() -> None:
    """And what is there as wanted is not."""
    manifest = with_applied_hash({"metadata": {"name": "m"}, "spec": {"a": 1}})
    assert needs_apply(manifest, None)
    assert not needs_apply(manifest, {**manifest, "status": {"x": 1}})
    assert needs_apply(manifest, {**manifest, "spec": {"a": 2}})


def test_a_map_is_one_of_whatever_type() -> None:
    """What is parsed may be a read-only one, on either side."""
    one, more = {"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}
    for desired in (one, MappingProxyType(one), {"a": MappingProxyType(one["a"])}):
        for live in (more, MappingProxyType(more), {"a": MappingProxyType(more["a"])}):
            assert is_subset(desired, live)
            assert not is_subset(live, desired)
    assert not is_subset(MappingProxyType(one), "a")
    assert not is_subset("a", MappingProxyType(one))
