"""Whether the cluster has KEDA, and what KEDA says of our ScaledObjects: looked at every few seconds while any model is
to be scaled by it, or any of its objects is ours.

There is no watch, because a watch of a kind that is not installed is an error each time, and an install may have it at
one time and not at another. A LIST answers both questions, and only what has changed in it is read.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from capstan_contract.names import MANAGED_BY, MANAGED_BY_LABEL, MODEL_LABEL
from capstan_operator.autoscaling.standing import NO_EXTERNAL_SCALER, UNKNOWN, Standing
from capstan_operator.desired.autoscaler import ScalerEndpoint
from capstan_operator.desired.scaled_object import ScaledObjectState, read_state
from capstan_operator.kube.errors import Forbidden, KubeError, UnknownResource
from capstan_operator.kube.port import KubePort
from capstan_operator.metrics_api.authorities import ensure_authority
from capstan_operator.metrics_api.place import Place
from capstan_operator.resources.api_resource import SCALED_OBJECTS
from capstan_operator.resources.resource import Manifest, ObjectKey

log = logging.getLogger(__name__)

EVERY: Final = 5.0
SHARE: Final = 0.1
"""The share of the time that looking may take: with very many ScaledObjects it is done less often."""
NOT_INSTALLED: Final = "KEDA is not installed: the cluster has no kind ScaledObject (keda.sh/v1alpha1)"


@dataclass(frozen=True)
class _Seen:
    """What was seen of a ScaledObject."""

    uid: str
    version: str
    model: ObjectKey
    state: ScaledObjectState = field(default_factory=ScaledObjectState)


class Presence:
    """Looks until cancelled; `standing` says whether KEDA can scale models."""

    def __init__(
        self,
        kube: KubePort,
        place: Place | None,
        *,
        namespaces: Sequence[str],
        is_wanted: Callable[[], bool],
        wake: Callable[[ObjectKey], None],
        believed: Callable[[], Set[ObjectKey]] = frozenset,
        on_authority: Callable[[], None] = lambda: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`namespaces` are those to look in, empty: all; `wake` is called for a model of whose ScaledObject there is
        news, which it is also where it is gone and the model is `believed` to have one; `on_authority` when there is a
        new authority of the external scaler."""
        self._kube = kube
        self._place = place
        self._namespaces = namespaces
        self._is_wanted = is_wanted
        self._wake = wake
        self._believed = believed
        self._on_authority = on_authority
        self._now = now
        self._seen: dict[str, _Seen] = {}
        self._has_looked = False
        self.standing = UNKNOWN if place else NO_EXTERNAL_SCALER
        self.is_installed = False
        """Whether the API server knew its kinds when it was asked last."""

    async def run(self) -> None:
        """Go on until cancelled."""
        if self._place is None:
            await asyncio.Event().wait()
            return
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await self.step(self._place)
            await asyncio.sleep(max(EVERY, (loop.time() - began) / SHARE))

    async def step(self, place: Place) -> None:
        """Look, where anybody needs to know. A new process looks once in any case: there may be objects left."""
        if self._has_looked and not self._seen and not self._is_wanted() and not self._believed():
            self.standing = UNKNOWN
            return
        before = self.standing
        try:
            await self._look()
            if self._is_wanted():
                self.standing = await self._ready(place)
        except UnknownResource:
            self.is_installed, self.standing = False, Standing(False, NOT_INSTALLED)
            self._forget()
        except Forbidden as error:
            self.is_installed, self.standing = False, Standing(False, f"the operator lacks a right: {error}")
            self._forget()
        except KubeError as error:  # what was so stays so: nothing was learned
            log.debug("could not look at ScaledObjects", extra={"error": str(error)})
            return
        self._has_looked = True
        if self.standing.problem and self.standing.problem != before.problem and self._is_wanted():
            log.warning("KEDA cannot scale models", extra={"reason": self.standing.problem})

    async def _look(self) -> None:
        found: dict[str, _Seen] = {}
        for namespace in self._namespaces or (None,):
            page = await self._kube.list(
                SCALED_OBJECTS,
                namespace=namespace,
                label_selector=f"{MANAGED_BY_LABEL}={MANAGED_BY}",
                shape=_seen,
                known=self._known,
            )
            found |= {one.uid: one for one in page.items if one is not None}
        self.is_installed = True
        changed = {(one.model, one.state) for one in found.values()} ^ {
            (one.model, one.state) for one in self._seen.values()
        }
        self._seen = found
        # NB: one that came and went between two looks was never seen here.
        gone = self._believed() - {one.model for one in found.values()}
        for key in sorted({key for key, _ in changed} | gone):
            self._wake(key)

    def _known(self, uid: str, version: str) -> _Seen | None:
        known = self._seen.get(uid)
        return known if known and known.version == version else None

    def _forget(self) -> None:
        """Nothing of ours is there, or can be seen, any more."""
        lost, self._seen = self._seen, {}
        for key in sorted({one.model for one in lost.values()} | self._believed()):
            self._wake(key)

    async def _ready(self, place: Place) -> Standing:
        try:
            authority, is_new = await ensure_authority(self._kube, place, self._now())
        except Forbidden as error:  # NB: what is there of ours can be seen, and goes before anybody else scales
            return Standing(False, f"the operator lacks a right: {error}")
        if is_new:
            self._on_authority()
        endpoint = ScalerEndpoint(f"{place.host}:{place.port}", authority.certificates.decode())
        return Standing(True, endpoint=endpoint)


def _seen(scaled_object: Manifest) -> Any:
    metadata = scaled_object["metadata"]
    name = (metadata.get("labels") or {}).get(MODEL_LABEL)
    if name is None:
        return None
    model = ObjectKey(metadata["namespace"], name)
    return _Seen(metadata["uid"], metadata["resourceVersion"], model, read_state(scaled_object))
