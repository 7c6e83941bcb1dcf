"""What an answer is kept under: everything that it may depend on. Pure.

    who may be given it  ─► the partition        tenant, and user where the policy or a redaction says so
    who answers          ─► the identity         of the model's entry, the pods that serve it, and the guards in force
    what is asked        ─► the digest           the document without what changes no answer, in one order of names

What is not known is part of the key: a field that an engine understands and this release does not makes two requests
two. What is left out stands in a list below, each with its reason, and tests hold that every field of what a request,
an ask and a model's entry are made of is in one list or the other.

Numbers are compared as they are written: 1 and 1.0 are two, because an engine may take them for two.
"""

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, Final

import orjson

from capstan_contract.config import ModelEntry
from capstan_contract.entries import PolicyEntry, canonical
from capstan_gateway.caches.port import CacheKey

DIGEST_BYTES: Final = 32
PARTITION_BYTES: Final = 16
_MODEL_BYTES: Final = 8
_LENGTHS: Final = struct.Struct(">9Q")
MOST_BYTES: Final = 1024**2
"""Of a request that is looked for: larger ones hardly ever come twice, and to put one in order takes milliseconds."""
SLOW_BYTES: Final = 64 * 1024
"""The same of one with numbers or characters for which it takes twenty times as long."""

EXCLUDED_FIELDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "model": "what it names is in the identity; aliases name one model",
        "stream": "an answer is replayed in either form",
        "stream_options": "which frames a stream has, not what it says",
        "user": "engines take it for abuse reports; who asks is in the partition",
        "safety_identifier": "as `user`",
        "metadata": "labels of the client's own, which no model sees",
        "store": "whether the provider keeps the answer",
        "prompt_cache_key": "where the prompt's prefix is computed, not what comes of it",
        "prompt_cache_retention": "as `prompt_cache_key`",
        "cache_salt": "as `prompt_cache_key`",
        "priority": "when it is answered",
        "request_id": "a name of the request",
        "rid": "as `request_id`",
        "client_metadata": "what an agent says of itself; it is sent to no model",
        "capstan": "what is asked of the gateway; it was read, and is sent to no model",
    }
)
"""Fields of requests that change no answer, by their names; why."""
EXCLUDED_FROM_ECHOES: Final = frozenset(("model", "stream", "stream_options", "capstan"))
"""Those that change no answer which repeats its request, as a hosted API's responses do."""

KEYED_MODEL_FIELDS: Final = frozenset(
    (
        "id", "uid", "upstreamName", "revision", "task", "backend", "adapters", "capabilities", "contextWindow",
        "maxOutputTokens", "compatibility",
    )
)  # fmt: skip
"""Fields of a model's entry that an answer may depend on."""
EXCLUDED_MODEL_FIELDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "requires": "what a gateway must know to serve it",
        "policies": "the guards among them are in the identity by what they say",
        "generation": "always 0",
        "servedName": "a name",
        "aliases": "names",
        "created": "when",
        "continuousUsage": "how usage is told",
        "prefixes": "the request that begins with one holds what it says",
        "tenantSalt": "whose blocks a prompt's computation may take over, not what comes of it",
        "kvEvents": "how it is known which endpoint has computed the beginning",
        "tokenizer": "how tokens are counted",
        "price": "what it costs",
        "weight": "how often it is chosen",
        "auto": "whether it is chosen",
        "evaluation": "what becomes of an answer afterwards",
        "fallbacks": "answers of others are not kept under its name",
        "queue": "which way it comes to the engine",
        "startFailure": "whether it is worth waiting",
        "canary": "it is a model of its own here, with an identity of its own",
        "timeouts": "how long it may take; what is cut off is not kept",
    }
)
"""Fields of a model's entry that no answer depends on; why."""


def identity_of(entry: ModelEntry, guards: Iterable[PolicyEntry]) -> bytes:
    """Digest what a model is: another model, revision or address, or another word in a guard, is another identity.

    `guards` are the policies that judge its requests and answers, in any order.
    """
    model = entry.model_dump(mode="json", include=set(KEYED_MODEL_FIELDS))
    judged = sorted([guard.id, guard.uid, guard.body] for guard in guards)
    return blake2b(canonical([model, judged]), digest_size=DIGEST_BYTES).digest()


