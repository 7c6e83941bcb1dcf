"""What becomes of calls and entries by what a gateway knows of a queue, without a Redis."""

import asyncio
from dataclasses import replace
from random import Random
from typing import Any, ClassVar

import pytest

from capstan_contract.config import ModelQueue
from capstan_contract.queue import scripts
from capstan_contract.queue.calls import Kind, Piece, State
from capstan_contract.queue.names import PriorityClass
from capstan_contract.queue.wire import AnswerHead, Packing
from capstan_gateway.life.threads import Threads
from capstan_gateway.queueing import room as rooms
from capstan_gateway.queueing.dispatcher import QueueDispatcher
from capstan_gateway.queueing.entry import Entry, SentDirectly
from capstan_gateway.queueing.line import Line
from capstan_gateway.queueing.reader import AWAY_SECONDS
from capstan_gateway.queueing.room import Room
from capstan_gateway.routing.budget import RetryBudget
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.port import Call, Queueing
from capstan_gateway.routing.registry import EndpointRegistry
from capstan_gateway.settings import Settings
from capstan_gateway.stores.port import StoreDown
from capstan_gateway.stores.scripted import Script
from capstan_gateway.telemetry.metrics import Metrics
from capstan_gateway.upstream.port import Endpoint
from support.wait import eventually

NOBODY = State((0, 0, 0, 0), 0, 0, 0, running=0, room=0, workers=0, gateways=1)


class Away:
    """A Redis that answers nothing."""

    connected = False
    failure = None
    on_up: Any = None

    def start(self) -> None:
        """Do nothing."""

    async def call(self, key: str, command: bytes) -> Any:
        """Refuse."""
        raise StoreDown("it is away")

    async def aclose(self) -> None:
        """Do nothing."""


def a_room(monkeypatch: pytest.MonkeyPatch, links: Away | None = None) -> Room:
    """Give the queues of a gateway whose Redis is away, unless it is told otherwise."""
    monkeypatch.setattr(Room, "_make_links", lambda *_: links or Away())
    settings = Settings(redis_url="redis://127.0.0.1:6379")
    return Room(settings, metrics=Metrics(), rng=Random(7), secret_of=lambda _: None)  # noqa: S311


def a_call(endpoints: int, *, repeatable: bool = True) -> Call:
    """Give a request to a model with so many endpoints."""
    made = [Endpoint(id=f"e{number}", host=f"10.0.0.{number}", port=80) for number in range(endpoints)]
    queueing = Queueing(
        model="t/chat", rules=ModelQueue(places=1), name="chat", request_id="one", tenant="t",
        priority=PriorityClass.DEFAULT, weight=1.0, tokens=lambda: 1, apart=False, may_wait=True,
    )  # fmt: skip
    call = Call(EndpointSet(EndpointRegistry(), made), b"/chat/completions", 1e9, repeatable=repeatable)
    return replace(call, queueing=queueing)


def waiting_entry(line: Line, call: Call) -> Entry:
    """Put an entry in that has waited for long enough to be sent directly."""
    assert call.queueing is not None
    entry = Entry("e", call, call.queueing, Packing(), Threads("test"))
    entry.began_at = asyncio.get_running_loop().time() - AWAY_SECONDS - 1.0
    entry.accepted = True
    line.entries[entry.id] = entry
    return entry


class Withdrawing(Away):
    """A Redis that says which entries it had that nobody has taken."""

    def __init__(self, waiting: list[bytes]) -> None:
        self.waiting = waiting

    async def call(self, key: str, command: bytes) -> Any:
        """Give them."""
        assert Script(scripts.WITHDRAW).sha.encode() in command
        return self.waiting


