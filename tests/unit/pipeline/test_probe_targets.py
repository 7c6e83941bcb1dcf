"""What the prober is given: made once, and again only for what changed."""

from typing import Any

import orjson
import pytest

from capstan_contract.config import (
    ExternalBackend,
    ExternalEndpoint,
    ModelEntry,
    Provider,
    StaticBackend,
    Task,
)
from capstan_gateway.config.credentials import Credentials
from capstan_gateway.config.runtime import Runtime
from capstan_gateway.pipeline.probed import ProbeTargets
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.registry import EndpointRegistry
from capstan_gateway.upstream.port import Endpoint
from support.runtimes import compile_whole


class World:
    """Models with the endpoints that a test gives them, and what the prober sees of them."""

    def __init__(self, **endpoints: tuple[str, ...]) -> None:
        self._registry = EndpointRegistry()
        self.sets: dict[str, EndpointSet] = {}
        self.runtime: Runtime | None = None
        self.credentials = Credentials()
        self.targets = ProbeTargets(lambda: self.runtime, self.credentials)
        for name, ids in endpoints.items():
            self.put(name, *ids)

    def put(self, name: str, *ids: str, credential: str | None = None) -> None:
        """Make these the endpoints of a model."""
        found = self.sets.setdefault(name, EndpointSet(self._registry))
        found.replace(Endpoint(id_, "127.0.0.1", 9, credential=credential) for id_ in ids)

    def load(self, *models: ModelEntry) -> None:
        """Use a config of these models."""
        self.runtime = compile_whole(
            *models,
            endpoints_of=lambda entry: self.sets.get(entry.servedName) or EndpointSet(self._registry),
            previous=self.runtime,
        )


def _entry(name: str, **fields: Any) -> ModelEntry:
    backend = StaticBackend(urls=())
    given = {"id": f"ns/{name}", "generation": 1, "servedName": name, "upstreamName": name, "backend": backend}
    return ModelEntry(**{**given, **fields})


def test_nothing_is_made_while_nothing_changes() -> None:
    """Look after look gets the same mapping; there is none without a config."""
    world = World(a=("a1", "a2"), b=("b1",))
    assert world.targets() == {}
    world.load(_entry("a"), _entry("b"))
    first = world.targets()
    assert set(first) == {"a1", "a2", "b1"}
    assert first["a1"].model == "a"
    assert world.targets() is first


def test_a_change_of_one_model_makes_only_its_targets_anew() -> None:
    """Endpoints that come and go are seen at the next look; those of other models stay the same objects."""
    world = World(a=("a1",), b=("b1",))
    world.load(_entry("a"), _entry("b"))
    first = world.targets()
    world.put("a", "a2", "a3")
    second = world.targets()
    assert set(second) == {"a2", "a3", "b1"}
    assert second["b1"] is first["b1"]
    world.put("a", "a2")
    assert set(world.targets()) == {"a2", "b1"}


def test_another_config_changes_what_is_asked() -> None:
    """The request names the engine's model of the config in use; a model that is gone has no targets."""
    world = World(a=("a1",), b=("b1",))
    world.load(_entry("a"), _entry("b"))
    first = world.targets()
    world.load(_entry("a", upstreamName="engine"))
    second = world.targets()
    assert set(second) == {"a1"}
    assert b'"engine"' in second["a1"].body
    assert b'"engine"' not in first["a1"].body


def test_a_key_is_looked_up_when_the_probe_goes_out() -> None:
    """A rotated key is used at once although no target is made anew; without one there is nothing to ask."""
    world = World()
    world.put("hosted", "h1", credential="key")
    endpoint = ExternalEndpoint(name="default", url="https://api.example.com/v1", credentialFile="key")
    world.load(_entry("hosted", backend=ExternalBackend(provider=Provider.OPENAI, endpoints=(endpoint,))))
    target = world.targets()["h1"]
    assert target.hosted
    assert target.headers() is None
    for key in (b"one", b"two"):
        world.credentials.take({"key": key})
        assert (b"authorization", b"Bearer " + key) in (target.headers() or ())
    assert world.targets()["h1"] is target


@pytest.mark.parametrize(
    ("fields", "path", "body"),
    [
        ({}, b"/chat/completions", {"messages": [{"role": "user", "content": "ping"}], "max_tokens": 1}),
        ({"task": Task.COMPLETION}, b"/completions", {"prompt": "ping", "max_tokens": 1}),
        ({"task": Task.EMBED}, b"/embeddings", {"input": "ping"}),
        ({"task": Task.CLASSIFY}, b"", None),
    ],
)
def test_the_smallest_request_of_each_task(fields: dict[str, Any], path: bytes, body: dict[str, Any] | None) -> None:
    """Of the engine's own name; where a task has no common one there is nothing to send."""
    world = World(a=("a1",))
    world.load(_entry("a", upstreamName="up", **fields))
    target = world.targets()["a1"]
    assert (target.path, target.model, target.hosted) == (path, "a", False)
    assert target.body == (b"" if body is None else orjson.dumps({"model": "up", **body}))
    assert target.headers() == ((b"content-type", b"application/json"),)
    assert target.state is world.sets["a"].states[0]


@pytest.mark.parametrize(
    ("provider", "path", "headers"),
    [
        (Provider.OPENAI, b"/chat/completions", [(b"authorization", b"Bearer k")]),
        (Provider.ANTHROPIC, b"/messages", [(b"anthropic-version", b"2023-06-01"), (b"x-api-key", b"k")]),
    ],
)
def test_a_hosted_api_is_asked_in_its_own_dialect(provider: Provider, path: bytes, headers: list[Any]) -> None:
    """With its key, and what its API wants to be told beside it."""
    world = World()
    world.put("hosted", "h1", credential="key")
    world.credentials.take({"key": b"k"})
    endpoint = ExternalEndpoint(name="default", url="https://api.example.com/v1", credentialFile="key")
    world.load(_entry("hosted", backend=ExternalBackend(provider=provider, endpoints=(endpoint,))))
    target = world.targets()["h1"]
    assert (target.path, target.hosted, target.model) == (path, True, "hosted")
    said = [{"role": "user", "content": "ping"}]
    assert orjson.loads(target.body) == {"model": "hosted", "messages": said, "max_tokens": 1}
    assert list(target.headers() or ()) == [(b"content-type", b"application/json"), *headers]


def test_where_the_config_goes_there_is_nothing_to_ask() -> None:
    """A model without endpoints has nothing to ask either."""
    world = World(a=("a1",), b=())
    world.load(_entry("a"), _entry("b"))
    assert set(world.targets()) == {"a1"}
    world.runtime = None
    assert world.targets() == {}
