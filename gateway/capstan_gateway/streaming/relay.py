"""What happens to a stream of chat or completion chunks on its way through: as little as possible.

Frames are read but not written anew: a run of frames with nothing special among them is passed on as the bytes that
came in. Most of them differ from one that was read in a piece of text alone, and only that is looked at
(`streaming.likeness`). Either way it is exact: a frame that a client could not parse never reaches it.
"""

import re
from codecs import BOM_UTF8
from typing import Any, Final

import orjson

from capstan_gateway.engine_errors import named_error_event, upstream_error_event
from capstan_gateway.envelope import error_payload
from capstan_gateway.errors import GatewayError
from capstan_gateway.streaming.asked import NOTHING, Asked
from capstan_gateway.streaming.cut import Cut, chat_end, head_of
from capstan_gateway.streaming.deltas import Said, choices_of
from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.streaming.forms import with_read_name
from capstan_gateway.streaming.likeness import Likeness
from capstan_gateway.streaming.mended_json import read_mended
from capstan_gateway.streaming.repair import ChunkRepair
from capstan_gateway.streaming.sse import DONE, FrameSplitter, FrameTooLarge, data_frame, frame_data
from capstan_gateway.tokens.estimate import TextCount
from capstan_gateway.tokens.usage import Usage, parse_usage

_PREFIX: Final = b"data: "
_BETWEEN: Final = b"\n\ndata: "
_RARE: Final = b"\x7f"
"""A byte that hardly any answer holds."""
_MARK: Final = _RARE.decode()
_MARKED: Final = b',"%b",' % _RARE
_DONE_FRAME: Final = DONE.strip()
_ERROR_EVENT: Final = re.compile(rb"^event: ?error *$", re.MULTILINE)
LONG_RUN_BYTES: Final = 1024
"""Of a run as long as this it is worth to know a first frame before the others are read."""
FIRST_FRAMES: Final = 2
"""The first one of a stream often names the role, and has no text."""


class Rename:
    """Replaces the engine's model name by the served one, in bytes.

    Inside JSON strings quotes are escaped, so `"model":"x"` is only ever a key and its value.
    """

    __slots__ = ("_pairs",)

    def __init__(self, upstream: str, served: str) -> None:
        old, new = orjson.dumps(upstream), orjson.dumps(served)
        self._pairs = ((b'"model":' + old, b'"model":' + new), (b'"model": ' + old, b'"model":' + new))

    def __call__(self, data: bytes) -> bytes:
        """Give `data` with the served name."""
        for old, new in self._pairs:
            data = data.replace(old, new)
        return data


