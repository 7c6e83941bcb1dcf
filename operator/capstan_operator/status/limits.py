"""What the conditions of a RateLimitPolicy say beyond those of every policy."""

from collections.abc import Mapping
from typing import Any

from capstan_contract.limits import Mode
from capstan_operator.api.ratelimitpolicy import RateLimitPolicySpec
from capstan_operator.status.conditions import Finding


def limit_findings(spec: object, usage: Mapping[str, Any] | None) -> dict[str, Finding]:
    """Give whether gateways count together, by what the status says of how far the policy is used; nothing while
    nothing is known, and of one that only looks on."""
    if not isinstance(spec, RateLimitPolicySpec) or usage is None or spec.mode is not Mode.ENFORCE:
        return {}
    if usage.get("countedApart"):
        message = (
            "the gateway has no Redis: its replicas count limits and budgets each for itself, so that together they "
            "let through a limit as many times as there are replicas"
        )
        return {"Shared": Finding("False", "NoRedis", message)}
    return {"Shared": Finding("True", "Shared", "the gateway's replicas count together, or there is only one")}
