"""From an answer to the entry that is kept of it; None where it is not one to keep. Pure, and a thin shell."""

from functools import partial
from typing import Any, Final

import orjson

from capstan_gateway.caches.answered import MOST_LENGTH
from capstan_gateway.caches.port import Entry, Form
from capstan_gateway.caches.storable import (
    is_complete,
    is_complete_list,
    is_complete_message,
    is_complete_response,
)
from capstan_gateway.dialects.clients.spoken import MESSAGES
from capstan_gateway.headers import JSON
from capstan_gateway.life.threads import Threads
from capstan_gateway.pipeline.beside import beside
from capstan_gateway.pipeline.caches.question import LISTS, Question
from capstan_gateway.pipeline.caches.replay import assembled, native_end, with_cached_usage
from capstan_gateway.pipeline.reply import WholeReply
from capstan_gateway.pipeline.request import Request
from capstan_gateway.tokens.usage import Usage

INLINE_BYTES: Final = 16 * 1024
"""What is larger is read beside the loop: some 0.3 ms for 16 KiB of frames."""
MOST_BYTES: Final = 4 * 1024**2
"""Of an answer; larger ones are not kept."""
OK: Final = 200


async def entry_of(
    question: Question,
    request: Request,
    whole: WholeReply | None,
    frames: bytes | None,
    *,
    usage: Usage,
    nano_dollars: int | None,
    created_ms: int,
    ttl_ms: int,
    executor: Threads,
) -> Entry | None:
    """Give what is kept of an answer in one piece, or of the frames of a stream. Raises Overloaded."""
    size = len(whole.body if whole is not None else frames or b"")
    if size > MOST_BYTES:
        return None
    make = partial(_entry, question, request, whole, frames, usage)
    made = make() if size <= INLINE_BYTES else await beside(executor, make)
    if made is None:
        return None
    form, body, content_type, id = made
    return Entry(form, body, content_type, created_ms, created_ms + ttl_ms, usage, nano_dollars, id=id)


def _entry(
    question: Question, request: Request, whole: WholeReply | None, frames: bytes | None, usage: Usage
) -> tuple[Form, bytes, bytes, str] | None:
    if whole is not None:
        if whole.status != OK or whole.withheld:
            return None
        answer = _read(whole.body)
        if not _is_whole(answer, question, request, native=whole.native):
            return None
        if whole.native or request.route.upstream_path in LISTS:
            return Form.NATIVE if whole.native else Form.ANSWER, whole.body, whole.content_type, _id_of(answer)
        return Form.ANSWER, with_cached_usage(answer), whole.content_type, _id_of(answer)
    if question.native:
        end = native_end(frames or b"")
        if not _is_whole(end, question, request, native=True):
            return None
        return Form.NATIVE_STREAM, frames or b"", b"text/event-stream", _id_of(end)
    answer = assembled(frames or b"")
    if answer is None or not is_complete(answer, tools=question.tools):
        return None
    if answer.get("usage") is None:
        # It was not asked for, and whoever gets the answer in one piece looks for it.
        answer["usage"] = {
            "prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        }  # fmt: skip
    return Form.ANSWER, with_cached_usage(answer), JSON, _id_of(answer)


def _is_whole(answer: Any, question: Question, request: Request, *, native: bool) -> bool:
    if native:
        judge = is_complete_message if request.route.dialect is MESSAGES else is_complete_response
        return judge(answer, tools=question.tools)
    field = LISTS.get(request.route.upstream_path)
    return is_complete(answer, tools=question.tools) if field is None else is_complete_list(answer, field=field)


def _id_of(answer: Any) -> str:
    """Give the id that an answer says, if it is one to remember."""
    found = answer.get("id") if isinstance(answer, dict) else None
    return found if isinstance(found, str) and len(found) <= MOST_LENGTH else ""


def _read(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
