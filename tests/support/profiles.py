"""Profiles, and the ConfigMaps that hold them."""

from typing import Any

import yaml

from capstan_contract.names import COMPONENT_LABEL
from capstan_operator.api.kinds import Model
from capstan_operator.desired.profiled import ProfiledSpec, with_profile
from capstan_operator.desired.profiles import PROFILES_COMPONENT, ProfileBook, read_profiles
from capstan_operator.resources.resource import Manifest

HOME = "capstan-system"


def profiles_map(name: str = "profiles", *, created: str = "2026-01-01T00:00:00Z", **profiles: Any) -> Manifest:
    """Give a ConfigMap of profiles; a text is taken as it is. `_` in a name is `-`."""
    data = {
        key.replace("_", "-"): text if isinstance(text, str) else yaml.safe_dump(text) for key, text in profiles.items()
    }
    metadata = {
        "name": name,
        "namespace": HOME,
        "labels": {COMPONENT_LABEL: PROFILES_COMPONENT},
        "creationTimestamp": created,
    }
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def book_of(**profiles: Any) -> ProfileBook:
    """Give the profiles of one ConfigMap."""
    return read_profiles([profiles_map(**profiles)])


def profiled(model: Model, profile: Any) -> Model:
    """Give a model with a profile merged under its spec, whatever it is called there."""
    assert model.spec is not None
    assert model.spec.profile is not None
    found = with_profile(model, book_of(**{model.spec.profile: profile}), where=HOME)
    assert isinstance(found.spec, ProfiledSpec), found.faults
    return found
