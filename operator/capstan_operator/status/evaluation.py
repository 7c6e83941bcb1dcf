"""What the status says of a model whose answers are judged in production. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from capstan_contract.evaluation import TrackScores
from capstan_contract.names import CANARY
from capstan_operator.api.kinds import Model
from capstan_operator.status.conditions import Finding
from capstan_operator.status.types import Transition

HEALTHY: Final = "EvaluationHealthy"
BELOW: Final = "ScoreBelowThreshold"
AS_EXPECTED: Final = "AsExpected"


def evaluation_findings(
    model: Model, scores: Sequence[TrackScores] | None, present: Mapping[str, Mapping[str, Any]]
) -> dict[str, Finding]:
    """Give the condition that only a model with `evaluation.alertBelow` has.

    `scores` is what the scorer says of the model; None: nobody says anything, and what was said last stands. It is
    never decided by few answers, and never by a canary's: that is what a rollout is gated by.
    """
    wanted = model.spec.evaluation if model.spec else None
    if wanted is None or wanted.alertBelow is None:
        return {}
    before = present.get(HEALTHY)
    if scores is None:
        if before is not None:
            return {HEALTHY: Finding(before["status"], str(before["reason"]), str(before["message"]))}
        return {HEALTHY: Finding("Unknown", "ScoresUnknown", "no scorer says how the answers were judged")}
    least = float(Decimal(wanted.alertBelow))
    newest, enough = list(_newest(scores)), wanted.window.minimumCount
    known = [one for one in newest if one.count >= enough]
    was_bad = before is not None and before.get("status") == "False"
    # NB: a window whose answers grow old holds now a few more than enough and now a few less.
    named = [one for one in newest if was_bad and _is_named(before, one) and one.count * 2 >= enough]
    if bad := [one for one in newest if (one in known and one.high < least) or (one in named and one.mean < least)]:
        names = ", ".join(f"'{one.criterion}'" for one in sorted(bad, key=lambda one: one.criterion))
        return {HEALTHY: Finding("False", BELOW, f"the mean score lies below {wanted.alertBelow} by: {names}")}
    if not known:
        few = f"no criterion has {wanted.window.minimumCount} scored answers yet"
        return {HEALTHY: Finding("Unknown", "TooFewScores", few)}
    return {HEALTHY: Finding("True", AS_EXPECTED, f"no mean score lies below {wanted.alertBelow}")}


def _newest(scores: Iterable[TrackScores]) -> Iterator[TrackScores]:
    """Give for each criterion the scores of the revision that serves: the one of the newest answer, no canary's."""
    found: dict[str, TrackScores] = {}
    for one in scores:
        known = found.get(one.criterion)
        if one.track != CANARY and (known is None or one.newest > known.newest):
            found[one.criterion] = one
    yield from found.values()


def _is_named(before: Mapping[str, Any] | None, one: TrackScores) -> bool:
    """Whether the condition speaks of this criterion already: then it does until the mean is not below any more."""
    return before is not None and f"'{one.criterion}'" in str(before.get("message"))


def evaluation_news(present: Mapping[str, Mapping[str, Any]], findings: Mapping[str, Finding]) -> Iterator[Transition]:
    """Give the news: that answers are worse than they may be, or by other criteria, and that they are not any more."""
    found, before = findings.get(HEALTHY), present.get(HEALTHY, {})
    if found is None:
        return
    if found.status == "False" and (before.get("status"), before.get("message")) != ("False", found.message):
        yield Transition("Warning", BELOW, found.message)
    elif found.status == "True" and before.get("status") == "False":
        yield Transition("Normal", "ScoreRecovered", found.message)
