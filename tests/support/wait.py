"""Waiting with a deadline, for tests: no bare sleeps."""

import asyncio
import inspect
import os
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

T = TypeVar("T")

# Long enough for a busy machine. Who runs tests that are meant to fail, as mutants are, need not wait so long for each.
PATIENCE: Final = float(os.environ.get("CAPSTAN_TEST_PATIENCE", "60"))
_SHORTEST, _LONGEST = 0.05, 0.25
"""Seconds between two looks, unless the test says how many."""
_SLACK: Final = 0.05
"""Looks become rarer in a long wait, which so takes that much longer at most: each is work for a busy machine."""


async def eventually(
    check: Callable[[], T | Awaitable[T]],
    *,
    seconds: float = PATIENCE,
    every: float | None = None,
    what: str = "the condition",
) -> T:
    """Call `check` until it gives something true, and return that; fail with `what` and the last value after `seconds`.

    AssertionError raised by `check` counts as "not yet" and is shown when the time is up.
    """
    began = time.monotonic()
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
        waited = time.monotonic() - began
        if waited > seconds:
            raise AssertionError(f"{what} did not come true within {seconds} s; last: {last!r}")
        await asyncio.sleep(_pause(every, waited))


def wait_until(
    check: Callable[[], T], *, seconds: float = PATIENCE, every: float | None = None, what: str = "the condition"
) -> T:
    """The same for synchronous tests."""
    began = time.monotonic()
    last: object = None
    while True:
        try:
            value = check()
            if value:
                return value
            last = value
        except AssertionError as error:
            last = error
        waited = time.monotonic() - began
        if waited > seconds:
            raise AssertionError(f"{what} did not come true within {seconds} s; last: {last!r}")
        time.sleep(_pause(every, waited))


def _pause(every: float | None, waited: float) -> float:
    """Give the seconds until the next look."""
    return min(max(_SHORTEST, waited * _SLACK), _LONGEST) if every is None else every
