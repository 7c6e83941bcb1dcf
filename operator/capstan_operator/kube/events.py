"""Events: one per transition, and one counted series for a transition that repeats.

An Event is a note for people: nothing waits for one. `record` puts it on a bounded queue that `run` works off. Failing
to write one is logged, and when more happens than can be written the newest ones of the namespace that has most of them
are dropped and named in the log.
"""

import asyncio
import dataclasses
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Final, Literal

from capstan_operator.kube.errors import Forbidden, KubeError
from capstan_operator.kube.lanes import Lanes
from capstan_operator.kube.port import KubePort
from capstan_operator.resources.api_resource import EVENTS
from capstan_operator.resources.resource import Manifest

log = logging.getLogger(__name__)

REPORTER: Final = "capstan.dev/operator"
WRITERS: Final = 4
DEADLINE: Final = 10.0
"""Seconds of one write."""
PATIENCE: Final = 2.0
"""Seconds after which a write counts as one that hangs, however it ends."""
MOST_NOTE: Final = 1024
"""Bytes: the API server refuses a longer note."""


@dataclass(frozen=True)
class Subject:
    """The object that an Event is about."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str


Key = tuple[str, str, str, str]
"""(uid, type, reason, note)."""


@dataclass
class _Series:
    name: str
    first: datetime
    last: datetime
    count: int


class EventRecorder:
    """Writes Events; the same fact about the same object within `window` seconds is counted instead of repeated."""

    def __init__(
        self,
        kube: KubePort,
        *,
        instance: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        window: float = 600.0,
        most: int = 4096,
        deadline: float = DEADLINE,
    ) -> None:
        self._kube = kube
        self._instance = instance[:128] or "capstan-operator"
        self._now = now
        self._window = window
        self._most = most
        self._deadline = deadline
        self._lanes: Lanes[tuple[Subject, Key]] = Lanes(places=WRITERS, most=most)
        self._changed = asyncio.Event()
        self._series: OrderedDict[Key, _Series] = OrderedDict()
        self._forbidden: set[str] = set()

    def record(self, subject: Subject, type_: Literal["Normal", "Warning"], reason: str, note: str) -> None:
        """Have one Event written, or counted to the series that it repeats."""
        if lost := self._lanes.add(subject.namespace, (subject, (subject.uid, type_, reason, note))):
            log.warning("dropped an event", extra={"object": lost[0].name, "reason": lost[1][2]})
        self._changed.set()

    async def run(self) -> None:
        """Write until cancelled, a few at once: when a thousand models change at once, their objects go first.

        One at a time of each namespace: where an admission webhook hangs, the Events of that namespace wait.
        """
        async with asyncio.TaskGroup() as group:
            for _ in range(WRITERS):
                group.create_task(self._write())

    async def _write(self) -> None:
        while True:
            while (taken := self._lanes.take(monotonic())) is None:
                self._changed.clear()
                await self._changed.wait()
            namespace, (subject, key) = taken
            started, hung = monotonic(), True
            try:
                hung = await self._attempt(subject, key)
            finally:
                now = monotonic()
                self._lanes.done(namespace, now, hung=hung or now - started >= PATIENCE)
                self._changed.set()

    async def _attempt(self, subject: Subject, key: Key) -> bool:
        """Write one, or say in the log why it is not written; say whether it hung."""
        try:
            async with asyncio.timeout(self._deadline):
                await self._kube.apply(self._manifest(subject, key, self._count(subject, key)))
        except Forbidden as error:
            self._warn_once(subject.namespace, error)
        except (KubeError, TimeoutError) as error:
            text = str(error) or f"no answer within {self._deadline:g} s"
            log.warning("could not write an event", extra={"object": subject.name, "error": text})
            return isinstance(error, TimeoutError)
        except Exception:
            log.exception("an event failed", extra={"object": subject.name})
        return False

    def _warn_once(self, namespace: str, error: Forbidden) -> None:
        """Say once for each namespace that Events may not be written there."""
        if namespace not in self._forbidden:
            self._forbidden.add(namespace)
            missing = {} if error.missing is None else dataclasses.asdict(error.missing)
            log.warning("events may not be written", extra={"error": str(error), "namespace": namespace, **missing})

    def _count(self, subject: Subject, key: Key) -> _Series:
        now = self._now()
        series = self._series.pop(key, None)
        if series is None or (now - series.last).total_seconds() > self._window:
            series = _Series(_event_name(subject.name, key, now), now, now, 0)
        series.count += 1
        series.last = now
        self._series[key] = series
        while len(self._series) > self._most:
            self._series.popitem(last=False)
        return series

    def _manifest(self, subject: Subject, key: Key, series: _Series) -> Manifest:
        _, type_, reason, note = key
        manifest: Manifest = {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": series.name, "namespace": subject.namespace},
            "eventTime": _micro_time(series.first),
            "reportingController": REPORTER,
            "reportingInstance": self._instance,
            "action": "Reconcile",
            "type": type_,
            "reason": reason,
            "note": _shorten(note),
            "regarding": {
                "apiVersion": subject.api_version,
                "kind": subject.kind,
                "namespace": subject.namespace,
                "name": subject.name,
                "uid": subject.uid,
            },
        }
        if series.count > 1:
            manifest["series"] = {"count": series.count, "lastObservedTime": _micro_time(series.last)}
        return manifest


def _event_name(name: str, key: tuple[str, ...], now: datetime) -> str:
    """A name that no other Event has: the object's name and a hash of what, whom and when."""
    text = "\0".join((*key, now.isoformat()))
    return f"{name}.{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _shorten(note: str) -> str:
    encoded = note.encode()
    return note if len(encoded) <= MOST_NOTE else encoded[: MOST_NOTE - 3].decode(errors="ignore") + "..."


def _micro_time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
