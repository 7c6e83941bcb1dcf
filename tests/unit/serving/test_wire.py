"""The transport of a client's connection in virtual time: deadlines, clients that do not read, and the end."""

import asyncio
import math
import socket
from typing import Any

import pytest

from capstan_gateway.memory import MemoryBudget
from capstan_gateway.serving import wire as wires
from capstan_gateway.serving.wire import DISCARD_SECONDS, LINGER_SECONDS, PROGRESS_BYTES, REST_SECONDS, ClientWire
from support.virtualtime import run_virtually

WRITE_SECONDS = 20.0


class Transport(asyncio.Transport):
    """Holds as much as the test says, and remembers what was done with it."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Any] = []
        self.unsent = 0
        self.ended = False

    def write(self, data: Any) -> None:
        self.told.append(bytes(data))

    def write_eof(self) -> None:
        self.told.append("eof")

    def pause_reading(self) -> None:
        self.told.append("pause")

    def resume_reading(self) -> None:
        self.told.append("resume")

    def close(self) -> None:
        self.told.append("close")
        self.ended = True

    def abort(self) -> None:
        self.told.append("abort")
        self.ended = True

    def is_closing(self) -> bool:
        return self.ended

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


def made() -> tuple[ClientWire, Transport, list[tuple[str, float]]]:
    """A wire with its transport; what it calls is told with the seconds since now."""
    loop = asyncio.get_running_loop()
    began, told = loop.time(), []
    wire = ClientWire(
        loop,
        write_seconds=WRITE_SECONDS,
        on_deadline=lambda: told.append(("deadline", loop.time() - began)),
        on_stalled=lambda: told.append(("stalled", loop.time() - began)),
    )
    transport = Transport()
    wire.attach(transport)
    return wire, transport, told


def timers() -> int:
    """How many are set, the test's own left out."""
    scheduled = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    return sum(not timer.cancelled() for timer in scheduled)


@pytest.mark.parametrize(
    ("steps", "at"),
    [
        ([(0, 10)], 10),
        ([(0, 10), (5, 20)], 25),
        ([(0, 30), (5, 10)], 15),
        ([(0, 10), (5, None)], None),
        ([(0, 10), (5, None), (7, 10)], 17),
        ([(0, 10), (5, None), (20, 10)], 30),
        ([(0, 30), (1, 10), (2, 40)], 42),
        ([(0, 10), (5, 20), (12, 5)], 17),
    ],
)
def test_the_deadline_that_was_set_last_holds(steps: list[tuple[float, float | None]], at: float | None) -> None:
    """Earlier or later than the one before, or none; it is called once, and no timer is left."""

    async def main() -> None:
        wire, _, told = made()
        now = 0.0
        for moment, seconds in steps:
            await asyncio.sleep(moment - now)
            now = moment
            if seconds is None:
                wire.clear_deadline()
            else:
                wire.set_deadline(seconds)
        await asyncio.sleep(100)
        assert told == ([] if at is None else [("deadline", pytest.approx(at))])
        assert timers() == 0

    run_virtually(main())


def test_reading_is_stopped_and_begun_once() -> None:
    """However often it is asked for."""

    async def main() -> None:
        wire, transport, _ = made()
        for ask, state in (
            (wire.resume_reading, False), (wire.pause_reading, True), (wire.pause_reading, True),
            (wire.resume_reading, False), (wire.resume_reading, False), (wire.pause_reading, True),
        ):  # fmt: skip
            ask()
            assert wire.reading_paused is state
        assert transport.told == ["pause", "resume", "pause"]

    run_virtually(main())


@pytest.mark.parametrize(("taken", "stalled"), [(0, True), (PROGRESS_BYTES - 1, True), (PROGRESS_BYTES, False)])
def test_a_client_takes_a_part_in_time_or_is_cut_off(taken: int, stalled: bool) -> None:
    """Who takes it has as long again for the next part; whoever is to know is told before the end."""

    async def main() -> None:
        wire, transport, told = made()
        transport.unsent = 10 * PROGRESS_BYTES
        wire.pause_writing()
        wire.pause_writing()
        assert (wire.paused, timers()) == (True, 1)
        transport.unsent -= taken
        await asyncio.sleep(WRITE_SECONDS + 1)
        assert told == ([("stalled", WRITE_SECONDS)] if stalled else [])
        assert transport.told == (["abort"] if stalled else [])
        if stalled:
            return
        await asyncio.sleep(WRITE_SECONDS)
        assert told == [("stalled", 2 * WRITE_SECONDS)]

    run_virtually(main())


def test_the_deadline_in_force_is_told() -> None:
    """In the loop's time; infinite when there is none."""

    async def main() -> None:
        wire, _, _ = made()
        assert wire.deadline == math.inf
        wire.set_deadline(5)
        assert wire.deadline == asyncio.get_running_loop().time() + 5
        wire.clear_deadline()
        assert wire.deadline == math.inf

    run_virtually(main())


