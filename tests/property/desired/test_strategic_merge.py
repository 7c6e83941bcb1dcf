from copy import deepcopy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from capstan_operator.desired.patch import MERGE_KEYS, check_patch, strategic_merge

VALUES = st.one_of(st.text(max_size=3), st.integers(0, 9), st.booleans())
NAMES = st.sampled_from(["a", "b", "c"])


def _listed(field: str, item: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[list[dict[str, Any]]]:
    key = MERGE_KEYS[field]
    return st.lists(
        st.builds(lambda name, rest: {key: name, **rest}, NAMES, item), max_size=3, unique_by=lambda entry: entry[key]
    )


PLAIN = st.dictionaries(st.sampled_from(["image", "value", "optional"]), VALUES, max_size=2)
CONTAINERS = _listed(
    "containers",
    st.fixed_dictionaries(
        {},
        optional={
            "env": _listed("env", PLAIN),
            "volumeMounts": _listed("volumeMounts", PLAIN),
            "args": st.lists(st.text(max_size=2), max_size=3),
            "resources": st.fixed_dictionaries({"limits": st.dictionaries(NAMES, VALUES, max_size=2)}),
        },
    ),
)
PODS = st.fixed_dictionaries(
    {},
    optional={
        "containers": CONTAINERS,
        "volumes": _listed("volumes", PLAIN),
        "nodeSelector": st.dictionaries(NAMES, st.text(max_size=2), max_size=2),
        "tolerations": st.lists(PLAIN, max_size=2),
    },
)


@given(PODS)
def test_empty_patch_changes_nothing(pod: dict[str, Any]) -> None:
    """The identity of merging."""
    assert strategic_merge(pod, {}) == pod


@given(PODS)
def test_patch_with_itself_changes_nothing(pod: dict[str, Any]) -> None:
    """Saying what is already there has no effect."""
    assert strategic_merge(pod, pod) == pod


@given(PODS, PODS)
def test_patch_twice_is_patch_once(pod: dict[str, Any], patch: dict[str, Any]) -> None:
    """A patch is idempotent, and leaves what it was given alone."""
    before = deepcopy((pod, patch))
    once = strategic_merge(pod, patch)
    assert strategic_merge(once, patch) == once
    assert (pod, patch) == before


@given(PODS, PODS)
def test_nothing_is_lost_but_what_the_patch_replaces(pod: dict[str, Any], patch: dict[str, Any]) -> None:
    """Every named item of the base and of the patch is in the result, once."""
    merged = strategic_merge(pod, patch)
    for field in ("containers", "volumes"):
        key = MERGE_KEYS[field]
        names = [item[key] for item in merged.get(field, [])]
        assert set(names) == {item[key] for source in (pod, patch) for item in source.get(field, [])}
        assert len(names) == len(set(names))


@given(PODS, PODS)
def test_null_and_delete_take_away(pod: dict[str, Any], patch: dict[str, Any]) -> None:
    """null deletes a field, `$patch: delete` an item, and both can be said of what is not there."""
    assert strategic_merge(pod, dict.fromkeys(patch)) == {key: pod[key] for key in pod if key not in patch}
    gone = {"volumes": [{"name": name, "$patch": "delete"} for name in "abc"]}
    assert strategic_merge(pod, gone).get("volumes") == []


@given(PODS)
def test_well_formed_patch_passes_the_check(pod: dict[str, Any]) -> None:
    """What looks like a part of a pod is a patch."""
    check_patch(pod, path="spec")
