"""What was heard, as engines and hosted APIs tell it: read, unwrapped, counted; streams passed on to their end."""

import json
from typing import Any

import pytest

from capstan_gateway.dialects.clients.transcripts import TranscriptRelay, read_transcript
from capstan_gateway.errors import GatewayError, UpstreamFailed
from capstan_gateway.streaming.cut import Cut
from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.streaming.relay import Rename
from capstan_gateway.streaming.sse import DONE
from capstan_gateway.tokens.usage import Usage

TOKENS = {"type": "tokens", "input_tokens": 14, "input_token_details": {"audio_tokens": 12}, "output_tokens": 3}


def event(**fields: Any) -> bytes:
    """Give one frame."""
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def delta(text: str) -> bytes:
    """Give a piece as OpenAI writes it."""
    return event(type="transcript.text.delta", delta=text)


def chunk(text: str | None, finish: str | None = None, **more: Any) -> bytes:
    """Give a piece as vLLM writes it; None: without a choice."""
    choices = [] if text is None else [{"delta": {"content": text}, "finish_reason": finish}]
    return event(object="transcription.chunk", model="engine", choices=choices, **more)


@pytest.mark.parametrize(
    ("document", "usage"),
    [
        ({"usage": TOKENS}, Usage(14, 3, audio_tokens=12)),
        (
            {"usage": {"type": "duration", "seconds": 3}},
            Usage(30, 2, audio_tokens=30, reckoned=True, sound_seconds=3),
        ),
        (
            {"usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}, "duration": 3},
            Usage(5, 1, sound_seconds=3),
        ),
        ({"usage": TOKENS, "duration": 0.2}, Usage(14, 3, audio_tokens=12, sound_seconds=1)),
        ({"duration": 2.1, "segments": []}, Usage(30, 2, audio_tokens=30, reckoned=True, sound_seconds=3)),
        ({"duration": 1e300, "usage": {"seconds": "3"}}, Usage(0, 2, reckoned=True)),
        ({"usage": "free"}, Usage(0, 2, reckoned=True)),
        ({"usage": {"seconds": -4}}, Usage(0, 2, reckoned=True)),
    ],
)
def test_what_is_told_of_usage_is_read(document: dict[str, Any], usage: Usage) -> None:
    """Tokens as they are told, begun seconds as ten tokens each, and a text by its length."""
    body = json.dumps({"text": "12345678", **document}).encode()
    assert read_transcript(body, said="json") == (body, usage)


@pytest.mark.parametrize("body", [b"", b"[]", b"nothing", b"{}", b'{"text": 1}', b'{"text": null}', b'{"text": "a'])
def test_what_is_no_answer_is_none(body: bytes) -> None:
    """Another engine may be asked then."""
    with pytest.raises(UpstreamFailed):
        read_transcript(body, said="json")


def test_an_error_that_comes_with_a_status_of_success_is_one() -> None:
    """Also where a text was asked for."""
    for said in ("json", "text", "srt"):
        with pytest.raises(GatewayError, match="too long"):
            read_transcript(b'{"error": {"message": "too long", "code": 400}}', said=said)


@pytest.mark.parametrize("said", ["text", "srt", "vtt"])
def test_a_text_is_what_it_is(said: str) -> None:
    """Of any bytes, and where it only looks like JSON; what is around a `text` alone is taken away."""
    for body in (b"", b"Hello {", b"{Hello}", b"\xff"):
        assert read_transcript(body, said=said)[0] == body
    wrapped = ' {"text": "Grüße", "usage": null}'.encode()
    assert read_transcript(wrapped, said=said)[0] == ("Grüße\n".encode() if said == "text" else wrapped)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_stream_is_passed_on_however_it_is_cut(size: int) -> None:
    """Byte for byte, but for the name of the model, and the usage that nobody asked for."""
    frames = [
        delta("Hel"),
        b": comment\n\n",
        delta("lo"),
        event(type="transcript.text.done", text="Hello", usage=TOKENS),
    ]
    relay = TranscriptRelay()
    data = b"".join(frames)
    out = b"".join(relay.feed(data[at : at + size]) for at in range(0, len(data), size)) + relay.finish()
    assert out == data
    assert relay.usage == Usage(14, 3, audio_tokens=12)
    assert (relay.done, relay.finished, relay.text.tokens) == (True, True, 2)
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    pieces = [chunk("Hel"), chunk("", "stop"), chunk("lo"), chunk("", "stop")]
    told = chunk(None, usage=usage)
    for strip in (False, True):
        relay = TranscriptRelay(Rename("engine", "ears"), strip_usage=strip)
        data = b"".join((*pieces, told, DONE))
        out = b"".join(relay.feed(data[at : at + size]) for at in range(0, len(data), size))
        wanted = b"".join((*pieces, b"" if strip else told, DONE)).replace(b'"model": "engine"', b'"model":"ears"')
        assert out == wanted
        assert (relay.done, relay.usage) == (True, Usage(5, 2))


@pytest.mark.parametrize(
    "frames",
    [
        [], [delta("Hel")], [chunk("Hel")], [chunk("Hel"), chunk("", "stop")], [chunk("Hel"), DONE],
        [chunk("", "stop"), chunk("lo"), DONE], [b"data: {\n\n"], [b"data: []\n\n"], [delta("Hel"), b"data: 1\n\n"],
        [event(type="transcript.text.delta")], [event(choices=5)], [event(choices=[5])],
        [event(choices=[{"delta": {"content": 5}}])],
    ],
)  # fmt: skip
def test_a_stream_that_is_none_or_no_whole_one_breaks(frames: list[bytes]) -> None:
    """A finish reason ends a piece of the sound only; what went before is told, and sent."""
    relay = TranscriptRelay()
    sent = b""
    with pytest.raises(StreamBroken) as broken:  # noqa: PT012 - either may raise
        for frame in frames:
            sent += relay.feed(frame)
        relay.finish()
    assert (sent + broken.value.before).count(b"data: ") <= len(frames)


def test_an_error_in_a_stream_is_its_end() -> None:
    """In the envelope of ours, in either form that engines write."""
    for given in ({"error": {"message": "no", "code": 400}}, {"type": "error", "message": "no", "code": 400}):
        relay = TranscriptRelay()
        out = relay.feed(delta("Hel") + event(**given))
        assert relay.error is not None
        assert b'"error"' in out.removeprefix(delta("Hel"))
        relay.finish()
        assert relay.done


def test_a_stream_that_is_cut_ends_well_in_its_own_form() -> None:
    """With the usage, and why; a client that reads chunks is told a length that was reached."""
    cut = Cut(usage=Usage(9, 2), tells_usage=True, note={"limit": "tokens"})
    relay = TranscriptRelay()
    relay.feed(delta("Hel"))
    end = json.loads(relay.cut(cut, delta("Hel")).removeprefix(b"data: "))
    assert (end["type"], end["usage"]["total_tokens"]) == ("transcript.text.done", 11)
    assert end["capstan"]["limit"] == "tokens"
    relay = TranscriptRelay()
    last = relay.feed(chunk("Hel"))
    frames = relay.cut(cut, last).split(b"\n\n")
    assert json.loads(frames[0].removeprefix(b"data: "))["choices"][0]["finish_reason"] == "length"
    assert json.loads(frames[1].removeprefix(b"data: "))["usage"]["total_tokens"] == 11
    assert frames[2] == b"data: [DONE]"
