"""Policies as plain data, for tests of the pure part."""

from typing import Any

from capstan_operator.api.kinds import CACHEPOLICY, GUARDPOLICY, RATELIMITPOLICY, Kind, Policy
from capstan_operator.api.parse import parse_resource
from capstan_operator.loaders.policy_list import AllPolicies, KindPolicies

LIMITS = [{"name": "requests", "per": "Tenant", "requests": 10}]


def make_policy(name: str = "limits", **fields: Any) -> Policy:
    """Give a parsed RateLimitPolicy; unless it says otherwise it allows each tenant ten requests in a minute. What the
    fields are, `_make` says."""
    if not {"limits", "budgets"} & fields.keys():
        fields["limits"] = LIMITS
    return _make(RATELIMITPOLICY, name, **fields)


def make_guards(name: str = "guards", **fields: Any) -> Policy:
    """Give a parsed GuardPolicy; unless it says otherwise it looks for personal data in what is asked."""
    if not {"input", "output"} & fields.keys():
        fields["input"] = [{"type": "PII"}]
    return _make(GUARDPOLICY, name, **fields)


def make_cache(name: str = "cache", **fields: Any) -> Policy:
    """Give a parsed CachePolicy."""
    return _make(CACHEPOLICY, name, **fields)


def _make(
    kind: Kind[Any],
    name: str,
    *,
    namespace: str = "team",
    created: str = "2026-01-01T00:00:00Z",
    generation: int = 1,
    uid: str = "",
    status: dict[str, Any] | None = None,
    **spec: Any,
) -> Policy:
    metadata = {
        "name": name,
        "namespace": namespace,
        "uid": uid or f"uid-{namespace}-{name}",
        "generation": generation,
        "creationTimestamp": created,
    }
    return parse_resource(kind, {"metadata": metadata, "spec": spec, "status": status or {}})


def limits_only(policies: tuple[Policy, ...], *read: Any, **missing: Any) -> AllPolicies:
    """Give what a listing gives in which there are no policies but RateLimitPolicies."""
    return AllPolicies({RATELIMITPOLICY.name: KindPolicies(policies, *read, **missing)})


def named(*models: str) -> list[dict[str, str]]:
    """Give `targetRefs` of these models."""
    return [{"name": model} for model in models]
