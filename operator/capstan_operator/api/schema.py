"""Building blocks of the resource models: bounded types and CEL rules that travel with the class they check."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
MODEL_NAME = r"^[A-Za-z0-9]([-A-Za-z0-9._:/@]*[A-Za-z0-9])?$"
QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"

ObjectName = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=DNS_LABEL)]
ServedName = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=MODEL_NAME)]
Quantity = Annotated[str, StringConstraints(min_length=1, max_length=32, pattern=QUANTITY)]


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


class Part(BaseModel):
    """A part of a resource: strict about unknown fields, documented by the docstrings of its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def bounded_list(most: int, *, least: int = 0, **extra: Any) -> Any:
    """Give a Field for a tuple of at most `most` items, empty by default."""
    return Field(default=(), min_length=least, max_length=most, **extra)
