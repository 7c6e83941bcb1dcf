"""Who owns the number of replicas of a scaled model, when the operator dies before it has said so."""

from typing import Any

import pytest

from capstan_operator.api.kinds import LLM_MODELS, Model
from capstan_operator.desired.model import build_model
from capstan_operator.desired.snapshot import Snapshot
from capstan_operator.kube.client import KubeClient
from capstan_operator.loaders.parser import ModelParser
from capstan_operator.models.writer import ChildWriter
from capstan_operator.names import FIELD_MANAGER, SCALE_MANAGER
from capstan_operator.resources.api_resource import DEPLOYMENTS
from capstan_operator.resources.resource import Manifest
from capstan_operator.settings import BuildSettings
from support.llmmodels import simulated
from support.operator_process import find

pytestmark = pytest.mark.apiserver


class Died(Exception):
    """The operator's process is gone."""


class Dying(KubeClient):
    """A client whose process dies when it is about to hand the replicas over."""

    def __init__(self, alive: KubeClient) -> None:
        self.__dict__.update(alive.__dict__)

    async def apply(self, manifest: Manifest, *, manager: str = FIELD_MANAGER, force: bool = True) -> Manifest:
        """Die before the write of the scale manager; else write."""
        if manager == SCALE_MANAGER:
            raise Died
        return await super().apply(manifest, manager=manager, force=force)


async def one_pass(kube: KubeClient, model: Model) -> Manifest:
    """Bring the Deployment to what the model wants, as one reconcile of a new process does; give it."""
    live = await find(kube, DEPLOYMENTS, "one-model", model.key.namespace)
    children = (live,) if live else ()
    desired = build_model(model, Snapshot(models={model.key: model}, children={model.key: children}), BuildSettings())
    written = await ChildWriter(kube).write(model, desired, children)
    return written.live["Deployment", "one-model"]


def owners(deployment: Manifest) -> set[str]:
    """Give the field managers that own `spec.replicas`."""
    entries = deployment["metadata"]["managedFields"]
    return {entry["manager"] for entry in entries if "f:replicas" in entry["fieldsV1"].get("f:spec", {})}


async def test_replicas_survive_a_death_between_creation_and_handover(kube: KubeClient, namespace: str) -> None:
    """The next pass hands the number over by itself, and a change of the Deployment after that leaves it alone."""

    async def put(**spec: Any) -> Model:
        manifest = simulated("one", namespace, scaling={"min": 3, "max": 5}, **spec)
        await kube.apply(manifest, manager="user")
        return ModelParser().parse(await kube.get(LLM_MODELS, "one", namespace=namespace))

    model = await put()
    with pytest.raises(Died):
        await one_pass(Dying(kube), model)
    left = await kube.get(DEPLOYMENTS, "one-model", namespace=namespace)
    assert (left["spec"]["replicas"], owners(left)) == (3, {FIELD_MANAGER})

    handed_over = await one_pass(kube, model)
    assert (handed_over["spec"]["replicas"], owners(handed_over)) == (3, {SCALE_MANAGER})

    changed = await one_pass(kube, await put(resources={"cpu": "2"}))
    assert changed["metadata"]["generation"] > handed_over["metadata"]["generation"]
    assert (changed["spec"]["replicas"], owners(changed)) == (3, {SCALE_MANAGER})
