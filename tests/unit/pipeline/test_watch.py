"""Who is over time, and how a request is stopped at whatever it waits for."""

import asyncio
import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest

from capstan_gateway.config.runtime import Runtime
from capstan_gateway.errors import ClientGone, GatewayError, RequestTimeout, UpstreamTimeout
from capstan_gateway.pipeline.delivery import Delivery
from capstan_gateway.pipeline.watch import OVERTIME_SECONDS, TICK_SECONDS, InFlight
from support.asks import CHAT
from support.virtualtime import run_virtually

RUNTIME = cast(Runtime, object())


class Task:
    """Counts how often it is cancelled."""

    def __init__(self) -> None:
        self.cancelled = 0

    def cancel(self) -> None:
        """Count it."""
        self.cancelled += 1


def delivery(expires_at: float = 100.0, task: Task | None = None) -> Delivery:
    """Give one."""
    exchange = cast(Any, SimpleNamespace(task=task))
    return Delivery(exchange, route=CHAT, runtime=RUNTIME, started=50.0, expires_at=expires_at)


def test_a_request_begins_with_nothing() -> None:
    """Nothing is known of its answer, and nobody has gone."""
    task = Task()
    one = delivery(task=task)
    assert (one.started, one.expires_at, one.route, one.exchange.task) == (50.0, 100.0, CHAT, task)
    assert one.runtime is RUNTIME
    nothing = {
        "request_id": b"", "content_type": None, "content_encoding": None, "trace": (), "session": "", "body_at": 0.0,
        "client_document": None, "dropped_tools": (), "ask": None, "reply": None, "overhead": 0.0, "status": 0,
        "error": None, "first_sent_at": 0.0, "ended": False, "client_gone": False, "interruption": None,
    }  # fmt: skip
    assert {name: getattr(one, name) for name in nothing} == nothing
    assert (one.client_gone, one.ended) == (False, False)


def test_a_request_is_interrupted_once() -> None:
    """The first reason counts, and its task is cancelled once; one that is over is left alone."""
    task = Task()
    one = delivery(task=task)
    reason = UpstreamTimeout("late")
    one.interrupt(reason)
    one.leave()
    assert (one.interruption, one.client_gone, task.cancelled) == (reason, False, 1)
    over = delivery(task=task)
    over.ended = True
    over.leave()
    assert (over.interruption, over.client_gone, task.cancelled) == (None, False, 1)


def test_a_client_that_leaves_is_known_to_be_gone() -> None:
    """That is another end than one that the gateway made; one without a task yet has nothing to cancel."""
    task = Task()
    for one in (delivery(task=task), delivery()):
        one.leave()
        assert isinstance(one.interruption, ClientGone)
        assert one.client_gone is True
    assert task.cancelled == 1


@pytest.mark.parametrize(
    ("body_at", "error", "message"),
    [
        (0.0, RequestTimeout, "the request's body did not arrive in time"),
        (60.0, UpstreamTimeout, "the model did not finish its answer in time"),
    ],
)
def test_who_is_over_time_is_told_what_took_too_long(body_at: float, error: type[GatewayError], message: str) -> None:
    """A moment behind the deadline, in which whoever waits may tell it better: its body, or else the answer."""
    one, other = delivery(), delivery(expires_at=200.0)
    one.body_at = body_at
    looked_after = InFlight(9)
    looked_after.add(one)
    looked_after.add(other)
    looked_after.look(100.0 + OVERTIME_SECONDS)
    assert one.interruption is None
    looked_after.look(100.0 + OVERTIME_SECONDS + 0.01)
    assert isinstance(one.interruption, error)
    assert str(one.interruption) == message
    assert other.interruption is None
    assert looked_after == {one, other}


def test_one_that_cannot_be_interrupted_harms_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and looked after no more."""
    caplog.set_level(logging.ERROR)

    class Broken(Task):
        def cancel(self) -> None:
            raise LookupError

    looked_after = InFlight(9)
    broken = delivery(task=Broken())
    others = [delivery() for _ in range(20)]
    for one in (broken, *others):
        looked_after.add(one)
    looked_after.look(500.0)
    assert all(isinstance(one.interruption, RequestTimeout) for one in others)
    assert looked_after == set(others)
    assert len(caplog.records) == 1


def test_what_is_removed_is_over() -> None:
    """It is in flight no more, and no interruption reaches it; once or twice makes no difference."""
    looked_after = InFlight(9)
    one = delivery()
    looked_after.add(one)
    for _ in range(2):
        looked_after.remove(one)
    assert (one.ended, len(looked_after)) == (True, 0)
    assert (looked_after.limit, looked_after.draining) == (9, False)


def test_everybody_is_looked_after_again_and_again() -> None:
    """By the loop's time, ten times a second: who is over time hears of it at most so much later."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        looked_after = InFlight(9)
        task = asyncio.create_task(looked_after.run())
        for late in (3.0, 5.0):
            one = delivery(expires_at=loop.time() + late)
            looked_after.add(one)
            await asyncio.sleep(late + OVERTIME_SECONDS - 0.01)
            assert one.interruption is None
            await asyncio.sleep(TICK_SECONDS + 0.02)
            assert one.interruption is not None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run_virtually(main())
