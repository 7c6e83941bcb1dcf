"""The resources of our kinds among documents, and what is wrong with them. Pure, but for `load_manifests`.

It works from the table of kinds: a further kind is parsed, told apart and judged here by its entry in the table alone.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from capstan_contract.names import API_VERSION, GROUP
from capstan_operator.api.kinds import KINDS, LLMMODEL, POLICY_KINDS, Kind, Model, Policy, S
from capstan_operator.api.parse import DEFAULT_NAMESPACE, parse_resource
from capstan_operator.manifests.documents import Diagnostic, Document, Severity, about
from capstan_operator.manifests.reading import parse_text, read_texts
from capstan_operator.resources.resource import Manifest, ObjectKey, PolicyKey, Resource


class Address(NamedTuple):
    """Which object among all kinds."""

    kind: str
    key: ObjectKey


@dataclass(frozen=True)
class Manifests:
    """Everything that was found."""

    resources: Mapping[Address, Resource[Any]]
    """Those of our kinds, the faulty ones too (their `spec` is None); of one that is there twice, the first."""
    origins: Mapping[Address, Document]
    others: tuple[Document, ...]
    """Objects of other API groups."""
    diagnostics: tuple[Diagnostic, ...]

    def of_kind(self, kind: Kind[S]) -> dict[ObjectKey, Resource[S]]:
        """Give the resources of one kind."""
        return {address.key: found for address, found in self.resources.items() if address.kind == kind.name}

    @property
    def models(self) -> dict[ObjectKey, Model]:
        """The LLMModels."""
        return self.of_kind(LLMMODEL)

    @property
    def policies(self) -> dict[PolicyKey, Policy]:
        """The policies of all kinds."""
        return {PolicyKey(kind.name, *key): found for kind in POLICY_KINDS for key, found in self.of_kind(kind).items()}

    def origin(self, kind: Kind[Any], key: ObjectKey) -> Document:
        """Give where a resource stands."""
        return self.origins[Address(kind.name, key)]

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


def collect(
    documents: Iterable[Document], *, namespace: str = DEFAULT_NAMESPACE, kinds: Sequence[Kind[Any]] = KINDS
) -> Manifests:
    """Parse the objects of our kinds. Those that name no namespace are in `namespace`."""
    resources: dict[Address, Resource[Any]] = {}
    origins: dict[Address, Document] = {}
    others: list[Document] = []
    diagnostics: list[Diagnostic] = []
    for document in documents:
        if is_suite(document.manifest):
            diagnostics.append(_suite_passed_over(document))
            continue
        document = replace(document, manifest=_in_namespace(document.manifest, namespace))
        kind = _kind_of(document, kinds)
        if isinstance(kind, Diagnostic):
            diagnostics.append(kind)
            others += [document] if kind.severity is Severity.NOTICE else []
            continue
        found = parse_resource(kind, document.manifest)
        address = Address(kind.name, found.key)
        diagnostics += (about(document, fault.message, fault.field) for fault in found.faults)
        if first := origins.get(address):
            where = f"{first.file}:{first.line}"
            diagnostics.append(about(document, f"is there twice; the first is in {where}", "metadata.name"))
        elif found.key.name:
            resources[address], origins[address] = found, document
    return Manifests(resources, origins, tuple(others), tuple(diagnostics))


def _in_namespace(manifest: Manifest, namespace: str) -> Manifest:
    metadata = manifest.get("metadata", {})
    if not isinstance(metadata, dict) or metadata.get("namespace"):
        return manifest
    return {**manifest, "metadata": {**metadata, "namespace": namespace}}


def _kind_of(document: Document, kinds: Sequence[Kind[Any]]) -> Kind[Any] | Diagnostic:
    """Give the kind of an object, or why it is none of ours."""
    version, name = document.manifest.get("apiVersion"), document.manifest.get("kind")
    for field, value in (("apiVersion", version), ("kind", name)):
        if not isinstance(value, str) or not value:
            return replace(about(document, "is required, and must be a string", field), resource="")
    known = {kind.name: kind for kind in kinds}
    means_ours = name in known and _is_slip(str(version))
    if version != API_VERSION and (str(version).startswith(f"{GROUP}/") or means_ours):
        return about(document, f"must be {API_VERSION}", "apiVersion")
    if version != API_VERSION:
        return passed_over(document)
    return known.get(str(name)) or about(document, f"must be {' or '.join(known)}", "kind")


def passed_over(document: Document) -> Diagnostic:
    """Say of an object of another API group that nobody looks at it."""
    return about(document, "is not a resource of Capstan; passed over", severity=Severity.NOTICE)


def is_suite(manifest: Manifest) -> bool:
    """Whether a document is a suite of `capstan eval`, which people keep beside manifests, and no object."""
    fields = manifest.keys()
    return not fields & {"apiVersion", "kind", "metadata"} and "name" in fields and bool(fields & {"cases", "data"})


def _suite_passed_over(document: Document) -> Diagnostic:
    notice = about(document, "is a suite of `capstan eval`; passed over", severity=Severity.NOTICE)
    return replace(notice, resource="")


def _is_slip(version: str) -> bool:
    """Guess whether the apiVersion of another group is ours with a slip in it."""
    return "/" not in version or bool(difflib.get_close_matches(version, [API_VERSION], cutoff=0.7))
