"""The scorer is asked while a model wants to know, and models are woken when their status would be another one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from capstan_contract.evaluation import SCORES_PATH, ScoreReport, TrackScores
from capstan_operator.api.kinds import Model
from capstan_operator.models.scores import ScoreWatch
from capstan_operator.resources.resource import ObjectKey
from support.plainmodels import make_model
from support.ports import free_port
from support.wait import eventually

KEY = ObjectKey("team", "llama")
BAD = TrackScores(criterion="polite", count=100, mean=0.5, low=0.4, high=0.6)


def evaluated(status: str = "") -> Model:
    """Give a model that wants to know, with that condition."""
    said = {
        "sampleRate": "0.1", "criteria": [{"name": "polite", "text": "x"}], "judge": {"name": "j"}, "alertBelow": "0.8",
    }  # fmt: skip
    message = "the mean score lies below 0.8 by: 'polite'"
    condition = {"type": "EvaluationHealthy", "status": status, "reason": "ScoreBelowThreshold", "message": message}
    return make_model(evaluation=said, status={"conditions": [condition]} if status else {})


@asynccontextmanager
async def page(say: Callable[[], web.Response]) -> AsyncIterator[str]:
    """Serve a page of scores."""

    async def answer(_: web.Request) -> web.Response:
        return say()

    application = web.Application()
    application.router.add_get(SCORES_PATH, answer)
    runner = web.AppRunner(application)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def running(watch: ScoreWatch) -> AsyncIterator[None]:
    """Let it ask meanwhile."""
    task = asyncio.create_task(watch.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_model_is_woken_when_its_condition_is_news() -> None:
    """And not while it says so already; another model's scores are none of its own."""
    woken: list[ObjectKey] = []
    text = ScoreReport(models={str(KEY): (BAD,)}).model_dump_json()
    asked: list[int] = []

    def say() -> web.Response:
        asked.append(1)
        return web.Response(text=text)

    async with page(say) as url:
        watch = ScoreWatch(url, wake=woken.append, every=0.01)
        assert watch.of(KEY) is None
        watch.look(evaluated())
        async with running(watch):
            await eventually(lambda: KEY in woken, what="the model to be woken", seconds=60)
            assert watch.of(KEY) == (BAD,)
            assert watch.of(ObjectKey("team", "other")) == ()
            watch.look(evaluated("False"))
            woken.clear()
            rounds = len(asked)
            await eventually(lambda: len(asked) > rounds + 3, what="further rounds", seconds=60)
            assert woken == []


async def test_who_says_nothing_that_can_be_read_says_nothing() -> None:
    """Whatever the page is; nothing raises, and what is old counts no more."""
    answers = iter([web.Response(status=503), web.Response(text="no"), web.Response(text='{"version":7}')] * 1000)
    asked: list[int] = []

    def say() -> web.Response:
        asked.append(1)
        return next(answers)

    async with page(say) as url:
        watch = ScoreWatch(url, wake=lambda _: None, every=0.01)
        watch.look(evaluated())
        async with running(watch):
            await eventually(lambda: len(asked) > 6, what="some questions", seconds=60)
            assert watch.of(KEY) is None


async def test_nobody_is_asked_while_nobody_wants_to_know() -> None:
    """Nor where there is no scorer; a model that asks for it no more is forgotten."""
    asked: list[int] = []

    def say() -> web.Response:
        asked.append(1)
        return web.Response(text=ScoreReport().model_dump_json())

    async with page(say) as url:
        watch = ScoreWatch(url, wake=lambda _: None, every=0.001)
        watch.look(evaluated())
        watch.look(make_model())
        async with running(watch):
            for _ in range(100):
                await asyncio.sleep(0)
            assert asked == []
            watch.look(evaluated())
            await eventually(lambda: bool(asked), what="a question", seconds=60)
    async with running(ScoreWatch("", wake=lambda _: None)):
        await asyncio.sleep(0)
