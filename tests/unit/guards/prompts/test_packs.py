"""How texts are cut and put together for who is asked about them."""

from itertools import pairwise

import pytest

from capstan_gateway.guards.prompts.packs import packed, windows
from capstan_gateway.guards.prompts.unreadable import Unreadable


def test_so_many_packs_may_be_and_no_more() -> None:
    """Where there would be one more, not everything could be looked at, and nobody has decided."""
    assert len(packed(["one", "two", "three"], 100, together=False, most_packs=3)) == 3
    with pytest.raises(Unreadable):
        packed(["one", "two", "three"], 100, together=False, most_packs=2)


def test_windows_overlap() -> None:
    """What stands on the border of two is whole in one of them, and nothing of a text is in none."""
    text = "word " * 400
    found = [(start, end) for start, end, _ in windows(text, 100)]
    assert (found[0][0], found[-1][1]) == (0, len(text))
    assert all(start + 10 < end for (_, end), (start, _) in pairwise(found))
