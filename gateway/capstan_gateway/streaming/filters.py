"""What a policy may do with a stream on its way: see each chunk, hold it back, write it anew, end the stream.

    engine ─► relay ─► filter ─► filter ─► the client's dialect ─► client

A filter stands behind the relay, so that it sees chat completion chunks whatever the engine speaks, and in front of the
dialect, so that it need not know what the client speaks. It is made for one stream and holds that one's state.
"""

from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, Protocol

from capstan_gateway.errors import GatewayError

Document = dict[str, Any]
Chunks = Sequence[Document]


class StreamFilter(Protocol):
    """Looks at one stream. What it raises ends that: `EndOfStream` well, a GatewayError badly.

    Neither gives out what is held at that moment: an engine's stream is stopped, and nothing more of it is sent.
    """

    @property
    def held(self) -> int:
        """How many bytes of the answer it holds back."""
        ...

    def chunk(self, chunk: Document) -> Chunks | Awaitable[Chunks]:
        """Take a chunk, which nobody else has; give what may go on now."""
        ...

    def end(self) -> Chunks | Awaitable[Chunks]:
        """The stream is whole: give what is held."""
        ...


class EndOfStream(Exception):
    """Ends a stream before its engine does, as a proper answer: its client sees a finish reason, and no error."""

    def __init__(self, finish_reason: str, chunks: Iterable[Document] = ()) -> None:
        super().__init__(finish_reason)
        self.finish_reason = finish_reason
        """Of every choice that is not over."""
        self.chunks = tuple(chunks)
        """What goes out in front of it."""


class HeldTooMuch(GatewayError):
    """The filters of a stream hold more than they may."""

    status = 502
    code = "answer_not_checked"
