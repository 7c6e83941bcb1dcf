"""Asking one model: its endpoints one after the other, as long as nothing has reached the client."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar

from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.dialects.clients.native import NativeRelay
from capstan_gateway.dialects.targets.limits import lengths_of
from capstan_gateway.documents import TooDeep
from capstan_gateway.engine_errors import normalise_error
from capstan_gateway.errors import TOO_LONG, GatewayError, InvalidRequest, UpstreamFailed, UpstreamRejected
from capstan_gateway.headers import JSON, Header, find_header
from capstan_gateway.pipeline.adapters import (
    CHAT_TOKENIZED,
    COUNT_TOKENS,
    TRANSLATED_RESPONSES,
    Adapter,
    adapter_for,
    estimated_count,
    has_counter,
    may_tokenize,
)
from capstan_gateway.pipeline.answers import admit
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.beside import LARGE_BYTES, beside
from capstan_gateway.pipeline.continuous import asks_itself, is_counted
from capstan_gateway.pipeline.counted import counted_here
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.effects import is_repeatable
from capstan_gateway.pipeline.engine_answer import FINISHING, asked_by, looks_odd, mended_large, read_answer
from capstan_gateway.pipeline.leftover import FirstFrames, Leftover
from capstan_gateway.pipeline.outgoing import (
    build_body,
    engine_lines,
    form_lines,
    hosted_headers,
    refuse_hosted_tools,
    with_key,
)
from capstan_gateway.pipeline.queueing import queueing_of
from capstan_gateway.pipeline.reply import Reply, StreamReply, WholeReply
from capstan_gateway.pipeline.request import COUNT_PATH, TOKENIZE_PATH, Request
from capstan_gateway.pipeline.salt import SALT, salt_for
from capstan_gateway.pipeline.settle import settle, settle_lost, settle_nonsense, settle_stream_later, settle_whole
from capstan_gateway.pipeline.whose import with_verified_user
from capstan_gateway.routing.affinity import affinity_key
from capstan_gateway.routing.attempt import Attempt
from capstan_gateway.routing.held_blocks import PromptBlocks
from capstan_gateway.routing.port import Call, DispatchedResponse
from capstan_gateway.routing.unroutable import NoEndpoint, QueueRefused, RoutingError, TooManyWaiting
from capstan_gateway.routing.verdicts import CLIENT_ERROR, SERVER_ERROR
from capstan_gateway.streaming.counted_relay import CountedRelay
from capstan_gateway.streaming.deltas import check_answer, said_in
from capstan_gateway.streaming.json_check import NotJson, check_json
from capstan_gateway.streaming.opening import StreamOpening
from capstan_gateway.streaming.port import Relay
from capstan_gateway.streaming.relay import StreamRelay
from capstan_gateway.streaming.sse import TOO_DEEP as ANSWER_TOO_DEEP
from capstan_gateway.tokens.bill import TOLD
from capstan_gateway.tokens.counter import CountedBy
from capstan_gateway.tokens.estimate import TextCount
from capstan_gateway.tokens.usage import Usage, find_usage
from capstan_gateway.upstream.errors import ConnectFailed, NoMemory, UpstreamError
from capstan_gateway.upstream.port import Endpoint, Headers

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
MAX_HEADER_VALUE: Final = 128
MAX_ERROR_BYTES: Final = 64 * 1024
OK: Final = 200
_NO_SUCH_ROUTE: Final = frozenset((404, 405))
ABSENT_SECONDS: Final = 300.0
"""How long a server that has no `/responses` is not asked for it again: it may be brought up to date."""
_NOT_ABOUT_COUNTING: Final = frozenset((401, 403, 429))
"""Refusals that are not of the route or of the request's form. Behind any other one a prompt is estimated."""
EVENT_STREAM: Final = b"text/event-stream"
T = TypeVar("T")
OTHER_FORM: Final = "the model's engine answered in another form than was asked for"
_TOO_DEEP: Final = "the body is nested too deeply: at most 254 levels of objects and lists are allowed"
_PASSED_ON: Final = frozenset((b"retry-after", b"retry-after-ms", b"x-should-retry"))


