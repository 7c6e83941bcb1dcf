"""What a request asks of a cache: under which key, and what the client says about it. Pure, but for what it reads."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf
from typing import Any, Final, NamedTuple

from capstan_contract.caches import CacheBody, Scope
from capstan_gateway.caches.control import ANYTHING, Control, read_control
from capstan_gateway.caches.inputs import Inputs, inputs_of, values_of
from capstan_gateway.caches.key import EXCLUDED_FIELDS, MOST_BYTES, canonical_request, key_of, last_turn, partition_of
from capstan_gateway.caches.port import Alike, CacheKey
from capstan_gateway.caches.storable import offers_tools
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.dialects.clients.port import Dialect
from capstan_gateway.dialects.clients.spoken import MESSAGES, RESPONSES
from capstan_gateway.errors import InvalidRequest
from capstan_gateway.headers import Header, find_header
from capstan_gateway.pipeline.adapters import adapter_for
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.effects import is_repeatable
from capstan_gateway.pipeline.request import CHAT_PATH, Request
from capstan_gateway.pipeline.whose import said_user

EMBEDDINGS_PATH: Final = b"/embeddings"
LISTS: Final = {EMBEDDINGS_PATH: "data", b"/score": "data", b"/classify": "data", b"/rerank": "results"}
"""Paths whose answers are lists, and the field that the list is in."""
PATHS: Final = frozenset((CHAT_PATH, b"/completions", *LISTS))
"""Paths whose answers are kept."""
SEMANTIC: Final = b"x-cache-semantic"
"""`off`: only the very same request hits."""
SIMILARITY: Final = b"x-cache-similarity-min"
ONE_FORM: Final = frozenset(EXCLUDED_FIELDS) | frozenset(
    (
        "chat_template_kwargs", "frequency_penalty", "guided_choice", "guided_grammar", "guided_json", "guided_regex",
        "logit_bias", "logprobs", "max_completion_tokens", "max_tokens", "messages", "min_p", "n",
        "parallel_tool_calls", "presence_penalty", "prompt", "reasoning_effort", "repetition_penalty",
        "response_format", "seed", "service_tier", "stop", "structured_outputs", "suffix", "temperature",
        "tool_choice", "tools", "top_k", "top_logprobs", "top_p", "verbosity",
    )
)  # fmt: skip
"""Fields with which a stream adds up to the answer in one piece, and the reverse. With any other one (token ids, sound,
echoes, what nobody knows here) the two are kept apart."""
_TEXTS: Final = frozenset(
    (
        "arguments",
        "content",
        "description",
        "input",
        "input_text",
        "name",
        "prompt",
        "query",
        "stop",
        "text",
        "thinking",
    )
)
"""Fields in which an address is a word like others: nobody follows it."""
_IDS: Final = frozenset(("file_id", "file_ids", "vector_store_ids"))
_MARKS: Final = (b"://", *(f'"{name}"'.encode() for name in sorted(_IDS)))
MOST_VALUES: Final = 20_000
"""Of a request with a mark of an address in it: some 5 ms."""
_ELSEWHERE: Final = frozenset(
    (
        "conversation",
        "data_sources",
        "enable_search",
        "plugins",
        "previous_response_id",
        "search_parameters",
        "web_search",
    )
)
"""Fields of requests by which a provider looks up what is not in the request."""
_ADDRESS: Final = re.compile(r"\s*+[a-zA-Z][a-zA-Z0-9+.-]{0,15}:(?=//)")
_DIALECTS: Final[Mapping[Dialect, str]] = {MESSAGES: "messages", RESPONSES: "responses"}


class Question(NamedTuple):
    """What is looked for."""

    key: CacheKey
    control: Control
    native: bool
    """Whether the model speaks the client's own dialect: what is kept is in that."""
    tools: bool
    """Whether an answer that ends with calls is one to keep."""
    contents: str
    """Which pods answer; another one's answer is not kept."""
    alike: Alike | None = None
    """What is compared by its meaning; None: nothing is."""
    inputs: Inputs | None = None
    """Of a request for embeddings: each has an answer of its own. None: there is one for all."""


def question_of(
    ask: Ask, body: CacheBody, model: ServedModel, *, identity: bytes, of: str, secret: bytes = b""
) -> Question | None:
    """Give what is looked for; None where the cache has nothing to do with the request.

    `model` is what answers, `of` the digest of its id.
    """
    request, contents = ask.request, model.endpoints.contents
    if contents is None or request.route.upstream_path not in PATHS or request.came > 2 * MOST_BYTES:
        return None
    control = control_of(ask, body)
    native = speaks_natively(request, model)
    if not (control.look or control.store) or (request.untranslatable is not None and not native):
        return None
    document = request.native.document if native and request.native is not None else request.document
    if is_bypassed(document, ask.headers, body) or is_about_others(request, document, native=native):
        return None
    partition = partition_of_ask(ask, body.scope, secret=secret)
    echoed = native and request.route.dialect is RESPONSES
    asked = None if partition is None else canonical_request(document, echoed=echoed, came=request.came)
    if asked is None or partition is None or (may_name_addresses(asked) and names_addresses(document)):
        return None
    put_down = partial(
        key_of, partition=partition, model=of, identity=identity, contents=contents, upstream_name=model.upstream_name,
        name=model.name, path=request.route.upstream_path, form=form_of(request, document, native=native),
        headers=request.headers if model.speaks_anthropic else (), secret=secret,
    )  # fmt: skip
    alike = _alike(ask, document, put_down) if body.semantic is not None and not native else None
    inputs = _inputs(document, put_down, secret) if request.route.upstream_path == EMBEDDINGS_PATH else None
    return Question(put_down(asked), control, native, not body.bypass.tools, contents, alike, inputs)


