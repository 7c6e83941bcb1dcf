"""A text as word pieces."""

import pytest

from capstan_gateway.embed.windows import Reach
from capstan_gateway.embed.words import DIMENSIONS, Words

ALL = Reach(ends=4000, slices=0, length=0)


@pytest.fixture(scope="module")
def words() -> Words:
    """Load them once."""
    return Words.load()


def test_pieces_are_those_of_bert(words: Words) -> None:
    """The vocabulary and its order are those of bert-base-uncased."""
    (window,) = words.windows("Hello, world! Unaffable", size=50, overlap=0, reach=ALL)
    assert window.ids == (7592, 1010, 2088, 999, 14477, 20961, 3468)


def test_windows_say_where_they_are(words: Words) -> None:
    """Offsets are characters of the text that was given, behind a slice of it as well."""
    text = "one two three four five six"
    found = words.windows(text, size=3, overlap=1, reach=ALL)
    assert [text[window.start : window.end] for window in found] == ["one two three", "three four five", "five six"]
    long = "x " * 500 + "needle" + " y" * 500
    found = words.windows(long, size=4, overlap=0, reach=Reach(ends=10, slices=1, length=40))
    assert any("needle" in long[window.start : window.end] for window in found)


def test_half_a_surrogate_pair_is_a_text(words: Words) -> None:
    """What JSON can hold and UTF-8 cannot is cut as well."""
    assert words.windows("\ud800 hello \udfff", size=9, overlap=0, reach=ALL)


def test_no_word_is_no_window(words: Words) -> None:
    """Blanks alone are nothing to look at."""
    assert words.windows(" \n\t ", size=9, overlap=0, reach=ALL) == []


def test_vectors_are_padded_and_marked(words: Words) -> None:
    """Shorter rows end in padding, which the mask leaves out; [CLS] and [SEP] stand around each."""
    ids, mask = words.numbers([(7592,), (7592, 2088, 999)])
    assert ids.tolist() == [[101, 7592, 102, 0, 0], [101, 7592, 2088, 999, 102]]
    assert mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    vectors = words.vectors(ids)
    assert vectors.shape == (2, 5, DIMENSIONS)
    assert (vectors[0, 1] == vectors[1, 1]).all()
