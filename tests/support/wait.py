"""Waiting with a deadline, for tests: no bare sleeps."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(
    check: Callable[[], T | Awaitable[T]], *, seconds: float = 60.0, every: float = 0.05, what: str = "the condition"
) -> T:
    """Call `check` until it gives something true, and return that; fail with `what` and the last value after `seconds`.

    AssertionError raised by `check` counts as "not yet" and is shown when the time is up.
    """
    deadline = time.monotonic() + seconds
    last: object = None
    while True:
        try:
            value = check()
            if inspect.isawaitable(value):
                value = await value
            if value:
                return value  # type: ignore[return-value]
            last = value
        except AssertionError as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {seconds} s; last: {last!r}")
        await asyncio.sleep(every)


def wait_until(check: Callable[[], T], *, seconds: float = 60.0, every: float = 0.1, what: str = "the condition") -> T:
    """The same for synchronous tests."""
    deadline = time.monotonic() + seconds
    last: object = None
    while True:
        try:
            value = check()
            if value:
                return value
            last = value
        except AssertionError as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {seconds} s; last: {last!r}")
        time.sleep(every)
