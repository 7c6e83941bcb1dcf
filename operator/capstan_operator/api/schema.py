"""Building blocks of the resource models: bounded types and CEL rules that travel with the class they check."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.annotated_handlers import GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError

from capstan_operator.api.patterns import BYTES, CPU, DECIMAL, DNS_LABEL, DNS_SUBDOMAIN, MODEL_NAME

ObjectName = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=DNS_LABEL)]
SubdomainName = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=DNS_SUBDOMAIN)]
ServedName = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=MODEL_NAME)]
CpuQuantity = Annotated[str, StringConstraints(min_length=1, max_length=20, pattern=CPU)]
Quantity = Annotated[str, StringConstraints(min_length=1, max_length=20, pattern=BYTES)]
Dollars = Annotated[str, StringConstraints(min_length=1, max_length=16, pattern=DECIMAL)]

RULES_ERROR: Final = "rules"
"""Type of the pydantic error that carries broken rules in its context (see `faults_of`)."""


@dataclass(frozen=True)
class Rule:
    """One CEL rule (`x-kubernetes-validations`) and the same check in Python.

    `holds` gets the validated model and must agree with `cel`, so that `capstan validate` and the API server refuse the
    same manifests; a contract test compares them. None: a transition rule, which only the API server can check.
    """

    cel: str
    message: str
    holds: Callable[[Any], bool] | None = None
    field_path: str | None = None
    """Where the fault is, relative to the class: `.engine.image`."""


def validation(rule: Rule) -> dict[str, str]:
    """Write a rule as an entry of `x-kubernetes-validations`."""
    entry = {"rule": rule.cel, "message": rule.message}
    return entry | ({"fieldPath": rule.field_path} if rule.field_path else {})


class Part(BaseModel):
    """A part of a resource: strict about types and unknown fields, documented by the docstrings of its fields.

    null is the same as absent, as in the API server.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    rules: ClassVar[tuple[Rule, ...]] = ()

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Let the rules travel with the schema of the class."""
        schema = handler.resolve_ref_schema(handler(core))
        if cls.rules:
            schema["x-kubernetes-validations"] = [validation(rule) for rule in cls.rules]
        return schema

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: item for key, item in value.items() if item is not None}
        return value

    @model_validator(mode="after")
    def _keep_rules(self) -> Self:
        faults = [*_repetitions(self), *_rule_faults(self)]
        if faults:
            raise rules_error(faults)
        return self


def rules_error(faults: list[tuple[str, str]]) -> PydanticCustomError:
    """Make the error that carries (relative field path, message) pairs."""
    text = "; ".join(f"{path} {message}".strip() for path, message in faults)
    return PydanticCustomError(RULES_ERROR, "{text}", {"text": text, "faults": faults})


def faults_of(error: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Give the (relative field path, message) pairs of one entry of `ValidationError.errors()`; [] for other errors."""
    return list(error["ctx"]["faults"]) if error["type"] == RULES_ERROR else []


def _rule_faults(part: Part) -> Iterator[tuple[str, str]]:
    for rule in part.rules:
        if rule.holds is not None and not rule.holds(part):
            yield rule.field_path or "", rule.message


def _repetitions(part: Part) -> Iterator[tuple[str, str]]:
    """Find items that a list of type `set` or `map` holds twice."""
    for name, field in type(part).model_fields.items():
        extra = field.json_schema_extra
        kind = extra.get("x-kubernetes-list-type") if isinstance(extra, dict) else None
        if kind not in ("set", "map") or not isinstance(extra, dict):
            continue
        keys = extra.get("x-kubernetes-list-map-keys")
        seen: set[object] = set()
        for index, item in enumerate(getattr(part, name)):
            identity = tuple(getattr(item, str(key)) for key in keys) if isinstance(keys, list) else item
            if identity in seen:
                what = f" `{keys[0]}`" if isinstance(keys, list) else ""
                yield (
                    f".{name}[{index}]",
                    f"repeats the{what} of an earlier item" if what else "repeats an earlier item",
                )
            seen.add(identity)


def matches(pattern: str, text: str) -> bool:
    """Say whether the whole text fits, as CEL's `matches` does with an anchored pattern."""
    return re.fullmatch(pattern, text, re.ASCII) is not None


def bounded_list(most: int, *, least: int = 0, **extra: Any) -> Any:
    """Give a Field for a tuple of at most `most` items, empty by default."""
    return Field(default=(), min_length=least, max_length=most, strict=False, **extra)


def listed_by(*keys: str) -> dict[str, Any]:
    """Give the schema keywords of a list whose items are told apart by `keys`."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


AS_SET: Final[dict[str, Any]] = {"x-kubernetes-list-type": "set"}
"""Schema keywords of a list that holds nothing twice."""


def free_form(*fields: str) -> Any:
    """Give the type of an object whose fields are known by name only; each must be an object."""

    def check(value: dict[str, Any]) -> dict[str, Any]:
        faults = []
        for key, item in value.items():
            if key not in fields:
                faults.append((f".{key}", f"is not a field; allowed are {', '.join(fields)}"))
            elif not isinstance(item, dict):
                faults.append((f".{key}", "must be an object"))
        if faults:
            raise rules_error(faults)
        return value

    return AfterValidator(check)


def object_schema(*fields: str) -> dict[str, Any]:
    """Give the structural schema of a `free_form` object."""
    return {"properties": {name: {"type": "object", "x-kubernetes-preserve-unknown-fields": True} for name in fields}}
