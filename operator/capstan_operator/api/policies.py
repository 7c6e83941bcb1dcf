"""Parts that every kind of policy has: what it is about, and what its status says."""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from capstan_contract.limits import Mode
from capstan_operator.api.parts import Condition, LabelValue, LabelValues
from capstan_operator.api.patterns import CHILD_NAME, LABEL_KEY
from capstan_operator.api.rules import targets
from capstan_operator.api.schema import AS_SET, ObjectName, Part, Rule, bounded_list, listed_by

MOST_LOSSES = 15
"""So many of the models on which a policy is not in force are named."""


class TargetRef(Part):
    """An LLMModel of the namespace."""

    group: Literal["capstan.dev"] = "capstan.dev"
    """API group of the target."""
    kind: Literal["LLMModel"] = "LLMModel"
    """Kind of the target."""
    name: Annotated[str, StringConstraints(min_length=1, max_length=52, pattern=CHILD_NAME)]
    """Name of the target."""


class SelectorOperator(StrEnum):
    """How a label is compared."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class SelectorExpression(Part):
    """One requirement on a label, as in every selector of Kubernetes."""

    key: Annotated[str, StringConstraints(min_length=1, max_length=316, pattern=LABEL_KEY)]
    """Key of the label."""
    operator: SelectorOperator = Field(strict=False)
    """How the label's value is compared with `values`; NotIn holds too where there is no such label."""
    values: tuple[LabelValue, ...] = bounded_list(32, json_schema_extra=AS_SET)
    """What In and NotIn compare with."""

    rules: ClassVar[tuple[Rule, ...]] = targets.EXPRESSION


class TargetSelector(Part):
    """Labels of LLMModels: all that is said must hold. One that says nothing is for all LLMModels of the namespace."""

    matchLabels: LabelValues = Field(default_factory=dict)
    """Labels that a model must have."""
    matchExpressions: tuple[SelectorExpression, ...] = bounded_list(16)
    """Further requirements on its labels."""

    rules: ClassVar[tuple[Rule, ...]] = targets.SELECTOR


class PolicySpec(Part):
    """What the specs of all policies begin with."""

    className: ObjectName | None = None
    """Which install of Capstan works on this policy, as in an LLMModel; it is for LLMModels of the same class."""
    targetRefs: tuple[TargetRef, ...] = bounded_list(64, json_schema_extra=listed_by("name"))
    """The LLMModels that it is for, of its own namespace."""
    targetSelector: TargetSelector | None = None
    """Labels of the LLMModels that it is for, of its own namespace, in place of `targetRefs`."""
    mode: Mode = Field(default=Mode.ENFORCE, strict=False)
    """Enforce: it acts. Shadow: what it would have done is counted, and nothing else changes."""


class PolicyMetadata(Part):
    """The part of the metadata that has rules."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=253)]
    """Name of the resource."""


class PolicyInForce(Part):
    """A policy that is in force on a model."""

    kind: Annotated[str, StringConstraints(min_length=1, max_length=63)]
    """Kind of the policy."""
    namespace: Annotated[str, StringConstraints(max_length=63)]
    """Namespace of the policy."""
    name: Annotated[str, StringConstraints(max_length=253)]
    """Name of the policy."""


class AncestorRef(Part):
    """The object through which a policy acts."""

    group: Annotated[str, StringConstraints(max_length=253)] = ""
    """API group."""
    kind: Annotated[str, StringConstraints(min_length=1, max_length=63)]
    """Kind of the object."""
    namespace: Annotated[str, StringConstraints(max_length=63)] | None = None
    """Namespace of the object."""
    name: Annotated[str, StringConstraints(min_length=1, max_length=253)]
    """Name of the object."""


class LossStatus(Part):
    """A model that the policy is for and not in force on."""

    namespace: Annotated[str, StringConstraints(max_length=63)]
    """Namespace of the model."""
    name: Annotated[str, StringConstraints(max_length=253)]
    """Name of the model."""
    reason: Annotated[str, StringConstraints(max_length=64)]
    """Conflicted (another policy of the same kind, mode and level is in force), Overridden (one that is attached to the
    model itself beats one of the whole installation), TargetNotFound or NotServed."""
    winner: Annotated[str, StringConstraints(max_length=512)] | None = None
    """The policy that is in force instead: namespace/name."""


class AncestorStatus(Part):
    """What the policy comes to at one ancestor, as in the Gateway API."""

    ancestorRef: AncestorRef
    """The gateway's Service; its config where the operator knows of no Service."""
    controllerName: Annotated[str, StringConstraints(min_length=1, max_length=253)]
    """Who has written this."""
    conditions: tuple[Condition, ...] = bounded_list(8, json_schema_extra=listed_by("type"))
    """Accepted and Programmed."""
    models: int = Field(default=0, ge=0)
    """Models that it is in force on."""
    lost: int = Field(default=0, ge=0)
    """Models that it is for and not in force on."""
    losses: tuple[LossStatus, ...] = bounded_list(MOST_LOSSES)
    """The first of those, by name."""
