"""Pieces of answers that Redis has not taken yet. Pure.

What an engine gives between two posts becomes one piece. A piece that was said once keeps its number and its bytes
until it is known what became of it, so that it can be said again; Redis takes it once.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from capstan_contract.queue.calls import Failure, Kind, Post, Posted
from capstan_contract.queue.wire import Packing

MOST_PIECE_BYTES: Final = 256 << 10
MOST_POST_BYTES: Final = 1 << 20
MOST_POST_PIECES: Final = 256
"""Of one post, about: what it takes of Redis' time, others wait for."""
HELD_BYTES: Final = 2 << 20
"""Of one answer: an engine that has given more has to wait."""
ALL_HELD_BYTES: Final = 64 << 20
"""Of all answers."""


@dataclass(slots=True)
class _Answer:
    attempt: int
    head: bytes | None = None
    """Not said yet: it goes with the first of the body, so that an engine that dies before it has answered nothing."""
    raw: bytearray = field(default_factory=bytearray)
    said: deque[Post] = field(default_factory=deque)
    """Pieces of which it is not known whether Redis has taken them."""
    number: int = 0
    last: tuple[Kind, bytes] | None = None
    ended: bool = False
    """Whether `last` is among the pieces."""
    full_since: float | None = None
    """Since when its reader has taken nothing."""
    waits: bool = False

    @property
    def held(self) -> int:
        return len(self.raw) + sum(len(post.data) for post in self.said)

    @property
    def has_more(self) -> bool:
        return bool(self.said or self.raw or (self.last is not None and not self.ended))


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a post."""

    ended: tuple[str, ...] = ()
    """Answers whose end was taken."""
    gone: tuple[str, ...] = ()
    """Answers that nobody wants from this worker any more."""
    refused: int = 0
    """Pieces of those."""
    failed: tuple[Failure, ...] = ()
    """Why answers have ended that ended badly."""


class Outbox:
    """The answers of one worker."""

    def __init__(self, packing: Packing) -> None:
        self._packing = packing
        self._answers: dict[str, _Answer] = {}
        self._ready: dict[str, None] = {}
        """Answers with something to say, the one that has waited longest first."""
        self.held = 0
        """Bytes of all."""

    def __contains__(self, entry_id: str) -> bool:
        return entry_id in self._answers

    def __len__(self) -> int:
        return len(self._answers)

    @property
    def ids(self) -> list[str]:
        """Entries that this worker has, also those whose engine is done."""
        return list(self._answers)

    @property
    def pending(self) -> bool:
        """Whether something is to be said."""
        return bool(self._ready)

    def open(self, entry_id: str, attempt: int) -> None:
        """Begin the answer to an entry; one that is there is dropped."""
        self.close(entry_id)
        self._answers[entry_id] = _Answer(attempt)

    def head(self, entry_id: str, head: bytes) -> None:
        """Say how the answer begins."""
        if (answer := self._answers.get(entry_id)) is not None:
            answer.head = head

    def put(self, entry_id: str, data: bytes) -> None:
        """Add to its body."""
        answer = self._answers.get(entry_id)
        if answer is not None and answer.last is None:
            answer.raw += data
            self.held += len(data)
            self._wake(entry_id, answer)

    def end(self, entry_id: str) -> None:
        """Say that it is complete."""
        self._finish(entry_id, (Kind.END, b""))

    def fail(self, entry_id: str, failure: Failure) -> None:
        """Say that there is no more of it, and why."""
        self._finish(entry_id, (Kind.FAILURE, failure.value.encode()))

    def close(self, entry_id: str) -> None:
        """Forget an answer and its pieces."""
        answer = self._answers.pop(entry_id, None)
        self._ready.pop(entry_id, None)
        if answer is not None:
            self.held -= answer.held

    def crowded(self, entry_id: str) -> bool:
        """Whether its engine has to wait before it gives more."""
        answer = self._answers.get(entry_id)
        return answer is not None and (answer.held > HELD_BYTES or self.held > ALL_HELD_BYTES)

    def attempts(self, ids: Iterable[str]) -> dict[str, int]:
        """Give which attempts at entries it answers, of those of them that it does."""
        return {one: self._answers[one].attempt for one in ids if one in self._answers}

    def attempt(self, entry_id: str) -> int | None:
        """Give which attempt at an entry it answers; None where it answers none."""
        answer = self._answers.get(entry_id)
        return None if answer is None else answer.attempt

    def go_on(self, entry_id: str) -> None:
        """Its reader takes more."""
        answer = self._answers.get(entry_id)
        if answer is not None and answer.waits:
            answer.waits = False
            self._wake(entry_id, answer)

    def slow(self, now: float, seconds: float) -> list[str]:
        """Give the answers of which a reader has taken nothing for so long although there was something."""
        return [
            entry_id
            for entry_id, answer in self._answers.items()
            if answer.full_since is not None and now - answer.full_since >= seconds and not _is_failure(answer)
        ]

    def next(self) -> list[Post]:
        """Give what is to be posted now. Only one post may be under way."""
        posts: list[Post] = []
        size = 0
        for entry_id in list(self._ready):
            if size >= MOST_POST_BYTES or len(posts) >= MOST_POST_PIECES:
                break
            answer = self._answers[entry_id]
            del self._ready[entry_id]
            self._say(entry_id, answer)
            for post in answer.said:
                if posts and (size + len(post.data) > MOST_POST_BYTES or len(posts) >= MOST_POST_PIECES):
                    self._ready[entry_id] = None
                    break
                posts.append(post)
                size += len(post.data)
        return posts

    def settle(self, posts: Sequence[Post], words: Iterable[Posted], now: float) -> Settled:
        """Take in what became of a post."""
        ended: list[str] = []
        gone: dict[str, None] = {}
        failed: list[Failure] = []
        refused = 0
        for post, word in zip(posts, words, strict=True):
            answer = self._answers.get(post.id)
            if answer is None or answer.attempt != post.attempt:
                refused += word is Posted.GONE
            elif word is Posted.GONE:
                refused += 1
                gone[post.id] = None
                self.close(post.id)
            elif word is Posted.FULL:
                self._refuse(post, answer, now)
            elif answer.said and answer.said[0].number == post.number:
                answer.said.popleft()
                self.held -= len(post.data)
                answer.full_since = None
                if post.kind in (Kind.END, Kind.FAILURE):
                    ended.append(post.id)
                    failed += [Failure(post.data.decode())] if post.kind is Kind.FAILURE else []
                    self.close(post.id)
        return Settled(tuple(ended), tuple(gone), refused, tuple(failed))

    def again(self, posts: Iterable[Post]) -> None:
        """A post had no reply: say all of it again."""
        for post in posts:
            answer = self._answers.get(post.id)
            if answer is not None and answer.attempt == post.attempt:
                self._wake(post.id, answer)

    def _refuse(self, post: Post, answer: _Answer, now: float) -> None:
        if not answer.said or post.number < answer.said[0].number:
            return
        if answer.full_since is None:
            answer.full_since = now
        if not _is_failure(answer):
            answer.waits = True
            self._ready.pop(post.id, None)
            return
        # Nobody reads on: its failure takes the place of what was refused, which no window holds up.
        first, answer.ended = answer.said[0].number, False
        self.held -= sum(len(one.data) for one in answer.said)
        answer.said.clear()
        self.held -= len(answer.raw)
        answer.raw.clear()
        answer.number, answer.head = first, None
        self._wake(post.id, answer)

    def _finish(self, entry_id: str, last: tuple[Kind, bytes]) -> None:
        answer = self._answers.get(entry_id)
        if answer is None or (answer.last is not None and answer.ended and last[0] is Kind.END):
            return
        if answer.ended:
            # Its end was said and refused, as its reader is slow: the failure is said in place of it.
            answer.ended = False
        answer.last, answer.waits = last, False
        self._wake(entry_id, answer)

    def _wake(self, entry_id: str, answer: _Answer) -> None:
        if not answer.waits and answer.has_more:
            self._ready.setdefault(entry_id)

    def _say(self, entry_id: str, answer: _Answer) -> None:
        """Make pieces of what has come in."""
        for kind, data in self._pieces(entry_id, answer):
            answer.said.append(Post(entry_id, answer.attempt, answer.number, kind, data))
            answer.number += 1
            self.held += len(data)

    def _pieces(self, entry_id: str, answer: _Answer) -> Iterator[tuple[Kind, bytes]]:
        ends = answer.last is not None and not answer.ended
        if answer.head is not None and (answer.raw or (ends and not _is_failure(answer))):
            head, answer.head = answer.head, None
            yield Kind.HEAD, self._packing.pack(entry_id, Kind.HEAD.value, head)
        raw = bytes(answer.raw)
        answer.raw.clear()
        self.held -= len(raw)
        for at in range(0, len(raw), MOST_PIECE_BYTES):
            part = raw[at : at + MOST_PIECE_BYTES]
            yield Kind.DATA, self._packing.pack(entry_id, Kind.DATA.value, part)
        if answer.last is not None and ends:
            answer.ended = True
            yield answer.last


def _is_failure(answer: _Answer) -> bool:
    return answer.last is not None and answer.last[0] is Kind.FAILURE
