"""Parts that several kinds share: references, environment variables, tolerations, conditions."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from capstan_operator.api.patterns import DATA_KEY, ENV_NAME, LABEL_KEY, LABEL_VALUE, REASON
from capstan_operator.api.schema import Part, Rule, SubdomainName, matches

DataKey = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=DATA_KEY)]
LabelValue = Annotated[str, StringConstraints(max_length=63, pattern=LABEL_VALUE)]


class SecretKeyRef(Part):
    """A key of a Secret in the namespace of the resource."""

    name: SubdomainName
    """Name of the Secret."""
    key: DataKey
    """Key in the Secret's data."""


class ConfigMapKeyRef(Part):
    """A key of a ConfigMap in the namespace of the resource."""

    name: SubdomainName
    """Name of the ConfigMap."""
    key: DataKey
    """Key in the ConfigMap's data."""


class EnvSource(Part):
    """Where an environment variable's value comes from: exactly one of the two."""

    secretKeyRef: SecretKeyRef | None = None
    """A Secret's key."""
    configMapKeyRef: ConfigMapKeyRef | None = None
    """A ConfigMap's key."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="has(self.secretKeyRef) != has(self.configMapKeyRef)",
            message="must have exactly one of `secretKeyRef` and `configMapKeyRef`",
            holds=lambda self: (self.secretKeyRef is None) != (self.configMapKeyRef is None),
        ),
    )


class EnvVar(Part):
    """An environment variable of the engine's container: a value, or where to take it from."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=ENV_NAME)]
    """Name of the variable."""
    value: Annotated[str, StringConstraints(max_length=4096)] | None = None
    """The value itself. Never a secret: use valueFrom for one."""
    valueFrom: EnvSource | None = None
    """Take the value from a Secret or a ConfigMap."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="has(self.value) != has(self.valueFrom)",
            message="must have exactly one of `value` and `valueFrom`",
            holds=lambda self: (self.value is None) != (self.valueFrom is None),
        ),
    )


class Toleration(Part):
    """A taint that the pods tolerate, as in a pod."""

    key: Annotated[str, StringConstraints(min_length=1, max_length=316, pattern=LABEL_KEY)] | None = None
    """Key of the taint; absent with operator Exists matches all."""
    operator: Literal["Exists", "Equal"] = "Equal"
    """Whether the value counts."""
    value: LabelValue | None = None
    """Value of the taint."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint; absent matches all."""
    tolerationSeconds: int | None = Field(default=None, ge=0, le=31_536_000)
    """How long a NoExecute taint is tolerated, in seconds."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="has(self.key) || self.operator == 'Exists'",
            message="must be Exists when `key` is not set",
            holds=lambda self: self.key is not None or self.operator == "Exists",
            field_path=".operator",
        ),
        Rule(
            cel="!has(self.value) || self.value == '' || self.operator == 'Equal'",
            message="must not be set when `operator` is Exists",
            holds=lambda self: not self.value or self.operator == "Equal",
            field_path=".value",
        ),
        Rule(
            cel="!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            message="must not be set unless `effect` is NoExecute",
            holds=lambda self: self.tolerationSeconds is None or self.effect == "NoExecute",
            field_path=".tolerationSeconds",
        ),
    )


LabelValues = Annotated[dict[str, LabelValue], Field(max_length=32)]


def are_label_keys(keys: object) -> bool:
    """Say whether every key of a map is a label key (a schema cannot bound the keys of a map; a rule has to)."""
    return isinstance(keys, dict) and all(len(key) <= 316 and matches(LABEL_KEY, key) for key in keys)


class Condition(Part):
    """One aspect of the state, as in every Kubernetes API."""

    type: Annotated[str, StringConstraints(min_length=1, max_length=316)]
    """Which aspect."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=REASON)]
    """Why, for programs."""
    message: Annotated[str, StringConstraints(max_length=32768)]
    """Why, for people."""
    observedGeneration: int = Field(default=0, ge=0)
    """The generation that this speaks of."""
    lastTransitionTime: Annotated[
        str, StringConstraints(max_length=64), Field(json_schema_extra={"format": "date-time"})
    ]
    """When the status last changed."""
