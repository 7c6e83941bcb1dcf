"""What the entries of all kinds of policies have in common."""

from collections.abc import Callable, Iterable
from typing import Final

from pydantic import ValidationError

from capstan_contract.entries import LabelRequirement, PolicyEntry, PolicyTargets
from capstan_contract.names import MAX_ENTRY_BYTES
from capstan_operator.api.kinds import Policy
from capstan_operator.api.policies import PolicySpec
from capstan_operator.resources.resource import Fault

MISSING: Final = (Fault("spec", "is missing"),)


def judge(policy: Policy, found: Iterable[Fault], build: Callable[[], PolicyEntry]) -> tuple[Fault, ...]:
    """Give what keeps a policy from being enforced: its schema, what was `found` beyond that, or that the entry which
    `build` gives is none that a gateway could read."""
    if faults := (*policy.faults, *found):
        return faults
    try:
        entry = build()
    except ValidationError as fault:
        first = fault.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        said = f"{where}: {first['msg']}" if where else first["msg"]
        return (Fault("spec", f"cannot be enforced by a gateway: {said}"),)
    if len(entry.text) > MAX_ENTRY_BYTES:
        return (Fault("spec", f"takes more than {MAX_ENTRY_BYTES} bytes of a gateway's config"),)
    return ()


def targets_of(spec: PolicySpec) -> PolicyTargets:
    """Give which models a policy is for; `everywhere` where it says none."""
    if spec.targetRefs:
        return PolicyTargets(names=tuple(sorted(target.name for target in spec.targetRefs)))
    selector = spec.targetSelector
    if selector is None:
        return PolicyTargets(everywhere=True)
    return PolicyTargets(
        labels=selector.matchLabels,
        expressions=tuple(
            LabelRequirement(key=one.key, operator=one.operator.value, values=tuple(sorted(one.values)))
            for one in selector.matchExpressions
        ),
    )
