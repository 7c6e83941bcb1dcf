"""What the prober asks each endpoint of the models in use."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from operator import attrgetter
from typing import Final

import orjson

from capstan_contract.config import Task
from capstan_gateway.config.credentials import Credentials
from capstan_gateway.config.runtime import Runtime, ServedModel
from capstan_gateway.dialects.upstreams.anthropic_request import VERSION
from capstan_gateway.pipeline.outgoing import with_key
from capstan_gateway.pipeline.request import CHAT_PATH
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.probing import Target

_JSON: Final = (b"content-type", b"application/json")
_ENGINE_HEADERS: Final = (_JSON,)
_PROMPT: Final = "ping"
_version: Final = attrgetter("version")


class ProbeTargets:
    """Every endpoint of every model that answers itself, by the endpoint's id.

    The prober asks several times a second, and there may be thousands: it gets the same mapping again until the
    Runtime, or the endpoints of a model, are other ones, and then only what changed is made anew. Keys are looked up
    when a probe goes out, so a key that changes changes nothing here.
    """

    def __init__(self, current: Callable[[], Runtime | None], credentials: Credentials) -> None:
        self._current = current
        self._credentials = credentials
        self._runtime: Runtime | None = None
        self._sets: tuple[EndpointSet, ...] = ()
        self._versions = 0
        self._made: dict[ServedModel, tuple[int, tuple[Target, ...]]] = {}
        self._targets: Mapping[str, Target] = {}

    def __call__(self) -> Mapping[str, Target]:
        """Give the targets as they are now."""
        runtime = self._current()
        # NB: versions only grow, so the sum over the same sets stays only if each of them does.
        if runtime is not self._runtime or sum(map(_version, self._sets)) != self._versions:
            self._renew(runtime)
        return self._targets

    def _renew(self, runtime: Runtime | None) -> None:
        models = () if runtime is None else tuple(runtime.tracks)
        self._runtime = runtime
        self._sets = tuple(model.endpoints for model in models)
        self._versions = sum(map(_version, self._sets))
        self._made = {model: self._targets_of(model) for model in models}
        self._targets = {target.state.endpoint.id: target for _, made in self._made.values() for target in made}

    def _targets_of(self, model: ServedModel) -> tuple[int, tuple[Target, ...]]:
        known = self._made.get(model)
        if known is not None and known[0] == model.endpoints.version:
            return known
        return model.endpoints.version, tuple(probe_targets(model, self._credentials))


def probe_targets(model: ServedModel, credentials: Credentials) -> Iterator[Target]:
    """Give every endpoint of a model."""
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
        path = b"/messages" if model.speaks_anthropic else CHAT_PATH
        chat = {"model": name, "messages": [{"role": "user", "content": _PROMPT}], "max_tokens": 1}
        return path, orjson.dumps(chat)
    if model.task is Task.COMPLETION:
        return b"/completions", orjson.dumps({"model": name, "prompt": _PROMPT, "max_tokens": 1})
    if model.task is Task.EMBED:
        return b"/embeddings", orjson.dumps({"model": name, "input": _PROMPT})
    return b"", b""
