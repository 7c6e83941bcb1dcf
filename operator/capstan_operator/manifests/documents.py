"""Objects in files, and what there is to tell about them: file, document, line and field."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from capstan_operator.api.parse import DEFAULT_NAMESPACE
from capstan_operator.resources.resource import Manifest


class Severity(StrEnum):
    """How bad a diagnostic is."""

    ERROR = "error"
    WARNING = "warning"
    NOTICE = "notice"


@dataclass(frozen=True)
class Document:
    """One object in a file."""

    file: str
    number: int
    """Which document of the file, from 1."""
    line: int
    manifest: Manifest
    lines: Mapping[str, int] = field(default_factory=dict)
    """Line of each field, by its path."""
    prefix: str = ""
    """Path of the object in the document: `items[0].` in a List."""

    @property
    def resource(self) -> str:
        """What it is, for people: LLMModel default/llama-8b."""
        metadata = _mapping(self.manifest.get("metadata"))
        name = metadata.get("name") or metadata.get("generateName") or "(no name)"
        return f"{self.manifest.get('kind')} {metadata.get('namespace') or DEFAULT_NAMESPACE}/{name}"

    def line_of(self, path: str) -> int:
        """Give the line of a field, or of the nearest part of the object around it that is there."""
        path = self.prefix + path
        while path and path not in self.lines:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.lines.get(path, self.line) if path else self.line


@dataclass(frozen=True)
class Diagnostic:
    """Something to tell about a manifest. No value of a field is ever in it."""

    file: str
    line: int
    message: str
    document: int = 0
    """Which document of the file, from 1; 0 when it is about the file."""
    resource: str = ""
    field: str = ""
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        parts = [where, f"document {self.document}" if self.document else "", self.resource]
        parts.append(f"`{self.field}`" if self.field else "")
        return ": ".join([*(part for part in parts if part), self.message])


def about(document: Document, message: str, field: str = "", severity: Severity = Severity.ERROR) -> Diagnostic:
    """Make a diagnostic about a field of an object."""
    line = document.line_of(field)
    return Diagnostic(document.file, line, message, document.number, document.resource, field, severity)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
