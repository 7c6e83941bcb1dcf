"""Which pod template is in force: the one that would be built now, or the one that the pods have.

The template follows from the spec, the ConfigMaps and the profile that it names, from the settings of the install
(images, how they are pulled, what all pods get) and from the operator's own code. Only a change of the spec is the
user's wish for new pods, and rolls at once. The others may concern every model of a cluster at the same moment:

    settings   adopted one after the other (`desired/adoption.py`), or with the next change of the spec
    profile    of the platform team, that many models may name: like the settings
    prompts    of `prefixes[].systemFrom`, of a ConfigMap that many models may share: like the settings
    code       adopted with the next change of the spec or of the settings: a release whose images stay pinned restarts
               nothing

What caused a template is written on the Deployment, beside it: an operator that begins anew knows it from there.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any, Final

from capstan_contract.names import GROUP
from capstan_operator.api.kinds import Model
from capstan_operator.api.llmmodel import LLMModelSpec
from capstan_operator.desired.diff import digest
from capstan_operator.desired.image_names import in_full
from capstan_operator.desired.pod import ENGINE_CONTAINER, PREFIXES_ANNOTATION, WORKER_CONTAINER
from capstan_operator.desired.pods import template_hash
from capstan_operator.desired.profiled import own_spec, profile_hash
from capstan_operator.desired.revisions import find_revision, generation_of, template_of
from capstan_operator.desired.snapshot import PodHash
from capstan_operator.desired.types import Pending
from capstan_operator.resources.resource import Manifest
from capstan_operator.settings import BuildSettings

CAUSE_ANNOTATION: Final = f"{GROUP}/rollout-cause"
"""On the Deployment: what made the operator write its present template."""
SPEC_ANNOTATION: Final = f"{GROUP}/spec-hash"
"""On the Deployment: a hash of those parts of the spec that its present template follows from."""
PROFILE_ANNOTATION: Final = f"{GROUP}/profile-hash"
"""On the Deployment: a hash of what the model's profile has given to its present template; absent without a profile."""
SETTINGS_ANNOTATION: Final = f"{GROUP}/settings-hash"
"""On the Deployment: a hash of the settings of POD_SETTINGS that its present template follows from; absent where all of
them are the defaults."""
POD_SETTINGS: Final = frozenset(
    {
        "model_env",
        "model_pod_labels",
        "model_pod_annotations",
        "model_pod_security",
        "model_container_security",
        "ca_config_map",
        "ca_secret",
        "ca_key",
    }
)
"""Fields of BuildSettings that pod templates follow from, beside the images and how they are pulled, which are seen in
the templates themselves. A further field goes here with the default by which templates stay as they are: then an
upgrade from a release that did not have it restarts nothing, and whoever sets it has it taken up in turn."""
NOT_IN_PODS: Final[Mapping[str, Any]] = {
    "model": {"servedName", "aliases"},
    "replicas": True,
    "scaling": True,
    "rollout": {
        "strategy",
        "patienceSeconds",
        "progressDeadlineSeconds",
        "steps",
        "gate",
        "onFail",
        "onInconclusive",
        "whenNoRoom",
    },
    "serving": {
        "capabilities": True,
        "maxOutputTokens": True,
        "tokenizer": True,
        "price": True,
        "weight": True,
        "fallbacks": True,
        "timeouts": {"firstTokenSeconds", "idleSeconds"},
    },
    "compatibility": True,
    "evaluation": True,
    "cache": {"retain"},
    "adapters": {"__all__": {"servedName"}},
}
"""Parts of the spec that no pod template follows from.

NB: a release that changes this finds another hash of an old spec. The generation that each revision remembers keeps the
models from rolling at once for it, but for those that were scaled or renamed since.
"""


class Cause(StrEnum):
    """What a template comes from."""

    SPEC = "Spec"
    SETTINGS = "Settings"
    PROFILE = "Profile"
    PROMPTS = "Prompts"
    CODE = "Code"


