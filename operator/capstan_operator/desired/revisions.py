"""ControllerRevisions: the pod templates that a model has had, the one in force among them.

A template is written there before the Deployment gets it, under a name that follows from its hash. Few are kept.
Lists of them are mostly of metadata only, so the number stands in an annotation as well.
"""

from collections.abc import Iterable
from typing import Final

from capstan_contract.names import GROUP, POD_HASH_LABEL
from capstan_operator.desired.naming import revision_name
from capstan_operator.desired.snapshot import PodHash
from capstan_operator.desired.types import Action, Wanted
from capstan_operator.resources.api_resource import CONTROLLER_REVISIONS
from capstan_operator.resources.resource import Manifest, is_owned

KEPT: Final = 3
NUMBER_ANNOTATION: Final = f"{GROUP}/revision"
GENERATION_ANNOTATION: Final = f"{GROUP}/generation"
"""The generation of the LLMModel that the template was built from, or that had it when it was first kept."""


def build_revision(name: str, template: Manifest, pod_hash: PodHash, *, number: int, generation: int) -> Manifest:
    """Give the ControllerRevision that keeps a template. Its data cannot change."""
    return {
        "apiVersion": CONTROLLER_REVISIONS.api_version,
        "kind": CONTROLLER_REVISIONS.kind,
        "metadata": {
            "name": revision_name(name, pod_hash),
            "labels": {POD_HASH_LABEL: pod_hash},
            "annotations": {NUMBER_ANNOTATION: str(number), GENERATION_ANNOTATION: str(generation)},
        },
        "data": {"template": template},
        "revision": number,
    }


def plan_revisions(
    name: str, template: Manifest, pod_hash: PodHash, *, present: Iterable[Manifest], uid: str, generation: int
) -> tuple[Manifest | None, tuple[Wanted, ...]]:
    """Give the revision to apply for the template in force, if there is one to apply, and what is wanted of the others.

    One that is there already is only written again to make it the newest, which needs its data.
    """
    own = sorted((item for item in present if is_owned(item, uid)), key=number_of, reverse=True)
    newest = number_of(own[0]) if own else 0
    found = find_revision(own, pod_hash)
    others = [item for item in own if item is not found]
    kept = [Wanted(item, Action.HOLD) for item in others[: KEPT - 1]]
    pruned = [Wanted(item, Action.PRUNE) for item in others[KEPT - 1 :]]
    if found is None:
        new = build_revision(name, template, pod_hash, number=newest + 1, generation=generation)
        return new, (*kept, *pruned)
    if number_of(found) < newest and (data := template_of(found)):
        return build_revision(name, data, pod_hash, number=newest + 1, generation=generation), (*kept, *pruned)
    return None, (Wanted(found, Action.HOLD), *kept, *pruned)


def find_revision(revisions: Iterable[Manifest], pod_hash: str) -> Manifest | None:
    """Give the revision that keeps the template with this hash."""
    labelled = (item for item in revisions if (item["metadata"].get("labels") or {}).get(POD_HASH_LABEL) == pod_hash)
    return next(labelled, None)


def template_of(revision: Manifest | None) -> Manifest | None:
    """Give the template that a revision keeps, if it was listed with its data."""
    template: Manifest | None = ((revision or {}).get("data") or {}).get("template")
    return template


def number_of(revision: Manifest) -> int:
    """Give the number of a revision; the newest has the highest."""
    return _integer(revision, NUMBER_ANNOTATION) or 0


def generation_of(revision: Manifest) -> int | None:
    """Give the generation of the LLMModel that the template was built from."""
    return _integer(revision, GENERATION_ANNOTATION)


def _integer(revision: Manifest, annotation: str) -> int | None:
    text = str((revision["metadata"].get("annotations") or {}).get(annotation))
    return int(text) if text.isdecimal() else None