class StreamRelay:
    """One stream: feed it what the engine sends, send on what it gives back."""

    __slots__ = (
        "_hosted", "_known", "_likeness", "_rename", "_repair", "_said", "_splitter", "_strip_usage", "done", "error",
        "events", "usage",
    )  # fmt: skip

    def __init__(
        self, *, strip_usage: bool, rename: Rename | None = None, hosted: bool = False, asked: Asked = NOTHING
    ) -> None:
        self._hosted = hosted
        """Whether its errors may tell whose account it is."""
        self._splitter = FrameSplitter()
        self._strip_usage = strip_usage
        self._rename = rename
        self._repair = ChunkRepair(asked)
        self._said = Said(asked)
        self._likeness = Likeness(self._said.text)
        self._known: int | None = None
        """A choice that has begun and is not over: a chunk with but one more piece of its text says nothing new."""
        self.usage: Usage | None = None
        self.events = 0
        self.error: GatewayError | None = None
        """What the engine reported inside the stream."""
        self.done = False
        """The end marker was seen."""

    @property
    def counted(self) -> bool:
        """Whether `usage` is all that came so far; see `streaming.counted`."""
        return False

    @property
    def finished(self) -> bool:
        """A finish reason was seen of every choice that has begun."""
        return self._said.whole

    @property
    def begun(self) -> bool:
        """A first token came."""
        return self._said.begun

    @property
    def text(self) -> TextCount:
        """The text that came, in all choices."""
        return self._said.text

    @property
    def kept(self) -> int:
        """How many bytes wait: of a frame that is not whole, and of calls whose names did not come yet."""
        return self._splitter.kept + self._repair.held

    def feed(self, data: bytes) -> bytes:
        """Give the bytes to send to the client; raises StreamBroken when the stream makes no sense."""
        if not self.events and data.startswith(BOM_UTF8):
            data = data[len(BOM_UTF8) :]
        try:
            run = self._splitter.feed(data)
        except FrameTooLarge as error:
            raise StreamBroken("the model's answer held an event that is too large") from error
        if not run or self.done:
            return b""
        ends = run.endswith(DONE)
        body = run[: -len(DONE)] if ends else run
        out = self._passed(body) if body else b""
        if not ends:
            return out
        try:
            return out + self._end(self._frame(_DONE_FRAME))
        except StreamBroken as broken:
            broken.before = out
            raise

    def finish(self) -> bytes:
        """Give what remains to be sent when the engine ended the stream; raises StreamBroken if that was too early."""
        rest = self._splitter.rest().strip(b"\n")
        tail = b""
        if rest and not self.done and _is_whole(rest):
            tail = self._written(self._sift(rest + b"\n\n"))
        if self.done:
            return tail
        if not self.finished and self.error is None:
            raise _ended_early()
        self.done = True
        try:
            return tail + self._end(DONE)
        except StreamBroken as broken:
            broken.before = tail
            raise

    def failure(self, error: GatewayError) -> bytes:
        """Give the frames that end a stream which cannot go on."""
        return error_end(error)

    def cut(self, cut: Cut, last: bytes) -> bytes:
        """Give the frames that end a stream well before its engine does."""
        open_choices = sorted(self._said.unfinished) or ([] if self._said.finished else [0])
        return chat_end(head_of(last), open_choices, cut)

    def _run(self, run: bytes) -> bytes:
        """Pass whole frames on: those like one that was read already unread, and read the others."""
        alike = self._alike(run)
        if alike == len(run):
            return run
        if not alike:
            return self._read(run)
        try:
            return run[:alike] + self._read(run[alike:])
        except StreamBroken as broken:
            broken.before = run[:alike] + broken.before
            raise

    def _alike(self, run: bytes) -> int:
        """Count the frames at the front that need not be read; give how many bytes they are."""
        likeness = self._likeness
        alike = likeness.match(run)
        if alike:
            self.events += likeness.frames
        elif likeness.tries and len(run) >= LONG_RUN_BYTES:
            alike = self._read_first(run)
        return alike

    def _read_first(self, run: bytes) -> int:
        """Read the first frames of a long run, to know what the others are like; give as `_alike` does."""
        start = 0
        for _ in range(FIRST_FRAMES):
            end = run.find(b"\n\n", start) + 2
            chunks = None if end == len(run) else _read_run(run[start:end])
            if chunks is None or not self._takes(chunks, run[:start]):
                break
            self._likeness.learn(chunks[0], run[start:end])
            start = self._likeness.match(run, end)
            if start > end:
                self.events += self._likeness.frames
                break
        return start

    def _takes(self, chunks: list[Any], before: bytes) -> int:
        """Take as many of these chunks as can simply be passed on; what is in front of a break is told in it."""
        taken = self.events
        try:
            self._take(chunks)
        except StreamBroken as broken:
            broken.before = before
            raise
        return self.events - taken

    def _read(self, run: bytes) -> bytes:
        """Pass whole frames on. Only the last one of them is often special: it has the usage."""
        chunks = _read_run(run)
        if chunks is None:
            return self._sift(run)
        before = self.events
        try:
            self._take(chunks)
        except StreamBroken as broken:
            broken.before = run[: _offset(run, self.events - before)]
            raise
        plain = self.events - before
        if plain == len(chunks):
            if self._likeness.tries:
                self._likeness.learn(chunks[-1], run[run.rfind(_BETWEEN, 0, -2) + 2 :] if plain > 1 else run)
            return run
        last = plain == len(chunks) - 1
        cut = (run.rfind(_BETWEEN, 0, -2) + 2 if plain else 0) if last else _offset(run, plain)
        try:
            # NB: frames that were taken are not read once more, so that nothing in them counts twice.
            rest = self._chunk(chunks[-1], run[cut:-2]) if last else self._sift(run[cut:])
        except StreamBroken as broken:
            broken.before = run[:cut] + broken.before
            raise
        return run[:cut] + rest

    def _take(self, chunks: list[Any]) -> None:
        """Note what these chunks say, and count them, up to the first that cannot simply be passed on."""
        said, known = self._said, self._known
        taken = counted = pieces = 0
        try:
            for chunk in chunks:
                if type(chunk) is not dict or chunk.get("error") is not None or chunk.get("usage") is not None:
                    break
                choices = chunk.get("choices")
                if known is not None and type(choices) is list and len(choices) == 1 and type(choices[0]) is dict:
                    choice = choices[0]
                    delta = choice.get("delta")
                    if choice.get("index") == known and choice.get("finish_reason") is None and type(delta) is dict:
                        content = delta.get("content")
                        if type(content) is str and len(delta) == 1 and content.isascii():
                            counted += len(content)
                            if content:
                                pieces += 1
                            taken += 1
                            continue
                said.note(choices_of(chunk))
                known = said.open_choice
                taken += 1
        finally:
            said.text.ascii += counted
            said.text.pieces += pieces
            self.events += taken
            self._known = known

    def _sift(self, run: bytes) -> bytes:
        kept: list[bytes] = []
        try:
            for frame in run.split(b"\n\n"):
                kept.append(self._frame(frame.strip(b"\n")))
        except StreamBroken as broken:
            broken.before = b"".join(kept)
            raise
        return b"".join(kept)

    def _passed(self, run: bytes) -> bytes:
        """What the client is sent for whole frames: nearly always they themselves."""
        try:
            read = self._run(run)
        except StreamBroken as broken:
            try:
                broken.before = self._written(broken.before)
            except StreamBroken as sooner:
                raise sooner from broken
            raise
        if self._said.odd or self._said.called:
            return self._written(read)
        return read if self._rename is None else self._rename(read)

    def _written(self, run: bytes) -> bytes:
        """What the client is sent for frames that were read."""
        said, repair = self._said, self._repair
        if not (said.called or said.deeply_odd or repair.begun):
            plain = with_read_name(run) if said.odd else run
            if plain is not None:
                return self._named(plain)
        try:
            return self._named(repair.run(run))
        except StreamBroken as broken:
            broken.before = self._named(broken.before)
            raise

    def _end(self, done: bytes) -> bytes:
        """Give the end marker, behind what is still to be told of calls."""
        return self._written(done) if done and self._repair.begun else done

    def _named(self, data: bytes) -> bytes:
        return self._rename(data) if self._rename is not None else data

    def _frame(self, frame: bytes) -> bytes:
        if not frame or self.done:
            return b""
        data = frame_data(frame)
        if data is None:
            return frame + b"\n\n"
        if not data.strip():
            return b""  # Some proxies keep a connection alive with it; no client could parse it.
        if data.strip() == b"[DONE]":
            if not self.finished and self.error is None:
                raise _ended_early()
            self.done = True
            return DONE
        try:
            chunk = orjson.loads(data)
        except orjson.JSONDecodeError:
            chunk = _mended(data)
            frame = data_frame(chunk)[:-2]
        if type(chunk) is dict and chunk.get("error") is None and _ERROR_EVENT.search(frame) is not None:
            self.error = named_error_event(chunk, external=self._hosted)
            return data_frame(error_payload(self.error))
        return self._chunk(chunk, frame)

    def _chunk(self, chunk: Any, frame: bytes) -> bytes:
        if type(chunk) is not dict:
            raise StreamBroken("the model's answer held an event that is not an object")
        if chunk.get("error") is not None:
            self.error = upstream_error_event(chunk, external=self._hosted)
            return data_frame(error_payload(self.error))
        choices = choices_of(chunk)
        usage = parse_usage(chunk.get("usage"))
        if usage is not None:
            self.usage = usage
            if not choices and self._strip_usage:
                return b""
            if chunk.get("choices") is None:
                frame = data_frame({**chunk, "choices": []})[:-2]  # Clients look into it.
        self._said.note(choices)
        self._known = self._said.open_choice
        self.events += 1
        return frame + b"\n\n"


