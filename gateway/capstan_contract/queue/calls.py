"""What is asked of the queue, as calls of its scripts, and what replies say. Whoever has a connection runs them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from capstan_contract.queue import scripts
from capstan_contract.queue.names import PriorityClass, slot_key

Word = bytes | str | int


class Call(NamedTuple):
    """One run of a script."""

    script: str
    keys: tuple[str, ...]
    arguments: tuple[Word, ...]


class Bounds(NamedTuple):
    """What a queue takes."""

    entries: int
    """That wait."""
    data: int
    """Bytes of their bodies."""
    wait_ms: int
    """Expected wait."""


class Outcome(StrEnum):
    """What became of an entry that was to be put in."""

    OK = "ok"
    KNOWN = "known"
    LENGTH = "length"
    BYTES = "bytes"
    WAIT = "wait"
    DEADLINE = "deadline"
    LATE = "late"
    """It came to Redis when nobody waited for the reply any more, and was not put in."""


class Failure(StrEnum):
    """Why an entry has no answer, or no more of it."""

    LOST = "lost"
    """Its worker went away in the middle of the answer."""
    POISON = "poison"
    """Engines or workers have died of it, or with it, too often."""
    EXPIRED = "expired"
    """Its deadline passed before a worker had it."""
    ENGINE = "engine"
    """The engine did not answer, or broke off."""
    SLOW = "slow"
    """Its reader was too slow."""
    UNREADABLE = "unreadable"
    """The worker could not read it."""


class Kind(StrEnum):
    """What a piece of an answer is."""

    HEAD = "h"
    DATA = "d"
    END = "e"
    FAILURE = "f"


class Posted(StrEnum):
    """What became of a piece."""

    OK = "ok"
    FULL = "full"
    GONE = "gone"


class Post(NamedTuple):
    """A piece of an answer, as a worker posts it."""

    id: str
    attempt: int
    """As it was taken."""
    number: int
    """How many pieces of the answer are in front of it. One that is posted twice is taken once."""
    kind: Kind
    data: bytes


class Placed(NamedTuple):
    """Where an entry is, or why it was refused."""

    word: Outcome
    place: int
    """How many are in front of it."""
    milliseconds: int
    """Its expected wait, -1 where nobody knows; of one that was refused how much later it may be asked again."""

    @property
    def accepted(self) -> bool:
        """Whether it is in the queue."""
        return self.word in (Outcome.OK, Outcome.KNOWN)


class Taken(NamedTuple):
    """An entry that a worker has."""

    id: str
    attempt: int
    priority: PriorityClass
    left_ms: int
    """To its deadline."""
    waited_ms: int
    ask: bytes
    body: bytes


class State(NamedTuple):
    """How a queue stands."""

    waiting: tuple[int, ...]
    """By class."""
    data: int
    """Bytes that wait."""
    oldest_ms: int
    mean_us: int
    """Between two takes while others wait; 0: not known."""
    running: int
    """Entries that workers have."""
    room: int
    """How many more workers would take."""
    workers: int
    gateways: int
    dropped: int = 0
    """1: something that this gateway has asked for was dropped, as it was silent for too long."""
    now_ms: int = 0
    """The time of Redis."""


class Piece(NamedTuple):
    """A piece of an answer, as a gateway reads it."""

    id: str
    attempt: int
    kind: Kind
    data: bytes
    place: tuple[int, int] = (0, 0)
    """Of the taking that it is of: later ones have higher ones. (0, 0): of whichever is there."""
    number: int | None = None
    """How many pieces of the answer are in front of it; None: not known."""


@dataclass(frozen=True, slots=True)
class Queue:
    """The calls of one model's queue."""

    prefix: str
    """Of `names.queue_prefix`."""

    def enqueue(
        self, entry_id: str, *, priority: PriorityClass, tenant: str, weight: float, tokens: int, ttl_ms: int,
        gateway: str, ask: bytes, body: bytes, bounds: Bounds, once: bool = False, not_after_ms: int | None = None,
    ) -> Call:  # fmt: skip
        """Put an entry in, once: a second call for one that is there changes nothing. `read_placed` reads the reply.

        `tokens` is what it will take of an engine, `weight` (above 0) the tenant's share beside others'. In `ttl_ms`
        its deadline passes. With `once` it fails when a worker is lost that has it, whatever that has done with it.
        Where it comes to Redis behind `not_after_ms`, by the time of Redis, it is not put in: who has given up waiting
        for the reply asks somebody else.
        """
        return self._call(
            scripts.ENQUEUE, entry_id, int(priority), tenant, f"{weight:.6f}", tokens, ttl_ms, gateway, ask, body,
            *bounds, int(once), "" if not_after_ms is None else not_after_ms,
        )  # fmt: skip

    def take(self, worker: str, *, most: int, spare: int) -> Call:
        """Take entries, of class BATCH only while fewer than `spare` are given, or when it has waited for
        `names.BATCH_TURN_MS`. `read_taken` reads the reply."""
        return self._call(scripts.TAKE, worker, most, spare)

    def has(self, worker: str) -> Call:
        """Ask what a worker has, as far as Redis knows. `read_ids` reads the reply. After a `take` whose reply was lost
        it is more than the worker knows."""
        return self._call(scripts.HAS, worker)

    def post(self, worker: str, pieces: Iterable[Post]) -> Call:
        """Post pieces of answers, in their order. `read_posted` reads the reply. It may be said again where that is
        not known: no piece is given twice."""
        return self._call(scripts.POST, worker, *(word for piece in pieces for word in piece))

    def acknowledge(self, passed: Iterable[tuple[str, int]]) -> Call:
        """Say of answers, by id, how many more bytes of pieces, as they were posted, have been passed on."""
        return self._call(scripts.ACK, *(word for one in passed for word in one))

    def cancel(self, ids: Iterable[str]) -> Call:
        """Say that nobody wants these any more; those that are not there change nothing. Gives how many were."""
        return self._call(scripts.CANCEL, *ids)

    def withdraw(self, ids: Iterable[str]) -> Call:
        """Cancel those of these that no worker has; the others stay as they are. `read_ids` reads the reply: those that
        are gone now, which nobody will begin with."""
        return self._call(scripts.WITHDRAW, *ids)

    def give_back(
        self, worker: str, ids: Iterable[str], *, crashed: bool, had: bool = False,
        attempts: Mapping[str, int] = MappingProxyType({}),
    ) -> Call:  # fmt: skip
        """Let others have entries. Where the engine has died of them, or with them, that is counted.

        `had`: an engine may have begun with them. Those that were put in with `once` then fail, as they do when a
        worker is lost.

        Where the attempt is said it may be said again: a later attempt of the same worker stays as it is.
        """
        words = (word for one in ids for word in (one, attempts.get(one, "")))
        return self._call(scripts.GIVE_BACK, worker, 1 if crashed else 2 if had else 0, *words)

    def renew(self, worker: str, ids: Iterable[str], *, room: int) -> Call:
        """Say that a worker is there and has these entries. `read_ids` reads the reply: those that nobody wants.

        With a `room` of LEAVING it takes no more, and is none of the workers that gateways count.
        """
        return self._call(scripts.RENEW, worker, room, *ids)

    def beat(self, gateway: str) -> Call:
        """Say that a gateway is there. `read_state` reads the reply."""
        return self._call(scripts.BEAT, gateway)

    def leave(self, *, gateway: str = "", worker: str = "") -> Call:
        """Say that a gateway, or a worker, ends."""
        return self._call(scripts.LEAVE, "gateway" if gateway else "worker", gateway or worker)

    def pass_on(self) -> Call:
        """Let another worker hear the bell, if something waits: this one has heard it and has no room. Gives how
        many wait."""
        return self._call(scripts.RING)

    def sweep(self) -> Call:
        """See to what gateways and workers have left that are gone. Gives how many entries that were."""
        return self._call(scripts.SWEEP)

    def known(self, ids: Iterable[str]) -> Call:
        """Ask after entries. `read_ids` reads the reply: those that are not there."""
        return self._call(scripts.KNOWN, *ids)

    def _call(self, script: str, *arguments: Word) -> Call:
        return Call(script, (slot_key(self.prefix),), (self.prefix, *arguments))


