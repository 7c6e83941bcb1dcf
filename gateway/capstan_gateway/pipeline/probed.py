"""What the prober asks each endpoint of the models in use."""

from collections.abc import Iterator
from functools import partial
from typing import Final

import orjson

from capstan_contract.config import Task
from capstan_gateway.config.credentials import Credentials
from capstan_gateway.config.runtime import Runtime, ServedModel
from capstan_gateway.dialects.anthropic_request import VERSION
from capstan_gateway.pipeline.outgoing import with_key
from capstan_gateway.routing.probing import Target

_JSON: Final = (b"content-type", b"application/json")
_ENGINE_HEADERS: Final = (_JSON,)
_PROMPT: Final = "ping"


def probe_targets(runtime: Runtime | None, credentials: Credentials) -> Iterator[Target]:
    """Give every endpoint of every model that answers itself."""
    for model in () if runtime is None else runtime.by_id.values():
        states = model.endpoints.states
        path, body = request_of(model) if states else (b"", b"")
        for state in states:
            if model.external:
                headers = [_JSON, *([(b"anthropic-version", VERSION)] if model.speaks_anthropic else [])]
                headers_of = partial(with_key, headers, model, credentials, state.endpoint)
                yield Target(state, model.name, True, headers_of, path, body)
            else:
                yield Target(state, model.name, False, _engine_headers, path, body)


def _engine_headers() -> tuple[tuple[bytes, bytes], ...]:
    return _ENGINE_HEADERS


def request_of(model: ServedModel) -> tuple[bytes, bytes]:
    """Give path and body of the smallest request; both are empty for a task that has no common one."""
    name = model.upstream_name
    if model.task is Task.CHAT:
        path = b"/messages" if model.speaks_anthropic else b"/chat/completions"
        chat = {"model": name, "messages": [{"role": "user", "content": _PROMPT}], "max_tokens": 1}
        return path, orjson.dumps(chat)
    if model.task is Task.COMPLETION:
        return b"/completions", orjson.dumps({"model": name, "prompt": _PROMPT, "max_tokens": 1})
    if model.task is Task.EMBED:
        return b"/embeddings", orjson.dumps({"model": name, "input": _PROMPT})
    return b"", b""
