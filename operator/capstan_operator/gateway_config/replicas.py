"""What the gateway's replicas have said, and what it is worth.

A replica that does not answer for a moment still runs what it said last: it never falls back to less as long as it is
in the EndpointSlice, which it leaves when it is not ready. A replica is a pod, however many addresses it has: another
pod at the same address has said nothing yet. That all of them are absent from one moment to the next (each fails a
probe, the only one is restarted) is not believed at once either.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from capstan_contract.config import ConfigReport
from capstan_operator.gateway_config.ledger import UNKNOWN, EntryId, Ledger, Recorded, Records, holds
from capstan_operator.resources.resource import Manifest
from capstan_operator.status.types import Acknowledgement, AckState

OLDER_FOR: Final = 30.0
"""Seconds for which a replica has to say that it runs an older config before it is believed: a container that was
restarted starts from files, and has the newest config from the API a moment later."""

ABSENT_FOR: Final = 30.0
"""Seconds for which there has to be no ready replica at all before that is believed: also by a process that has only
begun, which does not know whether there was one a moment ago."""


@dataclass(frozen=True, order=True)
class Replica:
    """One ready replica of the gateway."""

    id: str
    """Uid of its pod; its address when the EndpointSlice does not say."""
    addresses: tuple[str, ...] = field(default=(), compare=False)
    """Where it can be asked; of a dual-stack Service one of each family."""


@dataclass(frozen=True)
class Said:
    """What counts of a replica's reports."""

    hash: str | None
    refused: tuple[tuple[EntryId, tuple[str, ...]], ...] = ()

    @classmethod
    def of(cls, report: ConfigReport) -> "Said":
        """Give what counts of a report."""
        return cls(report.hash, tuple(sorted(report.refused.items())))


@dataclass
class Replicas:
    """The ready replicas, and the last that each has said. Pure."""

    said: dict[Replica, Said | None] = field(default_factory=dict)
    """None: nothing yet."""
    _older_since: dict[Replica, float] = field(default_factory=dict)
    _absent_since: float | None = None
    _is_gone: bool = False
    """Whether it is believed that there are none."""

    @property
    def is_absent(self) -> bool:
        """Whether there are none at present, for less than ABSENT_FOR."""
        return self._absent_since is not None

    def hear(self, answers: Mapping[Replica, ConfigReport | None], ledger: Ledger, *, now: float) -> bool:
        """Take up the answers of all ready replicas, None for one that gave none; say whether anything is new."""
        if not answers and not self._is_gone:
            self._absent_since = now if self._absent_since is None else self._absent_since
            if now - self._absent_since < ABSENT_FOR:
                return False
        self._absent_since, self._is_gone = None, not answers
        before = self.said
        self.said = {replica: self._worth(replica, report, ledger, now) for replica, report in answers.items()}
        self._older_since = {key: since for key, since in self._older_since.items() if key in answers}
        return self.said != before

    def _worth(self, replica: Replica, report: ConfigReport | None, ledger: Ledger, now: float) -> Said | None:
        before = self.said.get(replica)
        if report is None:
            return before
        if before is not None and (report.hash is None or ledger.is_older(report.hash, before.hash)):
            since = self._older_since.setdefault(replica, now)
            return before if now - since < OLDER_FOR else Said.of(report)
        self._older_since.pop(replica, None)
        return Said.of(report)

    def view(self, ledger: Ledger) -> "View":
        """Give what the replicas run by what the ledger knows now."""
        counted = Counter(self.said.values())
        return View(
            ready=len(self.said),
            groups=tuple(
                Group(
                    count,
                    ledger.records(said.hash) if said else None,
                    said is not None and said.hash is None,
                    _refused(said),
                )
                for said, count in counted.items()
            ),
        )


def _refused(said: Said | None) -> Mapping[EntryId, tuple[str, ...]]:
    return dict(said.refused) if said else {}


@dataclass(frozen=True)
class Group:
    """Replicas that have said the same."""

    count: int
    records: Records | None
    """None: what they run is not known."""
    empty: bool = False
    """Whether they run no config at all."""
    refused: Mapping[EntryId, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class View:
    """What all ready replicas run; asked for each object."""

    ready: int
    groups: Sequence[Group]

    def judge(self, entry: EntryId, *, uid: str, generation: int, served: bool) -> Acknowledgement:
        """Say how far the replicas are with one generation of an object.

        `served` is whether the object belongs into the config at all: one that does not is acknowledged by whoever no
        longer has it. A replica whose config is not known says neither yes nor no.
        """
        if not self.ready:
            return Acknowledgement(AckState.NO_GATEWAY)
        done = unknown = 0
        refused: tuple[str, ...] = ()
        for group in self.groups:
            if group.records is None and not group.empty:
                unknown += group.count
            elif _runs(group, entry, uid=uid, generation=generation, served=served):
                done += group.count
            elif served and holds(group.records or {}, entry, uid=uid, generation=generation):
                refused = refused or group.refused[entry]
        if refused:
            state = AckState.REFUSED
        elif done + unknown < self.ready:
            state = AckState.PENDING
        else:
            state = AckState.UNKNOWN if unknown else AckState.ACKNOWLEDGED
        return Acknowledgement(state, acknowledged=done, ready=self.ready, missing=refused)

    def recorded(self, entry: EntryId) -> Recorded | None:
        """Give what stands behind an entry at all replicas alike; None where they differ, or one is not known."""
        if any(group.records is None and not group.empty for group in self.groups):
            return None
        found = {(group.records or {}).get(entry, UNKNOWN) for group in self.groups}
        return found.pop() if len(found) == 1 else None


def _runs(group: Group, entry: EntryId, *, uid: str, generation: int, served: bool) -> bool:
    records = group.records or {}
    if not served:
        return entry not in records or entry in group.refused
    return entry not in group.refused and holds(records, entry, uid=uid, generation=generation)


def ready_replicas(slices: Sequence[Manifest]) -> tuple[Replica, ...]:
    """Give the ready endpoints, each pod once. `ready` absent means ready, as the API says."""
    return _pods(slices, lambda conditions: conditions.get("ready") is not False)


def leaving_replicas(slices: Sequence[Manifest]) -> tuple[Replica, ...]:
    """Give those that take nothing new and have not ended: they may still answer what they were given."""
    return _pods(slices, lambda said: said.get("ready") is False and said.get("terminating") is True)


def _pods(slices: Sequence[Manifest], wanted: Callable[[Mapping[str, Any]], bool]) -> tuple[Replica, ...]:
    found: dict[str, set[str]] = {}
    for item in slices:
        for endpoint in item.get("endpoints") or ():
            addresses = endpoint.get("addresses")
            if addresses and wanted(endpoint.get("conditions") or {}):
                pod = (endpoint.get("targetRef") or {}).get("uid") or addresses[0]
                found.setdefault(str(pod), set()).add(addresses[0])
    return tuple(Replica(pod, tuple(sorted(addresses))) for pod, addresses in sorted(found.items()))
