"""The beginning of a stream: what is kept of it, when it is over, and whom it blames."""

import orjson
import pytest

from capstan_gateway.errors import UpstreamRejected
from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.streaming.filters import EndOfStream, HeldTooMuch
from capstan_gateway.streaming.opening import StreamOpening
from capstan_gateway.streaming.relay import StreamRelay
from capstan_gateway.streaming.sse import DONE

PING = b": ping\n\n"
ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
TEXT = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
JUNK = b"data: 7\n\n"


def error(code: int) -> bytes:
    """Give an error that an engine sends in place of an answer."""
    return b"data: " + orjson.dumps({"error": {"message": "no", "code": code}}) + b"\n\n"


@pytest.mark.parametrize(
    ("pieces", "over", "kept", "fault"),
    [
        ([PING, ROLE], [False, False], PING + ROLE, None),
        ([PING, ROLE, TEXT], [False, False, True], PING + ROLE + TEXT, None),
        ([ROLE[:9], ROLE[9:] + TEXT], [False, True], ROLE + TEXT, None),
        ([FINISH], [True], FINISH, None),
        ([ROLE, JUNK], [False, True], ROLE, "StreamBroken"),
        ([ROLE + JUNK], [True], ROLE, "StreamBroken"),
        ([TEXT + JUNK], [True], TEXT, None),
        ([ROLE, DONE], [False, True], ROLE, "StreamBroken"),
        ([ROLE, b""], [False, True], ROLE, "StreamBroken"),
        ([b""], [True], b"", "StreamBroken"),
        ([FINISH, b""], [True, True], FINISH + DONE, None),
        ([error(500)], [True], None, "UpstreamRejected"),
        ([error(400)], [True], None, None),
        ([error(429)], [True], None, None),
    ],
)
def test_a_stream_has_begun_with_its_first_token(
    pieces: list[bytes], over: list[bool], kept: bytes | None, fault: str | None
) -> None:
    """Nothing is lost of what came in front of it; without one the engine is to blame, or the request."""
    opening = StreamOpening(StreamRelay(strip_usage=True))
    assert [opening.feed(piece) for piece in pieces] == over
    assert opening.fault == fault
    if kept is not None:
        assert opening.first == kept
    assert opening.begun == opening.relay.begun
    assert (opening.broken is not None) == (fault == "StreamBroken" or JUNK in b"".join(pieces))


def test_an_engines_refusal_is_kept_for_the_answer() -> None:
    """It is an error with a status, and no frame of a stream that nobody has begun to read."""
    opening = StreamOpening(StreamRelay(strip_usage=True))
    opening.feed(error(400))
    assert isinstance(opening.relay.error, UpstreamRejected)
    assert (opening.relay.error.status, opening.broken) == (400, None)
    assert StreamBroken("x").before == b""


def test_an_end_says_why_and_what_goes_out_first() -> None:
    """A filter that ends a stream gives the reason that the client sees, and the chunks in front of it."""
    end = EndOfStream("content_filter", ({"n": n} for n in range(2)))
    assert (end.finish_reason, end.chunks, str(end)) == ("content_filter", ({"n": 0}, {"n": 1}), "content_filter")
    assert EndOfStream("stop").chunks == ()
    assert (HeldTooMuch("x").status, HeldTooMuch("x").code) == (502, "answer_not_checked")
