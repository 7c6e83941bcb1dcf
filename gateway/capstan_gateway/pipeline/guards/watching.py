"""A stream that a policy in mode Shadow looks at: it goes on as it is, and is read when it is over."""

from collections.abc import Callable, Iterable
from typing import Final

import orjson

from capstan_contract.guards import Source
from capstan_gateway.errors import GatewayError
from capstan_gateway.memory import Share
from capstan_gateway.pipeline.guards.output import Document, answer_pieces
from capstan_gateway.pipeline.guards.pieces import Piece, Place
from capstan_gateway.streaming.around import RelayAround
from capstan_gateway.streaming.assembly import Assembler
from capstan_gateway.streaming.port import Relay
from capstan_gateway.streaming.sse import frame_data

MOST_BYTES: Final = 1024 * 1024
"""Of a stream that is looked at; nobody looks at a longer one."""
_OF_BLOCKS: Final = {"text": Source.TEXT, "thinking": Source.REASONING, "partial_json": Source.TOOL_ARGUMENTS}
"""Fields of the deltas of Anthropic's blocks."""


class Watched:
    """What has gone on of one stream."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self._runs: list[bytes] = []
        self.size = 0
        self.lost = False
        """Whether there was no room for it."""

    def take(self, run: bytes) -> None:
        """Take whole frames that went on."""
        if self.lost or not run:
            return
        if self.size + len(run) > MOST_BYTES or not self._share.grow_easily(len(run)):
            self.lost = True
            self._runs = []
            self._share.release()
            return
        self.size += len(run)
        self._runs.append(run)

    def give(self) -> bytes:
        """Give it, and keep nothing."""
        runs, self._runs = self._runs, []
        self._share.release()
        return b"".join(runs)


class WatchingRelay(RelayAround):
    """Implements `streaming.port.Relay`: has somebody see what it gives."""

    def __init__(self, inner: Relay, take: Callable[[bytes], None]) -> None:
        super().__init__(inner)
        self._take = take

    def feed(self, data: bytes) -> bytes:
        """Give what the inner one gives."""
        run = self._inner.feed(data)
        self._take(run)
        return run

    def finish(self) -> bytes:
        """Give what the inner one gives."""
        run = self._inner.finish()
        self._take(run)
        return run

    def failure(self, error: GatewayError) -> bytes:
        """Give what the inner one gives."""
        return self._inner.failure(error)


def read_stream(body: bytes, *, native: bool) -> tuple[list[Piece], Document | None]:
    """Give the texts of a stream, and the answer that it adds up to where that is in the form of chats."""
    events = _events(body)
    if native:
        return _native_pieces(events), None
    assembler = Assembler()
    for event in events:
        if "choices" in event:
            assembler.add(event)
    answer = assembler.answer()
    return answer_pieces(answer), answer


def _events(body: bytes) -> Iterable[Document]:
    for frame in body.split(b"\n\n"):
        data = frame_data(frame.strip(b"\n"))
        if data is not None and data.startswith(b"{"):
            yield orjson.loads(data)


def _native_pieces(events: Iterable[Document]) -> list[Piece]:
    """Give the texts of events of Anthropic's messages, or of OpenAI's responses."""
    texts: dict[tuple[int, str, Source], list[str]] = {}
    for event in events:
        kind, said = str(event.get("type")), event.get("delta")
        number = event.get("index", event.get("output_index"))
        key = number if isinstance(number, int) else 0
        if isinstance(said, dict):
            for name, source in _OF_BLOCKS.items():
                if isinstance(said.get(name), str):
                    texts.setdefault((key, name, source), []).append(said[name])
        elif isinstance(said, str):
            calls = "arguments" in kind or "input" in kind
            source = Source.REASONING if "reasoning" in kind else Source.TOOL_ARGUMENTS if calls else Source.TEXT
            texts.setdefault((key, kind, source), []).append(said)
    top = Place(None, "content")
    return [
        Piece("".join(parts), source, Place(top, number), escaped=source is Source.TOOL_ARGUMENTS)
        for (number, _, source), parts in texts.items()
    ]
