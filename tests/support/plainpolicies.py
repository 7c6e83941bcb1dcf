"""RateLimitPolicies as plain data, for tests of the pure part."""

from typing import Any

from capstan_operator.api.kinds import RATELIMITPOLICY, Policy
from capstan_operator.api.parse import parse_resource

LIMITS = [{"name": "requests", "per": "Tenant", "requests": 10}]


def make_policy(
    name: str = "limits",
    *,
    namespace: str = "team",
    created: str = "2026-01-01T00:00:00Z",
    generation: int = 1,
    uid: str = "",
    status: dict[str, Any] | None = None,
    **spec: Any,
) -> Policy:
    """Give a parsed RateLimitPolicy; unless it says otherwise it allows each tenant ten requests in a minute."""
    if not {"limits", "budgets"} & spec.keys():
        spec["limits"] = LIMITS
    metadata = {
        "name": name,
        "namespace": namespace,
        "uid": uid or f"uid-{namespace}-{name}",
        "generation": generation,
        "creationTimestamp": created,
    }
    return parse_resource(RATELIMITPOLICY, {"metadata": metadata, "spec": spec, "status": status or {}})


def named(*models: str) -> list[dict[str, str]]:
    """Give `targetRefs` of these models."""
    return [{"name": model} for model in models]
