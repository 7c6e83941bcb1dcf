"""Whether the members of a virtual model take requests: the part of their status that its own status follows.

A cascade is a member like any other: a router follows what the cascade says of itself.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from capstan_contract.config import EstimatorType
from capstan_operator.api.kinds import Model
from capstan_operator.desired.members import JUDGE, named_members, unasked_members
from capstan_operator.desired.snapshot import Snapshot
from capstan_operator.desired.types import Verdict
from capstan_operator.status.conditions import Finding, conditions_by_type
from capstan_operator.status.types import CONFIG_TOO_LARGE

GATEWAY_REASONS: Final = frozenset(
    ("NoGateway", "GatewayUnknown", "GatewayPending", "GatewayRefused", CONFIG_TOO_LARGE)
)
"""What Ready says of a model that only the gateway keeps from being ready."""


@dataclass(frozen=True)
class Standing:
    """What matters of a model's conditions to the models that it is a member of; nothing that changes by itself."""

    available: bool
    reason: str
    """The reason of Available."""
    degraded: bool
    reached: bool = True
    """False while nothing but the gateway keeps it from being Ready: not every replica runs it yet."""

    @property
    def idle(self) -> bool:
        """Whether it takes no requests because no replica is wanted."""
        return not self.available and self.reason == "Idle"


UNKNOWN = Standing(available=False, reason="Unknown", degraded=False)
"""Of a model that has no conditions yet, or is gone."""


def standing_of(status: Mapping[str, Any]) -> Standing:
    """Read the standing off a status."""
    conditions = conditions_by_type(status)
    available = conditions.get("Available")
    if available is None:
        return UNKNOWN
    return Standing(
        available=available.get("status") == "True",
        reason=str(available.get("reason")),
        degraded=conditions.get("Degraded", {}).get("status") == "True",
        reached=conditions.get("Ready", {}).get("reason") not in GATEWAY_REASONS,
    )


@dataclass(frozen=True)
class Member:
    """One model that a virtual model makes use of."""

    name: str
    standing: Standing

    def __str__(self) -> str:
        return f"'{self.name}' ({self.standing.reason})"


@dataclass(frozen=True)
class Members:
    """The members of a virtual model that the gateway may ask, in the order of its spec."""

    all: tuple[Member, ...] = ()
    judge: Member | None = None
    """Only one that the model cannot do without."""


def gather_members(model: Model, verdict: Verdict, snapshot: Snapshot) -> Members:
    """Give the members of a model, as they stand in the snapshot; none for a model that is not virtual."""
    left_out = {one.field for one in verdict.left_out} | unasked_members(model)
    found: dict[str, Member] = {}
    for field, key in named_members(model):
        if field not in left_out:
            known = snapshot.models.get(key)
            found[field] = Member(key.name, standing_of(known.status) if known else UNKNOWN)
    judge = found.pop(JUDGE, None)
    cascade = model.spec.cascade if model.spec else None
    is_needed = cascade is not None and cascade.estimator.type is EstimatorType.JUDGE
    return Members(tuple(found.values()), judge if is_needed else None)


def availability(members: Members) -> Finding:
    """Say whether a virtual model takes requests: it does when any of its members does."""
    silent = [member for member in members.all if not member.standing.available]
    if len(silent) < len(members.all):
        some = f"some of its members answer, but not {_name(silent)}"
        return Finding("True", "Virtual", some if silent else "its members answer")
    if silent and all(member.standing.idle for member in silent):
        return Finding("False", "Idle", "no replica of its members is wanted")
    why = _name(silent) or "each that is left has the weight 0"
    return Finding("False", "NoMemberAvailable", f"none of its members takes requests: {why}")


def pending(members: Members) -> Finding | None:
    """Say that the gateway does not run any of the members that take requests.

    A virtual model keeps its generation when a member comes that it was missing, so the gateway's word on its own
    generation says nothing about that member: the member's Ready does.
    """
    able = [member for member in members.all if member.standing.available]
    if not able or any(member.standing.reached for member in able):
        return None
    return Finding("False", "GatewayPending", f"the gateway does not run its members yet: {_name(able)}")


def degradation(members: Members) -> Finding | None:
    """Say what needs a person: members of which none comes back by itself, or a judge that does not answer."""
    found = availability(members)
    if found.reason == "NoMemberAvailable":
        helpless = all(member.standing.degraded or member.standing.idle for member in members.all)
        return Finding("True", "NoMemberAvailable", found.message) if helpless else None
    judge = members.judge
    if found.status == "True" and judge and not judge.standing.available:
        return Finding("True", "JudgeNotAvailable", f"its judge takes no requests: {judge}")
    return None


def _name(members: Iterable[Member]) -> str:
    return ", ".join(map(str, members))