async def call_model(
    deps: Deps, model: ServedModel, ask: Ask, *, as_chat: bool = False, by: Adapter | None = None
) -> Reply:
    """Give the reply of this model; raises RoutingError, UpstreamError or GatewayError when it gives none.

    With `as_chat` it gets a chat request, whatever else it may take; with `by` it is asked so.
    """
    sent = request = ask.request
    adapter = by
    # NB: engines of one's own that are asked what they speak, as most are, need none of this.
    if model.provider or request.route.dialect is not None or request.untranslatable is not None or request.form:
        if by is None and not as_chat:
            adapter = adapter_for(request, model)
            if adapter is not None and not adapter.billed:
                here = await counted_here(deps, ask, model)
                if here is not None:
                    return here
            if adapter is TRANSLATED_RESPONSES and model.endpoints.lacks(adapter.path, deps.loop_time()):
                adapter = None
            if adapter is COUNT_TOKENS and model.endpoints.lacks(COUNT_PATH, deps.loop_time()):
                return await counted_otherwise(deps, ask, model, adapter)
        if request.untranslatable is not None and (adapter is None or not adapter.native):
            raise request.untranslatable
        if adapter is not None and not adapter.billed and not has_counter(request, model):
            return await estimated(deps, ask, model)
        if ask.principal.key:
            sent = with_verified_user(request, ask.principal)
    continuous = ask.governed is not None and adapter is None and is_counted(request, model, ask.governed)
    salt = salt_for(request, model, ask.principal) if model.isolates and adapter is None else ""
    if request.came <= LARGE_BYTES:
        body = _body(sent, model, adapter, continuous, salt)
    else:
        body = await beside(deps.executor, partial(_body, sent, model, adapter, continuous, salt))
    call = _call(deps, model, ask, adapter, body, continuous)
    if model.endpoints.held is not None and adapter is None:
        call.prompt = await _prompt(deps, ask, model, len(body), salt)
    model.endpoints.arrived += 1
    dispatcher, stats = deps.dispatcher, ask.stats
    billed = adapter is None or adapter.billed
    before = len(stats.tried)
    settled: tuple[Attempt, ...] = ()
    try:
        while True:
            answer = await dispatcher.dispatch(call)
            try:
                try:
                    if answer.whole is not None and answer.status == OK:
                        if adapter is not None or request.route.dialect is not None:
                            await admit(answer.whole, ask.memory, deps.executor, whose=answer.endpoint.id)
                        if len(answer.whole) > LARGE_BYTES:
                            reply = await _large_reply(deps, ask, model, answer, adapter, answer.whole)
                        else:
                            reply = _whole_reply(ask, model, answer, adapter, answer.whole)
                    else:
                        reply = await _reply(model, answer, adapter)
                except TooDeep as error:
                    # JSON is read deeper than it is written, and much of an answer is written anew.
                    raise UpstreamFailed(ANSWER_TOO_DEEP) from error
                break
            except BaseException as error:
                if not billed and isinstance(error, UpstreamFailed):
                    # It has something else at that path: no fault of the endpoint, which answers what it is for.
                    answer.close()
                    return await counted_otherwise(deps, ask, model, adapter)
                if billed and answer.whole is not None and answer.status == OK:
                    told = find_usage(answer.whole) if adapter is None else adapter.told(answer.whole)
                    settle_nonsense(ask.bill, model, request, told, answer.whole)
                    settled += (answer.attempt,)
                # Nothing has reached the client yet: what began well and is no answer may be had elsewhere.
                if not dispatcher.again(call, answer, error):
                    raise
    except BaseException as error:
        if billed:
            settle_lost(ask.bill, model, request, _without(stats.tried[before:], settled))
        if isinstance(error, NoEndpoint | TooManyWaiting | QueueRefused):
            model.endpoints.rejected += 1
        instead = await _instead(deps, model, ask, adapter, error) if isinstance(error, Exception) else None
        if instead is None:
            raise
        return instead
    if billed and len(stats.tried) - before > 1:
        settled += (answer.attempt,)
        settle_lost(ask.bill, model, request, _without(stats.tried[before:], settled))
    ask.answered_by = model
    if not billed:
        ask.counted_by = CountedBy.PROVIDER if model.speaks_anthropic else CountedBy.ENGINE
    if type(reply) is StreamReply:
        model.endpoints.first_tokens.observe(stats.waited + stats.first_byte)
        ask.on_end(answer.close)
        settle_stream_later(ask, model, reply.relay)
    return reply


