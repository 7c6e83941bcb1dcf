"""Profiles that models of files name, in ConfigMaps of files. Pure.

A ConfigMap counts by its label, whatever its namespace: which one Capstan will be installed in, files do not say.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from capstan_operator.api.kinds import LLMMODEL
from capstan_operator.desired.profiled import with_profile
from capstan_operator.desired.profiles import (
    NO_PROFILES,
    ProfileBook,
    is_of_profiles,
    read_profiles,
)
from capstan_operator.manifests.collect import Address, Manifests, passed_over
from capstan_operator.manifests.documents import Diagnostic, Document, Severity, about
from capstan_operator.manifests.prompts import config_maps_in


def with_profiles(
    manifests: Manifests, *, missing: Severity = Severity.WARNING, last: ProfileBook = NO_PROFILES
) -> Manifests:
    """Give the manifests with the profiles of their models merged, and with what is wrong with those. `missing`: what a
    profile is that no manifest here has; it may well be in the cluster. `last` are the profiles of before: one that has
    gone stays as it was."""
    book = profiles_in(manifests, last=last)
    resources: dict[Address, Any] = dict(manifests.resources)
    said = list(find_profile_faults(manifests))
    for key, model in manifests.models.items():
        named = model.spec.profile if model.spec is not None else None
        if named is not None and named not in book.profiles:
            message = f"names the profile '{named}', which is in none of these manifests: what it gives is missing here"
            said.append(about(manifests.origin(LLMMODEL, key), message, "spec.profile", missing))
        elif named is not None:
            resources[Address(LLMMODEL.name, key)] = with_profile(model, book, where="")
    wrong = notices_of_profiles(manifests)
    rest = tuple(one for one in manifests.diagnostics if one not in wrong)
    return replace(manifests, resources=resources, diagnostics=(*rest, *said))


def profiles_in(manifests: Manifests, *, last: ProfileBook = NO_PROFILES) -> ProfileBook:
    """Give the profiles of the manifests; of those of before the ones that have gone and that models still name."""
    book = read_profiles(document.manifest for document in _documents(manifests))
    named = {model.spec.profile for model in manifests.models.values() if model.spec is not None}
    return replace(
        book, profiles={**{name: one for name, one in last.profiles.items() if name in named}, **book.profiles}
    )


def find_profile_faults(manifests: Manifests) -> Iterator[Diagnostic]:
    """Give what is wrong with profiles: an error, unless one is only without effect."""
    documents = {str(one.manifest["metadata"].get("name") or ""): one for one in _documents(manifests)}
    for fault in read_profiles(one.manifest for one in documents.values()).faults:
        severity = Severity.WARNING if fault.is_shadowed else Severity.ERROR
        yield about(documents[fault.config_map], fault.message, f"data.{fault.name}", severity)


def notices_of_profiles(manifests: Manifests) -> frozenset[Diagnostic]:
    """Give what `collect` has said of ConfigMaps with profiles: that nobody looks at them."""
    return frozenset(map(passed_over, _documents(manifests)))


def _documents(manifests: Manifests) -> list[Document]:
    return [one for one in config_maps_in(manifests.others).values() if is_of_profiles(one.manifest)]
