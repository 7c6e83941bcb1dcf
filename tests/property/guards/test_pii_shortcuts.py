"""What is left out because of its form is nothing: with every shortcut taken away, the same personal data is found."""

from collections.abc import Iterator
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from capstan_contract.guards import Source
from capstan_gateway.guards.pii import detector as detectors
from capstan_gateway.guards.pii.numbers import Use
from capstan_gateway.guards.pii.view import _folded as byte_of
from capstan_gateway.guards.pii.view import fold_sigma, view_of
from capstan_gateway.guards.pii.words import Word, Words, _stands
from support.pii_texts import ALL, NEVER, TEXT

WORDS = Words()
ROWS = st.builds(
    lambda rows, between: between.join(rows),
    st.lists(st.from_regex(r"\+?[( ]?[0-9]{1,5}([ .()/-]{1,3}[0-9]{1,5}){0,9}", fullmatch=True), max_size=8),
    st.sampled_from(["\n", " ", ", ", " tel ", " call ", " card ", " +", "\u00ad", " x"]),
)


class _Everything:
    """Takes every recogniser to have something to do."""

    def Match(self, folded: bytes) -> list[int]:
        return list(range(len(detectors._GATED) + 1))


def always(mask: bytes, digits: int, whole: bool, least: float) -> Use:
    """Take every number to be something."""
    return Use.ALWAYS


@given(text=st.one_of(TEXT, ROWS, st.tuples(ROWS, TEXT).map("".join)))
@settings(max_examples=400)
@example(text="+ (49) 30 901820, + 49 (30) 901820 or 0049-30-901820")
@example(text="call 1234567 8901234 and 123 456 789 123 456 789")
@example(text="bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4 and 2001:db8:0:0:0:0:192.168.7.4")
def test_a_shortcut_leaves_nothing_out(text: str) -> None:
    """Neither the gates of recognisers nor the forms of numbers hide what would be found without them."""
    for detector in (ALL, NEVER):
        short = detector.decide(text, Source.USER)
        with patch.object(detectors, "_gates", _Everything), patch.object(detectors, "_use", always):
            assert detector.decide(text, Source.USER) == short


@given(text=st.one_of(TEXT, st.text()))
@settings(max_examples=300)
def test_words_stand_where_each_alone_would(text: str) -> None:
    """What is told by the letters beside a word is what is told by all that matters of it."""
    view = view_of(text)
    spans: dict[Word, list[tuple[int, int]]] = {}
    for which, start, end in WORDS._automaton.find_matches_as_indexes(view.lowered, overlapping=True):
        if _stands(view, start, end):
            for group in WORDS._groups[which]:
                spans.setdefault(group, []).append((start, end))
    assert WORDS.hits(view).spans == {group: sorted(of_group) for group, of_group in spans.items()}


def bytes_of(text: str) -> Iterator[int]:
    """Give the byte of each character by itself."""
    return map(byte_of, text)


@given(text=st.text().filter(lambda text: not {"\\", "_"} & set(text)))
@pytest.mark.parametrize("end", ["", "\udc00", "中文。ｔｅｌ", "Σ ς İ"])
def test_a_view_has_the_byte_of_each_character(text: str, end: str) -> None:
    """Runs of what is not ASCII are folded as each of their characters is."""
    text += end
    view = view_of(text)
    assert view.folded == bytes(bytes_of(text))
    assert view.lowered == fold_sigma("".join(low if len(low := one.lower()) == 1 else one for one in text)) or (
        view.lowered == fold_sigma(text.lower())
    )