async def _instead(deps: Deps, model: ServedModel, ask: Ask, adapter: Adapter | None, error: Exception) -> Reply | None:
    """Give what there is in place of an error, None where there is nothing; tell how long a prompt is that is too long.

    A count is estimated. A server that is like OpenAI's and has no responses is asked for a chat.
    """
    if adapter is not None and not adapter.billed:
        rejected = isinstance(error, UpstreamRejected) and _is_about_counting(error.status)
        if rejected:
            if isinstance(error, UpstreamRejected) and error.status in _NO_SUCH_ROUTE and not error.of_model:
                model.endpoints.note_absent(adapter.path, until=deps.loop_time() + ABSENT_SECONDS)
            return await counted_otherwise(deps, ask, model, adapter)
        absent = isinstance(error, NoEndpoint | ConnectFailed)
        return await estimated(deps, ask, model) if absent else None
    if not isinstance(error, UpstreamRejected):
        return None
    if adapter is TRANSLATED_RESPONSES and error.status in _NO_SUCH_ROUTE and not error.of_model:
        reply = await call_model(deps, model, ask, as_chat=True)
        model.endpoints.note_absent(adapter.path, until=deps.loop_time() + ABSENT_SECONDS)
        return reply
    if error.code == TOO_LONG and error.lengths is None:
        measure = partial(lengths_of, ask.request.document, model.target)
        error.lengths = await on_size(deps, ask.request, measure)
    return None


async def counted_otherwise(deps: Deps, ask: Ask, model: ServedModel, adapter: Adapter | None) -> Reply:
    """Count by the engine's `/tokenize` where its own route does not, else by the estimate.

    That other route is not what was asked for: whatever is wrong with it, the estimate is the answer.
    """
    tokenizes = adapter is COUNT_TOKENS and may_tokenize(ask.request, model)
    if tokenizes and not model.endpoints.lacks(TOKENIZE_PATH, deps.loop_time()):
        with suppress(GatewayError, RoutingError, UpstreamError):
            return await call_model(deps, model, ask, by=CHAT_TOKENIZED)
    return await estimated(deps, ask, model)


async def estimated(deps: Deps, ask: Ask, model: ServedModel) -> Reply:
    """Count for a model whose server has no route that counts, or is not there: agents take it for broken otherwise."""
    ask.answered_by = model
    ask.counted_by = CountedBy.ESTIMATE
    counted = await on_size(deps, ask.request, partial(estimated_count, ask.request, model))
    return WholeReply(OK, JSON, counted, native=True)


def _is_about_counting(status: int) -> bool:
    """Whether an engine that answers so to a count has no such route, or one that takes no such request."""
    return CLIENT_ERROR <= status < SERVER_ERROR and status not in _NOT_ABOUT_COUNTING


async def on_size(deps: Deps, request: Request, work: Callable[[], T]) -> T:
    """Do work that takes the longer the larger the request is: beside the loop where that is much."""
    return work() if request.came <= LARGE_BYTES else await beside(deps.executor, work)


def _without(tried: Sequence[Attempt], settled: Sequence[Attempt]) -> list[Attempt]:
    return [attempt for attempt in tried if attempt not in settled]


def _call(deps: Deps, model: ServedModel, ask: Ask, adapter: Adapter | None, body: bytes, continuous: bool) -> Call:
    """Say what the endpoints of this model are to be sent, and within which bounds."""
    request = ask.request
    path = request.route.upstream_path if adapter is None else adapter.path
    call = Call(model.endpoints, path, ask.expires_at, body, ask.stats)
    # NB: what is not so by default is set where it applies: most requests need little of it.
    if not is_repeatable(request, native=adapter is not None and adapter.native):
        call.repeatable = False
    if len(model.endpoints.states) > 1 and (adapter is None or adapter.billed):
        call.affinity = _affinity(ask, model)
    if model.external:
        call.hosted = True
        call.headers_of = _keyed(ask, deps, model)
    else:
        call.headers = engine_lines(ask) if request.form is None else form_lines(ask, request.form)
        if ask.may_wait and (adapter is None or adapter.billed):
            most, first_token = deps.endpoint_wait_seconds, model.timeouts.firstTokenSeconds
            call.wait_seconds = most if most < first_token else first_token
            if ask.principal.batch:
                call.patient = True
        if model.queue is not None and (adapter is None or adapter.billed) and request.form is None:
            call.queueing = queueing_of(deps, model, ask, repeatable=call.repeatable)
    if request.stream:
        call.first_token_seconds = model.timeouts.firstTokenSeconds
        call.idle_seconds = model.timeouts.idleSeconds
        metered = ask.governed is not None and ask.governed.metered
        call.opening = partial(_opening, request, model, adapter, metered, continuous)
        call.memory = ask.share  # One for each attempt: two may be under way.
    else:
        call.whole_bytes = MAX_ANSWER_BYTES
        call.memory = ask.memory
    return call


