"""What of a text is looked at."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.embed.windows import Reach, batches, cut, slices_of

reaches = st.builds(Reach, ends=st.integers(1, 50), slices=st.integers(0, 6), length=st.integers(1, 20))


@given(pieces=st.integers(0, 500), size=st.integers(2, 40), data=st.data())
def test_windows_cover_everything(pieces: int, size: int, data: st.DataObject) -> None:
    """Every run of pieces that is no longer than the overlap is whole in a window; none is longer than allowed."""
    overlap = data.draw(st.integers(0, size - 1))
    found = cut(pieces, size=size, overlap=overlap)
    assert all(0 <= begin < end <= pieces and end - begin <= size for begin, end in found)
    assert {at for begin, end in found for at in range(begin, end)} == set(range(pieces))
    for at in range(max(pieces - overlap, 0)):
        assert any(begin <= at and at + overlap <= end for begin, end in found)
    assert len(found) <= pieces // (size - overlap) + 1


@given(characters=st.integers(0, 2000), reach=reaches)
def test_slices_are_bounded_and_both_ends_are_among_them(characters: int, reach: Reach) -> None:
    """Of a text of any length at most so much is looked at: all of a short one, and both ends of any."""
    found = slices_of(characters, reach)
    assert sum(end - begin for begin, end in found) == min(characters, reach.everything)
    assert all(before[1] <= after[0] for before, after in pairwise(found))
    if characters:
        assert found[0][0] == 0
        assert found[-1][1] == characters


@given(lengths=st.lists(st.integers(1, 60), max_size=40), most=st.integers(1, 200))
def test_batches_hold_every_row_once_and_are_bounded(lengths: list[int], most: int) -> None:
    """Every row is in one batch; what a batch is padded to is bounded, but for a row that is too long alone."""
    found = batches(lengths, most=most)
    assert sorted(number for batch in found for number in batch) == list(range(len(lengths)))
    for batch in found:
        assert len(batch) == 1 or len(batch) * max(lengths[number] for number in batch) <= most
