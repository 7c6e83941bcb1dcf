"""Taking a new config while requests are served."""

import asyncio
from collections.abc import Generator

import pytest

from capstan_contract.config import GatewayConfig, ModelEntry, StaticBackend
from capstan_contract.reading import Reading
from capstan_contract.sharding import split_config
from capstan_gateway.config.runtime import Runtime, compile_runtime
from capstan_gateway.config.store import DIRECTORY, KUBERNETES, ConfigStore, Prepared
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.registry import EndpointRegistry
from capstan_gateway.telemetry.metrics import Metrics
from support.runtimes import Unanswered
from support.wait import PATIENCE


class Compiler:
    """Compiles, and takes as many steps for it as it is told."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.begun = asyncio.Event()
        self.waits_for = asyncio.Event()
        self.at_work = 0
        self.most_at_work = 0

    def build(self, config: GatewayConfig, previous: Runtime | None) -> Generator[None, None, Prepared]:
        """Go on for as long as nobody else in the loop has set the event."""
        registry = EndpointRegistry()
        self.begun.set()
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        while not self.waits_for.is_set():
            yield
        runtime = yield from compile_runtime(
            config,
            endpoints_of=lambda _: EndpointSet(registry),
            metrics=self.metrics,
            answering=Unanswered(),
            previous=previous,
        )
        self.at_work -= 1
        return Prepared(runtime)


def documents(name: str) -> dict[str, str]:
    """A config of one model."""
    backend = StaticBackend(urls=())
    entry = ModelEntry(id=f"ns/{name}", generation=1, servedName=name, upstreamName=name, backend=backend)
    return split_config(GatewayConfig.build((entry,)))


async def test_others_have_their_turn_while_a_config_is_compiled() -> None:
    """Compiling that would never end without them does end, and until then the former config is in use."""
    compiler = Compiler()
    store = ConfigStore(compiler.build, compiler.metrics)

    async def somebody() -> None:
        await compiler.begun.wait()
        assert store.runtime is None
        compiler.waits_for.set()

    async with asyncio.timeout(PATIENCE):
        used, _ = await asyncio.gather(store.offer(documents("a"), source=DIRECTORY), somebody())
    assert used
    assert store.runtime is not None
    assert set(store.runtime.models) == {"a"}


async def test_no_content_ends_whoever_offers_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong while a config is read, it is refused and shown, and the next one is taken."""
    compiler = Compiler()
    compiler.waits_for.set()
    store = ConfigStore(compiler.build, compiler.metrics)
    assert await store.offer(documents("a"), source=KUBERNETES)

    def fails(_: object) -> Reading:
        raise TypeError("unhashable: sk-secret")

    with monkeypatch.context() as patched:
        patched.setattr(store._reader, "read", fails)
        assert not await store.offer(documents("b"), source=KUBERNETES)
    assert store.error == "the config could not be read: TypeError"
    assert store.runtime is not None
    assert set(store.runtime.models) == {"a"}
    assert await store.offer(documents("b"), source=KUBERNETES)
    assert store.error is None


async def test_two_sources_never_compile_at_once() -> None:
    """Two offers at one moment are taken one after the other; that of the Kubernetes API is in use in the end."""
    compiler = Compiler()
    store = ConfigStore(compiler.build, compiler.metrics)
    offers = [
        asyncio.create_task(store.offer(documents("new"), source=KUBERNETES)),
        asyncio.create_task(store.offer(documents("old"), source=DIRECTORY)),
    ]
    async with asyncio.timeout(PATIENCE):
        await compiler.begun.wait()
        compiler.waits_for.set()
        await asyncio.gather(*offers)
    assert compiler.most_at_work == 1
    assert store.runtime is not None
    assert set(store.runtime.models) == {"new"}


async def test_models_that_did_not_change_are_kept_from_config_to_config() -> None:
    """A config that is read again, or with one model more, compiles only what is new."""
    compiler = Compiler()
    compiler.waits_for.set()
    store = ConfigStore(compiler.build, compiler.metrics)
    entries = [
        ModelEntry(id=f"ns/{name}", generation=1, servedName=name, upstreamName=name, backend=StaticBackend(urls=()))
        for name in ("a", "b")
    ]
    assert await store.offer(split_config(GatewayConfig.build((entries[0],))), source=DIRECTORY)
    before = store.runtime
    assert await store.offer(split_config(GatewayConfig.build(tuple(entries))), source=DIRECTORY)
    assert before is not None
    assert store.runtime is not None
    assert store.runtime.models["a"] is before.models["a"]
    assert set(store.runtime.models) == {"a", "b"}


async def test_a_config_that_fails_half_way_changes_nothing() -> None:
    """Neither what outlives configs, nor a metric, nor the Runtime: the one before is in use as if nothing had come."""
    compiler = Compiler()
    compiler.waits_for.set()
    committed: list[str] = []
    broken = False

    def build(config: GatewayConfig, previous: Runtime | None) -> Generator[None, None, Prepared]:
        prepared = yield from compiler.build(config, previous)
        if broken:
            raise LookupError("a bug")
        return Prepared(prepared.runtime, lambda: committed.append(config.models[0].servedName))

    store = ConfigStore(build, compiler.metrics)
    assert await store.offer(documents("a"), source=DIRECTORY)
    before, page = store.runtime, set(compiler.metrics.in_flight.cells)
    broken = True
    assert not await store.offer(documents("b"), source=DIRECTORY)
    assert store.runtime is before
    assert committed == ["a"]
    assert set(compiler.metrics.in_flight.cells) == page, "no series of models that are not in use"
    broken = False
    assert await store.offer(documents("b"), source=DIRECTORY)
    assert committed == ["a", "b"]
