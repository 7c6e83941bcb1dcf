"""What is heard in a file: made of its bytes, so the same file is always heard alike, and told in vLLM's shapes.

vLLM has no `srt` and `vtt`, and puts a `text` into JSON; other servers have them, and so has the simulator.
"""

import hashlib
import math
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from capstan_worker.simulator.answers import VOCABULARY, make_seed
from capstan_worker.simulator.errors import ApiError
from capstan_worker.simulator.protocol import Body
from capstan_worker.simulator.tokens import count

Document = dict[str, Any]
TASKS: Final = {"/v1/audio/transcriptions": "transcription", "/v1/audio/translations": "translation"}
"""Paths, and what is done there."""
BYTES_PER_SECOND: Final = 16_000
WORDS_PER_SECOND: Final = 2
TOKENS_PER_SECOND: Final = 10
MOST_WORDS: Final = 20_000
_FIRST: Final = "Simulated:"
_FORMS: Final = ("json", "text", "srt", "verbose_json", "vtt")
_TIMED: Final = ("srt", "vtt")
_BOUNDARY: Final = re.compile(rb'boundary="?([^";]+)')
_NAME: Final = re.compile(rb'[; ]name="([^"]*)"')


@dataclass(frozen=True)
class Heard:
    """One request, understood, and what is heard."""

    id: str
    model: str
    task: str
    form: str
    language: str
    words: tuple[str, ...]
    seconds: int
    prompt_tokens: int
    stream: bool
    include_usage: bool

    @property
    def text(self) -> str:
        """All that is heard."""
        return " ".join(self.words)

    def whole(self) -> Document | str:
        """Give the answer in one piece: a document, or a text."""
        usage = {"type": "duration", "seconds": self.seconds}
        match self.form:
            case "json":
                return {"text": self.text, "usage": usage}
            case "verbose_json":
                segments = [
                    {"id": n, "start": start, "end": end, "text": text}
                    for n, (start, end, text) in enumerate(self._segments())
                ]
                known = {"duration": float(self.seconds), "language": self.language, "text": self.text}
                return {**known, "segments": segments, "words": None}
            case "text":
                return self.text + "\n"
            case _:
                return self._subtitles()

    def chunk(self, text: str | None, *, finish: str | None = None, usage: Document | None = None) -> Document:
        """Give a chunk of a stream; without a text that of its usage."""
        choices = [] if text is None else [{"delta": {"content": text}, "finish_reason": finish, "stop_reason": None}]
        return {
            "id": self.id, "object": f"{self.task}.chunk", "created": int(time.time()), "model": self.model,
            "choices": choices, "usage": usage,
        }  # fmt: skip

    def usage(self) -> Document:
        """Give what a stream has used."""
        out = len(self.words)
        return {
            "prompt_tokens": self.prompt_tokens, "completion_tokens": out, "total_tokens": self.prompt_tokens + out,
        }  # fmt: skip

    def _segments(self) -> Iterator[tuple[float, float, str]]:
        step = 5 * WORDS_PER_SECOND
        for start in range(0, len(self.words), step):
            piece = self.words[start : start + step]
            yield start / WORDS_PER_SECOND, (start + len(piece)) / WORDS_PER_SECOND, " ".join(piece)

    def _subtitles(self) -> str:
        mark = "," if self.form == "srt" else "."
        lines = [] if self.form == "srt" else ["WEBVTT\n"]
        for number, (start, end, text) in enumerate(self._segments(), 1):
            head = f"{number}\n" if self.form == "srt" else ""
            lines.append(f"{head}{_clock(start, mark)} --> {_clock(end, mark)}\n{text}\n")
        return "\n".join(lines) + "\n"


def _clock(seconds: float, mark: str) -> str:
    whole, part = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{mark}{part:03}"


def parse_form(content_type: bytes, body: bytes) -> Body:
    """Read a form: its fields as texts, its file as bytes. Raises ApiError."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise ApiError(422, "Field required: a form", type="Bad Request", param="file")
    fields: dict[str, Any] = {}
    for part in (b"\r\n" + body).split(b"\r\n--" + found[1])[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        name = _NAME.search(head)
        if name is not None:
            is_file = b"filename=" in head
            fields[name[1].decode("utf-8", "replace")] = content if is_file else content.decode("utf-8", "replace")
    return fields


def hear(body: Body, model: str, number: str, path: str) -> Heard:
    """Understand a request. Raises ApiError."""
    file, form = body.get("file"), body.get("response_format") or "json"
    if not isinstance(file, bytes):
        raise ApiError(422, "Expected 'file' to be a file-like object.", type="Bad Request", param="file")
    if form not in _FORMS:
        raise ApiError(400, f"Currently only support response_format: {', '.join(_FORMS)}", param="response_format")
    stream = _is_on(body, "stream")
    if stream and form not in ("json", "text"):
        raise ApiError(400, f"{form} format doesn't support streaming case", param="stream")
    seconds = min(max(1, math.ceil(len(file) / BYTES_PER_SECOND)), MOST_WORDS // WORDS_PER_SECOND)
    language, prompt = str(body.get("language") or "en"), str(body.get("prompt") or "")
    seed = make_seed(model, hashlib.sha256(file).hexdigest(), language, prompt, TASKS[path])
    drawn = random.Random(seed).choices(VOCABULARY, k=seconds * WORDS_PER_SECOND)  # noqa: S311 - no secret
    return Heard(
        id=f"trsc-{number}", model=model, task=TASKS[path], form=form, language=language, words=(_FIRST, *drawn),
        seconds=seconds, prompt_tokens=seconds * TOKENS_PER_SECOND + count(prompt), stream=stream,
        include_usage=_is_on(body, "stream_include_usage"),
    )  # fmt: skip


def _is_on(body: Body, name: str) -> bool:
    said = str(body.get(name) or "false").lower()
    if said not in ("true", "false", "1", "0"):
        raise ApiError(422, f"Input should be a valid boolean: {name}", type="Bad Request", param=name)
    return said in ("true", "1")
