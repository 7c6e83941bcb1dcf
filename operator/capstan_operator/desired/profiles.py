"""Profiles as ConfigMaps hold them: each key of one is the name of a profile, and its text the profile in YAML. Pure.

Of two ConfigMaps that have one name the older one counts, then the first by name: one that comes later changes nothing.
A profile that cannot be used is known by what is wrong with it, and costs no other one anything.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from pydantic import ValidationError

from capstan_contract.names import COMPONENT_LABEL
from capstan_contract.yamldoc import YamlFault, read_yaml
from capstan_operator.api.llmmodel import EngineType
from capstan_operator.api.parse import explain
from capstan_operator.api.patterns import DNS_LABEL, HINTS
from capstan_operator.api.profile import Profile
from capstan_operator.api.schema import matches
from capstan_operator.desired.diff import digest
from capstan_operator.resources.resource import Manifest

PROFILES_COMPONENT: Final = "profiles"
PROFILES_SELECTOR: Final = f"{COMPONENT_LABEL}={PROFILES_COMPONENT}"
MOST_CHARACTERS: Final = 65_536
"""Of one profile."""
MOST_PROFILES: Final = 1024
"""Of one install; a ConfigMap has at most 1 MiB, but nobody counts ConfigMaps."""
LONGEST_NAME: Final = 63


@dataclass(frozen=True)
class KnownProfile:
    """A profile by its name, as it was found."""

    name: str
    config_map: str
    """Name of the ConfigMap that has it."""
    profile: Profile | None
    """None: it is faulty."""
    faults: tuple[str, ...] = ()
    """What is wrong with it: a field's path and what is allowed. Never a value."""

    @cached_property
    def hashes(self) -> Mapping[EngineType, str]:
        """A hash of what models on each type of engine get. Defaults are not in it, so that a release with further
        fields finds the same."""
        return {type_: hash_of_profile(self.profile, type_) for type_ in EngineType} if self.profile else {}


@dataclass(frozen=True)
class ProfileFault:
    """What is wrong with one profile of a ConfigMap."""

    config_map: str
    name: str
    message: str
    is_shadowed: bool = False
    """Whether it is only without effect, because another one has its name."""

    def __str__(self) -> str:
        return f"the profile '{self.name}' of the ConfigMap '{self.config_map}': {self.message}"


@dataclass(frozen=True)
class ProfileBook:
    """Every profile that is known."""

    profiles: Mapping[str, KnownProfile] = field(default_factory=dict)
    faults: tuple[ProfileFault, ...] = ()
    """Of those that are not as they should be."""


NO_PROFILES: Final = ProfileBook()


def hash_of_profile(profile: Profile, type_: EngineType) -> str:
    """Give a hash of what a profile gives to models on a type of engine."""
    said = profile.model_dump(mode="json", exclude_defaults=True, exclude={"description", "engines"})
    engine = profile.engines.of(type_)
    return digest([said, engine.model_dump(mode="json", exclude_defaults=True) if engine else {}])


def is_of_profiles(manifest: Manifest) -> bool:
    """Whether a ConfigMap holds profiles."""
    metadata = manifest.get("metadata")
    labels = metadata.get("labels") if isinstance(metadata, dict) else None
    return isinstance(labels, dict) and labels.get(COMPONENT_LABEL) == PROFILES_COMPONENT


def read_profiles(manifests: Iterable[Manifest]) -> ProfileBook:
    """Read ConfigMaps with profiles. Never raises for what is in them."""
    found: dict[str, KnownProfile] = {}
    faults: list[ProfileFault] = []
    for manifest in sorted(manifests, key=_age):
        name, data = _name_of(manifest), manifest.get("data") or {}
        for key in sorted(map(str, data)) if isinstance(data, dict) else ():
            if (known := found.get(key)) is not None:
                message = f"has no effect: the older ConfigMap '{known.config_map}' has one of this name"
                faults.append(ProfileFault(name, key, message, is_shadowed=True))
            elif len(found) >= MOST_PROFILES:
                faults.append(ProfileFault(name, key, f"is one more than {MOST_PROFILES}, and has no effect"))
            else:
                found[key] = one = read_profile(key, data[key], config_map=name)
                faults += (ProfileFault(name, key, fault) for fault in one.faults)
    return ProfileBook(found, tuple(faults))


def read_profile(name: str, text: object, *, config_map: str) -> KnownProfile:
    """Read one. Never raises for what is in it; nothing of its values is in what it says."""
    try:
        profile = Profile.model_validate(_document(name, text), extra="forbid")
    except _Faulty as error:
        return KnownProfile(name, config_map, None, (str(error),))
    except ValidationError as error:
        return KnownProfile(name, config_map, None, tuple(map(str, explain(error, Profile))))
    return KnownProfile(name, config_map, profile)


class _Faulty(ValueError):
    """A text that is no profile."""


def _document(name: str, text: object) -> Any:
    if len(name) > LONGEST_NAME or not matches(DNS_LABEL, name):
        raise _Faulty(f"its name must be {HINTS[DNS_LABEL]}, with at most {LONGEST_NAME} characters")
    if not isinstance(text, str):
        raise _Faulty("must be a text: the profile in YAML")
    if len(text) > MOST_CHARACTERS:
        raise _Faulty(f"must have at most {MOST_CHARACTERS} characters")
    try:
        documents = list(read_yaml(text))
    except YamlFault as fault:
        raise _Faulty(f"line {fault.line} {fault.message}") from None
    if len(documents) > 1:
        raise _Faulty("must be one document")
    # NB: a text without anything in it is a profile that gives nothing.
    return documents[0].data if documents else {}


def _age(manifest: Manifest) -> tuple[str, str]:
    return str(manifest["metadata"].get("creationTimestamp") or ""), _name_of(manifest)


def _name_of(manifest: Manifest) -> str:
    return str(manifest["metadata"].get("name") or "")