async def _prompt(deps: Deps, ask: Ask, model: ServedModel, size: int, salt: str) -> PromptBlocks | None:
    """Give the blocks of its prompt, to find who holds them; None where there is nobody to choose from."""
    if deps.prompts is None or len(model.endpoints.states) < 2:
        return None
    said = salt or ask.request.document.get(SALT)
    return await deps.prompts.blocks_of(ask, model, size=size, salt=said if isinstance(said, str) else "")


def _keyed(ask: Ask, deps: Deps, model: ServedModel) -> Callable[[Endpoint], Headers | None]:
    """Give what each endpoint of a hosted API is sent: every one may have a key of its own."""
    return partial(with_key, hosted_headers(ask, model), model, deps.credentials)


def _affinity(ask: Ask, model: ServedModel) -> bytes | None:
    """Give the key by which requests with one prefix find the same engine; pointless with only one."""
    endpoints = model.endpoints
    who = ask.principal
    # NB: no engine has the beginning of what it heard in a cache.
    document = ask.request.document if ask.request.form is None else {}
    return affinity_key(
        document, endpoints.heads, endpoints=len(endpoints.states), session=ask.session,
        whose=f"{who.tenant}\n{who.user}" if who.key else "",
    )  # fmt: skip


def _body(
    request: Request, model: ServedModel, adapter: Adapter | None, continuous: bool = False, salt: str = ""
) -> bytes:
    if request.native is not None and model.target.refuses_hosted_tools and (adapter is None or not adapter.native):
        refuse_hosted_tools(request)
    try:
        if adapter is not None:
            return adapter.body(request, model)
        return build_body(request, model, continuous=continuous, salt=salt)
    except TooDeep as error:
        # It was read: what is left is that JSON may be read deeper than it is written.
        raise InvalidRequest(_TOO_DEEP, code="invalid_value") from error


async def _large_reply(
    deps: Deps, ask: Ask, model: ServedModel, answer: DispatchedResponse, adapter: Adapter | None, body: bytes
) -> Reply:
    """Do the same with a large answer, and serve others meanwhile."""
    if adapter is not None:
        read = await beside(deps.executor, lambda: adapter.read(body, model))
        return _whole_reply(ask, model, answer, adapter, body, read=read)
    body = await _checked_large(deps, ask, answer, body, hosted=model.external)
    told, said = find_usage(body), None
    if (told is None or told.bare) and ask.request.route.upstream_path in FINISHING:
        try:
            if ask.request.route.dialect is None:  # Of the others it was done before.
                await admit(body, ask.memory, deps.executor, whose=answer.endpoint.id)
            said = await beside(deps.executor, lambda: said_in(body))
        except (UpstreamFailed, NoMemory):
            # It goes out as it is, and costs as if all of it were text.
            said = TextCount()
            said.ascii = len(body)
    return _whole_reply(ask, model, answer, None, body, said=said, checked=True)


def _whole_reply(
    ask: Ask,
    model: ServedModel,
    answer: DispatchedResponse,
    adapter: Adapter | None,
    body: bytes,
    # NB: not for keywords alone: of those each default is looked up in a dictionary.
    read: tuple[bytes, Usage | None] | None = None,
    said: TextCount | None = None,
    checked: bool = False,
) -> Reply:
    """Give the reply of an answer in one piece; of a large one parts of the work have been done."""
    content_type = find_header(answer.headers, b"content-type")
    if content_type != JSON:
        if content_type.startswith(EVENT_STREAM):
            raise UpstreamFailed(OTHER_FORM)
        if not is_short_text(content_type):
            content_type = JSON
    if adapter is not None:
        body, told = adapter.read(body, model) if read is None else read
        answer.close()
        if adapter.billed:
            settle_whole(ask.bill, model, ask.request, told, body)
        return WholeReply(OK, adapter.content_type or content_type, body, adapter.native)
    if ask.request.route.dialect is not None and not checked:
        check_answer(body)  # It will be translated.
    body, told = read_answer(ask.request, body, hosted=model.external)
    answer.close()
    if told is not None and not told.bare:
        settle(ask.bill, model, told, TOLD)  # As `settle_whole` does in the end: nearly every answer comes by here.
    else:
        settle_whole(ask.bill, model, ask.request, told, body, said)
    return WholeReply(OK, content_type, model.rename(body) if model.rename is not None else body)


