"""Work in the background that goes on for ever, and what happens when it does not.

What outside can cause is handled inside a job. What comes out of one is a bug:

    job fails ──► logged, counted ──► pause (doubles, jitter) ──► begins anew
                                        │ failed again and again
                                        └──► the process is given up: it drains, and ends with an error

A bug that one object causes reaches every replica in the same second. So a job refuses what it fails over, and goes on
(`refusals`); and where it does not, the pauses see to it that replicas end one after the other.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from capstan_gateway.life.pauses import doubled

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """Something that goes on for ever; one that returns has nothing to do, and is not begun anew."""

    name: str
    """In metrics and reports: one word."""
    run: Callable[[], Coroutine[Any, Any, None]]
    """Begins it, or begins it anew after it has failed."""


@dataclass(frozen=True, slots=True)
class RestartSettings:
    """When a job that failed begins anew, and how often."""

    first_seconds: float = 0.5
    """Pause before the first new begin; it doubles with each further one."""
    most_seconds: float = 30.0
    well_seconds: float = 60.0
    """A job that has worked for so long has not failed again: its pauses begin anew."""
    most_failures: int = 8
    """Failures in a row after which the process is given up: after one and a half minutes or so."""


DEFAULT = RestartSettings()


def pause_after(failures: int, settings: RestartSettings, rng: Random) -> float | None:
    """Give the pause in seconds after so many failures in a row; None: the process is given up."""
    if failures >= settings.most_failures:
        return None
    return doubled(settings.first_seconds, settings.most_seconds, failures - 1) * rng.uniform(0.5, 1.5)


class Jobs:
    """Runs jobs until it is cancelled."""

    def __init__(
        self, *, rng: Random, on_failure: Callable[[str], None] = lambda _: None, settings: RestartSettings = DEFAULT
    ) -> None:
        self._rng = rng
        self._on_failure = on_failure
        self._settings = settings
        self._failing: dict[str, str] = {}
        self.given_up: str | None = None
        """Which job failed again and again."""
        self.is_given_up = asyncio.Event()

    @property
    def failing(self) -> tuple[str, ...]:
        """The jobs that have failed and not worked for long enough since, with the kind of the failure."""
        return tuple(f"{name}: {kind}" for name, kind in self._failing.items())

    async def run(self, jobs: Sequence[Job]) -> None:
        """Run them all, each by itself."""
        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(self._keep(job), name=job.name)

    async def _keep(self, job: Job) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            began = loop.time()
            well = loop.call_later(self._settings.well_seconds, self._failing.pop, job.name, None)
            try:
                await job.run()
            except (Exception, asyncio.CancelledError) as error:
                if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                    raise
                failures = 1 if loop.time() - began >= self._settings.well_seconds else failures + 1
                pause = self._take_note(job, error, failures)
            else:
                self._failing.pop(job.name, None)
                return
            finally:
                well.cancel()
            if pause is None:
                return
            await asyncio.sleep(pause)

    def _take_note(self, job: Job, error: BaseException, failures: int) -> float | None:
        self._failing[job.name] = type(error).__name__
        self._on_failure(job.name)
        pause = pause_after(failures, self._settings, self._rng)
        fields = {"job": job.name, "failures": failures, "retry_seconds": None if pause is None else round(pause, 2)}
        log.error("background work failed", exc_info=error, extra=fields)
        if pause is None and self.given_up is None:
            self.given_up = job.name
            self.is_given_up.set()
        return pause


def _is_cancelled() -> bool:
    """Whether somebody wants this task to end; what it awaits may also have been cancelled by somebody else."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
