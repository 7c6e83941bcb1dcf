"""A stream whose engine tells its usage with every chunk: vLLM's `stream_options.continuous_usage_stats`.

    CountedRelay(StreamRelay(...), strip=True)

It reads those counts, and takes them out of the chunks again for clients that did not ask for them; the relay inside
sees a stream like any other. The chunk without choices at the end, with the usage of the whole answer, is that one's.
Where all chunks of a run are as vLLM writes them nothing of them is parsed but the last count.

vLLM counts in each chunk the tokens of that choice (`serving_chat.py`, `serving_completion.py`), so that this is
for streams with one choice only.
"""

import re
from typing import Any, Final

import orjson

from capstan_gateway.errors import GatewayError
from capstan_gateway.streaming.around import RelayAround
from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.streaming.port import Relay
from capstan_gateway.streaming.sse import FrameSplitter, FrameTooLarge, frame_data, json_of
from capstan_gateway.tokens.usage import Usage, parse_usage

_COUNT: Final = re.compile(rb',"usage":(\{[^{}\n]*+(?:\{[^{}\n]*+\}[^{}\n]*+)*+\})\}(?=\n\n)')
"""The usage as the last field of a frame. Inside JSON strings quotes are escaped, so that it is only ever a key; and
what has one brace behind it belongs to the chunk itself, and to nothing within it."""
_CHOICES: Final = b'"choices":[{'


class CountedRelay(RelayAround):
    """Implements `streaming.port.Relay` around the relay that sends such a stream on."""

    def __init__(self, inner: Relay, *, strip: bool) -> None:
        super().__init__(inner)
        self._strip = strip
        self._splitter = FrameSplitter()
        self._told: Usage | None = None
        self._newest = False
        """Whether it came with the newest chunk."""

    @property
    def usage(self) -> Usage | None:
        """What the engine counted: of the whole answer, or so far; never less than that and what its text says else."""
        whole, told = self._inner.usage, self._told
        if whole is not None or told is None or self.counted:
            return told if whole is None else whole
        return told._replace(completion_tokens=max(told.completion_tokens, self._inner.text.tokens))

    @property
    def counted(self) -> bool:
        """Whether that is all that came so far. An engine that counts nothing of an answer has not counted it."""
        told = self._told
        return told is not None and self._newest and (told.completion_tokens > 0 or not self._inner.begun)

    @property
    def kept(self) -> int:
        """How many bytes wait: of a frame that is not whole, and what is kept of those before."""
        return self._splitter.kept + self._inner.kept

    def feed(self, data: bytes) -> bytes:
        """Give the bytes to send to the client; raises StreamBroken when the stream makes no sense."""
        try:
            run = self._splitter.feed(data)
        except FrameTooLarge as error:
            raise StreamBroken("the model's answer held an event that is too large") from error
        return self._inner.feed(self._read(run)) if run else b""

    def finish(self) -> bytes:
        """Give what remains to be sent when the engine ended the stream; raises StreamBroken if that was too early."""
        rest = self._splitter.rest().strip(b"\n")
        if rest:
            self._inner.feed(self._frame(rest))  # What has no end is judged by it when it is to finish.
        return self._inner.finish()

    def failure(self, error: GatewayError) -> bytes:
        """Give the frames that end a stream which cannot go on."""
        return self._inner.failure(error)

    def _read(self, run: bytes) -> bytes:
        """Note what these frames count; give them as the client is to have them."""
        counts = _COUNT.findall(run)
        if counts and len(counts) == run.count(b"\n\n") == run.count(_CHOICES):
            told = _parsed(counts[-1])
            if told is not None:
                self._note(told)
                return _COUNT.sub(b"}", run) if self._strip else run
        return b"\n\n".join([self._frame(frame) for frame in run.split(b"\n\n")])

    def _frame(self, frame: bytes) -> bytes:
        """Do the same with a frame of any form; what is no chunk with choices is left to the relay inside."""
        chunk = _chunk_of(frame)
        if chunk is None:
            return frame
        found = chunk.get("usage")
        self._note(parse_usage(found))
        if found is None or not self._strip:
            return frame
        others = [line for line in frame.split(b"\n") if not line.startswith(b"data:")]
        others.append(b"data: " + json_of({name: value for name, value in chunk.items() if name != "usage"}))
        return b"\n".join(others)

    def _note(self, told: Usage | None) -> None:
        if self._inner.done:
            return
        self._newest = told is not None and not told.bare
        if self._newest:
            self._told = told


def _chunk_of(frame: bytes) -> dict[str, Any] | None:
    """Give the chunk in a frame; None where it is none, or has nothing of an answer."""
    data = frame_data(frame)
    if data is None:
        return None
    try:
        chunk = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return chunk if type(chunk) is dict and chunk.get("choices") and chunk.get("error") is None else None


def _parsed(count: bytes) -> Usage | None:
    try:
        told = parse_usage(orjson.loads(count))
    except orjson.JSONDecodeError:
        return None
    return None if told is None or told.bare else told