def _read_run(run: bytes) -> list[Any] | None:
    """Give the payloads of a run of frames that are all of the form `data: {...}`; None for any other run.

    They are parsed as one list, with a mark between two frames. A frame that is not whole by itself has its mark
    somewhere inside of a value, where it does not count: the marks are all there, at their places, only if each is.
    """
    if not run.startswith(_PREFIX):
        return None
    frames = run.count(b"\n\n")
    if run.count(b"\n") != 2 * frames:
        return None  # A line end is a space in JSON, and the end of the data to a client.
    try:
        if frames == 1:
            return [orjson.loads(run[len(_PREFIX) :])]
        if _RARE in run:
            return None
        found = orjson.loads(b"[" + run[len(_PREFIX) : -2].replace(_BETWEEN, _MARKED) + b"]")
    except orjson.JSONDecodeError:
        return None
    return found[::2] if len(found) == 2 * frames - 1 and found[1::2].count(_MARK) == frames - 1 else None


def _offset(run: bytes, frames: int) -> int:
    """Give where the frame behind so many begins."""
    at = 0
    for _ in range(frames):
        at = run.index(b"\n\n", at) + 2
    return at


def error_end(error: GatewayError) -> bytes:
    """Give the frames that end a stream which has begun and cannot go on."""
    return data_frame(error_payload(error)) + DONE


def _ended_early() -> StreamBroken:
    return StreamBroken("the model's answer ended before it was finished")


def _mended(data: bytes) -> Any:
    try:
        return read_mended(data)
    except orjson.JSONDecodeError as error:
        raise StreamBroken("the model's answer held an event that is not JSON") from error


def _is_whole(frame: bytes) -> bool:
    data = frame_data(frame)
    if data is None:
        return False
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return True
