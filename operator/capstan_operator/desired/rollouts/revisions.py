"""Which spec is stable, and which is tried.

A revision is a hash of those parts of a spec that a pod template follows from: neither replicas, names and prices are
in it, nor what the install adds. While a rollout is on its way, or its revision is rejected, the stable pods, and what
the gateway is told of the model, follow from the stable revision's spec in these parts, and from the newest spec in all
others. That spec is kept in a ControllerRevision of the model from when its pods have all been rolled out.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from capstan_contract.names import GROUP
from capstan_operator.api.kinds import Model
from capstan_operator.api.llmmodel import AdapterSpec, LLMModelSpec
from capstan_operator.api.profile import Profile
from capstan_operator.api.rollout import RolloutStatus
from capstan_operator.api.schema import Part
from capstan_operator.desired.profiled import ProfiledSpec, own_spec, profile_hash
from capstan_operator.desired.profiles import KnownProfile
from capstan_operator.desired.rollouts.memory import Asked, State, is_of, read_memory
from capstan_operator.desired.template_changes import NOT_IN_PODS, hash_of_pods
from capstan_operator.resources.api_resource import CONTROLLER_REVISIONS
from capstan_operator.resources.resource import Manifest, is_owned

SPEC_LABEL: Final = f"{GROUP}/spec-hash"
"""On a ControllerRevision that keeps a spec: its revision."""
SPECS_KEPT: Final = 2

P = TypeVar("P", bound=Part)


def revision_of(spec: LLMModelSpec) -> str:
    """Give the revision of a spec: 16 hexadecimal digits. What a profile gives is in it."""
    return hash_of_pods(spec)


def has_steps(model: Model) -> bool:
    """Whether a change of a model's pods is tried on a canary first."""
    return model.spec is not None and model.spec.has_engine and bool(model.spec.rollouts.steps)


def held_revision(model: Model) -> str | None:
    """Give the revision that the stable pods keep although the spec asks for another one; None: the spec's own."""
    if model.spec is None or not has_steps(model):
        return None
    return held_by(read_memory(model.status), asked_of(model, model.spec))


def asked_of(model: Model, newest: LLMModelSpec) -> Asked:
    """Give what a model asks for: `newest` is what the LLMModel says, with its profile."""
    return Asked(revision_of(newest), model.generation, profile_hash(newest))


def held_by(memory: RolloutStatus | None, asked: Asked) -> str | None:
    """Give it by the memory, and by what is asked for."""
    if memory is None or memory.stable is None or memory.stable == asked.revision:
        return None
    if memory.state in (State.COMPLETE, State.PROMOTING) and is_of(memory, asked):
        return None
    return memory.stable


def spec_name(name: str, revision: str) -> str:
    """Name of the ControllerRevision that keeps a spec of a model."""
    return f"{name}-spec-{revision}"


def build_spec_revision(name: str, spec: LLMModelSpec, revision: str) -> Manifest:
    """Give the ControllerRevision that keeps a spec, with the profile that is merged under it. Prompts of ConfigMaps
    are not in it."""
    data = {"spec": _written(spec)}
    if isinstance(spec, ProfiledSpec) and spec.known.profile is not None:
        profile = spec.known.profile.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
        data |= {"own": _written(spec.own), "profile": profile, "profileOf": spec.known.config_map}
    return {
        "apiVersion": CONTROLLER_REVISIONS.api_version,
        "kind": CONTROLLER_REVISIONS.kind,
        "metadata": {"name": spec_name(name, revision), "labels": {SPEC_LABEL: revision}},
        "data": data,
        "revision": 0,
    }


def _written(spec: LLMModelSpec) -> Any:
    own = tuple(one if one.systemFrom is None else one.model_copy(update={"system": None}) for one in spec.prefixes)
    kept = spec.model_copy(update={"prefixes": own})
    return kept.model_dump(mode="json", exclude_defaults=True, exclude_none=True)


def keeps_spec(manifest: Manifest) -> bool:
    """Whether a ControllerRevision keeps a spec, not a pod template."""
    return SPEC_LABEL in (manifest["metadata"].get("labels") or {})


def find_spec(revisions: Iterable[Manifest], revision: str, uid: str) -> Manifest | None:
    """Give the ControllerRevision of the model that keeps the spec of a revision."""
    found = (
        item
        for item in revisions
        if (item["metadata"].get("labels") or {}).get(SPEC_LABEL) == revision and is_owned(item, uid)
    )
    return next(found, None)


def read_spec(manifest: Manifest | None) -> LLMModelSpec | None:
    """Give the spec that a ControllerRevision keeps, if it was listed with its data and can be read."""
    data = (manifest or {}).get("data") or {}
    said, own, profile = data.get("spec"), data.get("own"), data.get("profile")
    if not isinstance(said, Mapping):
        return None
    try:
        if not isinstance(own, Mapping) or not isinstance(profile, Mapping):
            return LLMModelSpec.model_validate(said, extra="ignore")
        mine = LLMModelSpec.model_validate(own, extra="ignore")
        gave = Profile.model_validate(profile, extra="ignore")
        known = KnownProfile(mine.profile or "", str(data.get("profileOf", "")), gave)
        # NB: not merged anew: what serves is what a former release may have made of the two.
        return ProfiledSpec.of(said, own=mine, known=known, extra="ignore")
    except ValidationError:
        return None


def merge_specs(stable: LLMModelSpec, newest: LLMModelSpec) -> LLMModelSpec:
    """Give a spec whose pods are those of `stable`, and in which all else is as `newest` says."""
    merged = _merge(stable, newest, NOT_IN_PODS)
    named = {one.name: one for one in newest.adapters}
    adapters = tuple(_renamed(one, named.get(one.name)) for one in stable.adapters)
    merged = merged.model_copy(update={"adapters": adapters})
    if isinstance(merged, ProfiledSpec):
        # NB: else what is wrong in the newest manifest would be said of the profile.
        return merged.saying(merge_specs(merged.own, own_spec(newest)))
    return merged


def _renamed(stable: AdapterSpec, newest: AdapterSpec | None) -> AdapterSpec:
    return stable if newest is None else stable.model_copy(update={"servedName": newest.servedName})


def _merge(stable: P, newest: P, fields: Mapping[str, Any]) -> P:
    update: dict[str, Any] = {}
    for name, inner in fields.items():
        old, new = getattr(stable, name), getattr(newest, name)
        if inner is True:
            update[name] = new
        elif isinstance(old, Part) and isinstance(new, Part):
            update[name] = _merge(old, new, inner if isinstance(inner, Mapping) else dict.fromkeys(inner, True))
    return stable.model_copy(update=update)
