"""What a store says of the config in use, of one that it refuses, and of whose word counts."""

import logging
from collections.abc import Generator
from typing import Any

import pytest

from capstan_contract.config import ConfigReport, GatewayConfig, ModelEntry, StaticBackend
from capstan_contract.sharding import split_config
from capstan_gateway.config import store as stores
from capstan_gateway.config.runtime import Runtime, compile_runtime
from capstan_gateway.config.store import DIRECTORY, KUBERNETES, MOST_NAMED, ConfigStore, Prepared
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.registry import EndpointRegistry
from capstan_gateway.telemetry.metrics import Metrics, ModelMetrics
from support.runtimes import Unanswered


class Store(ConfigStore):
    """A store that compiles to real Runtimes, and whose metrics a test reads."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.built: list[str] = []
        super().__init__(self.build, self.metrics)

    def build(self, config: GatewayConfig, previous: Runtime | None) -> Generator[None, None, Prepared]:
        """Compile."""
        self.built.append(config.hash)
        registry = EndpointRegistry()
        runtime = yield from compile_runtime(
            config, endpoints_of=lambda _: EndpointSet(registry), metrics=self.metrics, answering=Unanswered(),
            previous=previous,
        )  # fmt: skip
        return Prepared(runtime)

    def sample(self, name: str, **labels: str) -> float | None:
        """Give a number of the metrics page."""
        return self.metrics.registry.get_sample_value(f"gateway_config_{name}", labels)


def config(*names: str, **fields: Any) -> GatewayConfig:
    """Give a config of these models."""
    return GatewayConfig.build(
        ModelEntry(**{
            "id": f"ns/{name}", "servedName": name, "upstreamName": name, "backend": StaticBackend(urls=()), **fields,
        })
        for name in names
    )  # fmt: skip


async def test_a_report_says_which_config_is_in_use_and_what_of_it_is_not() -> None:
    """Its hash, what an older operator reads off it, why entries are refused, and nothing before there is one."""
    store = Store()
    assert store.report() == ConfigReport(hash=None)
    given = config("a", "b", generation=3)
    assert await store.offer(split_config(given), source=DIRECTORY)
    assert store.report() == ConfigReport(hash=given.hash, generations={"ns/a": 3, "ns/b": 3})
    refused = config("a", requires=("guard/v2",))
    assert await store.offer(split_config(refused), source=DIRECTORY)
    assert store.report() == ConfigReport(hash=refused.hash, refused={"ns/a": ("guard/v2",)})
    assert store.sample("refused_entries") == 1


async def test_a_config_that_is_refused_is_shown_once_and_the_last_good_one_stays(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The same fault again is not counted again; the next good config ends it."""
    store, good = Store(), config("a")
    assert await store.offer(split_config(good), source=DIRECTORY)
    assert (store.sample("last_reload_success"), store.sample("reload_total", result="success")) == (1, 1)
    with caplog.at_level(logging.ERROR):
        for text in ("[", "[", "7"):
            assert not await store.offer({"config.json": text}, source=DIRECTORY)
    assert (store.sample("last_reload_success"), store.sample("reload_total", result="error")) == (0, 2)
    assert len([record for record in caplog.records if record.message == "kept the last good config"]) == 2
    assert store.report() == ConfigReport(hash=good.hash, error="config.json must hold a JSON object")
    assert await store.offer(split_config(good), source=DIRECTORY)
    assert store.report() == ConfigReport(hash=good.hash)
    assert (store.sample("last_reload_success"), store.sample("reload_total", result="success")) == (1, 1)
    assert store.built == [good.hash], "what is in use is not compiled again"


async def test_before_the_first_config_there_is_only_the_fault() -> None:
    """It is in the report as it will be beside a config."""
    store = Store()
    assert not await store.offer({}, source=DIRECTORY)
    assert store.report() == ConfigReport(hash=None, error="config.json is missing")
    assert store.refused == {}


