"""Looking up who has the names of a model's children: what is found, and what it costs."""

import asyncio
from typing import Any

import pytest

from capstan_operator.api.kinds import Model
from capstan_operator.kube.port import Listing
from capstan_operator.models.namesakes import FEW_LOOKUPS, Namesakes
from capstan_operator.resources.api_resource import ApiResource
from capstan_operator.resources.resource import Manifest, ObjectKey
from fakes.apply_kube import ApplyKube


def model(namespace: str = "ns", uid: str = "u1") -> Model:
    """Give a model."""
    return Model(key=ObjectKey(namespace, "m"), uid=uid, generation=1, created="", spec=None)


def service(name: str, *, namespace: str = "ns", owner: str = "", kind: str = "Service") -> Manifest:
    """Give an object, and who owns it."""
    metadata = {"name": name, "namespace": namespace}
    if owner:
        metadata["ownerReferences"] = [{"uid": owner}]  # type: ignore[assignment]
    api = "policy/v1" if kind == "PodDisruptionBudget" else "v1"
    return {"apiVersion": api, "kind": kind, "metadata": metadata, "spec": {"a": "b"}}


def names(count: int) -> list[Manifest]:
    """Give so many wanted objects."""
    return [service(f"s{number:02}") for number in range(count)]


async def test_only_what_is_there_is_found() -> None:
    """The object of that kind, name and namespace; nothing for a name that is free."""
    kube = ApplyKube()
    kube.put(service("taken"))
    kube.put(service("elsewhere", namespace="other"))
    kube.put(service("of-another-kind", kind="ConfigMap"))
    wanted = [service("free"), service("taken"), service("elsewhere"), service("of-another-kind")]
    found = await Namesakes(kube, cluster_wide=True).find(model(), wanted)
    assert [item["metadata"]["name"] for item in found] == ["taken"]
    assert found[0]["spec"] == {"a": "b"}


async def test_a_few_names_are_looked_up_one_by_one() -> None:
    """Each is answered from a single key."""
    kube = ApplyKube()
    await Namesakes(kube, cluster_wide=True).find(model(), names(FEW_LOOKUPS))
    assert kube.calls == [("list", "Service", f"s{number:02}") for number in range(FEW_LOOKUPS)]


async def test_more_names_share_one_list_of_their_kind() -> None:
    """However many they are, and however many models of the batch ask; another kind is counted by itself."""
    kube = ApplyKube()
    namesakes = Namesakes(kube, cluster_wide=True)
    await asyncio.gather(
        namesakes.find(model(), names(FEW_LOOKUPS + 20)),
        namesakes.find(model(), [service("budget", kind="PodDisruptionBudget")]),
    )
    await namesakes.find(model("other"), [service("late", namespace="other")])
    assert kube.calls.count(("list", "Service", "*")) == 1
    assert kube.calls.count(("list", "PodDisruptionBudget", "budget")) == 1
    assert len(kube.calls) == FEW_LOOKUPS + 2


async def test_an_operator_of_some_namespaces_lists_each_of_them() -> None:
    """It may not list the cluster."""
    kube = ApplyKube()
    kube.put(service("late", namespace="other"))
    asked: list[str | None] = []
    real = kube.list

    async def list_(kind: ApiResource, *, namespace: str | None = None, **options: Any) -> Listing:
        asked.append(namespace)
        return await real(kind, namespace=namespace, **options)

    kube.list = list_  # type: ignore[method-assign]
    namesakes = Namesakes(kube, cluster_wide=False)
    await namesakes.find(model(), names(FEW_LOOKUPS + 2))
    found = await namesakes.find(model("other"), [service("late", namespace="other")])
    assert [item["metadata"]["name"] for item in found] == ["late"]
    assert kube.calls.count(("list", "Service", "*")) == 2
    assert set(asked) == {"ns", "other"}


@pytest.mark.parametrize(("owner", "whole"), [("u1", True), ("u2", False), ("", False)])
async def test_what_the_model_owns_is_read_whole(owner: str, whole: bool) -> None:
    """Of somebody else's the metadata are enough to leave it alone; our own are compared field by field."""
    kube = ApplyKube()
    namesakes = Namesakes(kube, cluster_wide=True)
    await namesakes.find(model(), names(FEW_LOOKUPS))
    kube.put(service("late", namespace="a-namespace-before", owner="u3"))
    kube.put(service("late", owner=owner))
    (found,) = await namesakes.find(model(), [service("late")])
    assert ("spec" in found) is whole
    assert (found["metadata"]["name"], found["metadata"]["namespace"]) == ("late", "ns")
