"""Which pod templates are kept, and under which number."""

from typing import Any

import pytest

from capstan_operator.desired.revisions import (
    GENERATION_ANNOTATION,
    KEPT,
    NUMBER_ANNOTATION,
    build_revision,
    generation_of,
    number_of,
    plan_revisions,
)
from capstan_operator.desired.snapshot import PodHash
from capstan_operator.desired.types import Action, Wanted
from capstan_operator.resources.resource import Manifest

UID = "uid-1"


def _revision(number: int, *, owner: str = UID, data: bool = False, **annotations: str) -> Manifest:
    made = build_revision("m", {"number": number}, PodHash(f"h{number}"), number=number, generation=number)
    made["metadata"]["annotations"] |= annotations
    made["metadata"]["ownerReferences"] = [{"uid": owner, "controller": True}]
    return made if data else {key: value for key, value in made.items() if key != "data"}


def _plan(hash_: str, *present: Manifest) -> tuple[Manifest | None, tuple[Wanted, ...]]:
    return plan_revisions("m", {"t": 1}, PodHash(hash_), present=present, uid=UID, generation=7)


def test_a_revision_says_which_template_of_which_generation_it_keeps() -> None:
    """For people in the object itself, and for us where a list without data shows it."""
    assert build_revision("m", {"t": 1}, PodHash("abc"), number=3, generation=7) == {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": "m-abc",
            "labels": {"capstan.dev/pod-hash": "abc"},
            "annotations": {NUMBER_ANNOTATION: "3", GENERATION_ANNOTATION: "7"},
        },
        "data": {"template": {"t": 1}},
        "revision": 3,
    }


def test_the_oldest_go_when_a_new_one_comes() -> None:
    """With it as many stay as are kept: the newest of those that there are, whatever their order in the list."""
    one, two, three, four = (_revision(number) for number in range(1, 5))
    new, others = _plan("new", two, four, one, three)
    assert new == build_revision("m", {"t": 1}, PodHash("new"), number=5, generation=7)
    assert others == (
        Wanted(four, Action.HOLD),
        Wanted(three, Action.HOLD),
        Wanted(two, Action.PRUNE),
        Wanted(one, Action.PRUNE),
    )
    assert len([one for one in others if one.action is Action.HOLD]) == KEPT - 1


def test_the_newest_in_force_is_left_as_it_is() -> None:
    """Nothing is written, and it counts among those that stay."""
    one, two, three, four = (_revision(number) for number in range(1, 5))
    assert _plan("h4", one, two, three, four) == (
        None,
        (Wanted(four, Action.HOLD), Wanted(three, Action.HOLD), Wanted(two, Action.HOLD), Wanted(one, Action.PRUNE)),
    )


def test_one_that_comes_back_is_written_again_as_the_newest() -> None:
    """With the template that it keeps, and the generation that brought it back; without its data it stays as it is."""
    old, new = _revision(1, data=True), _revision(2)
    again = build_revision("m", {"number": 1}, PodHash("h1"), number=3, generation=7)
    assert _plan("h1", old, new) == (again, (Wanted(new, Action.HOLD),))
    bare = _revision(1)
    assert _plan("h1", bare, new) == (None, (Wanted(bare, Action.HOLD), Wanted(new, Action.HOLD)))


def test_what_others_own_is_left_alone() -> None:
    """It neither counts nor goes."""
    new, others = _plan("h1", _revision(1, owner="another"), _revision(9, owner="another"))
    assert new is not None
    assert (new["revision"], others) == (1, ())


@pytest.mark.parametrize(
    ("text", "number"), [("12", 12), ("0", 0), ("", None), ("-1", None), ("x", None), ("1.5", None)]
)
def test_numbers_that_somebody_has_changed_are_none(text: str, number: int | None) -> None:
    """Whatever stands there nobody falls over it: such a revision is the oldest."""
    revision: dict[str, Any] = {"metadata": {"annotations": {NUMBER_ANNOTATION: text, GENERATION_ANNOTATION: text}}}
    assert (number_of(revision), generation_of(revision)) == (number or 0, number)
    assert (number_of({"metadata": {}}), generation_of({"metadata": {}})) == (0, None)
    apart = {"metadata": {"annotations": {NUMBER_ANNOTATION: "5", GENERATION_ANNOTATION: "6"}}}
    assert (number_of(apart), generation_of(apart)) == (5, 6)
