"""What a virtual model does with a request, by ids: what these stand for is looked up in the Runtime."""

from dataclasses import dataclass

from capstan_contract.config import CascadeEstimator, RouterMember, StickyBy, Strategy
from capstan_gateway.arms.experiments import Setup


@dataclass(frozen=True, slots=True)
class RouterPlan:
    """One of the members answers."""

    strategy: Strategy
    sticky_by: StickyBy
    members: tuple[RouterMember, ...] | None
    """None: every model that is not virtual itself (`auto`)."""
    setup: Setup | None = None
    """What is counted of its members apart; None: nothing is."""


@dataclass(frozen=True, slots=True)
class CascadePlan:
    """The members are asked one after the other until an answer is good enough."""

    members: tuple[str, ...]
    threshold: float
    max_cost: float | None
    estimator: CascadeEstimator


Plan = RouterPlan | CascadePlan
