"""Keeps every namespace watched that can be watched, and says which cannot.

A watch is a hint, and the operator does its work without: lists are the truth, and the resync finds what no watch has
told. So an error of a watch ends nothing but that watch. Each namespace (or, without a list of them, the whole cluster)
has a run of kopf to itself; when that ends, it begins again after a back-off, once a LIST of one name works. A
namespace that is gone, or whose Role is, is tried again and again, and no other one notices.
"""

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from capstan_operator.api.kinds import LLM_MODELS
from capstan_operator.backoff import Backoff
from capstan_operator.kube.port import KubePort
from capstan_operator.metrics import Metrics
from capstan_operator.resources.api_resource import ApiResource

log = logging.getLogger(__name__)

MOST_TEXT: Final = 500
RESTART: Final = Backoff(first=1.0, factor=2.0, most=30.0)


@dataclass(frozen=True)
class Rhythm:
    """How a watch that ended begins again."""

    backoff: Backoff = RESTART
    settled: float = 10.0
    """Seconds after which a watch that has not ended is taken for one that works."""


class Tell(Protocol):
    """Writes an Event about the installation."""

    def __call__(self, type_: Literal["Normal", "Warning"], reason: str, note: str, /) -> None:
        """Write one."""
        ...


class WatchSupervisor:
    """Runs `watch(namespace)` for every namespace, for ever. It must not return."""

    def __init__(
        self,
        kube: KubePort,
        *,
        namespaces: Iterable[str],
        watch: Callable[[str | None], Awaitable[None]],
        tell: Tell,
        metrics: Metrics,
        rhythm: Rhythm = Rhythm(),
        rng: Callable[[], float] = random.random,
        probe: ApiResource = LLM_MODELS,
        what: str = "",
    ) -> None:
        """`probe` is what must be there to be listed; `what`: of what it is the watch, in words (" for ...")."""
        self._probe = probe
        self._what = what
        self._kube = kube
        self._namespaces: tuple[str | None, ...] = tuple(namespaces) or (None,)
        self._watch = watch
        self._tell = tell
        self._metrics = metrics
        self._rhythm = rhythm
        self._random = rng
        self._unwatched: dict[str | None, str] = {}

    @property
    def unwatched(self) -> frozenset[str | None]:
        """The namespaces that are not watched; None stands for the whole cluster."""
        return frozenset(self._unwatched)

    def notes(self) -> list[str]:
        """Say what is not watched, and why."""
        return [
            f"{_where(name)} is not watched{self._what}: {why}"
            for name, why in sorted(self._unwatched.items(), key=str)
        ]

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            for name in self._namespaces:
                group.create_task(self._keep(name), name=f"watch of {name or 'all namespaces'}")

    async def _keep(self, name: str | None) -> None:
        failures = 0
        while True:
            worked, error = await self._try(name)
            failures = 1 if worked else failures + 1
            self._failed(name, error)
            await asyncio.sleep(self._rhythm.backoff.delay(failures, random=self._random))

    async def _try(self, name: str | None) -> tuple[bool, Exception]:
        """Watch until it ends; give whether it has worked for a while, and what it ended with."""
        settled: asyncio.TimerHandle | None = None
        loop = asyncio.get_running_loop()
        until = math.inf
        try:
            await self._kube.list(self._probe, namespace=name, field_selector="metadata.name=none")
            until = loop.time() + self._rhythm.settled
            settled = loop.call_at(until, self._works, name)
            await self._watch(name)
            return loop.time() >= until, RuntimeError("it ended")
        except Exception as error:  # noqa: BLE001  # whatever it is, the watch begins again
            return loop.time() >= until, error
        finally:
            if settled is not None:
                settled.cancel()

    def _failed(self, name: str | None, error: Exception) -> None:
        # NB: kopf's errors have what the API server said as a field.
        why = str(getattr(error, "message", None) or str(error) or type(error).__name__)[:MOST_TEXT]
        self._metrics.watch_failures.labels(type(error).__name__).inc()
        if self._unwatched.get(name) != why:
            log.warning("a watch ended", extra={"namespace": name or "", "error": why, "kind": type(error).__name__})
        if name not in self._unwatched:
            self._tell("Warning", "WatchFailed", f"{_where(name)} is not watched{self._what}; it is tried again: {why}")
        self._unwatched[name] = why

    def _works(self, name: str | None) -> None:
        if self._unwatched.pop(name, None) is not None:
            log.info("a watch works again", extra={"namespace": name or ""})
            self._tell("Normal", "WatchRestored", f"{_where(name)} is watched again{self._what}")


def _where(name: str | None) -> str:
    return "the cluster" if name is None else f"the namespace '{name}'"
