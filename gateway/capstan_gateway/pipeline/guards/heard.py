"""What was heard in a sound, judged as what a model says. No guard reads the sound itself.

Guards of the output judge an answer that is one text: `json` and `text` without a stream. Of another form (times of
words, speakers, subtitles, a stream) they would have to judge pieces that say the same several times over: it is
refused before anybody is asked.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import orjson

from capstan_gateway.dialects.fields import unsupported
from capstan_gateway.documents import to_json
from capstan_gateway.errors import GuardBlocked
from capstan_gateway.guards.placeholders import Placeholders
from capstan_gateway.pipeline.beside import LARGE_BYTES, beside
from capstan_gateway.pipeline.guards.needs import Judging
from capstan_gateway.pipeline.guards.output import Document, answer_pieces
from capstan_gateway.pipeline.guards.pieces import Piece
from capstan_gateway.pipeline.guards.whole import judged, restored
from capstan_gateway.pipeline.reply import Reply, StreamReply, WholeReply
from capstan_gateway.pipeline.request import Request

_FORMAT: Final = "response_format"
_ONE_TEXT: Final = (None, "", "json", "text")
_NUMBERS: Final = ("duration", "usage")
"""What of an answer in JSON says nothing of what was heard."""


def check_form(request: Request) -> None:
    """Raise InvalidRequest for a request whose answer guards of the output could not judge."""
    if request.stream:
        raise unsupported("stream", "its answers are judged by a guard, as a whole")
    if request.document.get(_FORMAT) not in _ONE_TEXT:
        raise unsupported(_FORMAT, "its answers are judged by a guard, which reads json and text")


async def let_out_heard(judging: Judging, reply: Reply, placeholders: Placeholders) -> Reply:
    """Give what of an answer may be given; raises what keeps it back.

    What stands for something of the request is put in its place again, but for a stream.
    """
    if isinstance(reply, StreamReply) or not (judging.policy.output or placeholders):
        return reply
    large, executor = len(reply.body) > LARGE_BYTES, judging.shared.deps.executor
    read = partial(_read, reply.body)
    text, document = await beside(executor, read) if large else read()
    if judging.policy.output:
        said, is_withheld = await judged(judging, _as_completion(text), size=len(reply.body))
        if is_withheld:
            raise GuardBlocked("a guard does not let this answer pass")
        text = said["choices"][0]["text"]
        if document is not None:
            # NB: what else an engine has written may say the same once more, such as the probabilities of tokens.
            document = {**{name: document[name] for name in _NUMBERS if name in document}, "text": text}
    write = partial(_written, text, document, placeholders)
    body = await beside(executor, write) if large else write()
    return WholeReply(reply.status, reply.content_type, body, reply.native)


def _written(text: str, document: Document | None, placeholders: Placeholders) -> bytes:
    if document is not None:
        return to_json(restored(document, placeholders) if placeholders else document)
    return (placeholders.restore(text) if placeholders else text).encode("utf-8", "replace")


def read_heard(body: bytes) -> tuple[Sequence[Piece], Document | None]:
    """Give the text of an answer, in any form, for who only looks on."""
    completion = _as_completion(_read(body)[0])
    return answer_pieces(completion), completion


def _read(body: bytes) -> tuple[str, Document | None]:
    """Give the text of an answer, and the object that it is in, if it is in one."""
    try:
        document: Any = orjson.loads(body) if body.lstrip()[:1] == b"{" else None
    except orjson.JSONDecodeError:
        document = None
    if isinstance(document, dict) and isinstance(document.get("text"), str):
        return document["text"], document
    return body.decode("utf-8", "replace"), None


def _as_completion(text: str) -> Document:
    return {"choices": [{"index": 0, "text": text, "finish_reason": "stop"}]}
