"""Frames of server-sent events, byte by byte."""

import pytest

from capstan_gateway.streaming import sse
from capstan_gateway.streaming.sse import FrameSplitter, FrameTooLarge, data_frame, frame_data


@pytest.mark.parametrize(
    ("frame", "data"),
    [
        (b"data: x", b"x"),
        (b"data:x", b"x"),
        (b"data:  x", b" x"),
        (b"data:", b""),
        (b"data: ", b""),
        (b": ping", None),
        (b"", None),
        (b"event: x", None),
        (b"dat: x", None),
        (b"event: message\ndata: x", b"x"),
        (b"data: x\nid: 7", b"x"),
        (b"data: x\ndata: y\ndata:z\ndata", b"x\ny\nz"),
        (b"xdata: x", None),
    ],
)
def test_the_data_of_a_frame(frame: bytes, data: bytes | None) -> None:
    """Its lines joined, without the one space behind the colon; none in a comment or a lone name."""
    assert frame_data(frame) == data


def test_a_frame_is_written_as_it_is_read() -> None:
    """One line of JSON and a blank one."""
    assert data_frame({"a": "b\nc"}) == b'data: {"a":"b\\nc"}\n\n'
    assert frame_data(data_frame([1])[:-2]) == b"[1]"


@pytest.mark.parametrize(
    ("pieces", "runs", "rest"),
    [
        ([b"a\n\nb\n\n"], [b"a\n\nb\n\n"], b""),
        ([b"a\n\nb"], [b"a\n\n"], b"b"),
        ([b"a\n", b"\nb\n\n"], [b"", b"a\n\nb\n\n"], b""),
        ([b"a", b"\n\n", b"b\n\n"], [b"", b"a\n\n", b"b\n\n"], b""),
        ([b"\n", b"\n"], [b"", b"\n\n"], b""),
        ([b"a\n\n\nb"], [b"a\n\n\n"], b"b"),
        ([b"a\r\n\r\nb"], [b"a\n\n"], b"b"),
        ([b"a\r\r", b"b"], [b"", b"a\n\n"], b"b"),
        ([b"a\r", b"\n\r\n"], [b"", b"a\n\n"], b""),
        ([b"a\r\n\r", b"\nb\n\n"], [b"", b"a\n\nb\n\n"], b""),
        ([b"a\n\r"], [b""], b"a\n\n"),
        ([b"a\r", b"\r\n\r\n"], [b"", b"a\n\n\n"], b""),
        ([b"a\r", b""], [b"", b""], b"a\n"),
        ([b"x\r\n\r\n", b"a\n\n"], [b"x\n\n", b"a\n\n"], b""),
        ([b"", b"a"], [b"", b""], b"a"),
        ([b"a\r\n\r\nb\n\n"], [b"a\n\nb\n\n"], b""),
    ],
)
def test_frames_go_out_with_their_blank_line(pieces: list[bytes], runs: list[bytes], rest: bytes) -> None:
    """As soon as it is there, whatever the line ends are and wherever the bytes are cut; what is behind it waits."""
    splitter = FrameSplitter()
    assert [splitter.feed(piece) for piece in pieces] == runs
    assert splitter.rest() == rest
    assert splitter.rest() == b""
    assert splitter.feed(b"a\n\n") == b"a\n\n", "what was left is forgotten"


def test_an_unfinished_frame_is_kept_up_to_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the very byte, and whole frames of any size go out."""
    monkeypatch.setattr(sse, "MAX_FRAME_BYTES", 8)
    splitter = FrameSplitter()
    assert splitter.feed(b"x" * 20 + b"\n\n") == b"x" * 20 + b"\n\n"
    assert splitter.feed(b"y" * 8) == b""
    assert splitter.feed(b"\n\n") == b"y" * 8 + b"\n\n"
    assert splitter.feed(b"z" * 20 + b"\n\n" + b"y" * 8) == b"z" * 20 + b"\n\n"
    with pytest.raises(FrameTooLarge):
        splitter.feed(b"y")
