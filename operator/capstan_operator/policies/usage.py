"""How far policies are used: asked of the gateway's replicas now and then, for the status.

It is for people, and written seldom: a policy is woken at most once in each round, and only where the numbers are
others than they were.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import aiohttp
from pydantic import ValidationError

from capstan_contract.limits import LimitsReport, RuleUsage
from capstan_operator.api.ratelimitpolicy import RateLimitPolicySpec
from capstan_operator.gateway_config.pages import AdminKey, read_page
from capstan_operator.gateway_config.replicas import Replica
from capstan_operator.kube.errors import KubeError
from capstan_operator.resources.resource import PolicyKey
from capstan_operator.status.types import Transition

log = logging.getLogger(__name__)

INTERVAL: Final = 30.0
"""Seconds between two rounds."""
ANSWER: Final = 2.0
"""Deadline of one question."""
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


class UsageWatch:
    """Asks until cancelled; `of` gives what is known of a policy."""

    def __init__(
        self,
        *,
        replicas: Callable[[], Awaitable[tuple[Replica, ...]]],
        policies: Callable[[], Iterable[PolicyKey]],
        wake: Callable[[PolicyKey], None],
        port: int,
        admin_key: AdminKey | None = None,
        interval: float = INTERVAL,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`policies` gives those that are in the config: without any, nobody is asked."""
        self._replicas = replicas
        self._policies = policies
        self._wake = wake
        self._port = port
        self._admin_key = admin_key
        self._interval = interval
        self._now = now
        self._known: dict[PolicyKey, Mapping[str, Any]] = {}
        self._said: dict[str, tuple[LimitsReport, int]] = {}
        """What each ready replica has said last, by its id, and how many rounds ago."""

    def of(self, key: PolicyKey) -> Mapping[str, Any] | None:
        """Give what is known of a policy, as its status says it; None when nothing is."""
        return self._known.get(key)

    async def run(self) -> None:
        """Ask until cancelled."""
        timeout = aiohttp.ClientTimeout(total=ANSWER)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=16)) as session:
            while True:
                await asyncio.sleep(self._interval)
                try:
                    await self._round(session)
                except KubeError as error:
                    log.debug("could not list the gateway's replicas", extra={"error": str(error)})

    async def _round(self, session: aiohttp.ClientSession) -> None:
        wanted = set(self._policies())
        self._known = {key: usage for key, usage in self._known.items() if key in wanted}
        if not wanted:
            return
        replicas = await self._replicas()
        answers = await asyncio.gather(*(self._ask(session, replica) for replica in replicas))
        self._said = remember(self._said, {one.id: told for one, told in zip(replicas, answers, strict=True)})
        if self._said:
            self._take(wanted, merge_reports(report for report, _ in self._said.values()))

    def _take(self, wanted: set[PolicyKey], found: Mapping[str, list[dict[str, Any]]]) -> None:
        """Take in what was said; a policy of which nothing is said has not been used, or no longer."""
        said = {key: found.get(str(key), []) for key in wanted}
        time = self._now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for key, rules in sorted(said.items()):
            before = self._known.get(key)
            # NB: what is said first is told in any case: the status may have what a process before has seen.
            if before is not None and before["used"] == rules:
                continue
            most = max((rule["usedPercent"] for rule in rules), default=0)
            self._known[key] = {"observedTime": time, "mostUsedPercent": most, "used": rules}
            self._wake(key)

    async def _ask(self, session: aiohttp.ClientSession, replica: Replica) -> LimitsReport | None:
        for address in replica.addresses:
            text = await read_page(session, address, port=self._port, path="/internal/limits", key=self._admin_key)
            try:
                if text is not None:
                    return LimitsReport.model_validate_json(text, extra="ignore")
            except ValidationError as error:
                log.debug("gateway replica did not report", extra={"address": address, "error": type(error).__name__})
        return None
