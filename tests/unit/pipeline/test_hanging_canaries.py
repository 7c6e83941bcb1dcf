"""A revision that is tried and does not answer: how long it is waited for, and that it is seen to fail."""

import asyncio
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from capstan_contract.config import Canary, ModelEntry, StaticBackend
from capstan_contract.names import CANARY, STABLE
from capstan_contract.tracks import Counters, Quantity
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.dialects.targets.private import Pseudonyms
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.reply import Reply, WholeReply
from capstan_gateway.pipeline.split import Split, Tried
from capstan_gateway.pipeline.tracks import SILENT_SECONDS, Counted, Try
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.registry import EndpointRegistry
from capstan_gateway.telemetry.metrics import Metrics
from capstan_gateway.upstream.port import Endpoint
from support.asks import an_ask
from support.runtimes import compile_whole
from support.virtualtime import run_virtually

TOTAL = 600.0


async def _answers(_: Ask) -> Reply:
    return WholeReply(200, b"application/json", b"{}")


async def _hangs(_: Ask) -> Reply:
    await asyncio.sleep(2 * TOTAL)
    raise AssertionError("nobody waits so long")


async def _takes(seconds: float, ask: Ask) -> Reply:
    await asyncio.sleep(seconds)
    return await _answers(ask)


class Pair:
    """A model of two revisions in front of no engines: all requests are the canary's."""

    def __init__(self, canary: Any, stable: Any = _answers) -> None:
        self.loop = asyncio.get_running_loop()
        here, there = StaticBackend(urls=("http://127.0.0.1:1",)), StaticBackend(urls=("http://127.0.0.1:2",))
        tried = Canary(id="r2-1", revision="r2", weight=100, backend=there)
        entry = ModelEntry(id="ns/m", servedName="m", upstreamName="m", revision="r1", backend=here, canary=tried)
        registry = EndpointRegistry()

        def endpoints_of(_: ModelEntry) -> EndpointSet:
            endpoints = EndpointSet(registry)
            endpoints.replace([Endpoint("e", "127.0.0.1", 1)])
            return endpoints

        model: ServedModel = compile_whole(entry, endpoints_of=endpoints_of).models["m"]
        assert model.canary is not None
        deps: Any = SimpleNamespace(
            metrics=Metrics(), clock=self.loop.time, loop_time=self.loop.time, pseudonyms=Pseudonyms(), credentials=None
        )
        self.tried = Try("ns/m", "r2-1", start=0)
        model.canary.answer = partial(Counted(deps, model.canary, self.tried).answer, canary)
        self._stable = partial(Counted(deps, model, self.tried).answer, stable)
        self._split = Split(Tried("ns/m", "r1", tried), self.tried, deps, model)
        self._model = model

    async def ask(self, **fields: Any) -> Reply:
        """Ask once, with TOTAL seconds to wait."""
        document = {"model": "m", "messages": [{"role": "user", "content": "hello"}], **fields}
        ask = an_ask(self._model, document=document, expires_at=self.loop.time() + TOTAL)
        try:
            return await self._split.answer(ask, self._stable)
        finally:
            ask.end()

    def errors(self) -> dict[str, tuple[int, int]]:
        """Give of each track how many requests were counted, and how many failed."""
        return {STABLE: _errors(self.tried.stable.counters()), CANARY: _errors(self.tried.canary.counters())}


def _errors(counters: Counters) -> tuple[int, int]:
    measure = counters.of(Quantity.ERROR)
    return measure.count, measure.sum


@pytest.mark.parametrize("stream", [False, True])
def test_a_canary_that_hangs_leaves_the_stable_revision_half_of_the_time(stream: bool) -> None:
    """Whatever its engine waits for: the stable revision answers in the other half, and the canary has failed once."""

    async def main() -> None:
        pair = Pair(_hangs, partial(_takes, TOTAL / 2 - 1))
        began = pair.loop.time()
        assert (await pair.ask(stream=stream)).status == 200
        assert pair.loop.time() - began == pytest.approx(TOTAL - 1)
        assert pair.errors() == {STABLE: (1, 0), CANARY: (1, 1)}

    run_virtually(main())


def test_a_canary_that_is_slow_has_half_of_the_time() -> None:
    """What it answers in that is the answer."""

    async def main() -> None:
        pair = Pair(partial(_takes, TOTAL / 2 - 1))
        assert (await pair.ask()).status == 200
        assert pair.errors() == {STABLE: (0, 0), CANARY: (1, 0)}

    run_virtually(main())


def test_what_must_not_be_sent_twice_has_all_of_the_time() -> None:
    """Nobody else would answer it."""

    async def main() -> None:
        pair = Pair(partial(_takes, TOTAL - 1))
        assert (await pair.ask(tools=[{"type": "web_search"}])).status == 200
        assert pair.errors() == {STABLE: (0, 0), CANARY: (1, 0)}

    run_virtually(main())


@pytest.mark.parametrize(
    ("seconds", "errors"), [(SILENT_SECONDS - 1, (0, 0)), (SILENT_SECONDS + 1, (1, 1))], ids=["soon", "late"]
)
def test_clients_that_gave_up_show_a_canary_that_hangs(seconds: float, errors: tuple[int, int]) -> None:
    """Who leaves soon is no error; who was given nothing for SILENT_SECONDS is one, else nobody would ever see it."""

    async def main() -> None:
        pair = Pair(_hangs)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds):
                await pair.ask()
        assert pair.errors() == {STABLE: (0, 0), CANARY: errors}

    run_virtually(main())
