"""Prompts that models of files have in ConfigMaps of files. Pure."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from capstan_operator.api.kinds import LLMMODEL
from capstan_operator.desired.prompts import Filled, Trouble, fill_prompts, prompt_keys, prompts_in
from capstan_operator.manifests.collect import Address, Manifests, passed_over
from capstan_operator.manifests.documents import Diagnostic, Document, Severity, about
from capstan_operator.resources.api_resource import CONFIG_MAPS
from capstan_operator.resources.resource import ObjectKey

Last = Callable[[ObjectKey], Mapping[str, str]]
"""The prompts that were in force of a model, by the names of its prefixes."""


def _nothing(_key: ObjectKey) -> Mapping[str, str]:
    return {}


def with_prompts(manifests: Manifests, *, last: Last = _nothing) -> Manifests:
    """Give the manifests with the prompts of their models, and with what is wrong with those: a ConfigMap that no
    manifest here has may well be in the cluster."""
    found = config_maps_in(manifests.others)
    contents = {key: document.manifest for key, document in found.items()}
    resources: dict[Address, Any] = dict(manifests.resources)
    said: list[Diagnostic] = []
    for key, model in manifests.models.items():
        filled = fill_prompts(model, prompts_in(contents, prompt_keys(model)), last(key))
        resources[Address(LLMMODEL.name, key)] = filled.model
        said += _diagnostics(manifests.origin(LLMMODEL, key), filled)
    wrong = notices_of_used(manifests)
    rest = tuple(one for one in manifests.diagnostics if one not in wrong)
    return replace(manifests, resources=resources, diagnostics=(*rest, *said))


def notices_of_used(manifests: Manifests) -> frozenset[Diagnostic]:
    """Give what `collect` has said of ConfigMaps with prompts: that nobody looks at them."""
    named = {key.config_map for model in manifests.models.values() for key in prompt_keys(model)}
    return frozenset(passed_over(one) for key, one in config_maps_in(manifests.others).items() if key in named)


def config_maps_in(documents: tuple[Document, ...]) -> dict[ObjectKey, Document]:
    """Give the ConfigMaps; of one that is there twice, the first."""
    found: dict[ObjectKey, Document] = {}
    for document in documents:
        manifest, metadata = document.manifest, document.manifest.get("metadata")
        is_one = (manifest.get("apiVersion"), manifest.get("kind")) == (CONFIG_MAPS.api_version, CONFIG_MAPS.kind)
        if is_one and isinstance(metadata, dict):
            found.setdefault(ObjectKey(str(metadata.get("namespace")), str(metadata.get("name"))), document)
    return found


def _diagnostics(origin: Document, filled: Filled) -> Iterator[Diagnostic]:
    for trouble, fault in filled.faults:
        if trouble is Trouble.MISSING:
            message = "names a ConfigMap that is in none of these manifests"
            yield about(origin, message, fault.field, Severity.WARNING)
        else:
            yield about(origin, fault.message, fault.field)
