"""What caches have done, by what the gateway's replicas say."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from capstan_contract.caches import CACHE_KIND, CacheCounts, CachesReport
from capstan_contract.intervals import wilson
from capstan_contract.limits import Mode
from capstan_operator.policies.sums import Life, Numbers, Sums, Totals, seconds_of, time_of
from capstan_operator.policies.usage import NANO, dollars
from capstan_operator.resources.resource import PolicyKey

log = logging.getLogger(__name__)

HITS: Final = ("memoryHits", "redisHits", "semanticHits")
SAVED: Final = "savedNanoDollars"
COUNTED: Final = (*HITS, "misses", "bypassed", "savedTokens", SAVED)
_ALL: Final = ""
"""A policy has one row of numbers."""
_Said = tuple[Life, bool, CacheCounts]
"""A replica, whether it shares what it keeps, and its counts."""


class _Heard(NamedTuple):
    """What a replica has said last."""

    life: Life
    report: CachesReport
    wanted: Mapping[PolicyKey, str]
    """The policies that there were then, with their uids."""


def totals_of(cached: Mapping[str, Any] | None, mode: Mode) -> Totals[str]:
    """Give the sums to go on from, by what a status says. What was counted in another mode is no part of them."""
    if not cached or cached.get("mode") != mode:
        return Totals(len(COUNTED))
    nanos = int(Decimal(cached.get("savedDollars") or 0) * NANO)
    numbers = tuple(nanos if what == SAVED else int(cached.get(what, 0)) for what in COUNTED)
    return Totals(len(COUNTED), {_ALL: numbers}, seconds_of(cached["observedTime"]), seconds_of(cached["since"]))


class CachesTally:
    """Sums what caches have done."""

    kind = CACHE_KIND
    path = "/internal/caches"

    def __init__(self, *, before: Callable[[PolicyKey], Mapping[str, Any] | None]) -> None:
        """`before` gives what the status of a policy says of its cache."""
        self._modes: dict[PolicyKey, Mode] = {}
        """Of each policy, as replicas have said last."""
        self._sums: Sums[str] = Sums(lambda key: totals_of(before(key), self._modes[key]))
        self._heard: dict[str, _Heard] = {}
        self._found: dict[PolicyKey, tuple[str, dict[str, Any]]] = {}
        """What was told last, and of which uid and mode."""

    def take(
        self, wanted: Mapping[PolicyKey, str], answers: Mapping[str, bytes | None]
    ) -> Mapping[PolicyKey, Mapping[str, Any]]:
        """Sum what was said: see `Tally`. What is only so now, such as whether Redis answers, is that of the replicas
        that are there; of one that does not answer it is what it has said last."""
        # NB: else what one replica alone says, such as that it gives no hits by meaning, would come and go.
        heard = {
            replica: _report(replica, text, wanted) or self._heard.get(replica) for replica, text in answers.items()
        }
        self._heard = {replica: one for replica, one in heard.items() if one is not None}
        said = {key: _said_of(key, uid, self._heard.values()) for key, uid in wanted.items()}
        self._modes = {key: mode for key in wanted if (mode := _mode_of(said[key]) or self._modes.get(key)) is not None}
        same = {key: f"{wanted[key]}/{mode}" for key, mode in self._modes.items()}
        self._sums.keep(same)
        self._found = {key: found for key, found in self._found.items() if found[0] == same.get(key)}
        for key, mode in self._modes.items():
            rows = [one for one in said[key] if one[2].mode is mode]
            totals = self._sums.take(key, same[key], ((life, {_ALL: _numbers_of(one)}) for life, _, one in rows))
            if totals is not None and rows:
                self._found[key] = same[key], {"mode": mode.value, **_told(totals), **_state(rows)}
        return {key: found for key, (_, found) in self._found.items()}


def _report(replica: str, text: bytes | None, wanted: Mapping[PolicyKey, str]) -> _Heard | None:
    if text is None:
        return None
    try:
        report = CachesReport.model_validate_json(text, extra="ignore")
    except ValidationError as error:
        log.debug("gateway replica did not report", extra={"replica": replica, "error": type(error).__name__})
        return None
    return _Heard(Life(replica, report.since), report, dict(wanted))


def _said_of(key: PolicyKey, uid: str, heard: Iterable[_Heard]) -> list[_Said]:
    """Give what is said of a policy; what was heard before it was made is of another one of its name."""
    found = ((one, one.report.policies.get(str(key))) for one in heard if one.wanted.get(key) == uid)
    return [(one.life, one.report.shared, counts) for one, counts in found if counts is not None]


def _mode_of(said: Iterable[_Said]) -> Mode | None:
    """Give the mode in which most replicas have a policy: while it changes some have the old one."""
    found = Counter(counts.mode for _, _, counts in said).most_common(1)
    return found[0][0] if found else None


def _numbers_of(counts: CacheCounts) -> Numbers:
    return tuple(getattr(counts, what) for what in COUNTED)


def _told(totals: Totals[str]) -> dict[str, Any]:
    """Give the sums as the status says them."""
    numbers = dict(zip(COUNTED, totals.of(_ALL), strict=True))
    saved = numbers.pop(SAVED)
    hits = sum(numbers[one] for one in HITS)
    looked = hits + numbers["misses"]
    return {
        "since": time_of(totals.since or 0),
        "hits": hits,
        "hitPercent": 100 * hits // looked if looked else 0,
        **numbers,
        "savedDollars": dollars(saved),
    }


def _state(said: list[_Said]) -> dict[str, Any]:
    """Give what is so now. What replicas count together each of them says; what each counts for itself is added."""
    shared = all(one for _, one, _ in said)
    pairs = [(counts.sampled, counts.wrong) for _, _, counts in said]
    sampled, wrong = max(pairs) if shared else (sum(one for one, _ in pairs), sum(one for _, one in pairs))
    found: dict[str, Any] = {
        "shared": shared,
        "redisDown": sum(counts.redisDown for _, _, counts in said),
        "entries": sum(counts.entries for _, _, counts in said),
        "bytes": sum(counts.bytes for _, _, counts in said),
        "semanticOff": any(counts.semanticOff for _, _, counts in said),
    }
    if sampled:
        low, high = wilson(min(wrong, sampled), sampled)
        found["falseHits"] = {
            "sampled": sampled,
            "wrong": wrong,
            "rate": _share(wrong / sampled),
            "low": _share(low),
            "high": _share(high),
        }
    return found


def _share(value: float) -> str:
    return f"{value:.4f}"
