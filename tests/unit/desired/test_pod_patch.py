import pytest

from capstan_operator.desired.patch import PatchError, check_patch, strategic_merge

BASE = {
    "containers": [
        {
            "name": "engine",
            "args": ["a", "b"],
            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
            "ports": [{"containerPort": 1, "name": "one"}],
            "volumeMounts": [{"mountPath": "/data", "name": "tmp"}],
        }
    ],
    "tolerations": [{"key": "a"}],
    "volumes": [{"name": "tmp", "emptyDir": {}}],
}


def _engine(patch: dict[str, object]) -> dict[str, object]:
    merged: dict[str, object] = strategic_merge(BASE, {"containers": [{"name": "engine", **patch}]})["containers"][0]
    return merged


def test_named_items_are_merged_and_new_ones_added() -> None:
    """An item with a known key is merged into its own, another one comes last."""
    env = _engine({"env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}]})["env"]
    assert env == [{"name": "A", "value": "1"}, {"name": "B", "value": "3"}, {"name": "C", "value": "4"}]


@pytest.mark.parametrize(
    ("field", "item", "expected"),
    [
        ("ports", {"containerPort": 1, "protocol": "TCP"}, [{"containerPort": 1, "name": "one", "protocol": "TCP"}]),
        ("volumeMounts", {"mountPath": "/data", "name": "x"}, [{"mountPath": "/data", "name": "x"}]),
    ],
)
def test_each_list_has_its_own_key(field: str, item: dict[str, object], expected: list[object]) -> None:
    """Ports are told apart by number, mounts by path."""
    assert _engine({field: [item]})[field] == expected


def test_lists_without_key_are_replaced() -> None:
    """Arguments and tolerations are taken as they are, as in kubectl."""
    assert _engine({"args": ["c"]})["args"] == ["c"]
    assert strategic_merge(BASE, {"tolerations": [{"key": "b"}]})["tolerations"] == [{"key": "b"}]


def test_null_deletes() -> None:
    """null takes a field away."""
    assert "tolerations" not in strategic_merge(BASE, {"tolerations": None})
    assert "args" not in _engine({"args": None})


def test_directives_delete_and_replace() -> None:
    """`$patch` deletes an item, replaces an item, and alone in a list replaces the list."""
    assert strategic_merge(BASE, {"volumes": [{"name": "tmp", "$patch": "delete"}]})["volumes"] == []
    assert _engine({"$patch": "replace", "image": "x"}) == {"name": "engine", "image": "x"}
    env = _engine({"env": [{"$patch": "replace"}, {"name": "Z", "value": "9"}]})["env"]
    assert env == [{"name": "Z", "value": "9"}]


def test_retain_keys_changes_the_source_of_a_volume() -> None:
    """`$retainKeys` drops what it does not name, so that a volume has one source."""
    patch = {"volumes": [{"name": "tmp", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]}
    assert strategic_merge(BASE, patch)["volumes"] == [{"name": "tmp", "hostPath": {"path": "/x"}}]


@pytest.mark.parametrize(
    ("patch", "path"),
    [
        ({"containers": [{"image": "x"}]}, "spec.containers[0].name"),
        ({"containers": ["engine"]}, "spec.containers[0]"),
        ({"containers": [{"name": "engine", "$patch": "remove"}]}, "spec.containers[0].$patch"),
        ({"$setElementOrder/volumes": []}, "spec.$setElementOrder/volumes"),
        ({"volumes": [{"name": "a", "$retainKeys": "name"}]}, "spec.volumes[0].$retainKeys"),
        ([], "spec"),
    ],
)
def test_patch_without_meaning_is_refused_with_its_path(patch: object, path: str) -> None:
    """What cannot be carried out is refused, and the path says where."""
    with pytest.raises(PatchError) as caught:
        check_patch(patch, path="spec")
    assert caught.value.path == path
