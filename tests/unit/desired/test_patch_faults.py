"""What is said about a pod patch that cannot be carried out, and where."""

import pytest

from capstan_operator.desired.patch import MERGE_KEYS, PatchError, check_patch, strategic_merge

KEYED = "is required: it says which item is meant"
DIRECTIVES = "is not a directive that can be used here; allowed are $patch and $retainKeys"
SCALAR = "must be a string, a number, a boolean, a list or a map"


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        ("text", "spec: must be a map"),
        ({1: "x"}, "spec.1: is not the name of a field: put it in quotes"),
        ({"a": {"b": {"$patch": "drop"}}}, "spec.a.b.$patch: must be one of delete, replace, merge"),
        ({"a": {"$retainKeys": "x"}}, "spec.a.$retainKeys: must be a list of field names"),
        ({"a": {"$retainKeys": ["x", 1]}}, "spec.a.$retainKeys: must be a list of field names"),
        ({"$setElementOrder/volumes": []}, f"spec.$setElementOrder/volumes: {DIRECTIVES}"),
        ({"a": float("inf")}, "spec.a: must be a finite number"),
        ({"a": object()}, f"spec.a: {SCALAR}"),
        ({"a": [1, [2, object()]]}, f"spec.a[1][1]: {SCALAR}"),
        ({"a": [{"b": object()}]}, f"spec.a[0].b: {SCALAR}"),
        ({"env": [{"name": "A"}, {"value": "x"}]}, f"spec.env[1].name: {KEYED}"),
        ({"env": [{"name": True}]}, f"spec.env[0].name: {KEYED}"),
        ({"env": [{"name": None}]}, f"spec.env[0].name: {KEYED}"),
        ({"env": [{"name": True, "$patch": "replace"}]}, f"spec.env[0].name: {KEYED}"),
        ({"env": ["A"]}, "spec.env[0]: must be a map"),
        ({"env": [{"$patch": "delete"}]}, f"spec.env[0].name: {KEYED}"),
        ({"ports": [{"port": 1}]}, f"spec.ports[0].containerPort: {KEYED}"),
    ],
)
def test_a_patch_without_meaning_is_refused_with_its_path(patch: object, said: str) -> None:
    """The path leads to the field, and the words say what is allowed."""
    with pytest.raises(PatchError) as caught:
        check_patch(patch, path="spec")
    assert str(caught.value) == said
    assert said == f"{caught.value.path}: {caught.value.message}"


@pytest.mark.parametrize(
    "patch",
    [
        {},
        {"a": None, "b": 1, "c": 1.5, "d": True, "e": "x", "f": [], "g": [[1], "x", {"h": 1}]},
        {"env": [{"name": "A", "value": None}, {"name": "B", "$patch": "delete"}]},
        {"env": [{"$patch": "replace"}, {"name": "A"}]},
        {"ports": [{"containerPort": 8000}]},
        {"a": {"$patch": "replace"}, "b": {"$retainKeys": ["x"], "x": 1}, "c": {"$patch": "merge"}},
    ],
)
def test_a_patch_with_meaning_is_taken(patch: object) -> None:
    """Values of every kind, null, directives where they stand, and merge keys that are numbers."""
    check_patch(patch, path="spec")


def test_a_directive_never_reaches_the_pod() -> None:
    """Nor does the API server see one, in lists without a merge key either."""
    patch = {"a": {"$patch": "merge", "b": 1}, "plain": [{"$patch": "merge", "c": 1}], "d": {"$retainKeys": ["e"]}}
    assert strategic_merge({"d": {"e": 1, "f": 2}}, patch) == {"a": {"b": 1}, "plain": [{"c": 1}], "d": {"e": 1}}
    assert strategic_merge({"a": 1}, {"$patch": "delete"}) == {}
    assert strategic_merge({"a": 1, "b": 2}, {"$patch": "replace", "c": 3}) == {"c": 3}
    assert strategic_merge({"a": {"b": 1}, "c": 1}, {"a": {"$patch": "delete"}}) == {"c": 1}


def test_null_is_only_a_deletion_in_a_map() -> None:
    """In an item of a plain list, and of what is not there, too."""
    assert strategic_merge({}, {"a": None, "b": {"c": None}}) == {"b": {}}
    assert strategic_merge({}, {"plain": [{"a": None, "b": 1}]}) == {"plain": [{"b": 1}]}


@pytest.mark.parametrize("base", [1, "x", None, [], {"name": "x"}])
def test_what_is_of_another_kind_is_replaced(base: object) -> None:
    """A map over a scalar, a list over a map."""
    assert strategic_merge({"a": base}, {"a": {"b": 1}})["a"]["b"] == 1
    assert strategic_merge({"env": base}, {"env": [{"name": "A"}]})["env"] == [{"name": "A"}]


@pytest.mark.parametrize(("field", "key"), sorted(MERGE_KEYS.items()))
def test_every_keyed_list_is_merged_item_by_item(field: str, key: str) -> None:
    """What the patch does not name stays in its place, what it adds comes last."""
    base = {field: [{key: "a", "x": 1}, {key: "b", "x": 1}]}
    merged = strategic_merge(base, {field: [{key: "c", "x": 2}, {key: "a", "y": 2}]})
    assert merged[field] == [{key: "a", "x": 1, "y": 2}, {key: "b", "x": 1}, {key: "c", "x": 2}]
    assert strategic_merge(base, {field: [{key: "a", "$patch": "delete"}]})[field] == [{key: "b", "x": 1}]
    assert strategic_merge(base, {field: [{"$patch": "replace"}]})[field] == []
    again = {key: "a", "$patch": "replace", "y": 2}
    assert strategic_merge(base, {field: [again]})[field] == [{key: "a", "y": 2}, {key: "b", "x": 1}]
    assert strategic_merge(base, {field: [{"$patch": "replace"}, again]})[field] == [{key: "a", "y": 2}]
