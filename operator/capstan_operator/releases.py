"""Whether the CRDs and the operator are of the same release. They may differ, or one may be missing: this only says so.

During an upgrade, and after a rollback of one of them, a newer CRD fills in defaults that this operator ignores, and an
older one drops fields that it would know. Both work; a person should know while it lasts.
"""

import asyncio
import logging
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from capstan_contract.names import GROUP
from capstan_operator.api.crd import build_crd
from capstan_operator.api.kinds import KINDS, Kind
from capstan_operator.kube.errors import Forbidden, KubeError, NotFound
from capstan_operator.kube.events import EventRecorder, Subject
from capstan_operator.kube.port import KubePort
from capstan_operator.metrics import Metrics
from capstan_operator.names import CRD_RELEASE_ANNOTATION, CRD_SCHEMA_ANNOTATION
from capstan_operator.resources.api_resource import CRDS, PODS

log = logging.getLogger(__name__)

LOOK_AGAIN_SECONDS: Final = 600.0


class CrdRelease(StrEnum):
    """What the release of a CRD is to that of the operator."""

    SAME = "same"
    OLDER = "older"
    NEWER = "newer"
    UNKNOWN = "unknown"
    MISSING = "missing"
    """There is none of it: nobody can write objects of its kind."""


_TOLD: Final = {
    CrdRelease.OLDER: "is of an older release than the operator: fields that it does not know are dropped",
    CrdRelease.NEWER: "is of a newer release than the operator, which ignores the fields that it does not know",
    CrdRelease.UNKNOWN: "has another schema than the operator was built with",
    CrdRelease.MISSING: "is not installed: objects of its kind cannot be written, and the operator waits for it",
}


_BADNESS: Final = (
    CrdRelease.SAME,
    CrdRelease.UNKNOWN,
    CrdRelease.NEWER,
    CrdRelease.OLDER,
    CrdRelease.MISSING,
)
"""Of several CRDs that differ the last one here is the one that the metric says."""


def compare_releases(live: Mapping[str, Any], own: Mapping[str, Any]) -> CrdRelease:
    """Compare the annotations of a live CRD with those of the one that this operator would generate.

    A CRD that does not say its release is of one that did not do so yet.
    """
    if live.get(CRD_SCHEMA_ANNOTATION) == own[CRD_SCHEMA_ANNOTATION]:
        return CrdRelease.SAME
    if CRD_RELEASE_ANNOTATION not in live:
        return CrdRelease.OLDER
    theirs, ours = _version(live[CRD_RELEASE_ANNOTATION]), _version(own[CRD_RELEASE_ANNOTATION])
    if theirs is None or ours is None or theirs == ours:
        return CrdRelease.UNKNOWN
    return CrdRelease.OLDER if theirs < ours else CrdRelease.NEWER


def _version(text: object) -> tuple[int, ...] | None:
    try:
        return tuple(int(part) for part in str(text).removeprefix("v").partition("-")[0].split("."))
    except ValueError:
        return None


class ReleaseCheck:
    """Looks at the CRDs at the start, and now and then: a log line, a metric and an Event, and never an obstacle."""

    def __init__(
        self, kube: KubePort, *, metrics: Metrics, events: EventRecorder, namespace: str, identity: str
    ) -> None:
        self._kube = kube
        self._metrics = metrics
        self._events = events
        # NB: an Event about an object of no namespace would need rights in the namespace `default`.
        self._subject = Subject(PODS.api_version, PODS.kind, namespace, identity, "")
        self._said: dict[str, str] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        own = {kind.plural: await asyncio.to_thread(_annotations, kind) for kind in KINDS}
        while True:
            found = [await self.look(kind, own[kind.plural]) for kind in KINDS]
            worst = max(found, key=_BADNESS.index)
            for state in CrdRelease:
                self._metrics.crd_release.labels(state.value).set(state is worst)
            await asyncio.sleep(LOOK_AGAIN_SECONDS)

    async def look(self, kind: Kind[Any], own: Mapping[str, Any]) -> CrdRelease:
        """Compare one CRD; say it when it is not what was said last."""
        name = f"{kind.plural}.{GROUP}"
        try:
            live = await self._kube.get(CRDS, name)
        except Forbidden:
            self._say(name, "the operator may not read the CRD, so it cannot compare releases", logging.INFO)
            return CrdRelease.UNKNOWN
        except NotFound:
            return self._conclude(name, CrdRelease.MISSING)
        except KubeError as error:
            log.info("could not read the CRD", extra={"object": name, "error": str(error)})
            return CrdRelease.UNKNOWN
        return self._conclude(name, compare_releases(live["metadata"].get("annotations") or {}, own))

    def _conclude(self, name: str, state: CrdRelease) -> CrdRelease:
        if state is CrdRelease.SAME:
            self._say(name, "the CRD is of the operator's release", logging.INFO)
        elif self._say(name, f"the CRD {_TOLD[state]}", logging.WARNING):
            reason = "CrdMissing" if state is CrdRelease.MISSING else "CrdOfAnotherRelease"
            self._events.record(self._subject, "Warning", reason, f"the CRD '{name}' {_TOLD[state]}")
        return state

    def _say(self, name: str, sentence: str, level: int) -> bool:
        if self._said.get(name) == sentence:
            return False
        self._said[name] = sentence
        log.log(level, sentence, extra={"object": name})
        return True


def _annotations(kind: Kind[Any]) -> Mapping[str, Any]:
    annotations: Mapping[str, Any] = build_crd(kind)["metadata"]["annotations"]
    return annotations
