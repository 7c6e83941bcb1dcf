"""One model's queue as a gateway uses it: what it knows by itself, and what it tells Redis in batches."""

import asyncio
from typing import Any

import pytest

from capstan_contract.config import ModelQueue
from capstan_contract.queue import scripts
from capstan_contract.queue.names import PriorityClass
from capstan_contract.queue.wire import Packing
from capstan_gateway.life.threads import Threads
from capstan_gateway.memory import MemoryBudget
from capstan_gateway.queueing.entry import Entry
from capstan_gateway.queueing.line import MOST_CANCELS, Line, headers_of
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.port import Call, Queueing
from capstan_gateway.routing.registry import EndpointRegistry
from capstan_gateway.stores.port import StoreDown
from capstan_gateway.stores.scripted import Script
from capstan_gateway.stores.wire import Refused
from capstan_gateway.upstream.errors import ConnectionLost, DeadlineExceeded, NoMemory
from support.wait import eventually


class FakeLinks:
    """Takes note of the calls, and answers each with 1, or not at all."""

    def __init__(self) -> None:
        self.down = False
        self.calls: list[bytes] = []

    async def call(self, key: str, command: bytes) -> Any:
        """Take a call."""
        if self.down:
            raise StoreDown("it is away")
        self.calls.append(command)
        return 1

    def of(self, script: str) -> list[bytes]:
        """Give the calls of a script."""
        return [call for call in self.calls if Script(script).sha.encode() in call]


def a_line(links: Any) -> Line:
    """Give a line that counts nothing."""
    turns = asyncio.Semaphore(1)
    return Line(
        "t/chat", links=links, gateway="gw", threads=Threads("test"), count=lambda _: None, turns=turns, seconds=2.0
    )


def an_entry(entry_id: str, priority: PriorityClass, began_at: float) -> Entry:
    """Give an entry of a class."""
    wish = Queueing(
        model="t/chat", rules=ModelQueue(), name="chat", request_id="one", tenant="t", priority=priority, weight=1.0,
        tokens=lambda: 1, apart=False, may_wait=True,
    )  # fmt: skip
    call = Call(EndpointSet(EndpointRegistry()), b"/chat/completions", 1e9)
    entry = Entry(entry_id, call, wish, Packing(), Threads("test"))
    entry.began_at = began_at
    return entry


class Accepting(FakeLinks):
    """Takes every entry, and looks at a budget meanwhile."""

    def __init__(self, budget: MemoryBudget) -> None:
        super().__init__()
        self.budget = budget
        self.seen = -1
        self.here = self.most = 0

    async def call(self, key: str, command: bytes) -> Any:
        """Take an entry."""
        self.seen = self.budget.held
        self.here += 1
        self.most = max(self.most, self.here)
        await asyncio.sleep(0)
        self.here -= 1
        return [b"ok", 0, -1]


class Ahead(FakeLinks):
    """A Redis whose clock is an hour ahead of the loop's."""

    word = b"ok"

    def now_ms(self) -> int:
        """Give its time."""
        return int((asyncio.get_running_loop().time() + 3600) * 1000)

    async def call(self, key: str, command: bytes) -> Any:
        """Say how the queue stands, or what becomes of an entry."""
        await super().call(key, command)
        return (
            [[0] * 4, *[0] * 6, 1, 0, self.now_ms()] if self.of(scripts.BEAT)[-1:] == [command] else [self.word, 0, -1]
        )

    def given_up_at(self) -> bytes:
        """Give the time that the latest entry was put in with."""
        return self.of(scripts.ENQUEUE)[-1].split(b"\r\n")[-2]


async def test_an_entry_is_put_in_as_long_as_somebody_waits_for_the_reply() -> None:
    """Redis is told by its own clock when a call has no time left. Where that clock seems to have been set, the entry
    counts as not put in, and the next one is put in whenever it comes."""
    line = a_line(links := Ahead())
    await line.put(an_entry("first", PriorityClass.DEFAULT, 1.0))
    assert links.given_up_at() == b""
    await line.beat(sweep=False)
    before = links.now_ms()
    await line.put(an_entry("second", PriorityClass.DEFAULT, 1.0))
    assert before - 60_000 < int(links.given_up_at()) <= links.now_ms() + 2_000
    links.word = b"late"
    with pytest.raises(StoreDown):
        await line.put(an_entry("third", PriorityClass.DEFAULT, 1.0))
    links.word = b"ok"
    await line.put(an_entry("fourth", PriorityClass.DEFAULT, 1.0))
    assert links.given_up_at() == b""


