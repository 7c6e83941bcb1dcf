"""What is seen of HorizontalPodAutoscalers, ours and others'."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from capstan_contract.names import MANAGED_BY, MANAGED_BY_LABEL
from capstan_operator.autoscaling.hpas import LASTING_SECONDS, MOST_RIVALS, NOTHING_SEEN, HpaSight, HpaWatch
from capstan_operator.kube.errors import Forbidden, Unavailable
from capstan_operator.resources.resource import ObjectKey
from fakes.apply_kube import ApplyKube

KEY = ObjectKey("team", "llama")
NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
OURS = {MANAGED_BY_LABEL: MANAGED_BY}


@dataclass
class World:
    """A cluster with HPAs, and one model that is scaled."""

    kube: ApplyKube = field(default_factory=ApplyKube)
    models: frozenset[ObjectKey] = frozenset({KEY})

    def __post_init__(self) -> None:
        self.watch = HpaWatch(self.kube, namespaces=(), models=lambda: self.models, now=lambda: NOW)

    def put(self, name: str, *, kind: str = "Deployment", target: str = "llama-model", **fields: Any) -> None:
        """Have an HPA there."""
        metadata = {"name": name, "namespace": "team", **fields.pop("metadata", {})}
        spec = {"scaleTargetRef": {"kind": kind, "name": target}}
        self.kube.put(
            {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": spec,
             **fields}
        )  # fmt: skip

    async def seen(self) -> HpaSight:
        """Look, and give what was seen of the model."""
        await self.watch.step()
        return self.watch.of(KEY)


@pytest.mark.parametrize(("kind", "target"), [("Deployment", "llama-model"), ("LLMModel", "llama")])
async def test_another_owner_of_the_number_is_seen(kind: str, target: str) -> None:
    """Of the Deployment, and of the LLMModel, whose number has no effect beside `scaling`."""
    world = World()
    world.put("mine", kind=kind, target=target)
    assert await world.seen() == HpaSight(rivals=("mine",))


async def test_hpas_of_other_things_are_nobody_s() -> None:
    """Of another Deployment, of a model that is not scaled here, and of KEDA for a ScaledObject of ours."""
    world = World()
    world.put("other", target="web")
    world.put("unscaled", target="qwen-model")
    owner = {"kind": "ScaledObject", "name": "llama-model"}
    world.put("keda-hpa-llama-model", metadata={"ownerReferences": [owner]})
    assert await world.seen() == HpaSight(of_keda=("keda-hpa-llama-model",))
    world.put("keda-hpa-mine", metadata={"ownerReferences": [{**owner, "name": "mine"}]})
    assert (await world.seen()).rivals == ("keda-hpa-mine",)


@pytest.mark.parametrize(
    ("condition", "lasting", "seen"),
    [
        ({"type": "AbleToScale", "status": "False", "reason": "FailedGetScale"}, LASTING_SECONDS, True),
        ({"type": "AbleToScale", "status": "False", "reason": "FailedGetScale"}, LASTING_SECONDS - 1, False),
        ({"type": "ScalingActive", "status": "False", "reason": "FailedGetExternalMetric"}, 600, True),
        ({"type": "ScalingActive", "status": "False", "reason": "ScalingDisabled"}, 600, False),
        ({"type": "ScalingActive", "status": "True", "reason": "ValidMetricFound"}, 600, False),
        ({"type": "ScalingLimited", "status": "False", "reason": "DesiredWithinRange"}, 600, False),
    ],
)
async def test_what_keeps_ours_from_working_is_seen_when_it_lasts(
    condition: dict[str, str], lasting: float, seen: bool
) -> None:
    """A reading that fails once is no news, and at zero an HPA does not mean to work."""
    world = World()
    since = (NOW - timedelta(seconds=lasting)).isoformat()
    said = {**condition, "message": "no", "lastTransitionTime": since}
    world.put("llama-model", metadata={"labels": OURS}, status={"conditions": [said]})
    problem = f"{condition['type']} is False, {condition['reason']}: no"
    assert await world.seen() == (HpaSight(problem=problem) if seen else NOTHING_SEEN)


async def test_nobody_is_asked_for_nobody() -> None:
    """Without a scaled model there is no LIST, and what was seen is forgotten."""
    world = World()
    world.put("mine")
    assert await world.seen() != NOTHING_SEEN
    world.models = frozenset()
    world.kube.calls.clear()
    assert await world.seen() == NOTHING_SEEN
    assert not world.kube.calls


async def test_what_cannot_be_read_now_stays_and_what_may_not_be_is_not_known() -> None:
    """An API server that is away for a moment makes no news; a right that was taken away does."""
    world = World()
    world.put("mine")
    before = await world.seen()
    world.kube.answer("list", Unavailable("no answer"))
    assert await world.seen() == before
    world.kube.answer("list", Forbidden("no"))
    assert await world.seen() == NOTHING_SEEN


async def test_a_crowd_is_not_listed_in_a_condition() -> None:
    """A few names are enough to see what is the matter, always the same ones."""
    world = World()
    for number in range(9, 0, -1):
        world.put(f"hpa-{number}")
    assert (await world.seen()).rivals == tuple(f"hpa-{number}" for number in range(1, MOST_RIVALS + 1))
