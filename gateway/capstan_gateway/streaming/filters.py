"""What a policy may do with a stream on its way: see each chunk, hold it back, write it anew, end the stream.

    engine ─► relay ─► filter ─► filter ─► the client's dialect ─► client

A filter stands behind the relay, so that it sees chat completion chunks whatever the engine speaks, and in front of the
dialect, so that it need not know what the client speaks. It is made for one stream and holds that one's state.
"""

from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from capstan_gateway.errors import AnswerNotChecked

Document = dict[str, Any]
Chunks = Sequence[Document]


class StreamFilter(Protocol):
    """Looks at one stream. What it raises ends that: `EndOfStream` well, a GatewayError badly.

    What is held then by filters in front of it is given to nobody. Those behind it are asked for their end where the
    stream ends well: what they hold has passed all others. None of them is asked when it ends badly.
    """

    @property
    def held(self) -> int:
        """How many bytes of the answer it holds back. It is asked for each chunk, and to be known without counting."""
        ...

    def chunk(self, chunk: Document) -> Chunks | Awaitable[Chunks]:
        """Take a chunk, which nobody else has; give what may go on now."""
        ...

    def idle(self) -> Chunks | Awaitable[Chunks]:
        """The engine is silent: give what may go on of what is held although nothing follows yet."""
        ...

    def end(self) -> Chunks | Awaitable[Chunks]:
        """The stream is whole: give what is held."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldLimits:
    """How much of one stream may be held back, by all filters of one policy together, and for how long."""

    bytes: int = 1024 * 1024
    seconds: float = 30.0
    """Without anything going on to the client, the time among it that filters take for their judgement. Who judges an
    answer as a whole says how long that may take. The request's total deadline is above it."""
    silence_seconds: float = 1.0
    """After how long a silence of the engine the filters are asked whether something of it may go on, again and again.
    """


class EndOfStream(Exception):
    """Ends a stream before its engine does, as a proper answer: its client sees a finish reason, and no error."""

    def __init__(self, finish_reason: str, chunks: Iterable[Document] = ()) -> None:
        super().__init__(finish_reason)
        self.finish_reason = finish_reason
        """Of every choice that is not over."""
        self.chunks = tuple(chunks)
        """What goes out in front of it."""


class HeldTooMuch(AnswerNotChecked):
    """The filters of a stream hold more than they may, or for longer."""