@pytest.mark.parametrize("refused", [False, True])
async def test_what_must_not_be_sent_twice_is_lost_where_redis_says_nothing(refused: bool) -> None:
    """The queue may have it: it fails, where others are sent elsewhere. What Redis has refused is not there."""
    links = FakeLinks()

    async def call(key: str, command: bytes) -> Any:
        raise Refused("OOM command not allowed") if refused else StoreDown("it is away")

    links.call = call  # type: ignore[method-assign]
    line, entry = a_line(links), an_entry("one", PriorityClass.DEFAULT, 1.0)
    with pytest.raises(StoreDown):
        await line.put(entry)
    entry.call.repeatable = False
    with pytest.raises(StoreDown if refused else ConnectionLost):
        await line.put(entry)


@pytest.mark.parametrize("limit", [8 << 20, 1 << 20])
async def test_copies_of_a_large_body_are_counted(limit: int) -> None:
    """While a large body is put in its copies are taken from the budget, and no longer; without room it is refused."""
    budget = MemoryBudget(limit)
    line = a_line(links := Accepting(budget))
    entry = an_entry("large", PriorityClass.DEFAULT, 1.0)
    share = budget.share()
    entry.call.body, entry.call.memory = b"x" * (1 << 20), lambda: share
    if limit < 2 << 20:
        with pytest.raises(NoMemory):
            await line.put(entry)
        assert links.seen == -1
    else:
        assert (await line.put(entry)).accepted
        assert links.seen == 2 << 20
    assert budget.held == 0


async def test_large_bodies_are_put_in_by_turns() -> None:
    """Only so many are on the connection at a time, and who gets no turn before its deadline has had its time."""
    line = a_line(links := Accepting(budget := MemoryBudget(64 << 20)))
    entries = [an_entry(f"large-{number}", PriorityClass.DEFAULT, 1.0) for number in range(5)]
    for entry in entries:
        entry.call.body, entry.call.memory = b"x" * (1 << 20), budget.share
    assert all(placed.accepted for placed in await asyncio.gather(*map(line.put, entries)))
    assert links.most == 1
    late = an_entry("late", PriorityClass.DEFAULT, 1.0)
    late.call.body, late.call.memory, late.call.expires_at = b"x" * (1 << 20), budget.share, 0.0
    async with line._turns:
        with pytest.raises(DeadlineExceeded):
            await line.put(late)
    assert budget.held == 0


async def test_own_entries_count_before_redis_has_told_of_them() -> None:
    """What a gateway has put in since it looked at the queue waits there, for whoever is as urgent or less."""
    line = a_line(FakeLinks())
    line.entries["a"] = an_entry("a", PriorityClass.DEFAULT, 10.0)
    assert line.waits_since(5.0, PriorityClass.DEFAULT)
    assert line.waits_since(5.0, PriorityClass.BATCH)
    assert not line.waits_since(5.0, PriorityClass.HIGH)
    assert not line.waits_since(11.0, PriorityClass.DEFAULT)


async def test_entries_of_before_are_not_looked_at() -> None:
    """However many were put in before, whether one has been since is told by those that were since."""
    line, looked = a_line(FakeLinks()), []

    class Old:
        waits = False

        @property
        def began_at(self) -> float:
            looked.append(self)
            return 1.0

    line.entries.update({f"old-{number}": Old() for number in range(100)})  # type: ignore[misc]
    line.entries["new"] = an_entry("new", PriorityClass.BATCH, 10.0)
    assert not line.waits_since(5.0, PriorityClass.DEFAULT)
    assert len(looked) == 1


