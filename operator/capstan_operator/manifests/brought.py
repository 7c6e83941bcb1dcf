"""Variables and files that engines of models in files have of ConfigMaps and Secrets in files. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from capstan_operator.api.kinds import LLMMODEL
from capstan_operator.desired.brought import Address, Brought, Source, bring, named_sources
from capstan_operator.manifests.collect import Manifests, passed_over
from capstan_operator.manifests.documents import Diagnostic, Document, Severity, about
from capstan_operator.resources.resource import ObjectKey


def with_brought(manifests: Manifests) -> Manifests:
    """Give the manifests with what is wrong with variables and files from elsewhere. An object that is in no manifest
    here may well be in the cluster."""
    said = [*_said(manifests)]
    used = notices_of_sources(manifests)
    rest = tuple(one for one in manifests.diagnostics if one not in used)
    return replace(manifests, diagnostics=(*rest, *said))


def brought_by(manifests: Manifests) -> Mapping[ObjectKey, Brought]:
    """Give what each model's engine gets from the manifests."""
    objects = {address: document.manifest for address, document in _sources(manifests.others).items()}
    return {key: bring(model, objects) for key, model in manifests.models.items()}


def notices_of_sources(manifests: Manifests) -> frozenset[Diagnostic]:
    """Give what `collect` has said of such objects: that nobody looks at them."""
    named = frozenset[Address]().union(*map(named_sources, manifests.models.values()))
    return frozenset(passed_over(one) for address, one in _sources(manifests.others).items() if address in named)


def _said(manifests: Manifests) -> Iterator[Diagnostic]:
    for key, brought in brought_by(manifests).items():
        origin = manifests.origin(LLMMODEL, key)
        yield from (about(origin, fault.message, fault.field) for fault in brought.faults)
        yield from (about(origin, fault.message, fault.field, Severity.WARNING) for fault in brought.unseen)


def _sources(documents: tuple[Document, ...]) -> dict[Address, Document]:
    """Give the ConfigMaps and Secrets; of one that is there twice, the first."""
    found: dict[Address, Document] = {}
    kinds = {str(kind): kind for kind in Source}
    for document in documents:
        manifest, metadata = document.manifest, document.manifest.get("metadata")
        kind = kinds.get(str(manifest.get("kind")))
        if kind is not None and manifest.get("apiVersion") == "v1" and isinstance(metadata, dict):
            key = ObjectKey(str(metadata.get("namespace")), str(metadata.get("name")))
            found.setdefault((kind, key), document)
    return found
