"""The folder of manifests: what it says now, and of a file that is wrong, what it said when it was right last."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from capstan_operator.api.kinds import Model, Policy
from capstan_operator.desired.brought import Brought
from capstan_operator.desired.faults import find_faults
from capstan_operator.desired.policy_kinds import find_policy_faults
from capstan_operator.desired.profiles import NO_PROFILES
from capstan_operator.manifests.brought import brought_by, notices_of_sources, with_brought
from capstan_operator.manifests.collect import collect
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
        self._brought = {key: self._unless_faulty(key, found) for key, found in brought_by(collected).items()}
        diagnostics = [one for one in diagnostics if one not in used]
        diagnostics += [diagnostic for diagnostic in collected.diagnostics if diagnostic not in diagnostics]
        self._models = tuple(model for model in collected.models.values() if self._is_usable(model))
        self._policies = tuple(policy for policy in collected.policies.values() if not find_policy_faults(policy))
        return Reading(self._models, tuple(self._news(diagnostics)), self._policies, self._brought)

    def _unless_faulty(self, key: ObjectKey, found: Brought) -> Brought:
        """Give what was right before where what is there now is not."""
        return self._brought.get(key, found) if found.faults else found

    def _is_usable(self, model: Model) -> bool:
        return not find_faults(model) and not self._brought[model.key].faults

    def _prompts_of(self, key: ObjectKey) -> Mapping[str, str]:
        """Give the prompts that were in force of a model: one that is away stays as it was."""
        specs = (model.spec for model in self._models if model.key == key)
        return next((spec.prompts for spec in specs if spec is not None), {})

    def _news(self, diagnostics: list[Diagnostic]) -> Iterator[tuple[str, str]]:
        told = frozenset(str(diagnostic) for diagnostic in diagnostics)
        for diagnostic in diagnostics:
            if str(diagnostic) not in self._told:
                kept = " (what was right before is still served)" if diagnostic.file in self._good else ""
                yield diagnostic.severity.value, f"{diagnostic}{kept if diagnostic.severity is Severity.ERROR else ''}"
        if self._told and not told:
            yield "manifests", "are right again"
        self._told = told


def _faults(documents: list[Document]) -> list[Diagnostic]:
    """Judge the objects of one file by themselves."""
    collected = collect(documents)
    return [*collected.diagnostics, *find_profile_faults(collected), *find_resource_faults(collected)]


def _wrong(diagnostics: list[Diagnostic]) -> bool:
    return any(diagnostic.severity is Severity.ERROR for diagnostic in diagnostics)