def _inputs(document: Mapping[str, Any], put_down: Callable[[bytes], CacheKey], secret: bytes) -> Inputs | None:
    values = values_of(document)
    rest = None if values is None else canonical_request({**document, "input": None})
    return None if values is None or rest is None else inputs_of(values, put_down(rest), secret=secret)


def form_of(request: Request, document: Mapping[str, Any], *, native: bool) -> str:
    """Say in which form the answer is kept: each dialect has its own, because engines are asked otherwise for it."""
    dialect = "" if request.route.dialect is None else _DIALECTS.get(request.route.dialect, request.route.path)
    apart = native or not document.keys() <= ONE_FORM
    return f"{dialect}{' native' if native else ''}{' stream' if apart and request.stream else ''}"


def is_about_others(request: Request, document: Mapping[str, Any], *, native: bool) -> bool:
    """Whether more than an answer is asked for, or one that depends on what is not in the request, by its fields."""
    if not is_repeatable(request, native=native) or not _ELSEWHERE.isdisjoint(document):
        return True
    return isinstance(document.get("prompt"), dict)


def _alike(ask: Ask, document: Mapping[str, Any], put_down: Callable[[bytes], CacheKey]) -> Alike | None:
    """Give what is compared by its meaning; a client may want more likeness than the policy, and never less."""
    if ask.request.route.upstream_path != CHAT_PATH or find_header(ask.headers, SEMANTIC).lower() == b"off":
        return None
    turn = last_turn(document)
    rest = None if turn is None else canonical_request(turn[0])
    if turn is None or rest is None:
        return None
    return Alike(put_down(rest).text, turn[1], _least(find_header(ask.headers, SIMILARITY)))


def _least(header: bytes) -> float:
    try:
        least = float(header[:16] or b"0")
    except ValueError:
        return 1.0  # Who wants more likeness, and nobody can tell how much, does not want any.
    return min(max(least, 0.0), 1.0) if least == least else 1.0


def control_of(ask: Ask, body: CacheBody) -> Control:
    """Read what the client says about caching."""
    if not body.honourCacheControl or not ask.headers:
        return ANYTHING
    said = [value for name, value in ask.headers if name == b"cache-control"]
    if said:
        return read_control(b",".join(said))
    return read_control(b"", find_header(ask.headers, b"pragma"))


def is_bypassed(document: Mapping[str, Any], headers: Sequence[Header], body: CacheBody) -> bool:
    """Whether the policy says that the cache has nothing to do with this request."""
    bypass = body.bypass
    if bypass.tools and offers_tools(document):
        return True
    if bypass.temperatureAbove is not None and _temperature(document.get("temperature")) > bypass.temperatureAbove:
        return True
    return any(_has(headers, one.name.encode(), one.values) for one in bypass.headers)


def partition_of_ask(ask: Ask, scope: Scope, *, secret: bytes) -> str | None:
    """Digest who may be given the answer; None where that is one person, and nobody knows who.

    What guards have taken out of a request is somebody's own: then it is for the same user alone, whatever the scope.
    A user whom the client names is one of the key's.
    """
    who = ask.principal
    if scope is Scope.USER or ask.is_redacted:
        said = "" if who.user else said_user(ask.request.document)
        if not (who.user or who.key or said):
            return None
        return partition_of(tenant=who.tenant, user=(who.user, "" if who.user else who.key, said), secret=secret)
    return partition_of(tenant=None if scope is Scope.MODEL else who.tenant, user=None, secret=secret)


def may_name_addresses(asked: bytes) -> bool:
    """Whether a request, as it is written for its key, has anything in it that an address has: most have not, and to
    read each of their values takes long."""
    return any(mark in asked for mark in _MARKS)


def names_addresses(document: Mapping[str, Any]) -> bool:
    """Whether a request names something that lies elsewhere: what is there may change, and the request stays. So it is
    taken to where it has more values than can be read in a moment."""
    waiting: list[tuple[str, object]] = list(document.items())
    left = MOST_VALUES
    while waiting:
        name, value = waiting.pop()
        left -= 1 + (len(value) if isinstance(value, list) else 0)
        if left < 0:
            return True
        if isinstance(value, str):
            if name in _IDS or (name not in _TEXTS and name[:1] != "$" and _ADDRESS.match(value)):
                return True
        elif isinstance(value, dict):
            waiting.extend(value.items())
        elif isinstance(value, list):
            waiting.extend((name, inner) for inner in value)
    return False


def _temperature(given: object) -> float:
    # NB: what is not said is what the engine takes, which is 1 in OpenAI's API, vLLM and SGLang.
    if given is None:
        return 1.0
    return float(given) if isinstance(given, int | float) else inf


def _has(headers: Sequence[Header], name: bytes, values: Sequence[str]) -> bool:
    return any(found == name and (not values or value.decode("latin-1") in values) for found, value in headers)


def speaks_natively(request: Request, model: ServedModel) -> bool:
    """Whether the model is asked in the client's own dialect."""
    if request.native is None:
        return False
    try:
        adapter = adapter_for(request, model)
    except InvalidRequest:
        return False
    return adapter is not None and adapter.native
