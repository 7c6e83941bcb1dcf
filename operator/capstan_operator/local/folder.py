"""The folder of manifests: what it says now, and of a file that is wrong, what it said when it was right last."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from capstan_operator.api.kinds import LLMMODEL, Model, Policy
from capstan_operator.desired.brought import Brought
from capstan_operator.desired.faults import find_faults
from capstan_operator.desired.policy_kinds import find_policy_faults
from capstan_operator.desired.profiles import NO_PROFILES
from capstan_operator.manifests.brought import brought_by, notices_of_sources, with_brought
from capstan_operator.manifests.collect import Manifests, collect
from capstan_operator.manifests.documents import Diagnostic, Document, Severity
from capstan_operator.manifests.judge import find_resource_faults
from capstan_operator.manifests.profiles import (
    find_profile_faults,
    notices_of_profiles,
    profiles_in,
    with_profiles,
)
from capstan_operator.manifests.prompts import notices_of_used, with_prompts
from capstan_operator.manifests.reading import SUFFIXES, parse_text, read_texts
from capstan_operator.resources.resource import ObjectKey


@dataclass(frozen=True)
class Reading:
    """What the folder says."""

    models: tuple[Model, ...]
    news: tuple[tuple[str, str], ...]
    """(subject, sentence) for faults that were not there at the last reading, and for those that are gone."""
    policies: tuple[Policy, ...] = ()
    brought: Mapping[ObjectKey, Brought] = field(default_factory=dict)
    """Variables and files that the engines of models have of ConfigMaps and Secrets in the folder."""


class Folder:
    """Reads one folder, or one file, again and again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._good: dict[str, list[Document]] = {}
        self._told: frozenset[str] = frozenset()
        self._seen: tuple[dict[str, str], list[Diagnostic]] | None = None
        self._models: tuple[Model, ...] = ()
        self._policies: tuple[Policy, ...] = ()
        self._profiles = NO_PROFILES
        self._brought: Mapping[ObjectKey, Brought] = {}
        self._refused: frozenset[str] = frozenset()
        """Models of the files that were never right, as diagnostics call them."""

    @property
    def watched(self) -> Path:
        """The folder to watch."""
        return self._path if self._path.is_dir() else self._path.parent

    def holds(self, path: Path) -> bool:
        """Say whether a file that has changed may be one of the manifests."""
        if self._path.is_dir():
            return path.suffix in SUFFIXES and not path.name.startswith(".")
        return path.name == self._path.name

    def read(self) -> Reading:
        """Read all files. A file with a fault, or one that is being written, counts as it was when it was right."""
        texts, diagnostics = read_texts([self._path])
        if (texts, diagnostics) == self._seen:
            return Reading(self._models, (), self._policies, self._brought)
        self._seen = (texts, list(diagnostics))
        unreadable = {diagnostic.file for diagnostic in diagnostics}
        documents: list[Document] = []
        good: dict[str, list[Document]] = {}
        files = texts.keys() | (unreadable & self._good.keys())
        for file in sorted(files if self._path.exists() else self._good):
            found, faults = parse_text(texts[file], file=file) if file in texts else ([], [])
            faults += _faults(found)
            diagnostics += faults
            before = self._good.get(file)
            if before is not None and (file not in texts or _wrong(faults) or not texts[file].strip()):
                found = before
            if before is found or not _wrong(faults):
                good[file] = found
            documents += found
        self._good = good
        collected = collect(documents)
        used = notices_of_used(collected) | notices_of_profiles(collected) | notices_of_sources(collected)
        collected = with_profiles(collected, last=self._profiles)
        self._profiles = profiles_in(collected, last=self._profiles)
        collected = with_brought(with_prompts(collected, last=self._prompts_of))
        diagnostics = [one for one in diagnostics if one not in used]
        together = (*collected.diagnostics, *find_resource_faults(collected))
        diagnostics += [diagnostic for diagnostic in together if diagnostic not in diagnostics]
        self._take(collected)
        self._policies = tuple(policy for policy in collected.policies.values() if not find_policy_faults(policy))
        return Reading(self._models, tuple(self._news(diagnostics)), self._policies, self._brought)

    def _take(self, collected: Manifests) -> None:
        """Take up the models. One that a profile, a ConfigMap or a Secret of another file makes faulty stays as it was
        when it was right."""
        brought = brought_by(collected)
        before = {model.key: (model, self._brought[model.key]) for model in self._models}
        found: dict[ObjectKey, tuple[Model, Brought]] = {}
        for key, model in collected.models.items():
            if not find_faults(model) and not brought[key].faults:
                found[key] = model, brought[key]
            elif key in before:
                found[key] = before[key]
        self._models = tuple(model for model, _ in found.values())
        self._brought = {key: one for key, (_, one) in found.items()}
        self._refused = frozenset(f"{LLMMODEL.name} {key}" for key in collected.models if key not in found)

    def _prompts_of(self, key: ObjectKey) -> Mapping[str, str]:
        """Give the prompts that were in force of a model: one that is away stays as it was."""
        specs = (model.spec for model in self._models if model.key == key)
        return next((spec.prompts for spec in specs if spec is not None), {})

    def _news(self, diagnostics: list[Diagnostic]) -> Iterator[tuple[str, str]]:
        told = frozenset(str(diagnostic) for diagnostic in diagnostics)
        for diagnostic in diagnostics:
            if str(diagnostic) not in self._told:
                stays = diagnostic.file in self._good and diagnostic.resource not in self._refused
                kept = " (what was right before is still served)" if stays else ""
                yield diagnostic.severity.value, f"{diagnostic}{kept if diagnostic.severity is Severity.ERROR else ''}"
        if self._told and not told:
            yield "manifests", "are right again"
        self._told = told


def _faults(documents: list[Document]) -> list[Diagnostic]:
    """Judge the objects of one file by themselves; models with a profile are judged with it, which another file has."""
    collected = collect(documents)
    alone = {address: one for address, one in collected.resources.items() if not getattr(one.spec, "profile", None)}
    faults = find_resource_faults(replace(collected, resources=alone))
    return [*collected.diagnostics, *find_profile_faults(collected), *faults]


def _wrong(diagnostics: list[Diagnostic]) -> bool:
    return any(diagnostic.severity is Severity.ERROR for diagnostic in diagnostics)
