"""What the conditions of a CachePolicy say beyond those of every policy: from its spec, and what its cache has done."""

from collections.abc import Mapping
from typing import Any

from capstan_contract.limits import Mode
from capstan_operator.api.cachepolicy import CachePolicySpec
from capstan_operator.status.conditions import Finding


def cache_findings(spec: object, cached: Mapping[str, Any] | None) -> dict[str, Finding]:
    """Give them; none where the policy wants nothing that they are about, or nothing is known."""
    if not isinstance(spec, CachePolicySpec) or cached is None:
        return {}
    found = {}
    # NB: who only looks on keeps answers in memory alone, whatever `redis` says.
    if spec.redis.enabled and spec.mode is Mode.ENFORCE:
        found["Shared"] = _shared(cached)
    if spec.semantic.enabled:
        found["SemanticHealthy"] = _healthy(cached, spec.mode)
    return found


def _shared(cached: Mapping[str, Any]) -> Finding:
    if not cached.get("shared"):
        message = "the gateway has no Redis: each of its replicas keeps answers for itself, in memory alone"
        return Finding("False", "NoRedis", message)
    if down := cached.get("redisDown", 0):
        message = f"Redis does not answer {down} of the gateway's replicas: they keep answers in memory alone"
        return Finding("False", "RedisDown", message)
    return Finding("True", "Shared", "the gateway's replicas share what they keep")


def _healthy(cached: Mapping[str, Any], mode: Mode) -> Finding:
    measured = cached.get("falseHits")
    said = "no hit was compared yet" if measured is None else _measured(measured)
    if cached.get("semanticOff"):
        until = "until a person changes `spec.semantic` or runs `capstan cache reset`"
        given = "are" if mode is Mode.ENFORCE else "would be"
        what = f"no more answers to questions that mean the same {given} given"
        return Finding("False", "TurnedOff", f"{what}, {until}: {said}")
    return Finding("Unknown", "NotMeasured", said) if measured is None else Finding("True", "WithinBudget", said)


def _measured(found: Mapping[str, Any]) -> str:
    low, high = (f"{100 * float(found[end]):.1f}" for end in ("low", "high"))
    return (
        f"{found['wrong']} of {found['sampled']} hits that were compared were another answer ({low} to {high} percent)"
    )
