"""Which pod template is in force: the one that would be built now, or the one that the pods have.

The template follows from the spec and the ConfigMaps that it names, from the settings of the install (images, how they
are pulled) and from the operator's own code. Only a change of the spec is the user's wish for new pods, and rolls at
once. The others may concern every model of a cluster at the same moment:

    settings   adopted one after the other (`desired/adoption.py`), or with the next change of the spec
    prompts    of `prefixes[].systemFrom`, of a ConfigMap that many models may share: like the settings
    code       adopted with the next change of the spec or of the settings: a release whose images stay pinned restarts
               nothing

What caused a template is written on the Deployment, beside it: an operator that begins anew knows it from there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from capstan_contract.names import GROUP
from capstan_operator.api.kinds import Model
from capstan_operator.api.llmmodel import LLMModelSpec
from capstan_operator.desired.diff import digest
from capstan_operator.desired.pod import ENGINE_CONTAINER, PREFIXES_ANNOTATION, WORKER_CONTAINER
from capstan_operator.desired.pods import template_hash
from capstan_operator.desired.revisions import find_revision, generation_of, template_of
from capstan_operator.desired.snapshot import PodHash
from capstan_operator.desired.types import Pending
from capstan_operator.resources.resource import Manifest

CAUSE_ANNOTATION: Final = f"{GROUP}/rollout-cause"
"""On the Deployment: what made the operator write its present template."""
SPEC_ANNOTATION: Final = f"{GROUP}/spec-hash"
"""On the Deployment: a hash of those parts of the spec that its present template follows from."""
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
    PROMPTS = "Prompts"
    CODE = "Code"


IN_TURN: Final = frozenset((Cause.SETTINGS, Cause.PROMPTS))
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


def choose_template(
    model: Model,
    spec: LLMModelSpec,
    built: tuple[Manifest, PodHash],
    *,
    live: Manifest | None,
    revisions: tuple[Manifest, ...],
    adopt: bool,
    gradually: bool,
) -> InForce:
    """Choose the template: `built`, or the one that `live` has. `adopt` says that it is this model's turn to take up
    what a change of settings or of shared prompts makes of it, `gradually` that there are such turns."""
    template, pod_hash = built
    spec_hash = hash_of_spec(spec)
    if live is None or not (present := PodHash(template_hash(live))):
        return InForce(template, pod_hash, _annotations(Cause.SPEC, spec_hash))
    known = live["metadata"].get("annotations") or {}
    if present == pod_hash:
        return InForce(template, pod_hash, _annotations(known.get(CAUSE_ANNOTATION, Cause.SPEC), spec_hash))
    revision = find_revision(revisions, present)
    cause = find_cause(model, spec_hash, built=template, live=live, revision=revision)
    if cause is Cause.SPEC or (cause in IN_TURN and adopt):
        return InForce(template, pod_hash, _annotations(cause, spec_hash))
    return InForce(
        template=template_of(revision) or _kept(live),
        pod_hash=present,
        annotations=_annotations(known.get(CAUSE_ANNOTATION, Cause.SPEC), known.get(SPEC_ANNOTATION, spec_hash)),
        pending=Pending.ADOPTION if cause in IN_TURN and gradually else Pending.NEXT_CHANGE,
    )


def find_cause(model: Model, spec_hash: str, *, built: Manifest, live: Manifest, revision: Manifest | None) -> Cause:
    """Say why the built template is not the live one.

    A Deployment of a release that wrote no hash of the spec is of this spec if the operator had seen this generation.
    """
    known = (live["metadata"].get("annotations") or {}).get(SPEC_ANNOTATION)
    if known is None:
        is_same = model.status.get("observedGeneration") == model.generation
    else:
        is_same = known == spec_hash or (revision is not None and generation_of(revision) == model.generation)
    if not is_same:
        return Cause.SPEC
    if _are_other_prompts(model.spec, built, live):
        return Cause.PROMPTS
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
    """Give a hash of those parts of the spec that the pod template follows from. Defaults are not in it, so that a
    release with further fields finds the same; nor are texts of ConfigMaps, which are no part of the spec."""
    own = tuple(one if one.systemFrom is None else one.model_copy(update={"system": None}) for one in spec.prefixes)
    spec = spec.model_copy(update={"prefixes": own})
    said = spec.model_dump(mode="json", exclude=dict(NOT_IN_PODS), exclude_defaults=True)
    return digest(_without_empty(said))


def is_adopted(deployment: Manifest) -> bool:
    """Say whether the present template was taken up in turn."""
    return (deployment["metadata"].get("annotations") or {}).get(CAUSE_ANNOTATION) in IN_TURN


def _without_empty(document: Any) -> Any:
    """Give a document without the maps of which nothing is left: what they said concerns no pod."""
    if not isinstance(document, dict):
        return document
    found = {key: _without_empty(value) for key, value in document.items()}
    return {key: value for key, value in found.items() if value != {}}


def _annotations(cause: str, spec_hash: str) -> dict[str, str]:
    return {CAUSE_ANNOTATION: str(cause), SPEC_ANNOTATION: spec_hash}


def _settings_in(template: Mapping[str, Any]) -> dict[str, Any]:
    """Give what a pod template has from the settings of the install, in the containers that Capstan makes."""
    spec = template.get("spec") or {}
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    ours = [item for item in containers if item["name"] in (ENGINE_CONTAINER, WORKER_CONTAINER)]
    found = {f"{item['name']}.{field}": item.get(field) for item in ours for field in ("image", "imagePullPolicy")}
    secrets = [item.get("name") for item in spec.get("imagePullSecrets") or ()]
    return found | {"image.pull.secrets": secrets}


def _kept(live: Manifest) -> Manifest:
    """Give the template of a live Deployment as it can be applied."""
    template: Manifest = live["spec"]["template"]
    metadata = {key: value for key, value in template["metadata"].items() if value is not None}
    return {**template, "metadata": metadata}