async def test_cancels_are_said_again_until_redis_hears_them() -> None:
    """What nobody wants any more is told with the next beat, when Redis was away before; and then no more."""
    links = FakeLinks()
    line = a_line(links)
    links.down = True
    line.cancel("left")
    await asyncio.sleep(0.01)
    links.down = False
    await line.flush()
    assert [b"left" in call for call in links.of(scripts.CANCEL)] == [True]
    await line.flush()
    assert len(links.of(scripts.CANCEL)) == 1


async def test_what_nobody_wants_is_said_before_the_gateway_is_heard() -> None:
    """What a gateway has given up while Redis was away is cancelled before its beat lets wait again what was passed
    by: else a worker might begin with it."""
    links = Ahead()
    line = a_line(links)
    links.down = True
    line.cancel("given up")
    with pytest.raises(StoreDown):
        await line.flush()
    links.down = False
    await line.beat(sweep=False)
    assert links.calls == links.of(scripts.CANCEL) + links.of(scripts.BEAT)
    assert len(links.calls) == 2


async def test_what_was_passed_on_is_told_together_and_not_lost() -> None:
    """Many small pieces are one call; one that Redis did not hear is said with the next one, as far as it is read."""
    links = FakeLinks()
    line = a_line(links)
    line.entries["a"] = an_entry("a", PriorityClass.DEFAULT, 10.0)
    for _ in range(10):
        line.passed("a", 10)
    links.down = True
    try:
        await line.flush()
    except StoreDown:
        links.down = False
    line.passed("a", 1)
    await line.flush()
    (told,) = links.of(scripts.ACK)
    assert told.endswith(b"$1\r\na\r\n$3\r\n101\r\n")


async def test_cancels_are_bounded() -> None:
    """While Redis is away no more is kept than so much: the oldest are left to their deadlines."""
    links = FakeLinks()
    links.down = True
    line = a_line(links)
    for number in range(MOST_CANCELS + 10):
        line.cancel(f"entry-{number}")
    links.down = False
    await line.flush()
    told = b"".join(links.of(scripts.CANCEL))
    assert b"entry-10009\r" in told
    assert b"entry-9\r" not in told


async def test_an_answer_that_is_over_is_not_cancelled() -> None:
    """Whoever has read all of an answer tells nobody to stop."""
    links = FakeLinks()
    line = a_line(links)
    for name, over in (("whole", True), ("left", False)):
        line.entries[name] = entry = an_entry(name, PriorityClass.DEFAULT, 1.0)
        entry.inbox.ended = over
        line.drop(entry)
    await eventually(lambda: bool(links.of(scripts.CANCEL)), what="the cancel")
    told = b"".join(links.of(scripts.CANCEL))
    assert b"left" in told
    assert b"whole" not in told


def test_headers_in_either_form() -> None:
    """Headers that are written already, and those that are not, are the same in an entry."""
    pairs = ((b"accept", b"text/event-stream"), (b"x-request-id", b"a: b"))
    written = b"accept: text/event-stream\r\nx-request-id: a: b\r\n"
    assert headers_of(pairs) == headers_of(written) == (("accept", "text/event-stream"), ("x-request-id", "a: b"))


async def test_where_entries_are_is_counted() -> None:
    """An entry counts at the endpoint whose engine answers it, from the head of its answer until it starts over, moves
    or is dropped; nothing is left of it then."""
    line = a_line(FakeLinks())
    one, two = (an_entry(name, PriorityClass.DEFAULT, 1.0) for name in ("one", "two"))
    line.entries = {"one": one, "two": two}
    line.place(one, "10.0.0.1:8000")
    line.place(two, "10.0.0.1:8000")
    assert line.at == {"10.0.0.1:8000": 2}
    line.place(two, None)
    assert line.at == {"10.0.0.1:8000": 1}
    line.place(two, "10.0.0.2:8000")
    line.place(one, "10.0.0.2:8000")
    assert line.at == {"10.0.0.2:8000": 2}
    for entry in (one, two, one):
        line.drop(entry)
    assert line.at == {}


async def test_what_was_dropped_is_nowhere() -> None:
    """A head that is read when its entry was dropped already does not count it for ever."""
    line = a_line(FakeLinks())
    line.place(an_entry("gone", PriorityClass.DEFAULT, 1.0), "10.0.0.1:8000")
    assert line.at == {}
