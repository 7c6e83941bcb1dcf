"""Frames of a stream, one after the other."""

from collections.abc import Callable

from capstan_gateway.streaming.relay import StreamBroken
from capstan_gateway.streaming.sse import FrameSplitter, FrameTooLarge


def split(splitter: FrameSplitter, data: bytes) -> bytes:
    """Give the frames that are whole now; StreamBroken when there is one without an end."""
    try:
        return splitter.feed(data)
    except FrameTooLarge as error:
        raise StreamBroken("the model's answer held an event that is too large") from error


def each_frame(run: bytes, write: Callable[[bytes], bytes]) -> bytes:
    """Write each frame of a run; what was written in front of a break is told in the StreamBroken."""
    kept: list[bytes] = []
    try:
        for frame in run.split(b"\n\n"):
            kept.append(write(frame.strip(b"\n")))
    except StreamBroken as broken:
        broken.before = b"".join(kept)
        raise
    return b"".join(kept)


def ended_early(before: bytes) -> StreamBroken:
    """Give the error of a stream that ended before its end, behind these bytes."""
    broken = StreamBroken("the model's answer ended before it was finished")
    broken.before = before
    return broken
