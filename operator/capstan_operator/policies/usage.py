"""How far limits and budgets are used, by what the gateway's replicas say."""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from pydantic import ValidationError

from capstan_contract.limits import RATE_LIMIT_KIND, LimitsReport, RuleUsage
from capstan_operator.api.ratelimitpolicy import RateLimitPolicySpec
from capstan_operator.resources.resource import PolicyKey
from capstan_operator.status.types import Transition

log = logging.getLogger(__name__)

SILENT_ROUNDS: Final = 4
"""For so many rounds a replica that gives no answer counts with what it has said last."""
NANO: Final = 1_000_000_000
MOST_RULES: Final = 80
DOLLARS: Final = "Dollars"


def merge_reports(reports: Iterable[LimitsReport]) -> dict[str, list[dict[str, Any]]]:
    """Give how far each policy is used, by its id, as its status says it: the rule that is used most comes first.

    Replicas that share their counts say the same, some a moment later than others: the greatest number counts. Money
    that replicas count each for themselves is added up; of shares the greatest one counts.
    """
    percents: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    shared: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    alone: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    for report in reports:
        for id_, rules in report.policies.items():
            for rule in rules:
                at = id_, rule.name, _counts(rule)
                percents[at] = max(percents[at], rule.usedPercent)
                if report.shared:
                    shared[at] = max(shared[at], rule.spentNanoDollars)
                else:
                    alone[at] += rule.spentNanoDollars
    found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for at in sorted(percents, key=lambda at: (-percents[at], at)):
        id_, name, counts = at
        entry: dict[str, Any] = {"name": name, "counts": counts, "usedPercent": percents[at]}
        if counts == DOLLARS:
            entry["spentDollars"] = dollars(shared[at] + alone[at])
        found[id_].append(entry)
    return {id_: rules[:MOST_RULES] for id_, rules in found.items()}


def _counts(rule: RuleUsage) -> str:
    return DOLLARS if rule.unit is None else str(rule.unit)


def dollars(nanos: int) -> str:
    """Write nano-dollars as dollars, without zeros that say nothing."""
    whole, rest = divmod(nanos, NANO)
    return f"{whole}.{rest:09}".rstrip("0").rstrip(".")


def budget_news(
    spec: RateLimitPolicySpec, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
) -> tuple[Transition, ...]:
    """Give what is worth an Event between two usages: budgets that pass their soft limit, or are spent."""
    past, now = _budgets(before), _budgets(after)
    news = []
    for budget in spec.budgets:
        used, earlier = now.get(budget.name, 0), past.get(budget.name, 0)
        if used >= 100 > earlier:
            news.append(Transition("Warning", "BudgetSpent", f"the budget '{budget.name}' is spent"))
        elif budget.softLimitPercent is not None and used >= budget.softLimitPercent > earlier:
            text = f"the budget '{budget.name}' is spent to {used} percent"
            news.append(Transition("Warning", "BudgetNearlySpent", text))
    return tuple(news)


def _budgets(usage: Mapping[str, Any] | None) -> dict[str, int]:
    rules = (usage or {}).get("used") or ()
    return {rule["name"]: rule["usedPercent"] for rule in rules if rule["counts"] == DOLLARS}


def remember(
    said: Mapping[str, tuple[LimitsReport, int]], answers: Mapping[str, LimitsReport | None]
) -> dict[str, tuple[LimitsReport, int]]:
    """Give what each of the ready replicas has said last: a silent one must not make a budget look unspent, whose end
    would be told again once it answers. One that stays silent is forgotten, and so is one that is gone."""
    found = {}
    for id_, answer in answers.items():
        before, age = said.get(id_, (None, SILENT_ROUNDS))
        if answer is not None:
            found[id_] = answer, 0
        elif before is not None and age < SILENT_ROUNDS:
            found[id_] = before, age + 1
    return found


class UsageTally:
    """Says how far limits and budgets are used."""

    kind = RATE_LIMIT_KIND
    path = "/internal/limits"

    def __init__(self) -> None:
        self._said: dict[str, tuple[LimitsReport, int]] = {}
        """What each ready replica has said last, by its id, and how many rounds ago."""

    def take(
        self, wanted: Mapping[PolicyKey, str], answers: Mapping[str, bytes | None]
    ) -> Mapping[PolicyKey, Mapping[str, Any]]:
        """Put together what was said: see `Tally`. A policy of which nothing is said is not used, or no longer."""
        self._said = remember(self._said, {id_: _report(text) for id_, text in answers.items()})
        if not self._said:
            return {}
        reports = [report for report, _ in self._said.values()]
        found, apart = merge_reports(reports), count_apart(reports)
        return {key: _told(found.get(str(key), []), apart) for key in wanted}


def count_apart(reports: Collection[LimitsReport]) -> int:
    """Give how many of several replicas count each for itself; 0: all count together, or there is only one."""
    return sum(not report.shared for report in reports) if len(reports) > 1 else 0


def _told(rules: list[dict[str, Any]], apart: int) -> dict[str, Any]:
    most = max((rule["usedPercent"] for rule in rules), default=0)
    return {"mostUsedPercent": most, "used": rules, **({"countedApart": apart} if apart else {})}


def _report(text: bytes | None) -> LimitsReport | None:
    try:
        return None if text is None else LimitsReport.model_validate_json(text, extra="ignore")
    except ValidationError as error:
        log.debug("gateway replica did not report", extra={"error": type(error).__name__})
        return None