IN_TURN: Final = frozenset((Cause.SETTINGS, Cause.PROFILE, Cause.PROMPTS))
"""What many models are to take up at once, and so take up one after the other."""


@dataclass(frozen=True)
class InForce:
    """The template that the Deployment is to have."""

    template: Manifest
    pod_hash: PodHash
    annotations: Mapping[str, str]
    """What the Deployment says about where it comes from."""
    pending: Pending | None = None
    """Set when it is not the one that would be built now."""


@dataclass(frozen=True)
class Origin:
    """What a template follows from, in hashes, as a Deployment says it in annotations."""

    spec: str | None
    """None: the Deployment is of a release that wrote none."""
    profile: str = ""
    settings: str = ""

    @classmethod
    def of(cls, spec: LLMModelSpec, settings: BuildSettings) -> "Origin":
        """Give it for a template that would be built now."""
        return cls(hash_of_spec(spec), profile_hash(spec), hash_of_settings(settings))

    @classmethod
    def on(cls, deployment: Manifest) -> "Origin":
        """Read it off a Deployment."""
        known = deployment["metadata"].get("annotations") or {}
        return cls(known.get(SPEC_ANNOTATION), known.get(PROFILE_ANNOTATION, ""), known.get(SETTINGS_ANNOTATION, ""))

    def annotations(self, cause: str) -> dict[str, str]:
        """Give what a Deployment says of it."""
        found = {
            CAUSE_ANNOTATION: str(cause),
            SPEC_ANNOTATION: self.spec,
            PROFILE_ANNOTATION: self.profile,
            SETTINGS_ANNOTATION: self.settings,
        }
        return {key: value for key, value in found.items() if value}


def choose_template(
    model: Model,
    spec: LLMModelSpec,
    settings: BuildSettings,
    built: tuple[Manifest, PodHash],
    *,
    live: Manifest | None,
    revisions: tuple[Manifest, ...],
    adopt: bool,
    gradually: bool,
) -> InForce:
    """Choose the template: `built`, or the one that `live` has. `adopt` says that it is this model's turn to take up
    what a change of settings, of a profile or of shared prompts makes of it, `gradually` that there are such turns."""
    template, pod_hash = built
    origin = Origin.of(spec, settings)
    if live is None or not (present := PodHash(template_hash(live))):
        return InForce(template, pod_hash, origin.annotations(Cause.SPEC))
    known, before = live["metadata"].get("annotations") or {}, Origin.on(live)
    if present == pod_hash:
        return InForce(template, pod_hash, origin.annotations(known.get(CAUSE_ANNOTATION, Cause.SPEC)))
    revision = find_revision(revisions, present)
    cause = find_cause(model, origin, built=template, live=live, revision=revision)
    if cause is Cause.SPEC or (cause in IN_TURN and adopt):
        return InForce(template, pod_hash, origin.annotations(cause))
    if before.spec is None:
        before = replace(before, spec=origin.spec)
    return InForce(
        template=template_of(revision) or _kept(live),
        pod_hash=present,
        annotations=before.annotations(known.get(CAUSE_ANNOTATION, Cause.SPEC)),
        pending=Pending.ADOPTION if cause in IN_TURN and gradually else Pending.NEXT_CHANGE,
    )


def find_cause(model: Model, origin: Origin, *, built: Manifest, live: Manifest, revision: Manifest | None) -> Cause:
    """Say why the built template, of this origin, is not the live one.

    A Deployment of a release that wrote no hash of the spec is of this spec if the operator had seen this generation.
    """
    before = Origin.on(live)
    if before.spec is None:
        is_same = model.status.get("observedGeneration") == model.generation
    else:
        is_same = before.spec == origin.spec or (revision is not None and generation_of(revision) == model.generation)
    if not is_same:
        return Cause.SPEC
    if _are_other_prompts(model.spec, built, live):
        return Cause.PROMPTS
    if before.profile != origin.profile:
        return Cause.PROFILE
    if before.settings != origin.settings:
        return Cause.SETTINGS
    ours, theirs = _settings_in(built), _settings_in(live["spec"].get("template") or {})
    # NB: only what both say: the API server fills in what is left out, and so one of the two may say more.
    both = [key for key in ours.keys() & theirs.keys() if ours[key] is not None and theirs[key] is not None]
    return Cause.SETTINGS if any(ours[key] != theirs[key] for key in both) else Cause.CODE


