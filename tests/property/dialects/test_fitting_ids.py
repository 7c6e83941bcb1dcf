"""Ids of calls made to fit: each call has its own, and to find it takes few tries whatever ids there are already."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.dialects.targets.ids import FORMS, IdForm, PairedIds, anthropic_id

ALL_FORMS = pytest.mark.parametrize("form", [anthropic_id, *FORMS.values()], ids=["anthropic", *FORMS])
NUMBERS = st.integers(0, 12)
IDS = st.one_of(
    st.sampled_from(["a", "", "a b", "x" * 70]),
    st.builds("{}_{}".format, st.sampled_from(["a", "a_2"]), NUMBERS),
    st.builds("functions.{}:{}".format, st.sampled_from(["f", "g"]), NUMBERS),
)
CALLS = st.lists(st.tuples(IDS, st.sampled_from(["f", "g", ""])), max_size=24)


def _counted(form: IdForm) -> tuple[IdForm, Callable[[], int]]:
    tries = 0

    def counting(call_id: str, name: str, number: int) -> str:
        nonlocal tries
        tries += 1
        assert tries < 100_000, "no end of tries"
        return form(call_id, name, number)

    return counting, lambda: tries


@ALL_FORMS
@given(calls=CALLS)
def test_each_call_has_an_id_of_its_own(form: IdForm, calls: list[tuple[str, str]]) -> None:
    """Whatever ids engines gave, with names or without: as many ids as calls, and each result finds one of them."""
    counting, tries = _counted(form)
    ids = PairedIds(counting)
    made = [ids.of_call(call_id, name) for call_id, name in calls]
    assert len(set(made)) == len(calls)
    assert tries() <= 3 * len(calls)
    assert sorted(ids.of_result(call_id) for call_id, _ in calls) == sorted(made)


@ALL_FORMS
def test_ids_that_are_taken_already_are_not_tried_again_and_again(form: IdForm) -> None:
    """Who sends the very ids that would be made next makes the work no more than twice as much."""
    many = 300
    counting, tries = _counted(form)
    ids = PairedIds(counting)
    for number in range(many):
        ids.of_call(f"a_{number}")
        ids.of_call(f"functions.f:{2 * many + number}")
    for _ in range(many):
        ids.of_call("a", "f")
    assert tries() <= 5 * many
