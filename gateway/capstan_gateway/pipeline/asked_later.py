"""Requests of the Responses API whose clients do not wait (`background`): taken, acknowledged, and asked later.

    request ─► read and found to be one ─► kept in Redis ─► acknowledged: an id    (here)
    kept ─► asked as any other request of who asked ─► stored under that id        (`background`, `inference.inside`)

What is asked later is the request without `background`, and with `store` off for whoever hosts the model: it is stored
here, and the gateway gives it its id.
"""

import re
from functools import partial
from typing import Any, Final

from capstan_gateway.background.records import Told
from capstan_gateway.background.room import BackgroundRoom
from capstan_gateway.background.state import TooManyOpen
from capstan_gateway.dialects.fields import Document, wrong
from capstan_gateway.documents import INLINE_BYTES, TooDeep, to_json
from capstan_gateway.errors import NO_RETRY, InvalidRequest, RequestTooLarge, StoreUnavailable
from capstan_gateway.headers import JSON, Header
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.beside import beside
from capstan_gateway.pipeline.delivery import Delivery
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.effects import has_effects, is_repeatable
from capstan_gateway.pipeline.reply import WholeReply
from capstan_gateway.pipeline.send import send_whole
from capstan_gateway.pipeline.stored import with_history
from capstan_gateway.stores.port import StoreDown

FIELD: Final = "background"
_STORE: Final = "store"
_ASYNC: Final = re.compile(rb"(?:^|[,;\s])respond-async(?:$|[,;\s=])", re.IGNORECASE)
"""RFC 7240, section 4.1."""
_ASKED_WITH: Final = frozenset(
    (
        b"anthropic-beta", b"anthropic-version", b"cache-control", b"pragma", b"traceparent", b"tracestate",
        b"x-cache-semantic", b"x-cache-similarity-min", b"x-capstan-max-cost", b"x-session-id",
    )
)  # fmt: skip
"""Headers that say how a request is answered. No other one is kept: it might be a secret."""
_MOST_HEADER_BYTES: Final = 1024
_MOST_HEADERS: Final = 16


def prefers_async(value: bytes) -> bool:
    """Whether a header `Prefer` says that its client would rather not wait."""
    return _ASYNC.search(value) is not None


def take_background(delivery: Delivery, document: Document) -> bool:
    """Take out of the document whether its client waits; True when the document is another one by that.

    Raises InvalidRequest for a value that is none. A preference is followed where nothing speaks against it.
    """
    said = document.get(FIELD)
    if said is not None and not isinstance(said, bool):
        raise wrong(FIELD, "must be true or false")
    if said:
        delivery.background = True
        del document[FIELD]
        return True
    if delivery.prefers_async and said is None and not document.get("stream") and document.get(_STORE) is not False:
        delivery.background = True
    return False


async def acknowledge(delivery: Delivery, ask: Ask, deps: Deps) -> None:
    """Keep the request to be asked later, and tell its client the id under which the answer will be.

    Raises what is wrong with the request as far as that can be known before the model is asked, RequestTooLarge,
    StoreUnavailable, and InvalidRequest (429) where the tenant has too many that are not over.
    """
    room, native = deps.later, ask.request.native
    if room is None or native is None or deps.responses is None:
        raise RuntimeError("nothing is stored, and so nothing is asked later")
    given = native.document
    if ask.request.stream:
        raise wrong("stream", "must be false with `background`: ask for the response by its id")
    if given.get(_STORE) is False:
        raise wrong(_STORE, "must be true with `background`: the response is asked for by its id")
    await with_history(delivery, ask, deps.responses, deps.executor, room)
    failure, model = ask.request.untranslatable, ask.model
    hosted = model.external or model.plan is not None
    if failure is not None and not hosted:
        raise failure
    response_id, now = room.new_response()
    written = partial(_written, given, delivery.said_options, response_id, now)
    try:
        told, body = await beside(deps.executor, written) if ask.request.came > INLINE_BYTES else written()
    except TooDeep as error:
        raise InvalidRequest("the request has more levels of objects and lists than can be kept") from error
    if not room.fits(told, body):
        raise RequestTooLarge(f"a request in the background may be about {room.most_bytes} bytes")
    once = (
        has_effects({**given, _STORE: False}, stored=True) if hosted else not is_repeatable(ask.request, native=False)
    )
    response = await _taken(room, delivery, response_id, now, told, body, once=once)
    lines = b""
    if delivery.prefers_async:
        lines = b"preference-applied: respond-async\r\nlocation: /v1/responses/%b\r\n" % response_id.encode()
    delivery.exchange.extra_lines += lines
    delivery.reply = reply = WholeReply(202 if lines else 200, JSON, response, native=True)
    send_whole(delivery, ask, reply, deps)


def _written(given: Document, options: Document, response_id: str, now: int) -> tuple[Told, bytes]:
    return Told.of(given, response_id=response_id, now=now), to_json({**given, **options, _STORE: False})


async def _taken(
    room: BackgroundRoom, delivery: Delivery, response_id: str, now: int, told: Told, body: bytes, *, once: bool
) -> bytes:
    headers = _asked_with(delivery.exchange.headers, delivery.request_id)
    try:
        return await room.take(delivery.principal, response_id, now, told, body, once=once, headers=headers)
    except TooManyOpen as error:
        raise InvalidRequest(
            str(error), status=429, code="too_many_background_responses", headers=(NO_RETRY,)
        ) from None
    except StoreDown as error:
        raise StoreUnavailable from error


def _asked_with(headers: list[Header], request_id: bytes) -> tuple[tuple[str, str], ...]:
    kept: list[tuple[str, Any]] = [("x-request-id", request_id.decode("latin-1"))]
    kept += [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in headers
        if name in _ASKED_WITH and len(value) <= _MOST_HEADER_BYTES
    ]
    return tuple(kept[:_MOST_HEADERS])
