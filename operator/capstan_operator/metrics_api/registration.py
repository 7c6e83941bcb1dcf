"""The APIService of external.metrics.k8s.io: made while a model needs it, and never in place of somebody else's.

There is one in a cluster. KEDA or an adapter of Prometheus may have it: then it is theirs, and models are scaled by the
operator itself. What is made here belongs to a ClusterRole of the chart, so that it goes when the chart goes, also when
the operator is gone before: an APIService without a server behind it keeps namespaces from being deleted.
"""

import asyncio
import base64
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from capstan_contract.names import MANAGED_BY, MANAGED_BY_LABEL
from capstan_operator.autoscaling.standing import NO_METRICS_API, UNKNOWN, USABLE, Standing
from capstan_operator.kube.errors import Conflict, Forbidden, KubeError, NotFound
from capstan_operator.kube.port import KubePort
from capstan_operator.metrics_api.authority import Authority, is_due, make_authority, read_authority
from capstan_operator.metrics_api.server import Place
from capstan_operator.names import METRICS_API_MANAGER
from capstan_operator.resources.api_resource import API_SERVICES, CLUSTER_ROLES, SECRETS
from capstan_operator.resources.resource import Manifest

log = logging.getLogger(__name__)

NAME: Final = "v1beta1.external.metrics.k8s.io"
EVERY: Final = 5.0
SOON: Final = 1.0
"""Seconds between two looks while it is not known whether the API is available."""
PATIENCE: Final = 60.0
"""For how long the API server may say that the API is not available before that is believed."""


class Registration:
    """Sees to the APIService until cancelled; `standing` says whether HPAs can be used."""

    def __init__(
        self,
        kube: KubePort,
        place: Place | None,
        *,
        owner: str,
        is_wanted: Callable[[], bool],
        on_authority: Callable[[], None] = lambda: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = lambda: asyncio.get_running_loop().time(),
    ) -> None:
        """`owner` is the ClusterRole that it belongs to; `on_authority` is called when there is a new authority."""
        self._kube = kube
        self._place = place
        self._owner = owner
        self._is_wanted = is_wanted
        self._on_authority = on_authority
        self._now = now
        self._clock = clock
        self._usable_at: float | None = None
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
            if self._is_wanted():
                self._may_be_there = True
                self.standing = await self._ensure(place)
            elif self._may_be_there:
                await self._remove(place)
                self.standing, self._usable_at, self._may_be_there = UNKNOWN, None, False
        except Forbidden as error:
            self._may_be_there = False
            self.standing = Standing(False, f"the operator may not see to {NAME}: {error}")
        except KubeError as error:
            log.debug("could not see to the metrics API", extra={"error": str(error)})
        if self.standing.problem and self.standing != before:
            log.warning("HPAs cannot be used", extra={"reason": self.standing.problem})

    async def _ensure(self, place: Place) -> Standing:
        live = await self._find()
        if live is not None and not _is_ours(live, place):
            return Standing(False, f"{NAME} is served by somebody else")
        authority = await self._authority(place)
        manifest = await self._manifest(place, authority)
        if live is None or _differs(live, manifest):
            try:
                live = await self._kube.apply(manifest, manager=METRICS_API_MANAGER, force=live is not None)
            except Conflict:
                return Standing(False, f"{NAME} is served by somebody else")
            log.info("applied the APIService", extra={"object": NAME})
        return self._judge(live)

    def _judge(self, live: Manifest) -> Standing:
        conditions = (live.get("status") or {}).get("conditions") or ()
        found: Manifest = next((one for one in conditions if one.get("type") == "Available"), {})
        clock = self._clock()
        if found.get("status") == "True":
            self._usable_at = clock
            return USABLE
        since = self._usable_at = clock if self._usable_at is None else self._usable_at
        if clock - since < PATIENCE:
            return self.standing if self.standing.usable else UNKNOWN
        return Standing(False, f"{NAME} is not available: {found.get('message') or 'the API server does not say why'}")

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
        """Read the authority of all replicas; make it, or its successor, where that is due."""
        try:
            secret = await self._kube.get(SECRETS, place.service, namespace=place.namespace)
        except NotFound:
            secret = {}
        found = read_authority(secret.get("data") or {})
        if found is not None and not is_due(found, self._now()):
            return found
        made = make_authority(self._now(), found)
        manifest = {
            "apiVersion": SECRETS.api_version,
            "kind": SECRETS.kind,
            "metadata": {
                "name": place.service,
                "namespace": place.namespace,
                "labels": {MANAGED_BY_LABEL: MANAGED_BY},
            },
            "type": "Opaque",
            "data": made.data,
        }
        await self._kube.apply(manifest, manager=METRICS_API_MANAGER)
        self._on_authority()
        return made

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
