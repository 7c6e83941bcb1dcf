"""Server-sent events as bytes: cutting a stream into frames, and the frames that the gateway writes itself."""

from typing import Final

from capstan_gateway.documents import TooDeep, to_json
from capstan_gateway.streaming.errors import StreamBroken

DONE: Final = b"data: [DONE]\n\n"
TOO_DEEP: Final = "the model's answer is nested too deeply"
_CR: Final = ord("\r")
MAX_FRAME_BYTES: Final = 8 * 1024 * 1024
"""A frame that grows beyond this is not a frame; the stream is cut."""


class FrameTooLarge(Exception):
    """A frame did not end within MAX_FRAME_BYTES."""


class FrameSplitter:
    """Cuts a byte stream, split anywhere, into runs of whole frames.

    Line ends come out as LF whatever came in (CRLF, CR), so that everything behind this sees one form. What comes out
    depends only on the bytes, not on how they were split: an unfinished frame is kept until its blank line is there.
    The work is linear in the bytes, also when one large frame comes in many small pieces: each byte is put into the
    buffer once, searched once, and taken out once.
    """

    __slots__ = ("_kept", "_pending_cr")

    def __init__(self) -> None:
        self._kept = bytearray()
        self._pending_cr = False

    @property
    def kept(self) -> int:
        """How many bytes of an unfinished frame are kept."""
        return len(self._kept)

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes, give all frames that are whole now (b"" when none is)."""
        if not self._kept and not self._pending_cr and data.endswith(b"\n\n") and _CR not in data:
            return data
        return self._feed_slowly(data)

    def rest(self) -> bytes:
        """Give what was left without a blank line when the stream ended."""
        rest = bytes(self._kept) + (b"\n" if self._pending_cr else b"")
        self._kept, self._pending_cr = bytearray(), False
        return rest

    def _feed_slowly(self, data: bytes) -> bytes:
        if self._pending_cr:
            data = b"\r" + data
        # NB: a CR at the very end may be half of a CRLF; the next bytes decide.
        self._pending_cr = data.endswith(b"\r")
        if self._pending_cr:
            data = data[:-1]
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        kept = self._kept
        # What was kept before holds no blank line, but its last byte may be half of one.
        searched = max(0, len(kept) - 1)
        kept += data
        cut = kept.rfind(b"\n\n", searched) + 2
        whole = b""
        if cut > 1:
            whole = bytes(kept[:cut])
            del kept[:cut]
        if len(kept) > MAX_FRAME_BYTES:
            raise FrameTooLarge
        return whole


def frame_data(frame: bytes) -> bytes | None:
    """Give the data of one frame, its lines joined; None when it has none (a comment, a lone event name)."""
    if frame.startswith(b"data: ") and frame.find(b"\n") < 0:
        return frame[6:]
    lines = [line[5:].removeprefix(b" ") for line in frame.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None


def json_of(value: object) -> bytes:
    """Write what an engine sent as JSON; StreamBroken when it is nested more deeply than JSON can be written."""
    try:
        return to_json(value)
    except TooDeep as error:
        raise StreamBroken(TOO_DEEP) from error


def data_frame(payload: object) -> bytes:
    """Write one frame with this payload; raises as `json_of`."""
    return b"data: " + json_of(payload) + b"\n\n"