@lru_cache(maxsize=4096)
def partition_of(*, tenant: str | None, user: tuple[str, ...] | None, secret: bytes = b"") -> str:
    """Digest who may be given an answer: None stands for everybody. Two that differ in anything share nothing.

    It begins with what is of the tenant alone (`tenant_of`), by which what is of all its users is purged. `user` is
    whatever names one: the verified name, the key, whom the client says. `secret` is a key of the installation's, of at
    most 64 bytes: without it nobody can tell whose a partition is.
    """
    whose = _digest_of([tenant], secret)
    return whose if user is None else f"{whose}-{_digest_of([tenant, list(user)], secret)}"


def tenant_of(partition: str) -> str:
    """Give the part of a partition that is of its tenant alone: the partition of what all its users share."""
    return partition.partition("-")[0]


def _digest_of(who: list[Any], secret: bytes) -> str:
    return blake2b(canonical(who), key=secret, digest_size=PARTITION_BYTES, person=b"partition").hexdigest()


def model_of(model_id: str) -> str:
    """Digest the id of a model, by which what is of it is purged."""
    return blake2b(model_id.encode(), digest_size=_MODEL_BYTES, person=b"model").hexdigest()


def canonical_request(document: Mapping[str, Any], *, echoed: bool = False, came: int = 0) -> bytes | None:
    """Write what is asked in one way, whatever the order of its names; None where that cannot be done.

    One that is nested too deeply, or larger than MOST_BYTES, is none that is looked for. `echoed`: the answer repeats
    what the request says, its labels as well, so that only what the gateway itself sees to is left out. `came`: in how
    many bytes it has come; what has to be written in the slow way is none beyond SLOW_BYTES.
    """
    left_out = EXCLUDED_FROM_ECHOES if echoed else EXCLUDED_FIELDS
    asked = {name: value for name, value in document.items() if name not in left_out}
    try:
        written = orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        # Half of a surrogate pair, or a number of more than 64 bits: the other parser read it, this one writes it.
        if came > SLOW_BYTES:
            return None
        try:
            written = json.dumps(asked, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
        except (ValueError, RecursionError):
            return None
    return written if len(written) <= MOST_BYTES else None


def last_turn(document: Mapping[str, Any]) -> tuple[dict[str, Any], str] | None:
    """Give a chat request without what its last turn says, and that; None where it is no text that a user says.

    Only a turn of the user's that is nothing but text is compared by what it means: a picture, a result of a tool or an
    answer to go on with is not.
    """
    messages = document.get("messages")
    if not isinstance(messages, list) or not messages:
        return None
    last = messages[-1]
    if not isinstance(last, dict) or last.get("role") != "user" or set(last) - {"role", "content", "name"}:
        return None
    content = last.get("content")
    if isinstance(content, list) and len(content) == 1 and isinstance(content[0], dict):
        part = content[0]
        content = part.get("text") if part.get("type") == "text" and set(part) == {"type", "text"} else None
    if not isinstance(content, str) or not content.strip():
        return None
    return {**document, "messages": [*messages[:-1], {**last, "content": ""}]}, content


def key_of(
    asked: bytes,
    *,
    partition: str,
    model: str,
    identity: bytes,
    contents: str,
    upstream_name: str,
    name: str = "",
    path: bytes,
    form: str = "",
    headers: Sequence[tuple[bytes, bytes]] = (),
    secret: bytes = b"",
) -> CacheKey:
    """Give the key of a request.

    `asked` is what `canonical_request` has written; `contents` says which pods answer (their template), `upstream_name`
    and `name` which adapter of the model; `path` and `form` what the answer looks like; `headers` are those that a
    provider is sent of the client's, such as beta features.
    """
    parts = (
        partition.encode(), identity, contents.encode(), upstream_name.encode(), name.encode(), path, form.encode(),
        _written(headers) if headers else b"", asked,
    )  # fmt: skip
    # Their lengths in front: no two requests run into each other.
    whole = b"".join((_LENGTHS.pack(*map(len, parts)), *parts))
    digest = blake2b(whole, key=secret, digest_size=DIGEST_BYTES, person=b"request")
    return CacheKey(partition, model, digest.digest())


def _written(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    return canonical([[name.decode("latin-1"), value.decode("latin-1")] for name, value in sorted(headers)])