async def test_what_the_api_says_counts_from_its_first_config_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then the directory serves; afterwards neither its configs nor its faults are heard."""
    store, old, new = Store(), config("old"), config("new")
    store.reject("no such ConfigMap", source=KUBERNETES)
    assert store.error == "no such ConfigMap"
    assert await store.offer(split_config(old), source=DIRECTORY)
    assert await store.offer(split_config(new), source=KUBERNETES)
    assert not await store.offer(split_config(old), source=DIRECTORY)
    store.reject("no files", source=DIRECTORY)
    assert not await store.offer({}, source=DIRECTORY)
    with monkeypatch.context() as patch:
        patch.setattr(store._reader, "read", lambda _: 1 / 0)
        assert not await store.offer({}, source=DIRECTORY)
    assert store.report() == ConfigReport(hash=new.hash)
    store.reject("deleted", source=KUBERNETES)
    assert store.report() == ConfigReport(hash=new.hash, error="deleted")
    assert await store.offer(split_config(old), source=KUBERNETES)
    assert store.report() == ConfigReport(hash=old.hash)


async def test_metrics_are_those_of_the_config_in_use() -> None:
    """One series says which it is; models that went take their series with them, and the gateway's own stays."""
    store, before, after = Store(), config("a", "b", aliases=()), config("b")
    for given in (before, after):
        assert await store.offer(split_config(given), source=DIRECTORY)
    assert store.sample("info", hash=before.hash) is None
    assert store.sample("info", hash=after.hash) == 1
    assert store.sample("reload_total", result="success") == 2
    for name, there in (("a", False), ("b", True), ("auto", True)):
        sample = store.metrics.registry.get_sample_value("llm_requests_total", {"model": name, "status": "200"})
        assert (sample is not None) == there
    assert store.sample("refused_entries") == 0


async def test_a_config_that_cannot_be_compiled_leaves_no_series(caplog: pytest.LogCaptureFixture) -> None:
    """What was made for it is forgotten, also when it is the first one."""
    store = Store()

    def build(given: GatewayConfig, previous: Runtime | None) -> Generator[None, None, Prepared]:
        ModelMetrics(store.metrics, "a")
        raise LookupError("a bug")
        yield

    store._build = build
    assert not await store.offer(split_config(config("a")), source=KUBERNETES)
    assert store.report() == ConfigReport(hash=None, error="the config could not be compiled: LookupError")
    assert not store.metrics.in_flight.cells
    assert any(record.exc_info for record in caplog.records)


async def test_not_every_refused_entry_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Some are, with why; how many there are is in the metrics, and all of them in the report."""
    store = Store()
    with caplog.at_level(logging.INFO):
        names = [f"m{number}" for number in range(MOST_NAMED + 5)]
        await store.offer(split_config(config(*names, requires=("x", "y"))), source=DIRECTORY)
    named = [record for record in caplog.records if record.message == "refused an entry of the config"]
    assert len(named) == MOST_NAMED
    assert {record.reason for record in named} == {"x, y"}  # type: ignore[attr-defined]
    assert store.sample("refused_entries") == len(store.report().refused) == MOST_NAMED + 5
    (swapped,) = [record for record in caplog.records if record.message == "swapped the config"]
    assert (swapped.models, swapped.source) == (0, DIRECTORY)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("at", "sleeps"), [([0.0, 0.9, 1.0], 0), ([0.0, 1.1, 1.2, 2.3], 2), ([5.0, 6.1, 7.0], 1)])
def test_a_thread_rests_when_it_has_worked_for_so_long(
    monkeypatch: pytest.MonkeyPatch, at: list[float], sleeps: int
) -> None:
    """Counted from its last rest, not from the beginning."""
    slept: list[float] = []
    now = [at[0]]
    monkeypatch.setattr(stores.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(stores.time, "sleep", slept.append)
    rest = stores._rests(1.0)
    for moment in at[1:]:
        now[0] = moment
        rest()
    assert slept == [0] * sleeps
