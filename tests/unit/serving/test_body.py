"""The bytes of a body as they come."""

from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.serving.body import Body


@given(st.lists(st.lists(st.binary(min_size=1, max_size=5), max_size=4), max_size=4), st.booleans())
def test_what_comes_is_what_is_taken(rounds: list[list[bytes]], one_piece: bool) -> None:
    """In however many pieces, again and again; a single piece is given as it is, and of many none without a copy."""
    body = Body()
    for pieces in rounds:
        for piece in pieces:
            body.add(piece)
        assert len(body) == len(b"".join(pieces))
        if one_piece:
            taken = body.take_piece()
            assert (taken is None) == (len(pieces) > 1)
            if len(pieces) == 1:
                assert taken is pieces[0]
            assert taken != b"" or not pieces
        if not one_piece or len(pieces) > 1:
            assert body.take() == b"".join(pieces)
        assert len(body) == 0


def test_what_is_cleared_is_gone() -> None:
    """One piece or many; what comes behind is all there is."""
    for pieces in ([b"abc"], [b"a", b"bc"]):
        body = Body()
        for piece in pieces:
            body.add(piece)
        body.clear()
        assert (len(body), body.take()) == (0, b"")
        body.add(b"x")
        body.add(b"y")
        assert body.take() == b"xy"