async def _reply(model: ServedModel, answer: DispatchedResponse, adapter: Adapter | None) -> Reply:
    if answer.status != OK:
        await _reject(model, answer)
    opening = answer.opening
    if not isinstance(opening, StreamOpening):
        raise UpstreamFailed(OTHER_FORM)
    return _begin_stream(model, answer, adapter, opening)


async def _reject(model: ServedModel, answer: DispatchedResponse) -> None:
    if answer.status < CLIENT_ERROR:
        raise UpstreamFailed(f"the model's engine answered with an unexpected status ({answer.status})")
    body = await answer.read_beginning(MAX_ERROR_BYTES)
    headers = tuple(item for item in answer.headers if item[0] in _PASSED_ON and is_short_text(item[1]))
    raise normalise_error(answer.status, body, external=model.external, headers=headers)


def _opening(
    request: Request, model: ServedModel, adapter: Adapter | None, metered: bool, continuous: bool, status: int,
    headers: Sequence[Header],
) -> StreamOpening | None:  # fmt: skip
    """Give what reads the beginning of this answer; None when it is not the stream that was asked for."""
    if status != OK or not find_header(headers, b"content-type").startswith(EVENT_STREAM):
        return None
    relay = _relay(request, model) if adapter is None else adapter.relay(request, model)
    if not metered:
        return StreamOpening(relay)
    if isinstance(relay, NativeRelay):
        relay.keep_for_cut()
    if continuous:
        relay = CountedRelay(relay, strip=not asks_itself(request))
    return FirstFrames(relay)


def _begin_stream(
    model: ServedModel, answer: DispatchedResponse, adapter: Adapter | None, opening: StreamOpening
) -> StreamReply:
    """Go on behind the first token: what went wrong before it is an HTTP error, not a frame."""
    relay, broken = opening.relay, opening.broken
    if not opening.begun:
        if broken is not None:
            model.metrics.truncated.value += 1
            raise broken
        if relay.error is not None:
            raise relay.error
    if isinstance(opening, FirstFrames) and opening.rest:
        answer = Leftover(answer, opening.rest)
    return StreamReply(opening.first, answer, relay, adapter is not None and adapter.native, broken)


def _relay(request: Request, model: ServedModel) -> Relay:
    return StreamRelay(
        strip_usage=not request.usage_asked, rename=model.rename, hosted=model.external, asked=asked_by(request)
    )


async def _checked_large(deps: Deps, ask: Ask, answer: DispatchedResponse, body: bytes, *, hosted: bool) -> bytes:
    """Give a large answer as its client reads it, and serve others meanwhile; UpstreamFailed unless it is one."""
    request, faulty = ask.request, False
    try:
        for _ in check_json(body):
            await asyncio.sleep(0)
    except NotJson:
        faulty = True
    if request.route.dialect is not None:
        return await beside(deps.executor, partial(_translatable, request, body, hosted=hosted))
    if not (faulty or await _looks_odd(deps, request, body)):
        return body
    try:
        await admit(body, ask.memory, deps.executor, whose=answer.endpoint.id)  # Of the others it was done before.
    except (UpstreamFailed, NoMemory):
        if faulty:
            raise
        return body  # It is JSON, and goes out as it is.
    return await beside(deps.executor, partial(mended_large, request, body, hosted=hosted))


async def _looks_odd(deps: Deps, request: Request, body: bytes) -> bool:
    if request.route.upstream_path in FINISHING:
        return await beside(deps.executor, partial(looks_odd, body))
    return looks_odd(body, finishes=False)  # There is next to nothing in quotes between its numbers.


def _translatable(request: Request, body: bytes, *, hosted: bool) -> bytes:
    check_answer(body)
    return mended_large(request, body, hosted=hosted)


def is_short_text(value: bytes) -> bool:
    """Whether what an engine says in a header may be said to a client: a short line of printable ASCII."""
    return 0 < len(value) <= MAX_HEADER_VALUE and value.isascii() and value.decode("ascii").isprintable()