def test_a_client_that_has_caught_up_is_left_alone() -> None:
    """Its time begins anew when it stops reading again."""

    async def main() -> None:
        wire, transport, told = made()
        for _ in range(2):
            transport.unsent = 100
            wire.pause_writing()
            await asyncio.sleep(WRITE_SECONDS - 1)
            transport.unsent = 0
            wire.resume_writing()
            assert (wire.paused, timers()) == (False, 0)
        await asyncio.sleep(100)
        assert (told, transport.told) == ([], [])

    run_virtually(main())


def test_what_a_request_holds_is_kept_until_its_client_has_read() -> None:
    """Or is gone; at once when nothing waits for it."""

    async def main() -> None:
        budget = MemoryBudget(1000)
        for end in ("resume_writing", "detach"):
            wire, transport, _ = made()
            share = budget.share()
            share.grow(3)
            wire.keep(share)
            assert budget.held == 0
            transport.unsent = 100
            wire.pause_writing()
            for _ in range(2):
                share = budget.share()
                share.grow(3)
                wire.keep(share)
            assert budget.held == 6
            getattr(wire, end)()
            assert budget.held == 0
            assert not wire._kept

    run_virtually(main())


def test_closing_waits_for_who_reads() -> None:
    """As long as something is taken within each ten seconds; who takes nothing is cut off; it is closed once."""

    async def main() -> None:
        wire, transport, _ = made()
        transport.unsent = 100
        wire.close()
        wire.close()
        assert (wire.closing, wire.ending, wire.lost) == (True, True, False)
        await asyncio.sleep(LINGER_SECONDS - 1)
        for _ in range(3):
            transport.unsent -= 1
            await asyncio.sleep(LINGER_SECONDS)
        assert transport.told == ["close"]
        await asyncio.sleep(2 * LINGER_SECONDS)
        assert transport.told == ["close", "abort"]
        assert timers() == 0
        wire, transport, _ = made()
        transport.unsent = 100
        wire.close()
        for _ in range(int(REST_SECONDS // LINGER_SECONDS) + 2):
            transport.unsent -= 1
            await asyncio.sleep(LINGER_SECONDS)
        assert transport.told == ["close", "abort"], "not for ever either"
        wire, transport, _ = made()
        wire.close()
        assert (transport.told, timers()) == (["close"], 0), "nothing is left to be read"
        wire, transport, _ = made()
        transport.unsent = 1
        wire.close()
        transport.unsent = 0
        await asyncio.sleep(LINGER_SECONDS + 1)
        assert (transport.told, timers()) == (["close"], 0)

    run_virtually(main())


def test_behind_an_upload_it_closes_after_a_moment() -> None:
    """Nothing more can be sent, what comes is read, and the end does not ask whoever has the deadlines."""

    async def main() -> None:
        wire, transport, told = made()
        wire.pause_reading()
        assert (wire.ending, wire.closing) == (False, False)
        wire.close_behind_upload()
        assert (wire.ending, wire.closing) == (True, False)
        assert transport.told == ["pause", "resume", "eof"]
        await asyncio.sleep(DISCARD_SECONDS - 0.1)
        assert len(transport.told) == 3
        await asyncio.sleep(0.2)
        assert transport.told[3:] == ["close"]
        assert told == []

    run_virtually(main())


def test_a_wire_without_a_transport_does_nothing() -> None:
    """Whatever is asked of it, before it has one and when it is lost; its timers are gone, and it calls nobody."""

    async def main() -> None:
        for attached in (False, True):
            wire, transport, told = made()
            if attached:
                wire.set_deadline(5)
                transport.unsent = 100
                wire.pause_writing()
                wire.detach()
                assert timers() == 0
            else:
                wire = ClientWire(
                    asyncio.get_running_loop(), write_seconds=1, on_deadline=lambda: None, on_stalled=lambda: None
                )
            assert (wire.lost, wire.ending, wire.closing, wire.paused) == (True, True, True, False)
            wire.write(b"x")
            wire.pause_reading()
            wire.resume_reading()
            assert not wire.reading_paused
            wire.close()
            wire.close_behind_upload()
            wire.abort()
            wire.set_deadline(1)
            await asyncio.sleep(100)
            assert (transport.told, told) == ([], [])

    run_virtually(main())


def test_a_transport_that_is_lost_while_it_lingers() -> None:
    """Is not touched any more."""

    async def main() -> None:
        wire, transport, _ = made()
        transport.unsent = 100
        wire.close()
        wire.detach()
        await asyncio.sleep(100)
        assert transport.told == ["close"]

    run_virtually(main())


def test_what_the_kernel_holds_for_a_client_counts_as_not_taken() -> None:
    """As many bytes as it has sent on and the other side has not read; nothing where there is no socket to ask."""

    class Real(Transport):
        def get_extra_info(self, name: str, default: Any = None) -> Any:
            return ours if name == "socket" else default

    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert wires._unacknowledged(Real()) == 0
        ours.send(b"x" * 1000)
        assert 1000 <= wires._unacknowledged(Real()) < 100_000
        theirs.recv(1000)
        assert wires._unacknowledged(Real()) == 0
    assert wires._unacknowledged(Transport()) == 0
