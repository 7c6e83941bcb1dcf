"""A response in its reader's hands, filled by the test in place of a connection."""

import asyncio
import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.memory import MemoryBudget
from capstan_gateway.upstream.errors import (
    BodyBroken,
    BodyTooLarge,
    DeadlineExceeded,
    DeadlineKind,
    NoMemory,
    UpstreamError,
)
from capstan_gateway.upstream.response import FREE_BYTES, Response
from support.virtualtime import run_virtually

FIRST_BYTE_AT, IDLE, EXPIRES_AT = 1030.0, 7.0, 1100.0
"""The virtual clock begins at 1000."""
PIECES = st.lists(st.binary(min_size=1, max_size=9), max_size=6)


class Wire:
    """Stands where the connection is, and remembers what the response asked of it."""

    endpoint_id = "e"

    def __init__(self) -> None:
        self.deadlines: list[tuple[float, DeadlineKind]] = []
        self.aborted = 0
        self.resumed = 0

    def set_deadline(self, at: float, kind: DeadlineKind) -> None:
        self.deadlines.append((at, kind))

    def resume(self) -> None:
        self.resumed += 1

    def abort(self) -> None:
        self.aborted += 1


def begun(*, expires_at: float = EXPIRES_AT) -> tuple[Wire, Response]:
    """A response of which nothing has come yet."""
    wire = Wire()
    return wire, Response(wire, asyncio.get_running_loop(), FIRST_BYTE_AT, IDLE, expires_at, False)


async def deliver(response: Response, pieces: list[bytes], end: UpstreamError | None) -> None:
    """Let the pieces come one by one, and then the end, or what is in its place."""
    for piece in pieces:
        response.on_body(piece)
        response.wake()
        await asyncio.sleep(0)
    if end is None:
        response.on_complete()
        response.wake()
    else:
        response.on_error(end)


@pytest.mark.parametrize(
    ("awaits_token", "began", "expires_at", "deadline"),
    [
        (None, False, EXPIRES_AT, (FIRST_BYTE_AT, DeadlineKind.FIRST_TOKEN)),
        (None, True, EXPIRES_AT, (1000 + IDLE, DeadlineKind.IDLE)),
        (False, False, EXPIRES_AT, (1000 + IDLE, DeadlineKind.IDLE)),
        (False, True, EXPIRES_AT, (1000 + IDLE, DeadlineKind.IDLE)),
        (True, False, EXPIRES_AT, (FIRST_BYTE_AT, DeadlineKind.FIRST_TOKEN)),
        (True, True, EXPIRES_AT, (FIRST_BYTE_AT, DeadlineKind.FIRST_TOKEN)),
        (None, False, 1020.0, (1020.0, DeadlineKind.TOTAL)),
        (None, False, FIRST_BYTE_AT, (FIRST_BYTE_AT, DeadlineKind.FIRST_TOKEN)),
        (None, True, 1006.9, (1006.9, DeadlineKind.TOTAL)),
    ],
)
def test_which_deadline_is_in_force(
    awaits_token: bool | None, began: bool, expires_at: float, deadline: tuple[float, DeadlineKind]
) -> None:
    """Up to the first piece that of the first token, then the idle one, unless the reader knows better; never later
    than the total one."""

    async def main() -> None:
        wire, response = begun(expires_at=expires_at)
        response.awaits_token = awaits_token
        if began:
            response.on_body(b"x")
            assert await response.receive() == b"x"
        response.arrival()
        assert wire.deadlines == [deadline]

    run_virtually(main())


@given(before=PIECES, after=PIECES, breaks=st.booleans(), most=st.integers(0, 40))
def test_a_beginning_is_as_much_as_was_asked_for_or_all_there_is(
    before: list[bytes], after: list[bytes], breaks: bool, most: int
) -> None:
    """However it comes, and whether or not it comes to its end; the connection is not used for the rest."""
    whole = b"".join(before + after)

    async def main() -> None:
        wire, response = begun()
        for piece in before:
            response.on_body(piece)
        reading = asyncio.ensure_future(response.read_beginning(most))
        await asyncio.sleep(0)
        await deliver(response, after, BodyBroken("e", "cut") if breaks else None)
        assert await reading == whole[:most]
        assert wire.aborted == (len(whole) >= most), "nobody reads on"

    run_virtually(main())


@pytest.mark.parametrize("kind", DeadlineKind)
def test_a_beginning_that_stalls_is_given_as_far_as_it_came(kind: DeadlineKind) -> None:
    """Only when the request's own time is over there is nothing more to say."""

    async def main() -> None:
        _, response = begun()
        reading = asyncio.ensure_future(response.read_beginning(100))
        await asyncio.sleep(0)
        await deliver(response, [b"half"], DeadlineExceeded("e", kind))
        if kind is DeadlineKind.TOTAL:
            with pytest.raises(DeadlineExceeded):
                await reading
        else:
            assert await reading == b"half"

    run_virtually(main())


@given(before=PIECES, after=PIECES, most=st.integers(0, 60), done=st.booleans())
def test_a_body_is_read_whole_or_is_too_large(before: list[bytes], after: list[bytes], most: int, done: bool) -> None:
    """Whatever has come before it is read: up to the limit all of it, above it an error that ends the connection."""
    after = [] if done else after
    whole = b"".join(before + after)

    async def main() -> None:
        wire, response = begun()
        for piece in before:
            response.on_body(piece)
        if done:
            response.on_complete()
        reading = asyncio.ensure_future(response.read(most))
        await asyncio.sleep(0)
        if not done:
            await deliver(response, after, None)
        if len(whole) > most:
            with pytest.raises(BodyTooLarge):
                await reading
        else:
            assert await reading == whole
            assert wire.aborted == 0

    run_virtually(main())