def _are_other_prompts(spec: LLMModelSpec | None, built: Manifest, live: Manifest) -> bool:
    """Say whether a ConfigMap of the model has another prompt than its pods: no generation tells of that."""
    if spec is None or not any(prefix.systemFrom for prefix in spec.prefixes):
        return False
    present = live["spec"].get("template") or {}
    found = [(one.get("metadata") or {}).get("annotations") or {} for one in (built, present)]
    return bool(found[0].get(PREFIXES_ANNOTATION) != found[1].get(PREFIXES_ANNOTATION))


def hash_of_spec(spec: LLMModelSpec) -> str:
    """Give a hash of those parts of the manifest's own spec that the pod template follows from. Defaults are not in it,
    so that a release with further fields finds the same; nor are texts of ConfigMaps, or what a profile gives."""
    return hash_of_pods(own_spec(spec))


def hash_of_pods(spec: LLMModelSpec) -> str:
    """Give a hash of those parts of a spec that the pod template follows from, with what a profile gives."""
    own = tuple(one if one.systemFrom is None else one.model_copy(update={"system": None}) for one in spec.prefixes)
    spec = spec.model_copy(update={"prefixes": own})
    said = spec.model_dump(mode="json", exclude=dict(NOT_IN_PODS), exclude_defaults=True)
    return digest(_without_empty(said))


def hash_of_settings(settings: BuildSettings) -> str:
    """Give a hash of the settings of POD_SETTINGS; empty where all of them are the defaults."""
    defaults = {one.name: one.default for one in fields(settings)}
    said = {name: _by_value(getattr(settings, name)) for name in sorted(POD_SETTINGS)}
    said = {name: value for name, value in said.items() if value != _by_value(defaults[name])}
    return digest(said) if said else ""


def _by_value(setting: Any) -> Any:
    """Give what a setting says: of one that is JSON, whatever the order of its keys."""
    try:
        return json.loads(setting) if isinstance(setting, str) and setting[:1] in ("{", "[") else setting
    except ValueError:
        return setting


def is_adopted(deployment: Manifest) -> bool:
    """Say whether the present template was taken up in turn."""
    return (deployment["metadata"].get("annotations") or {}).get(CAUSE_ANNOTATION) in IN_TURN


def _without_empty(document: Any) -> Any:
    """Give a document without the maps of which nothing is left: what they said concerns no pod."""
    if not isinstance(document, dict):
        return document
    found = {key: _without_empty(value) for key, value in document.items()}
    return {key: value for key, value in found.items() if value != {}}


def _settings_in(template: Mapping[str, Any]) -> dict[str, Any]:
    """Give what a pod template has from the settings of the install, in the containers that Capstan makes."""
    spec = template.get("spec") or {}
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    ours = [item for item in containers if item["name"] in (ENGINE_CONTAINER, WORKER_CONTAINER)]
    found = {f"{item['name']}.imagePullPolicy": item.get("imagePullPolicy") for item in ours}
    found |= {f"{item['name']}.image": in_full(item["image"]) if item.get("image") else None for item in ours}
    secrets = [item.get("name") for item in spec.get("imagePullSecrets") or ()]
    return found | {"image.pull.secrets": secrets}


def _kept(live: Manifest) -> Manifest:
    """Give the template of a live Deployment as it can be applied."""
    template: Manifest = live["spec"]["template"]
    metadata = {key: value for key, value in template["metadata"].items() if value is not None}
    return {**template, "metadata": metadata}
