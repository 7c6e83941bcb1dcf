"""ConfigMaps that pods wait for: which are looked for, and that nobody else pays for it."""

import asyncio
from collections.abc import Iterable
from typing import Any, cast

import pytest

from capstan_contract.names import MANAGED_BY, MANAGED_BY_LABEL, MODEL_LABEL
from capstan_operator.api.kinds import Model
from capstan_operator.kube.errors import Forbidden
from capstan_operator.kube.port import Listing
from capstan_operator.loaders.model_list import ModelList
from capstan_operator.loaders.snapshot import SnapshotLoader
from capstan_operator.resources.api_resource import CONFIG_MAPS, ApiResource
from capstan_operator.resources.resource import Manifest, ObjectKey
from fakes.kube import FakeKube
from support.plainmodels import make_model

KEY = ObjectKey("team", "llama")
WAITS = [{"type": "PodScheduled", "status": "True"}, {"type": "PodReadyToStartContainers", "status": "False"}]
RUNS = [{"type": "PodScheduled", "status": "True"}, {"type": "PodReadyToStartContainers", "status": "True"}]


class Selecting(FakeKube):
    """One that knows the selectors by which ConfigMaps are listed: by our labels there are none here."""

    refuses = False

    async def list(self, kind: ApiResource, **options: Any) -> Listing:
        """See KubePort."""
        if kind.kind != CONFIG_MAPS.kind:
            return await super().list(kind, **options)
        name = str(options.get("field_selector") or "").removeprefix("metadata.name=")
        if name and self.refuses:
            raise Forbidden("no", status=403)
        found = self.objects.get((kind.plural, options["namespace"], name))
        return Listing([found] if found else [], "1")


class OneModel:
    """Stands for the list of all models."""

    async def find(self, keys: Iterable[ObjectKey]) -> dict[ObjectKey, Model]:
        """Give the only one."""
        return {key: make_model() for key in keys}


def pod(name: str, conditions: list[dict[str, str]], *config_maps: str) -> Manifest:
    """Give a pod of the model that mounts ConfigMaps."""
    labels = {MODEL_LABEL: "llama", MANAGED_BY_LABEL: MANAGED_BY}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "team", "labels": labels},
        "spec": {"volumes": [{"name": one, "configMap": {"name": one}} for one in config_maps]},
        "status": {"conditions": conditions},
    }


def loaded(kube: FakeKube) -> dict[ObjectKey, Manifest | None]:
    """Give what was found of ConfigMaps that pods wait for."""
    loader = SnapshotLoader(kube, cast(ModelList, OneModel()))
    return dict(asyncio.run(loader.load([KEY])).mounted)


def made(name: str) -> dict[str, Any]:
    """Give a ConfigMap."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "team"},
        "data": {"a": "b"},
    }


def test_what_a_waiting_pod_mounts_is_looked_for_by_name() -> None:
    """One that is there is read, of one that is not it is known that there is none; others are not looked for."""
    kube = Selecting()
    kube.put(pod("waits", WAITS, "there", "gone"))
    kube.put(pod("runs", RUNS, "other"))
    kube.put(made("there"))
    found = loaded(kube)
    assert found.keys() == {ObjectKey("team", "there"), ObjectKey("team", "gone")}
    assert found[ObjectKey("team", "gone")] is None
    assert (found[ObjectKey("team", "there")] or {})["data"] == {"a": "b"}


@pytest.mark.parametrize("is_forbidden", [True, False])
def test_what_cannot_be_read_keeps_nobody_from_anything(is_forbidden: bool) -> None:
    """Without the right nothing is known of it, and the model is reconciled as ever."""
    kube = Selecting()
    kube.put(pod("waits", WAITS, "gone"))
    kube.refuses = is_forbidden
    assert loaded(kube) == ({} if is_forbidden else {ObjectKey("team", "gone"): None})
