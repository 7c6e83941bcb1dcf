"""Folders of manifests: what is in them, and what is wrong, with file, document, line and field.

Reading is one function (`read_texts`); everything else is pure, so that local mode and the command line judge the same
text the same way.
"""

import difflib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from capstan_contract.names import API_VERSION, GROUP
from capstan_operator.api.kinds import KINDS, Model
from capstan_operator.api.parse import DEFAULT_NAMESPACE, parse_model
from capstan_operator.manifests.yamldoc import YamlFault, json_as_yaml, read_yaml
from capstan_operator.resources.resource import Manifest, ObjectKey

SUFFIXES = (".yaml", ".yml", ".json")
MOST_FILE_BYTES = 4 * 1024 * 1024
MOST_FILES = 10_000


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


@dataclass(frozen=True)
class Manifests:
    """Everything that was found."""

    models: Mapping[ObjectKey, Model]
    """Every LLMModel, the faulty ones too (their `spec` is None); of one that is there twice, the first."""
    origins: Mapping[ObjectKey, Document]
    others: tuple[Document, ...]
    """Objects of other API groups."""
    diagnostics: tuple[Diagnostic, ...]

    @property
    def failed(self) -> bool:
        """Whether there is an error."""
        return any(diagnostic.severity is Severity.ERROR for diagnostic in self.diagnostics)


def load_manifests(paths: Iterable[Path], *, namespace: str = DEFAULT_NAMESPACE) -> Manifests:
    """Read and judge files and folders. Never raises for what is in them, or when they are not there."""
    texts, diagnostics = read_texts(paths)
    documents: list[Document] = []
    for file, text in texts.items():
        found, faults = parse_text(text, file=file)
        documents += found
        diagnostics += faults
    collected = collect(documents, namespace=namespace)
    return replace(collected, diagnostics=(*diagnostics, *collected.diagnostics))


def read_texts(paths: Iterable[Path]) -> tuple[dict[str, str], list[Diagnostic]]:
    """Read the files, and every manifest in the folders and below, in the order of their names.

    Hidden files and folders are passed over; folders that are links are not followed. A file that was named is read
    whatever its suffix.
    """
    texts: dict[str, str] = {}
    diagnostics: list[Diagnostic] = []
    for path in paths:
        if not path.exists():
            diagnostics.append(Diagnostic(str(path), 0, "does not exist"))
            continue
        files = list(_files_below(path)) if path.is_dir() else [path]
        if not files:
            diagnostics.append(Diagnostic(str(path), 0, f"has no file that ends in {', '.join(SUFFIXES)}"))
        for file in files:
            if len(texts) >= MOST_FILES:
                diagnostics.append(Diagnostic(str(path), 0, f"holds more than {MOST_FILES} files"))
                return texts, diagnostics
            if str(file) not in texts:
                _read_file(file, texts, diagnostics)
    return texts, diagnostics


