"""Which objects the writer of the gateway config reads, writes and deletes, and which are none of its business."""

import asyncio
from typing import Any

import pytest

from capstan_contract.config import GatewayConfig, ModelEntry, StaticBackend
from capstan_contract.reading import join_config
from capstan_operator.desired.config_maps import documents_of
from capstan_operator.gateway_config.writer import ConfigWriter
from capstan_operator.kube.errors import Invalid
from capstan_operator.resources.api_resource import CONFIG_MAPS
from capstan_operator.resources.resource import Manifest
from capstan_operator.settings import Settings
from fakes.apply_kube import ApplyKube

SETTINGS = Settings()
HOME = SETTINGS.build.install_namespace
NAME = SETTINGS.gateway_config_name


def config_of(count: int) -> GatewayConfig:
    """Give a config of so many models."""
    backend = StaticBackend(urls=())
    return GatewayConfig.build(
        tuple(
            ModelEntry(id=f"ns/m{n}", servedName=f"m{n}", upstreamName=f"m{n}", backend=backend) for n in range(count)
        )
    )


async def config_maps(kube: ApplyKube, namespace: str = HOME) -> dict[str, Manifest]:
    """Give the ConfigMaps of a namespace."""
    return {item["metadata"]["name"]: item for item in (await kube.list(CONFIG_MAPS, namespace=namespace)).items}


async def test_another_installs_config_is_left_alone() -> None:
    """Objects of the same names and labels in another namespace are neither read, nor written, nor deleted."""
    kube = ApplyKube()
    writer = ConfigWriter(kube, SETTINGS, shard_bytes=4096)
    await writer.write(config_of(40))
    for item in (await config_maps(kube)).values():
        metadata = {
            "name": item["metadata"]["name"],
            "namespace": "a-place-before",
            "labels": item["metadata"]["labels"],
        }
        kube.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"theirs": "x"}})
    theirs = await config_maps(kube, "a-place-before")
    for count in (1, 2, 3):
        await ConfigWriter(kube, SETTINGS, shard_bytes=4096).write(config_of(count))
    ours = await config_maps(kube)
    assert set(ours) == {NAME}
    assert join_config(documents_of(ours, SETTINGS)) == config_of(3)
    assert await config_maps(kube, "a-place-before") == theirs


async def test_config_maps_of_others_are_not_read() -> None:
    """A namespace may hold anything: what has the labels of the config is asked for, and the index by its name."""
    kube = ApplyKube()
    metadata = {"name": "somebody-elses", "namespace": HOME}
    kube.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"x": "y"}})
    await ConfigWriter(kube, SETTINGS).write(config_of(1))
    assert ("list", "ConfigMap", "somebody-elses") not in kube.calls
    assert ("list", "ConfigMap", NAME) in kube.calls


async def test_what_was_deleted_is_not_looked_for_again() -> None:
    """After a write that has pruned, a look at rest is one LIST of metadata."""
    kube = ApplyKube()
    writer = ConfigWriter(kube, SETTINGS, shard_bytes=4096)
    for count in (40, 1, 2):
        await writer.write(config_of(count))
    assert "delete" in {verb for verb, _, _ in kube.calls}
    kube.calls.clear()
    await writer.write(config_of(2))
    assert kube.calls == [("list", "ConfigMap", "*")]


async def test_no_write_goes_on_after_a_failure_was_told() -> None:
    """Whoever has the lease next is not written over by a shard that was still on its way."""
    kube = ApplyKube()
    real = kube.apply
    begun: list[str] = []
    written: list[str] = []

    async def apply(manifest: Manifest, **options: Any) -> Manifest:
        begun.append(manifest["metadata"]["name"])
        if len(begun) == 1:
            raise Invalid("no")
        for _ in range(10):
            await asyncio.sleep(0)
        written.append(manifest["metadata"]["name"])
        return await real(manifest, **options)

    kube.apply = apply  # type: ignore[method-assign]
    with pytest.raises(Invalid):
        await ConfigWriter(kube, SETTINGS, shard_bytes=4096).write(config_of(40))
    told = list(written)
    for _ in range(50):
        await asyncio.sleep(0)
    assert (written, NAME in written) == (told, False)


async def test_an_annotation_of_a_person_is_emptied_in_the_index_that_was_read() -> None:
    """Nothing else is said of it, by a manager of its own, and not when somebody has written it since."""
    kube, writes = ApplyKube(), []
    writer = ConfigWriter(kube, SETTINGS)
    await writer.write(config_of(1))
    version = (await config_maps(kube))[NAME]["metadata"]["resourceVersion"]
    apply = kube.apply

    async def note(manifest: Manifest, **more: Any) -> Manifest:
        writes.append((manifest, more))
        return await apply(manifest, **more)

    kube.apply = note  # type: ignore[method-assign]
    await writer.empty_annotation("capstan.dev/any")
    metadata = {"name": NAME, "namespace": HOME, "resourceVersion": version, "annotations": {"capstan.dev/any": ""}}
    assert writes == [
        ({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}, {"manager": "capstan-operator-release"})
    ]
    assert (await config_maps(kube))[NAME]["metadata"]["annotations"]["capstan.dev/any"] == ""


async def test_only_the_namespace_of_the_install_is_listed() -> None:
    """The operator need not have the right to ConfigMaps anywhere else."""
    kube, asked = ApplyKube(), []
    list_ = kube.list

    async def note(*kinds: Any, **more: Any) -> Any:
        asked.append(more.get("namespace"))
        return await list_(*kinds, **more)

    kube.list = note  # type: ignore[method-assign]
    writer = ConfigWriter(kube, SETTINGS, shard_bytes=4096)
    for count in (40, 3, 3):
        await writer.write(config_of(count))
    assert set(asked) == {HOME}
