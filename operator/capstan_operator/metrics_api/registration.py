"""The APIService of external.metrics.k8s.io: made while a model needs it, and never in place of somebody else's.

There is one in a cluster. KEDA or an adapter of Prometheus may have it: then it is theirs, and models are scaled by the
operator itself. What is made here belongs to a ClusterRole of the chart, so that it goes when the chart goes, also when
the operator is gone before: an APIService without a server behind it keeps namespaces from being deleted. For the same
reason it is taken away when it does not become available, and tried again later (trials.py).
"""

import asyncio
import base64
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from capstan_contract.names import MANAGED_BY, MANAGED_BY_LABEL
from capstan_operator.autoscaling.standing import NO_METRICS_API, UNKNOWN, Standing
from capstan_operator.kube.errors import Conflict, Forbidden, KubeError, NotFound
from capstan_operator.kube.port import KubePort
from capstan_operator.metrics_api.authorities import ensure_authority
from capstan_operator.metrics_api.authority import Authority
from capstan_operator.metrics_api.place import Place
from capstan_operator.metrics_api.trials import Trials
from capstan_operator.names import METRICS_API_MANAGER
from capstan_operator.resources.api_resource import API_SERVICES, CLUSTER_ROLES
from capstan_operator.resources.resource import Manifest

log = logging.getLogger(__name__)

NAME: Final = "v1beta1.external.metrics.k8s.io"
EVERY: Final = 5.0
SOON: Final = 1.0
"""Seconds between two looks while it is not known whether the API is available."""


class Registration:
    """Sees to the APIService until cancelled; `standing` says whether HPAs can be used."""

    def __init__(
        self,
        kube: KubePort,
        place: Place | None,
        *,
        owner: str,
        is_wanted: Callable[[], bool | None],
        on_authority: Callable[[], None] = lambda: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = lambda: asyncio.get_running_loop().time(),
    ) -> None:
        """`owner` is the ClusterRole that it belongs to; while `is_wanted` says None, what is there stays;
        `on_authority` is called when there is a new authority."""
        self._kube = kube
        self._place = place
        self._owner = owner
        self._is_wanted = is_wanted
        self._on_authority = on_authority
        self._now = now
        self._clock = clock
        self._trials = Trials()
        self._may_be_there = True
        self.standing = UNKNOWN if place else NO_METRICS_API

    async def run(self) -> None:
        """Go on until cancelled."""
        if self._place is None:
            await asyncio.Event().wait()
            return
        while True:
            await self.step(self._place)
            await asyncio.sleep(SOON if self._may_be_there and self.standing.usable is None else EVERY)

    async def step(self, place: Place) -> None:
        """Bring the APIService to what it should be, and look whether it is available."""
        before = self.standing
        try:
            wanted = self._is_wanted()
            if wanted:
                self._may_be_there = True
                self.standing = await self._ensure(place)
            elif wanted is False and self._may_be_there:
                await self._remove(place)
                self.standing, self._trials, self._may_be_there = UNKNOWN, Trials(), False
        except Forbidden as error:
            self._may_be_there = False
            self.standing = Standing(False, f"the operator may not see to {NAME}: {error}")
        except KubeError as error:
            log.debug("could not see to the metrics API", extra={"error": str(error)})
            self.standing = self._trials.failed(f"the operator could not see to {NAME}: {error}", self._clock())
        if self.standing.problem and self.standing != before:
            log.warning("HPAs cannot be used", extra={"reason": self.standing.problem})

    async def _ensure(self, place: Place) -> Standing:
        live = await self._find()
        if live is not None and not _is_ours(live, place):
            return self._yielded()
        if not self._trials.rests(self._clock()):
            try:
                live = await self._written(place, live)
            except KubeError as error:
                if live is None:
                    raise
                log.debug("could not bring the APIService up to date", extra={"error": str(error)})
            if live is None:
                return self._yielded()
            self._judge(live)
        if self._trials.rests(self._clock()):
            await self._remove(place)
        return self._trials.standing

    def _yielded(self) -> Standing:
        self._trials = Trials()
        return Standing(False, f"{NAME} is served by somebody else")

    async def _written(self, place: Place, live: Manifest | None) -> Manifest | None:
        """Bring it up to date; None: somebody else has made theirs meanwhile."""
        authority = await self._authority(place)
        manifest = await self._manifest(place, authority)
        if live is not None and not _differs(live, manifest):
            return live
        try:
            written = await self._kube.apply(manifest, manager=METRICS_API_MANAGER, force=live is not None)
        except Conflict:
            if live is None:
                return None
            raise
        log.info("applied the APIService", extra={"object": NAME})
        return written

    def _judge(self, live: Manifest) -> None:
        conditions = (live.get("status") or {}).get("conditions") or ()
        found: Manifest = next((one for one in conditions if one.get("type") == "Available"), {})
        if found.get("status") == "True":
            self._trials.available(self._clock())
            return
        why = found.get("message") or "the API server does not say why"
        self._trials.unavailable(f"{NAME} is not available: {why}", self._clock())

    async def _remove(self, place: Place) -> None:
        live = await self._find()
        if live is not None and _is_ours(live, place):
            await self._kube.delete(API_SERVICES, NAME, uid=live["metadata"]["uid"])
            log.info("removed the APIService", extra={"object": NAME})

    async def _find(self) -> Manifest | None:
        try:
            return await self._kube.get(API_SERVICES, NAME)
        except NotFound:
            return None

    async def _authority(self, place: Place) -> Authority:
        found, is_new = await ensure_authority(self._kube, place, self._now())
        if is_new:
            self._on_authority()
        return found

    async def _manifest(self, place: Place, authority: Authority) -> Manifest:
        metadata: Manifest = {"name": NAME, "labels": {MANAGED_BY_LABEL: MANAGED_BY}}
        if self._owner:
            role = await self._kube.get(CLUSTER_ROLES, self._owner)
            metadata["ownerReferences"] = [
                {
                    "apiVersion": CLUSTER_ROLES.api_version,
                    "kind": CLUSTER_ROLES.kind,
                    "name": self._owner,
                    "uid": role["metadata"]["uid"],
                }
            ]
        return {
            "apiVersion": API_SERVICES.api_version,
            "kind": API_SERVICES.kind,
            "metadata": metadata,
            "spec": {
                "group": "external.metrics.k8s.io",
                "version": "v1beta1",
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "service": {"name": place.service, "namespace": place.namespace, "port": 443},
                "caBundle": base64.b64encode(authority.certificates).decode(),
            },
        }


def _is_ours(live: Manifest, place: Place) -> bool:
    service = (live.get("spec") or {}).get("service") or {}
    return (service.get("name"), service.get("namespace")) == (place.service, place.namespace)


def _differs(live: Manifest, manifest: Manifest) -> bool:
    spec = live.get("spec") or {}
    owners = {one.get("uid") for one in live["metadata"].get("ownerReferences") or ()}
    wanted = {one["uid"] for one in manifest["metadata"].get("ownerReferences") or ()}
    return any(spec.get(field) != value for field, value in manifest["spec"].items()) or not wanted <= owners
