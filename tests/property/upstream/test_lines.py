"""A long response, line by line."""

import asyncio
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.upstream.errors import BodyTooLarge
from capstan_gateway.upstream.lines import iterate_lines


class Pieces:
    """A response whose body comes in given pieces."""

    status = 200
    complete = False

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.pieces = [piece for piece in pieces if piece]
        self.aborted = 0

    async def receive(self) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""

    def abort(self) -> None:
        self.aborted += 1


async def lines_of(response: Pieces, max_bytes: int = 10_000) -> list[bytes]:
    """Collect all lines."""
    lines = iterate_lines(response, endpoint_id="e", max_bytes=max_bytes)  # type: ignore[arg-type]
    return [line async for line in lines]


@given(pieces=st.lists(st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\r\n", b""])).map(b"".join)))
def test_lines_do_not_depend_on_how_the_body_is_cut(pieces: list[bytes]) -> None:
    """The lines are those of the whole body; what follows the last line end is a line when there is something."""
    expected = b"".join(pieces).split(b"\n")
    if not expected[-1]:
        expected.pop()
    assert asyncio.run(lines_of(Pieces(pieces))) == expected


def test_a_line_without_end_is_refused_and_the_response_aborted() -> None:
    """What is kept of an unfinished line is bounded."""
    response = Pieces([b"x" * 60, b"x" * 60])
    with pytest.raises(BodyTooLarge):
        asyncio.run(lines_of(response, 100))
    assert response.aborted


def test_leaving_early_aborts() -> None:
    """A reader that has seen enough does not leave the connection open."""
    response = Pieces([b"one\ntwo\n"])

    async def run() -> None:
        lines = iterate_lines(response, endpoint_id="e", max_bytes=100)  # type: ignore[arg-type]
        assert await anext(lines) == b"one"
        await lines.aclose()  # type: ignore[attr-defined]

    asyncio.run(run())
    assert response.aborted == 1
