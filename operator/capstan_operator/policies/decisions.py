"""What guards have decided, summed over the gateway's replicas so that no sum goes down."""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from capstan_contract.guards import GUARD_KIND, MOST_GUARDS, GuardCounts, GuardsReport
from capstan_operator.policies.sums import Life, Numbers, Sums, Totals, add, seconds_of, time_of
from capstan_operator.resources.resource import PolicyKey

log = logging.getLogger(__name__)

COUNTED: Final = ("blocked", "redacted", "warned", "failed")


class GuardName(NamedTuple):
    """Which guard of a policy."""

    stage: str
    name: str
    type: str


def totals_of(decisions: Mapping[str, Any] | None) -> Totals[GuardName]:
    """Give the sums to go on from, by what a status says."""
    if not decisions:
        return Totals(len(COUNTED))
    written = {
        GuardName(one["stage"], one["name"], one["type"]): tuple(one.get(what, 0) for what in COUNTED)
        for one in decisions.get("guards") or ()
    }
    return Totals(len(COUNTED), written, seconds_of(decisions["observedTime"]), seconds_of(decisions["since"]))


class DecisionsTally:
    """Sums what guards have decided."""

    kind = GUARD_KIND
    path = "/internal/guards"

    def __init__(self, *, before: Callable[[PolicyKey], Mapping[str, Any] | None]) -> None:
        """`before` gives what the status of a policy says of decisions."""
        self._sums: Sums[GuardName] = Sums(lambda key: totals_of(before(key)))
        self._guards: dict[PolicyKey, list[GuardName]] = {}
        """Of each policy, as replicas have named them last."""

    def take(
        self, wanted: Mapping[PolicyKey, str], answers: Mapping[str, bytes | None]
    ) -> Mapping[PolicyKey, Mapping[str, Any]]:
        """Sum what was said: see `Tally`."""
        self._sums.keep(wanted)
        self._guards = {key: guards for key, guards in self._guards.items() if key in wanted}
        reports = list(_reports(answers))
        found = {}
        for key, uid in wanted.items():
            said = [(life, counts) for life, report in reports if (counts := report.policies.get(str(key)))]
            numbers = ((life, {_name_of(one): _numbers_of(one) for one in counts}) for life, counts in said)
            totals = self._sums.take(key, uid, numbers)
            if totals is None:
                continue
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


def _numbers_of(counts: GuardCounts) -> Numbers:
    return tuple(getattr(counts, what) for what in COUNTED)


def _told(totals: Totals[GuardName], guards: list[GuardName]) -> dict[str, Any]:
    """Give the sums as the status says them."""
    rows = [(guard, totals.of(guard)) for guard in guards]
    whole: Numbers = (0,) * len(COUNTED)
    for _, numbers in rows:
        whole = add(whole, numbers)
    return {
        "since": time_of(totals.since or 0),
        **dict(zip(COUNTED, whole, strict=True)),
        "guards": [{**guard._asdict(), **dict(zip(COUNTED, numbers, strict=True))} for guard, numbers in rows],
    }
