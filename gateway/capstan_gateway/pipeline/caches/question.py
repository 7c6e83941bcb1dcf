"""What a request asks of a cache: under which key, and what the client says about it. Pure, but for what it reads."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from capstan_contract.caches import CacheBody, Scope
from capstan_gateway.caches.control import ANYTHING, NOTHING, Control, read_control
from capstan_gateway.caches.key import canonical_request, key_of, last_turn, model_of, partition_of
from capstan_gateway.caches.port import Alike, CacheKey
from capstan_gateway.caches.storable import offers_tools
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.headers import Header, find_header
from capstan_gateway.pipeline.adapters import adapter_for
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.request import CHAT_PATH, Request

EMBEDDINGS_PATH: Final = b"/embeddings"
LISTS: Final = {EMBEDDINGS_PATH: "data", b"/score": "data", b"/classify": "data", b"/rerank": "results"}
"""Paths whose answers are lists, and the field that the list is in."""
PATHS: Final = frozenset((CHAT_PATH, b"/completions", *LISTS))
"""Paths whose answers are kept."""
SEMANTIC: Final = b"x-cache-semantic"
"""`off`: only the very same request hits."""
SIMILARITY: Final = b"x-cache-similarity-min"
_ADDRESSES: Final = frozenset(("url", "image_url", "audio_url", "video_url", "file_url", "file_id"))


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


def question_of(
    ask: Ask, body: CacheBody, model: ServedModel, *, identity: bytes, secret: bytes = b""
) -> Question | None:
    """Give what is looked for; None where the cache has nothing to do with the request."""
    request = ask.request
    control = control_of(ask, body)
    if control == NOTHING or request.route.upstream_path not in PATHS or request.untranslatable is not None:
        return None
    contents = model.endpoints.contents
    if contents is None or is_bypassed(ask, body):
        return None
    native = request.native is not None and _speaks_natively(request, model)
    document = request.native.document if native and request.native is not None else request.document
    if names_addresses(document):
        return None
    asked = canonical_request(document)
    partition = partition_of_ask(ask, body.scope, secret=secret)
    if asked is None or partition is None:
        return None
    dialect = "" if not native else f"{request.route.path}{'#stream' if request.stream else ''}"
    put_down = partial(
        key_of,
        partition=partition,
        model=model_of(model.id),
        identity=identity,
        contents=contents,
        upstream_name=_upstream_name(ask, model),
        path=request.route.upstream_path,
        dialect=dialect,
        headers=request.headers if native else (),
        secret=secret,
    )
    alike = _alike(ask, document, put_down) if body.semantic is not None and not native else None
    return Question(put_down(asked), control, native, not body.bypass.tools, contents, alike)


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
    return read_control(find_header(ask.headers, b"cache-control"), find_header(ask.headers, b"pragma"))


def is_bypassed(ask: Ask, body: CacheBody) -> bool:
    """Whether the policy says that the cache has nothing to do with this request."""
    document, bypass = ask.request.document, body.bypass
    if bypass.tools and offers_tools(document):
        return True
    if bypass.temperatureAbove is not None and _temperature(document.get("temperature")) > bypass.temperatureAbove:
        return True
    return any(_has(ask.headers, one.name.encode(), one.values) for one in bypass.headers)


def partition_of_ask(ask: Ask, scope: Scope, *, secret: bytes) -> str | None:
    """Digest who may be given the answer; None where that is one person, and nobody knows who.

    What guards have taken out of a request is somebody's own: then it is for the same user alone, whatever the scope.
    """
    who = ask.principal
    if scope is Scope.USER or ask.names():
        name = who.user or who.key
        return partition_of(tenant=who.tenant, user=name, secret=secret) if name else None
    return partition_of(tenant=None if scope is Scope.MODEL else who.tenant, user=None, secret=secret)


def names_addresses(document: object) -> bool:
    """Whether a request names something that lies elsewhere: what is there may change, and the request stays."""
    waiting: list[object] = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            for name, inner in value.items():
                if name in _ADDRESSES and isinstance(inner, str) and _lies_elsewhere(name, inner):
                    return True
                if isinstance(inner, dict | list):
                    waiting.append(inner)
        elif isinstance(value, list):
            waiting.extend(inner for inner in value if isinstance(inner, dict | list))
    return False


def _lies_elsewhere(name: str, value: str) -> bool:
    return name == "file_id" or urlsplit(value[:16]).scheme in ("http", "https")


def _temperature(given: object) -> float:
    # NB: what is not said is what the engine takes, which is 1 in OpenAI's API, vLLM and SGLang.
    return float(given) if isinstance(given, int | float) else 1.0


def _has(headers: Sequence[Header], name: bytes, values: Sequence[str]) -> bool:
    return any(found == name and (not values or value.decode("latin-1") in values) for found, value in headers)


def _speaks_natively(request: Request, model: ServedModel) -> bool:
    adapter = adapter_for(request, model)
    return adapter is not None and adapter.native


def _upstream_name(ask: Ask, model: ServedModel) -> str:
    """Give the engine's name of what is asked: an adapter of the model has one of its own."""
    return ask.model.upstream_name if ask.model.id == model.id else model.upstream_name
