"""What HorizontalPodAutoscalers say of models that are scaled here: why ours do not work, and who else has made some.

There is no watch: HPAs write their status all the time. One LIST every half a minute, of which only what concerns a
model that is scaled here is kept.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from capstan_contract.names import MANAGED_BY, MANAGED_BY_LABEL
from capstan_operator.api.kinds import LLM_MODELS
from capstan_operator.desired.naming import workload_name
from capstan_operator.desired.pods import condition_of
from capstan_operator.desired.shortage import moment_of
from capstan_operator.kube.errors import Forbidden, KubeError
from capstan_operator.kube.port import KubePort
from capstan_operator.resources.api_resource import AUTOSCALERS, DEPLOYMENTS, SCALED_OBJECTS
from capstan_operator.resources.resource import Manifest, ObjectKey

log = logging.getLogger(__name__)

EVERY: Final = 30.0
SHARE: Final = 0.05
"""The share of the time that looking may take."""
LASTING_SECONDS: Final = 60.0
"""For so long an HPA must have said that it cannot before the model says so: a reading that fails once is no news."""
MOST_MESSAGE: Final = 300
MOST_RIVALS: Final = 3
_CONDITIONS: Final = ("AbleToScale", "ScalingActive")
_AT_ZERO: Final = "ScalingDisabled"

_Target = tuple[str, str, str]
"""Namespace, kind and name of what an HPA scales."""


@dataclass(frozen=True)
class HpaSight:
    """What was seen of the HPAs of one model."""

    rivals: tuple[str, ...] = ()
    """Names of those that somebody else has made for it."""
    problem: str = ""
    """Why ours does not work, in its words."""
    of_keda: tuple[str, ...] = ()
    """Names of those that KEDA has made for a ScaledObject of the name of ours."""


NOTHING_SEEN: Final = HpaSight()


class _Seen(NamedTuple):
    """An HPA that concerns a model."""

    model: ObjectKey
    rival: str
    problem: str
    of_keda: str


class HpaWatch:
    """Looks until cancelled; `of` gives what was seen last."""

    def __init__(
        self,
        kube: KubePort,
        *,
        namespaces: Sequence[str],
        models: Callable[[], Set[ObjectKey]],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`namespaces` are those to look in, empty: all; `models` are those that are scaled here."""
        self._kube = kube
        self._namespaces = namespaces
        self._models = models
        self._now = now
        self._sights: Mapping[ObjectKey, HpaSight] = {}

    def of(self, key: ObjectKey) -> HpaSight:
        """Give what was seen of a model's HPAs."""
        return self._sights.get(key, NOTHING_SEEN)

    async def run(self) -> None:
        """Go on until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await self.step()
            await asyncio.sleep(max(EVERY, (loop.time() - began) / SHARE))

    async def step(self) -> None:
        """Look, where any model is scaled."""
        targets = _targets(self._models())
        if not targets:
            self._sights = {}
            return
        now, found = self._now(), list[_Seen]()
        for namespace in self._namespaces or (None,):
            try:
                page = await self._kube.list(
                    AUTOSCALERS, namespace=namespace, shape=lambda hpa: _read(hpa, targets, now)
                )
            except Forbidden:
                continue  # ScalingActive says already that there can be no HPA of ours
            except KubeError as error:  # what was so stays so: nothing was learned
                log.debug("could not look at HorizontalPodAutoscalers", extra={"error": str(error)})
                return
            found += [one for one in page.items if one is not None]
        self._sights = _by_model(found)


def _targets(models: Set[ObjectKey]) -> dict[_Target, ObjectKey]:
    names = ((key, kind, name) for key in models for kind, name in (
        (DEPLOYMENTS.kind, workload_name(key.name)), (LLM_MODELS.kind, key.name),
    ))  # fmt: skip
    return {(key.namespace, kind, name): key for key, kind, name in names}


def _read(hpa: Manifest, targets: Mapping[_Target, ObjectKey], now: datetime) -> Any:
    metadata, target = hpa["metadata"], (hpa.get("spec") or {}).get("scaleTargetRef") or {}
    model = targets.get((metadata["namespace"], str(target.get("kind")), str(target.get("name"))))
    if model is None or "deletionTimestamp" in metadata:
        return None
    if (metadata.get("labels") or {}).get(MANAGED_BY_LABEL) == MANAGED_BY:
        return _Seen(model, "", _problem_of(hpa, now), "")
    kedas = any(
        owner.get("kind") == SCALED_OBJECTS.kind and owner.get("name") == workload_name(model.name)
        for owner in metadata.get("ownerReferences") or ()
    )
    name = str(metadata["name"])
    return _Seen(model, "", "", name) if kedas else _Seen(model, name, "", "")


def _problem_of(hpa: Manifest, now: datetime) -> str:
    """Give why an HPA of ours does not work. At zero it does not mean to: there the operator scales."""
    for kind in _CONDITIONS:
        said = condition_of(hpa, kind) or {}
        since = moment_of(said.get("lastTransitionTime"))
        if said.get("status") != "False" or said.get("reason") == _AT_ZERO or since is None:
            continue
        if (now - since).total_seconds() >= LASTING_SECONDS:
            return f"{kind} is False, {said.get('reason')}: {said.get('message')}"[:MOST_MESSAGE]
    return ""


def _by_model(found: Sequence[_Seen]) -> dict[ObjectKey, HpaSight]:
    sights: dict[ObjectKey, HpaSight] = {}
    for one in sorted(found):
        before = sights.get(one.model, NOTHING_SEEN)
        rivals = (*before.rivals, one.rival) if one.rival else before.rivals
        of_keda = (*before.of_keda, one.of_keda) if one.of_keda else before.of_keda
        sights[one.model] = HpaSight(rivals[:MOST_RIVALS], before.problem or one.problem, of_keda[:MOST_RIVALS])
    return {key: sight for key, sight in sights.items() if sight != NOTHING_SEEN}
