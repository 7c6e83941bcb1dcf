"""What was heard in a sound, as engines and hosted APIs answer it: read, and passed on as it is. Pure.

in one piece   JSON with a `text` (OpenAI's json, verbose_json, diarized_json), or the text itself (text, srt, vtt)
as a stream    OpenAI's events `transcript.text.delta`, and `.done` at the end; or vLLM's chunks, which are like those
               of chat, with a `finish_reason` for each half minute of sound, and `[DONE]` at the end

Usage is told in tokens, as seconds of sound (`{"type": "duration", "seconds": 3}`), or not at all.
"""

import math
from typing import Any, Final

import orjson

from capstan_gateway.dialects.fields import Document
from capstan_gateway.dialects.frames import EventRelay, ended_early
from capstan_gateway.engine_errors import upstream_error_event
from capstan_gateway.envelope import error_payload
from capstan_gateway.errors import GatewayError, UpstreamFailed
from capstan_gateway.streaming.cut import FINISH_REASON, NOTE, Cut, chat_end, chat_usage, head_of
from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.streaming.relay import Rename, error_end
from capstan_gateway.streaming.sse import DONE, data_frame, frame_data
from capstan_gateway.tokens.estimate import text_tokens
from capstan_gateway.tokens.prompt import SOUND_TOKENS_PER_SECOND
from capstan_gateway.tokens.usage import MOST_TOKENS, Usage, count_of, parse_usage

TEXTS: Final = frozenset(("text", "srt", "vtt"))
"""Formats of answers that are no JSON."""
_DELTA: Final = "transcript.text.delta"
_OVER: Final = "transcript.text.done"
_NO_TEXT: Final = "the model's engine answered without a text of what was said"
_NO_JSON: Final = "the model's engine answered with something that is not JSON"


def read_transcript(body: bytes, *, said: str, hosted: bool = False) -> tuple[bytes, Usage | None]:
    """Give an answer in one piece as its client reads it, and its usage; `said` is the format that was asked for.

    UpstreamFailed when it is none. Where the text itself was asked for and there is JSON around it, as vLLM writes it,
    the text is given, as OpenAI does.
    """
    document = _object(body)
    if document is None and said in TEXTS:
        return body, Usage(0, text_tokens(body.decode("utf-8", "replace")), reckoned=True)
    if document is None:
        raise UpstreamFailed(_NO_JSON)
    if document.get("error") is not None:
        raise upstream_error_event(document, external=hosted)
    text = document.get("text")
    if not isinstance(text, str):
        raise UpstreamFailed(_NO_TEXT)
    usage = usage_of(document, text)
    return (f"{text}\n".encode() if said == "text" else body), usage


def _object(body: bytes) -> Document | None:
    if body.lstrip()[:1] != b"{":
        return None
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None


def usage_of(document: Document, text: str) -> Usage:
    """Give the usage that an answer tells, or what follows from how long its sound is, and from its text."""
    told = document.get("usage")
    found: Document = told if isinstance(told, dict) else {}
    seconds = _seconds(found.get("seconds")) or _seconds(document.get("duration"))
    if "input_tokens" in found or "output_tokens" in found:
        details = found.get("input_token_details")
        audio = count_of(details.get("audio_tokens")) if isinstance(details, dict) else 0
        ins, out = count_of(found.get("input_tokens")), count_of(found.get("output_tokens"))
        return Usage(ins, out, audio_tokens=audio, sound_seconds=seconds)
    if (usage := parse_usage(found)) is not None:
        return usage._replace(sound_seconds=seconds)
    heard = SOUND_TOKENS_PER_SECOND * seconds
    return Usage(heard, text_tokens(text), audio_tokens=heard, reckoned=True, sound_seconds=seconds)


def _seconds(told: object) -> int:
    """Give how long a sound is, rounded up as who charges for seconds does; 0 for what is no length."""
    return math.ceil(told) if isinstance(told, int | float) and 0 < told < MOST_TOKENS else 0


class TranscriptRelay(EventRelay):
    """One stream of what is heard, passed on; the model may have another name in it, and usage is for who asked."""

    def __init__(self, rename: Rename | None = None, *, strip_usage: bool = False, hosted: bool = False) -> None:
        super().__init__()
        self._rename = rename
        self._strip_usage = strip_usage
        self._hosted = hosted
        self._chunks = False
        """Whether it is made of chunks like those of chat."""

    def finish(self) -> bytes:
        """Give what remains to be sent when the body is over; raises StreamBroken if that was too early."""
        rest = self._splitter.rest().strip(b"\n")
        tail = self.feed(rest + b"\n\n") if rest else b""
        # NB: chunks end for each piece of the sound; that all of it was heard says only the mark behind them.
        if not self.done and self.error is None and (self._chunks or not self.finished):
            raise ended_early(tail)
        self.done = True
        return tail

    def failure(self, error: GatewayError) -> bytes:
        """Give the frames that end a stream which cannot go on."""
        return error_end(error)

    def cut(self, cut: Cut, last: bytes) -> bytes:
        """Give the frames that end a stream well before its engine does."""
        if self._chunks:
            return chat_end(head_of(last), [0], cut)
        usage = chat_usage(cut.usage)
        told = {
            "type": "tokens", "input_tokens": usage["prompt_tokens"], "output_tokens": usage["completion_tokens"],
            "total_tokens": usage["total_tokens"],
        }  # fmt: skip
        # NB: what was heard so far has been sent, and is not kept.
        return data_frame({"type": _OVER, "text": "", "usage": told, NOTE: {**cut.note, "finish": FINISH_REASON}})

    def _frame(self, frame: bytes) -> bytes:
        if not frame or self.done:
            return b""
        data = frame_data(frame)
        if data is None:
            return frame + b"\n\n"
        if not data.strip():
            return b""
        if data.strip() == b"[DONE]":
            if not self.finished and self.error is None:
                raise ended_early(b"")
            self.done = True
            return DONE
        try:
            payload = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise StreamBroken("the model's answer held an event that is not JSON") from error
        if not isinstance(payload, dict):
            raise StreamBroken("the model's answer held an event that is not an object")
        if payload.get("error") is not None or payload.get("type") == "error":
            self.error = upstream_error_event(
                payload if payload.get("error") is not None else {"error": payload}, external=self._hosted
            )
            return data_frame(error_payload(self.error))
        try:
            written = self._event(str(payload.get("type", "")), payload)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise StreamBroken("the model's answer held an event that is not one") from error
        return self._other(frame) if written is None else written

    def _event(self, kind: str, payload: dict[str, Any]) -> bytes | None:
        if kind == _DELTA:
            self._note(payload["delta"])
        elif kind == _OVER:
            self.usage = usage_of(payload, "")
            self.finished = self.begun = True
            self.events += 1
        elif "choices" in payload:
            return self._chunk(payload)
        return None

    def _chunk(self, payload: dict[str, Any]) -> bytes | None:
        self._chunks = True
        usage = parse_usage(payload.get("usage"))
        self.usage = usage or self.usage
        for choice in payload["choices"]:
            self._note((choice.get("delta") or {}).get("content") or None)
            self.finished = choice.get("finish_reason") is not None
        return b"" if usage is not None and not payload["choices"] and self._strip_usage else None

    def _other(self, frame: bytes) -> bytes:
        return (frame if self._rename is None else self._rename(frame)) + b"\n\n"
