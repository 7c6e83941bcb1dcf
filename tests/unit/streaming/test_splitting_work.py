"""What cutting a stream into frames costs, counted and not timed."""

import random
from typing import Any

import pytest

from capstan_gateway.streaming import sse
from capstan_gateway.streaming.sse import FrameSplitter

FRAME_BYTES = 8 * 1024 * 1024 - 16
PIECE_BYTES = 4096


class CountedBuffer(bytearray):
    """A buffer that counts the bytes which are copied into it, out of it, or looked at."""

    work = 0

    def __iadd__(self, data: Any) -> "CountedBuffer":  # type: ignore[misc,override]
        CountedBuffer.work += len(data)
        super().__iadd__(data)
        return self

    def rfind(self, sub: Any, start: Any = 0, end: Any = None) -> int:
        end = len(self) if end is None else end
        CountedBuffer.work += end - start
        return super().rfind(sub, start, end)

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        CountedBuffer.work += len(found)
        return found


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b""], ids=["lf", "crlf", "unfinished"])
def test_work_is_linear_in_the_bytes(monkeypatch: pytest.MonkeyPatch, end: bytes) -> None:
    """A large frame in small pieces is copied and searched a fixed number of times, not once for each piece."""
    monkeypatch.setattr(sse, "bytearray", CountedBuffer, raising=False)
    CountedBuffer.work = 0
    frame = b"data: " + b"x" * FRAME_BYTES + end
    splitter = FrameSplitter()
    out = [splitter.feed(frame[at : at + PIECE_BYTES]) for at in range(0, len(frame), PIECE_BYTES)]
    assert b"".join(out) + splitter.rest() == frame.replace(b"\r", b"")
    assert len(frame) <= CountedBuffer.work <= 4 * len(frame)


def test_what_is_kept_is_only_the_unfinished_frame() -> None:
    """Frames that went out are not kept, however many of them came."""
    splitter, rng = FrameSplitter(), random.Random(0)  # noqa: S311 - no secret
    data = b"".join(b"data: %d\n\n" % number for number in range(20_000))
    at, most = 0, 0
    while at < len(data):
        size = rng.randint(1, 700)
        splitter.feed(data[at : at + size])
        most = max(most, len(splitter._kept))
        at += size
    assert most < 32
