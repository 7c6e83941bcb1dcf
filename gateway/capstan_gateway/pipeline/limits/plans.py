"""The plans of those who ask, made once for each."""

from collections import OrderedDict
from typing import Final

from capstan_gateway.identity.principal import Principal
from capstan_gateway.pipeline.limits.rules import Plan, Policy, plan_for

MAX_PLANS: Final = 16_384
"""A plan has about one KiB. Of more subjects than that the one whose plan is the oldest gets a new one."""
Key = tuple[object, ...]


class Plans:
    """In the loop's thread only."""

    def __init__(self, limit: int = MAX_PLANS) -> None:
        self._limit = limit
        self._plans: OrderedDict[Key, Plan | None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._plans)

    def find(
        self, policy: Policy, principal: Principal, *, model_id: str, model_name: str, inner: bool, now_ms: int
    ) -> Plan | None:
        """Give the plan, as `rules.plan_for` does."""
        key: Key = (policy, principal, inner)
        if policy.of_models:
            key = (policy, principal, inner, model_id, model_name)
        try:
            plan = self._plans[key]
            if plan is None or not plan.ends_ms or now_ms < plan.ends_ms:
                return plan
        except KeyError:
            pass
        plan = plan_for(policy, principal, model_id=model_id, model_name=model_name, inner=inner, now_ms=now_ms)
        self._plans.pop(key, None)
        self._plans[key] = plan
        if len(self._plans) > self._limit:
            self._plans.popitem(last=False)
        return plan

    def by_policy(self) -> dict[Policy, list[Plan]]:
        """Give the plans of each policy, for whoever wants to know how its counters stand. From any thread."""
        found: dict[Policy, list[Plan]] = {}
        for key, plan in list(self._plans.items()):
            if plan is not None and isinstance(key[0], Policy):
                found.setdefault(key[0], []).append(plan)
        return found
