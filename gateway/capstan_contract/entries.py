"""What the parts of the gateway config have in common: how they are written, named and put in order."""

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field


class Document(BaseModel):
    """A part of the config: immutable, and strict for whoever writes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def is_none(value: object) -> bool:
    """Whether a field says nothing, and is not written."""
    return value is None


def is_empty(value: object) -> bool:
    """Whether a field is empty, and is not written."""
    return not value


def spread(entry_id: str) -> bytes:
    """The place of an entry in the order of a config: the same for ever, and evenly spread over all entries."""
    return hashlib.sha256(entry_id.encode()).digest()


def canonical(document: object) -> bytes:
    """The one way to write a document as JSON."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


class Entry(Document):
    """A part of the config with an id of its own."""

    id: str
    requires: tuple[str, ...] = Field(default=(), exclude_if=is_empty)
    """What a reader must know to serve it. Whoever does not know one of them refuses the entry."""

    @cached_property
    def text(self) -> bytes:
        """The canonical JSON of it: made once, however often it is part of a config."""
        return canonical(self.model_dump(mode="json"))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy. What is cached of the original is not in it."""
        copy = super().model_copy(update=update, deep=deep)
        copy.__dict__.pop("text", None)
        return copy


class LabelRequirement(Document):
    """What a selector asks of one label, as selectors of Kubernetes do."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = Field(default=(), exclude_if=is_empty)


class PolicyTargets(Document):
    """Which models a policy is for: those of its own namespace that are named or selected, or all of all namespaces."""

    everywhere: bool = Field(default=False, exclude_if=is_empty)
    """All models of all namespaces. Otherwise those of its namespace which are named, or, where none is, selected."""
    names: tuple[str, ...] = Field(default=(), exclude_if=is_empty)
    labels: dict[str, str] = Field(default_factory=dict, exclude_if=is_empty)
    expressions: tuple[LabelRequirement, ...] = Field(default=(), exclude_if=is_empty)


class PolicyEntry(Entry):
    """One policy, listed once; the entries that it is about name it by its id."""

    id: str
    """`Kind/namespace/name` of the policy."""
    kind: str
    """A reader that does not know it refuses the policy, and every entry that names the policy."""
    uid: str = Field(default="", exclude_if=is_empty)
    """`metadata.uid` of the policy; empty when no API server has seen it."""
    targets: PolicyTargets | None = Field(default=None, exclude_if=is_none)
    """What it was for when it was accepted last: the operator's memory, as gateways go by what the entries name."""
    body: dict[str, Any] = Field(default_factory=dict)
    """What the kind makes of it: checked by whoever knows the kind."""
