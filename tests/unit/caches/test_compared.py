"""Whether two answers say the same, by their words and by how alike they are."""

import pytest

from capstan_gateway.caches.semantic.compared import OTHER_BELOW, SAME_AT, Verdict, by_likeness, by_words


@pytest.mark.parametrize(
    ("one", "other", "verdict"),
    [
        ("It is Paris.", "it is paris", Verdict.SAME),
        ("Paris", "The capital of France is Paris.", Verdict.SAME),
        ("4", "2 + 2 equals 4.", Verdict.SAME),
        ("Yes, within 30 days.", "No, it cannot be returned.", Verdict.OTHER),
        ("It is 8849 m high.", "It is 1642 m deep.", Verdict.OTHER),
        ("It costs 1,000 dollars.", "It costs 1000 dollars.", Verdict.SAME),
        ("It is safe.", "It is not safe.", Verdict.UNKNOWN),
        ("is safe", "That is safe, but not for children", Verdict.UNKNOWN),
        ("You can return it.", "Returns are taken.", Verdict.UNKNOWN),
        ("", "Something.", Verdict.OTHER),
        ("", "", Verdict.SAME),
        ("你好", "再见", Verdict.UNKNOWN),
        ("!", "?", Verdict.OTHER),
    ],
)
def test_words_decide_only_what_they_say(one: str, other: str, verdict: Verdict) -> None:
    """Same words are the same answer, opposite ones and other numbers are not; else words say nothing. Either way round
    it is one verdict."""
    assert by_words(one, other) is verdict
    assert by_words(other, one) is verdict


def test_likeness_decides_outside_of_its_bounds() -> None:
    """What is very alike is the same, what is hardly alike is not, and what lies between is neither."""
    likeness = (SAME_AT, SAME_AT - 0.01, OTHER_BELOW, OTHER_BELOW - 0.01)
    assert [by_likeness(cosine) for cosine in likeness] == [
        Verdict.SAME, Verdict.UNKNOWN, Verdict.UNKNOWN, Verdict.OTHER,
    ]  # fmt: skip