def test_a_body_that_is_larger_than_allowed_ends_its_connection_when_that_is_known() -> None:
    """Not when all of it has come."""

    async def main() -> None:
        wire, response = begun()
        response.on_body(b"12345")
        with pytest.raises(BodyTooLarge) as raised:
            await response.read(4)
        assert (raised.value.endpoint_id, "4 bytes" in str(raised.value)) == ("e", True)
        assert wire.aborted == 1
        with pytest.raises(BodyBroken) as broken:
            response.arrival()
        assert str(broken.value).startswith("e: ")

    run_virtually(main())


@pytest.mark.parametrize("cuts", [[0, 5], [0, 2, 5], [0, 1, 2, 3, 4, 5]])
def test_a_body_of_just_the_size_that_is_allowed(cuts: list[int]) -> None:
    """Is allowed, however it comes."""

    async def main() -> None:
        wire, response = begun()
        reading = asyncio.ensure_future(response.read(5))
        await asyncio.sleep(0)
        await deliver(response, [b"12345"[start:end] for start, end in pairwise(cuts)], None)
        assert await reading == b"12345"
        assert wire.aborted == 0

    run_virtually(main())


@pytest.mark.parametrize("size", [FREE_BYTES, FREE_BYTES + 1, 5 * FREE_BYTES])
@pytest.mark.parametrize("way", ["complete", "at once", "together", "in pieces"])
def test_a_large_body_is_taken_from_the_budget_twice(size: int, way: str) -> None:
    """It is held as it comes and as a whole; a small one costs nothing; where there is no room it is not read."""

    async def main() -> None:
        for limit, fits in ((4 * size, True), (2 * size - 1, size <= FREE_BYTES)):
            budget = MemoryBudget(limit)
            wire, response = begun()
            share = budget.share()
            if way in ("complete", "at once"):
                response.on_body(b"x" * size)
            if way == "complete":
                response.on_complete()
            reading = asyncio.ensure_future(response.read(10 * size, lambda share=share: share))
            await asyncio.sleep(0)
            if way == "together":
                response.on_body(b"x" * size)
                response.on_complete()
                response.wake()
            elif way != "complete":
                await deliver(response, [] if way == "at once" else [b"x" * (size - 1), b"x"], None)
            if fits:
                assert await reading == b"x" * size
                assert share.held == (0 if size <= FREE_BYTES else 2 * size)
            else:
                with pytest.raises(NoMemory) as raised:
                    await reading
                assert str(raised.value).startswith("e: ")
                assert wire.aborted == (way in ("at once", "in pieces")), "otherwise it is over"
                assert share.held < 2 * size

    run_virtually(main())


def test_silence_is_what_a_reader_waits_for() -> None:
    """Between two pieces, since it asked for the next one; not before the first, nor while it does something else."""

    async def main() -> None:
        _, response = begun()
        response.arrival()
        assert response.silent_for(1005.0) == 0.0, "the first token has a deadline of its own"
        response.on_body(b"x")
        response.wake()
        await response.receive()
        assert response.silent_for(1005.0) == 0.0
        response.arrival()
        assert response.silent_for(1005.0) == 5.0
        response.on_body(b"y")
        response.wake()
        assert response.silent_for(1005.0) == 0.0

    run_virtually(main())


def test_what_was_taken_lets_the_connection_read_on() -> None:
    """Taking counts from nothing again: how much is unread is told with each piece."""

    async def main() -> None:
        wire, response = begun()
        assert [response.on_body(b"abc"), response.on_body(b"de")] == [3, 5]
        assert wire.resumed == 0
        assert await response.receive() == b"abcde"
        assert wire.resumed == 1
        assert response.on_body(b"f") == 1
        response.on_complete()
        assert await response.receive() == b"f"
        assert await response.receive() == b""
        assert wire.resumed == 1, "the connection is somebody else's by then"

    run_virtually(main())


def test_whoever_waits_is_awaited() -> None:
    """By the connection's timer, which leaves alone who does not wait: also one that was cancelled."""

    async def main() -> None:
        wire, response = begun(expires_at=math.inf)
        assert not response.awaited
        waiting = asyncio.ensure_future(response.receive())
        await asyncio.sleep(0)
        assert response.awaited
        waiting.cancel()
        await asyncio.wait([waiting])
        assert not response.awaited
        response.wake()
        response.abort()
        response.abort()
        assert wire.aborted == 1
        with pytest.raises(BodyBroken):
            await response.receive()

    run_virtually(main())


@pytest.mark.parametrize(
    ("pieces", "complete", "most", "given"),
    [
        ([b"abc"], True, FREE_BYTES, True),
        ([b"abc"], True, 10 * FREE_BYTES, True),
        ([b"x" * FREE_BYTES], True, FREE_BYTES, True),
        ([b"x" * (FREE_BYTES + 1)], True, 10 * FREE_BYTES, False),
        ([b"abc"], True, FREE_BYTES - 1, False),
        ([b"abc"], False, FREE_BYTES, False),
        ([b"ab", b"c"], True, FREE_BYTES, False),
        ([], True, FREE_BYTES, False),
    ],
)
def test_a_small_body_that_is_there_is_given_at_once(
    pieces: list[bytes], complete: bool, most: int, given: bool
) -> None:
    """In one piece, all of it, and as small as costs nothing; else it stays, to be read in the other way."""

    async def main() -> None:
        _, response = begun()
        for piece in pieces:
            response.on_body(piece)
        if complete:
            response.on_complete()
        assert response.read_now(most) == (pieces[0] if given else None)
        if not complete:
            response.on_complete()
        assert response._buffered == (0 if given else len(b"".join(pieces)))
        assert await response.receive() == (b"" if given else b"".join(pieces))

    run_virtually(main())