def _files_below(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.endswith(SUFFIXES) and not name.startswith("."):
                yield Path(parent) / name


def _read_file(file: Path, texts: dict[str, str], diagnostics: list[Diagnostic]) -> None:
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            diagnostics.append(Diagnostic(str(file), 0, "is not a regular file"))
            return
        with file.open("rb") as stream:
            content = stream.read(MOST_FILE_BYTES + 1)
        if len(content) > MOST_FILE_BYTES:
            diagnostics.append(Diagnostic(str(file), 0, f"has more than {MOST_FILE_BYTES} bytes"))
            return
        texts[str(file)] = content.decode("utf-8-sig")
    except OSError as error:
        diagnostics.append(Diagnostic(str(file), 0, f"cannot be read: {error.strerror}"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        diagnostics.append(Diagnostic(str(file), line, "is not UTF-8"))


def parse_text(text: str, *, file: str) -> tuple[list[Document], list[Diagnostic]]:
    """Take a file's text apart into objects. After a YAML fault the rest of the file is not read."""
    documents: list[Document] = []
    diagnostics: list[Diagnostic] = []
    if file.endswith(".json"):
        text = json_as_yaml(text)
    number = 0
    try:
        for document in read_yaml(text):
            number = document.number
            if isinstance(document.data, dict):
                whole = Document(file, number, document.line, document.data, document.lines)
                documents += _objects_in(whole, diagnostics)
            else:
                diagnostics.append(
                    Diagnostic(file, document.line, "must be an object with apiVersion and kind", number)
                )
    except YamlFault as fault:
        diagnostics.append(Diagnostic(file, fault.line, fault.message, number + 1))
    return documents, diagnostics


def _objects_in(document: Document, diagnostics: list[Diagnostic]) -> Iterator[Document]:
    """Give the object itself, or the items of a List."""
    items = document.manifest.get("items")
    if document.manifest.get("kind") != "List" or not isinstance(items, list):
        yield document
        return
    for index, item in enumerate(items):
        prefix = f"items[{index}]"
        if isinstance(item, dict):
            yield replace(document, manifest=item, line=document.line_of(prefix), prefix=f"{prefix}.")
        else:
            line = document.line_of(prefix)
            diagnostics.append(Diagnostic(document.file, line, "must be an object", document.number, "List", prefix))


def collect(documents: Iterable[Document], *, namespace: str = DEFAULT_NAMESPACE) -> Manifests:
    """Parse the objects of our kinds. Those that name no namespace are in `namespace`."""
    models: dict[ObjectKey, Model] = {}
    origins: dict[ObjectKey, Document] = {}
    others: list[Document] = []
    diagnostics: list[Diagnostic] = []
    for document in documents:
        document = replace(document, manifest=_in_namespace(document.manifest, namespace))
        diagnostic = _diagnostic(document)
        if diagnostic:
            diagnostics.append(diagnostic)
        if diagnostic and diagnostic.severity is Severity.NOTICE:
            others.append(document)
        if diagnostic:
            continue
        model = parse_model(document.manifest)
        diagnostics += (about(document, error.message, error.field) for error in model.faults)
        if first := origins.get(model.key):
            where = f"{first.file}:{first.line}"
            diagnostics.append(about(document, f"is there twice; the first is in {where}", "metadata.name"))
            continue
        if model.key.name:
            models[model.key], origins[model.key] = model, document
    return Manifests(models, origins, tuple(others), tuple(diagnostics))


def about(document: Document, message: str, field: str = "", severity: Severity = Severity.ERROR) -> Diagnostic:
    """Make a diagnostic about a field of an object."""
    line = document.line_of(field)
    return Diagnostic(document.file, line, message, document.number, document.resource, field, severity)


def _in_namespace(manifest: Manifest, namespace: str) -> Manifest:
    metadata = manifest.get("metadata", {})
    if not isinstance(metadata, dict) or metadata.get("namespace"):
        return manifest
    return {**manifest, "metadata": {**metadata, "namespace": namespace}}


def _diagnostic(document: Document) -> Diagnostic | None:
    """Say why an object is not one of ours; None when it is one."""
    version, kind = document.manifest.get("apiVersion"), document.manifest.get("kind")
    for name, value in (("apiVersion", version), ("kind", kind)):
        if not isinstance(value, str) or not value:
            return replace(about(document, "is required, and must be a string", name), resource="")
    allowed = [known.name for known in KINDS]
    if version != API_VERSION and (str(version).startswith(f"{GROUP}/") or _means_ours(str(version), str(kind))):
        return about(document, f"must be {API_VERSION}", "apiVersion")
    if version != API_VERSION:
        return about(document, "is not a resource of Capstan; passed over", severity=Severity.NOTICE)
    if kind not in allowed:
        return about(document, f"must be {' or '.join(allowed)}", "kind")
    return None


def _means_ours(version: str, kind: str) -> bool:
    """Guess whether an object of another group is one of ours with a slip in its apiVersion."""
    if kind not in [known.name for known in KINDS]:
        return False
    return "/" not in version or bool(difflib.get_close_matches(version, [API_VERSION], cutoff=0.7))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