LEAVING: Final = -1
"""The room of a worker that ends."""
SWEEP_AGAIN: Final = 100
"""Whoever sweeps and has seen to so many entries or more sweeps again."""


def read_placed(reply: Any) -> Placed:
    """Read the reply of `enqueue`."""
    word, place, milliseconds = reply
    return Placed(Outcome(_text(word)), int(place), int(milliseconds))


def read_taken(reply: Any) -> list[Taken]:
    """Read the reply of `take`."""
    return [
        Taken(_text(one[0]), int(one[1]), PriorityClass(int(one[2])), int(one[3]), int(one[4]), one[5], one[6])
        for one in reply
    ]


def read_posted(reply: Any) -> list[Posted]:
    """Read the reply of `post`, a word for each piece."""
    return [Posted(_text(word)) for word in reply]


def read_ids(reply: Any) -> list[str]:
    """Read a reply that is a list of ids."""
    return [_text(one) for one in reply]


def read_state(reply: Any) -> State:
    """Read the reply of `beat`."""
    counts, *numbers = reply
    return State(tuple(int(count) for count in counts), *(int(number) for number in numbers))


def read_piece(fields: Sequence[bytes]) -> Piece:
    """Read an entry of `names.out_key`: its fields and values one after the other. Raises KeyError, ValueError."""
    said = dict(zip(fields[::2], fields[1::2], strict=True))
    place, number = said.get(b"p", b""), said.get(b"n", b"")
    milliseconds, _, count = place.partition(b"-")
    return Piece(
        _text(said[b"i"]), int(said[b"a"]), Kind(_text(said[b"k"])), said[b"d"],
        (int(milliseconds), int(count)) if place else (0, 0), int(number) if number else None,
    )  # fmt: skip


def _text(word: bytes | str) -> str:
    return word.decode() if isinstance(word, bytes) else word
