"""The queue in a real Redis, in a time that a test tells, and a model of it in plain Python."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis

from capstan_contract.queue.calls import Bounds, Call, Kind, Piece, Queue, Taken, read_piece, read_taken
from capstan_contract.queue.names import (
    BATCH_TURN_MS,
    GROUP,
    LEASE_MS,
    PASSED_OVER,
    PriorityClass,
    out_key,
    queue_prefix,
)

CLOCK = "test:clock"
START_MS = 1_700_000_000_000
WIDE = Bounds(entries=1000, data=1 << 30, wait_ms=3_600_000)


class HeldQueue:
    """Calls of one queue. Its Redis' clock stands until a test says otherwise."""

    def __init__(self, client: "redis.Redis", model: str = "default/chat") -> None:
        self.client = client
        self.now = START_MS
        self.calls = Queue(queue_prefix(model))
        self._read: dict[str, str] = {}
        self._scripts: dict[str, Any] = {}

    def run(self, call: Call) -> Any:
        """Run a call at the time that it is."""
        script = self._scripts.get(call.script)
        if script is None:
            text = call.script.replace("redis.call('TIME')", f"redis.call('LRANGE', '{CLOCK}', 0, 1)")
            assert text.count(CLOCK) == 1
            script = self._scripts[call.script] = self.client.register_script(text)
        with self.client.pipeline(transaction=False) as pipe:
            pipe.delete(CLOCK)
            pipe.rpush(CLOCK, self.now // 1000, self.now % 1000 * 1000)
            pipe.execute()
        return script(keys=call.keys, args=call.arguments)

    def take(self, worker: str, most: int = 1, *, spare: int | None = None) -> list[Taken]:
        """Take entries; unless it is said, all room is to spare."""
        return read_taken(self.run(self.calls.take(worker, most=most, spare=most if spare is None else spare)))

    def ask(self, entry_id: str, **options: Any) -> list[Any]:
        """Put an entry in; give the reply as it is."""
        usual: dict[str, Any] = {
            "priority": PriorityClass.DEFAULT, "tenant": "a", "weight": 1.0, "tokens": 10, "ttl_ms": 60_000,
            "gateway": "g", "ask": b"{}", "body": b"body", "bounds": WIDE,
        }  # fmt: skip
        reply: list[Any] = self.run(self.calls.enqueue(entry_id, **{**usual, **options}))
        return reply

    def pieces(self, gateway: str) -> list[Piece]:
        """Give what was posted for a gateway since the last look."""
        key = out_key(self.calls.prefix, gateway)
        after = self._read.get(gateway, "-")
        found = self.client.xrange(key, after if after == "-" else f"({after}", "+")
        if found:
            self._read[gateway] = found[-1][0].decode()
        return [read_piece([part for pair in fields.items() for part in pair]) for _, fields in found]

    def age(self, worker: str) -> None:
        """Let a worker be silent for longer than a lease: streams know no other clock than Redis' own."""
        for priority in PriorityClass:
            key = f"{self.calls.prefix}work:{int(priority)}"
            if self.client.exists(key):
                pending = self.client.xpending_range(key, GROUP, "-", "+", 1000, worker)
                for one in pending:
                    self.client.xclaim(key, GROUP, worker, 0, [one["message_id"]], idle=LEASE_MS + 1, justid=True)

    def forget_gateway(self, gateway: str) -> None:
        """Let a gateway be silent for longer than it may."""
        self.client.zadd(f"{self.calls.prefix}alive", {gateway: 0})

    def left(self) -> set[str]:
        """Give the names of keys that hold something of entries."""
        names = {key.decode().removeprefix(self.calls.prefix) for key in self.client.scan_iter("capstan:*")}
        return {name for name in names if name.startswith(("entry:", "own:", "wait:", "finish:"))}


@dataclass
class Entry:
    """What the model knows of an entry."""

    id: str
    priority: int
    tenant: str
    start: float
    gateway: str
    deadline: int
    size: int
    worker: str = ""
    posted: int = 0
    """Pieces."""
    losses: int = 0
    attempts: int = 0
    unwanted: bool = False
    charge: float = 0.0
    """How far it has moved its tenant's next start."""
    outcome: list[Kind] = field(default_factory=list)


class ModelQueue:
    """What the scripts promise, in plain Python."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.virtual: dict[int, float] = {}
        self.finish: dict[tuple[int, str], float] = {}
        self.passed: dict[int, int] = {}
        self.turn: int | None = None
        """When class batch gets one, whatever room there is."""
        self.gateways: set[str] = set()

    def waiting(self, priority: int) -> list[Entry]:
        """Give those that wait in a class, the first one first. Of equals Redis sorts by id."""
        found = [one for one in self.entries.values() if one.priority == priority and not one.worker]
        return sorted(found, key=lambda one: (one.start, one.id))

    def running(self, worker: str) -> list[Entry]:
        """Give those that a worker has."""
        return [one for one in self.entries.values() if one.worker == worker]

    def put(
        self, entry_id: str, priority: int, tenant: str, weight: float, tokens: int, *, gateway: str, deadline: int,
        size: int, now: int,
    ) -> bool:  # fmt: skip
        """Put one in; False where it is there."""
        if entry_id in self.entries:
            return False
        start = round(max(self.virtual.get(priority, 0.0), self.finish.get((priority, tenant), 0.0)), 6)
        self.finish[priority, tenant] = round(start + max(tokens, 1) / weight, 6)
        entry = Entry(entry_id, priority, tenant, start, gateway, deadline, size)
        entry.charge = max(tokens, 1) / weight
        if priority == PriorityClass.BATCH and not self.waiting(priority):
            self.turn = now + BATCH_TURN_MS
        self.entries[entry_id] = entry
        self.gateways.add(gateway)
        return True

    def take(self, worker: str, most: int, spare: int, now: int) -> tuple[list[Entry], list[Entry]]:
        """Give those that a worker gets, and those that are too late."""
        given: list[Entry] = []
        late: list[Entry] = []
        if self.waiting(PriorityClass.BATCH) and self.turn is None:
            self.turn = now + BATCH_TURN_MS
        while len(given) < most:
            waits = self.turn is not None and self.turn <= now
            there = [one for one in PriorityClass if self.waiting(one)]
            if not waits and len(given) >= spare and PriorityClass.BATCH in there:
                there.remove(PriorityClass.BATCH)
            if not there:
                break
            overdue = (
                one
                for one in there[1:]
                if self.passed.get(one, 0) >= PASSED_OVER or (one == PriorityClass.BATCH and waits)
            )
            priority = next(overdue, there[0])
            entry = self.waiting(priority)[0]
            last = len(self.waiting(priority)) == 1
            if last:
                self.virtual.pop(priority, None)
                for key in [key for key in self.finish if key[0] == priority]:
                    del self.finish[key]
            else:
                self.virtual[priority] = max(self.virtual.get(priority, 0.0), entry.start)
            if entry.gateway not in self.gateways:
                self.drop(entry)
                continue
            if entry.deadline <= now:
                self.drop(entry)
                late.append(entry)
                continue
            entry.worker = worker
            entry.attempts += 1
            given.append(entry)
            self.passed.pop(priority, None)
            if priority == PriorityClass.BATCH:
                self.turn = now + BATCH_TURN_MS
            for other in range(priority + 1, len(PriorityClass)):
                if self.waiting(other):
                    self.passed[other] = self.passed.get(other, 0) + 1
        return given, late

    def lose(self, ids: Iterable[str], now: int, most: int) -> list[tuple[str, bytes]]:
        """The workers of these are gone; give what gateways are told."""
        told = []
        for entry in [self.entries[one] for one in ids]:
            entry.losses += 1
            word = b""
            if not entry.unwanted:
                if entry.posted:
                    word = b"lost"
                elif entry.losses >= most:
                    word = b"poison"
                elif entry.deadline <= now:
                    word = b"expired"
            if word:
                told.append((entry.id, word))
            if word or entry.unwanted:
                del self.entries[entry.id]
            else:
                self.wait_again(entry)
        return told

    def drop(self, entry: Entry) -> None:
        """Nobody wants one that waits: where no worker has ever had it, its tenant gets back what it was charged."""
        del self.entries[entry.id]
        key = (entry.priority, entry.tenant)
        if entry.attempts or key not in self.finish:
            return
        left = round(self.finish[key] - entry.charge, 6)
        if left > self.virtual.get(entry.priority, 0.0):
            self.finish[key] = left
        else:
            del self.finish[key]

    def wait_again(self, entry: Entry) -> None:
        """Put one that a worker has had in front of what came later."""
        entry.worker = ""
        entry.start = round(min(entry.start, self.virtual.get(entry.priority, 0.0) - 1), 6)


def failures(pieces: Sequence[Piece]) -> list[tuple[str, bytes]]:
    """Give the failures among pieces, sorted."""
    return sorted((piece.id, piece.data) for piece in pieces if piece.kind is Kind.FAILURE)
