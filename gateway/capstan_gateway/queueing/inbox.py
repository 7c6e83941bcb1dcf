"""What the pieces of one answer come to: of whichever attempt they are, its reader gets those of one. Pure.

the first head binds the answer to its attempt; pieces of earlier attempts are nothing any more
a head of a later attempt, before anything was given out: all that came before it is forgotten, and it starts over
a later attempt behind that: its pieces are nobody's, and whoever makes them should be told to stop
a piece that comes twice is nothing; one in front of which another is missing ends the answer: it would have a hole
which attempt is later is told by when it was taken: a Redis that has lost its latest writes counts attempts anew
"""

from collections import deque
from enum import Enum

from capstan_contract.queue.calls import Failure, Kind, Piece


class Fed(Enum):
    """What a piece has changed."""

    NOTHING = "nothing"
    NEWS = "news"
    """There is more to read, or nothing more will come."""
    FOREIGN = "foreign"
    """It is of an attempt that nobody wants, and which has taken the place of the one that is read."""
    BROKEN = "broken"
    """A piece in front of it is missing."""


class Inbox:
    """The pieces of one answer that have come and were not read yet, as they were posted."""

    __slots__ = ("_next", "attempt", "committed", "ended", "failure", "head", "held", "pieces", "place")

    def __init__(self) -> None:
        self.pieces: deque[bytes] = deque()
        self.committed = False
        """Whether something of the answer may have reached the client: then there is no starting over."""
        self.reset()

    def reset(self) -> None:
        """Forget all that came: the entry is asked for anew, and its attempts are counted from 1 again."""
        self.attempt = 0
        """The one that is read; 0: none has begun to answer."""
        self.place = (0, 0)
        """Of its taking."""
        self._start_over()

    def _start_over(self) -> None:
        self.head: bytes | None = None
        self.pieces.clear()
        self.held = 0
        """Bytes of the pieces."""
        self.ended = False
        self.failure: Failure | None = None
        self._next = 0
        """The number of the next piece."""

    @property
    def turn(self) -> tuple[tuple[int, int], int]:
        """Which attempt is read: another one has another turn, and a later one a higher one."""
        return self.place, self.attempt

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.ended or self.failure is not None

    def feed(self, piece: Piece) -> Fed:
        """Take a piece, in the order in which they were posted."""
        turn = (piece.place, piece.attempt)
        if turn < self.turn and (piece.place != (0, 0) or piece.kind is not Kind.FAILURE):
            return Fed.NOTHING
        if turn > self.turn and piece.kind is not Kind.FAILURE:
            if self.committed:
                return Fed.FOREIGN
            if piece.kind is not Kind.HEAD:
                return Fed.NOTHING  # Of an answer whose beginning was lost nothing can be made.
            self._start_over()
            self.place, self.attempt = turn
            self.head = piece.data
            self._next = 1
            return Fed.NEWS
        if self.over:
            return Fed.NOTHING
        if piece.number is not None and turn == self.turn and piece.kind is not Kind.FAILURE:
            if piece.number != self._next:
                return Fed.NOTHING if piece.number < self._next else Fed.BROKEN
            self._next += 1
        if piece.kind is Kind.FAILURE:
            self.failure = failure_of(piece.data)
        elif piece.kind is Kind.END:
            self.ended = True
        elif piece.kind is Kind.DATA and self.head is not None:
            self.pieces.append(piece.data)
            self.held += len(piece.data)
        else:
            return Fed.NOTHING
        return Fed.NEWS

    def take(self) -> list[bytes]:
        """Give the pieces that have come since the last call."""
        taken = list(self.pieces)
        self.pieces.clear()
        self.held = 0
        return taken


def failure_of(word: bytes) -> Failure:
    """Read why an answer failed; a word of a later release is a failure of the engine."""
    try:
        return Failure(word.decode())
    except ValueError:
        return Failure.ENGINE