@pytest.mark.parametrize(
    ("repeatable", "links", "sent"),
    [
        (True, Away(), True),
        (False, Withdrawing([b"e"]), True),
        (False, Withdrawing([]), False),
        (False, Away(), False),
    ],
)
async def test_what_a_worker_may_have_is_not_sent_directly(
    monkeypatch: pytest.MonkeyPatch, repeatable: bool, links: Away, sent: bool
) -> None:
    """Where no worker takes, who has waited is sent to an endpoint; what must not be sent twice only if Redis says that
    nobody has it, and lets nobody have it from then on."""
    room = a_room(monkeypatch, links)
    line = room.line("t/chat", "chat")
    entry = waiting_entry(line, a_call(1, repeatable=repeatable))
    line.state, line.state_at = NOBODY, asyncio.get_running_loop().time()
    await room.look()
    assert entry.over is sent
    if sent:
        with pytest.raises(SentDirectly):
            await entry.head()


async def test_what_was_full_when_a_request_was_queued_is_asked_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that was put into the queue while an endpoint was full may be sent to it when Redis has gone away."""
    room, call, seen = a_room(monkeypatch), a_call(2), []
    call.endpoints.states[0].in_flight = 1
    line = room.line("t/chat", "chat")
    line.state = NOBODY._replace(waiting=(0, 1, 0, 0), workers=1)

    class Direct:
        async def dispatch(self, asked: Call) -> Any:
            seen.append(asked.full)
            return "answer"

    dispatcher = QueueDispatcher(Direct(), room, budget=RetryBudget(), metrics=Metrics())  # type: ignore[arg-type]
    answer: Any = await dispatcher.dispatch(call)
    await room.aclose()
    assert (answer, seen) == ("answer", [frozenset()])
    line.state = NOBODY._replace(workers=1)
    await dispatcher.dispatch(call)
    assert seen[1] == {call.endpoints.states[0]}


class Taking(Away):
    """A Redis that takes every entry, and of which nobody hears more."""

    async def call(self, key: str, command: bytes) -> Any:
        """Take it."""
        if b"XREAD" in command:
            await asyncio.sleep(0.01)
            return None
        return [b"ok", 0, -1] if Script(scripts.ENQUEUE).sha.encode() in command else []


async def test_what_starts_over_is_at_no_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that has begun is counted where its engine is; when it has to start over it waits, and is nowhere."""
    room, call = a_room(monkeypatch, Taking()), a_call(1)
    line = room.line("t/chat", "chat")
    line.state = NOBODY._replace(waiting=(0, 1, 0, 0), workers=1)
    call = replace(call, whole_bytes=1000)
    dispatcher = QueueDispatcher(None, room, budget=RetryBudget(), metrics=Metrics())  # type: ignore[arg-type]
    asking = asyncio.create_task(dispatcher.dispatch(call))
    entry = await eventually(lambda: next((one for one in line.entries.values() if one.accepted), None), what="it")
    head = AnswerHead(200, "application/json", "w", "10.0.0.0:80").write()
    entry.feed(Piece(entry.id, 1, Kind.HEAD, Packing().pack(entry.id, "h", head), (1, 0), 0))
    await eventually(lambda: line.at == {"10.0.0.0:80": 1}, what="the place")
    assert entry.start_over()
    await eventually(lambda: line.at == {}, what="no place")
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await room.aclose()
    assert (line.entries, line.at) == ({}, {})


async def test_redis_that_is_back_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """When there is a connection again the next beat is not waited for until what was given up is cancelled."""

    class Back(Away):
        refused = 0
        said: ClassVar[list[bytes]] = []

        async def call(self, key: str, command: bytes) -> Any:
            if not self.connected:
                self.refused += 1
                raise StoreDown("it is away")
            self.said.append(command)
            return [[0] * 4, *[0] * 9] if Script(scripts.BEAT).sha.encode() in command else 0

    monkeypatch.setattr(rooms, "RENEW_SECONDS", 3600.0)
    links = Back()
    room = a_room(monkeypatch, links)
    line = room.line("t/chat", "chat")
    running = asyncio.create_task(room.run())
    line.cancel("given up")
    await eventually(lambda: links.refused > 0, what="a cancel that nobody hears")
    links.connected = True
    links.on_up()
    beats = [Script(script).sha.encode() for script in (scripts.CANCEL, scripts.BEAT)]
    await eventually(lambda: len(links.said) >= 2, what="a beat")
    assert all(sha in command for sha, command in zip(beats, links.said, strict=False))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
