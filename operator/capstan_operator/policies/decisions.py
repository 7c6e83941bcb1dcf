"""What guards have decided, summed over the gateway's replicas so that no sum goes down.

A replica counts from when it began, and is gone one day. So what is added is how much each of its counts has grown
since it was asked last, and all of the counts of one that was never asked. An operator that begins goes on from what
the status says: what replicas that are older than that have counted is in it, as far as it was written.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from capstan_contract.guards import GUARD_KIND, MOST_GUARDS, GuardCounts, GuardsReport
from capstan_operator.resources.resource import PolicyKey

log = logging.getLogger(__name__)

COUNTED: Final = ("blocked", "redacted", "warned", "failed")
MOST_REPLICAS: Final = 256
"""Of so many replicas it is remembered what they have said, whether or not they are still there."""
_Numbers = tuple[int, ...]
"""One for each that is counted."""
_NOTHING: Final[_Numbers] = (0,) * len(COUNTED)


class GuardName(NamedTuple):
    """Which guard of a policy."""

    stage: str
    name: str
    type: str


class Life(NamedTuple):
    """One replica, from when it began to count."""

    replica: str
    since: int


def _add(some: _Numbers, others: _Numbers) -> _Numbers:
    return tuple(one + other for one, other in zip(some, others, strict=True))


def _grown(before: _Numbers, now: _Numbers) -> _Numbers:
    """Give how much counts have grown; one that is less than before has begun anew."""
    return tuple(new - old if new >= old else new for old, new in zip(before, now, strict=True))


@dataclass
class Totals:
    """The sums of one policy."""

    written: Mapping[GuardName, _Numbers] = field(default_factory=dict)
    """What its status said when this process began."""
    written_at: int | None = None
    """When that was written, in Unix seconds; None: its status said nothing."""
    since: int | None = None
    _last: OrderedDict[Life, dict[GuardName, _Numbers]] = field(default_factory=OrderedDict)
    _old: dict[GuardName, _Numbers] = field(default_factory=dict)
    """What replicas that are older than the status had counted when they were asked first: it is in the status, or was
    counted while nobody asked."""
    _new: dict[GuardName, _Numbers] = field(default_factory=dict)

    @classmethod
    def of_status(cls, decisions: Mapping[str, Any] | None) -> "Totals":
        """Give those to go on from."""
        if not decisions:
            return cls()
        written = {
            GuardName(one["stage"], one["name"], one["type"]): tuple(one.get(what, 0) for what in COUNTED)
            for one in decisions.get("guards") or ()
        }
        return cls(written, _seconds(decisions["observedTime"]), _seconds(decisions["since"]))

    def take(self, life: Life, counts: Mapping[GuardName, _Numbers]) -> None:
        """Take in what a replica says."""
        known = self._last.get(life)
        is_old = known is None and self.written_at is not None and life.since <= self.written_at
        sums = self._old if is_old else self._new
        for guard, now in counts.items():
            sums[guard] = _add(sums.get(guard, _NOTHING), _grown((known or {}).get(guard, _NOTHING), now))
        self._last[life] = {**(known or {}), **counts}
        self._last.move_to_end(life)
        while len(self._last) > MOST_REPLICAS:
            self._last.popitem(last=False)
        self.since = life.since if self.since is None else min(self.since, life.since)

    def of(self, guard: GuardName) -> _Numbers:
        """Give the sums of a guard."""
        # NB: the greater one of the two is in it for certain; their sum might count what both have twice.
        pairs = zip(self.written.get(guard, _NOTHING), self._old.get(guard, _NOTHING), strict=True)
        return _add(tuple(max(pair) for pair in pairs), self._new.get(guard, _NOTHING))


def _seconds(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp())


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class DecisionsTally:
    """Sums what guards have decided."""

    kind = GUARD_KIND
    path = "/internal/guards"

    def __init__(self, *, before: Callable[[PolicyKey], Mapping[str, Any] | None]) -> None:
        """`before` gives what the status of a policy says of decisions."""
        self._before = before
        self._totals: dict[tuple[PolicyKey, str], Totals] = {}
        self._guards: dict[PolicyKey, list[GuardName]] = {}
        """Of each policy, as replicas have named them last."""

    def take(
        self, wanted: Mapping[PolicyKey, str], answers: Mapping[str, bytes | None]
    ) -> Mapping[PolicyKey, Mapping[str, Any]]:
        """Sum what was said: see `Tally`."""
        self._totals = {at: totals for at, totals in self._totals.items() if wanted.get(at[0]) == at[1]}
        self._guards = {key: guards for key, guards in self._guards.items() if key in wanted}
        reports = list(_reports(answers))
        found = {}
        for key, uid in wanted.items():
            said = [(life, counts) for life, report in reports if (counts := report.policies.get(str(key)))]
            totals = self._totals.get((key, uid))
            if totals is None and said:
                totals = self._totals[key, uid] = Totals.of_status(self._before(key))
            if totals is None:
                continue
            for life, counts in said:
                totals.take(life, {_name_of(one): _numbers_of(one) for one in counts})
            if said:
                self._guards[key] = list(dict.fromkeys(_name_of(one) for _, counts in said for one in counts))
            found[key] = _told(totals, self._guards[key][: 2 * MOST_GUARDS])
        return found


def _reports(answers: Mapping[str, bytes | None]) -> Iterator[tuple[Life, GuardsReport]]:
    for replica, text in answers.items():
        try:
            if text is not None:
                report = GuardsReport.model_validate_json(text, extra="ignore")
                yield Life(replica, report.since), report
        except ValidationError as error:
            log.debug("gateway replica did not report", extra={"replica": replica, "error": type(error).__name__})


def _name_of(counts: GuardCounts) -> GuardName:
    return GuardName(str(counts.stage), counts.name, counts.type)


def _numbers_of(counts: GuardCounts) -> _Numbers:
    return tuple(getattr(counts, what) for what in COUNTED)


def _told(totals: Totals, guards: list[GuardName]) -> dict[str, Any]:
    """Give the sums as the status says them."""
    rows = [(guard, totals.of(guard)) for guard in guards]
    whole = _NOTHING
    for _, numbers in rows:
        whole = _add(whole, numbers)
    return {
        "since": _time(totals.since or 0),
        **dict(zip(COUNTED, whole, strict=True)),
        "guards": [{**guard._asdict(), **dict(zip(COUNTED, numbers, strict=True))} for guard, numbers in rows],
    }
