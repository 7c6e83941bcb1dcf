"""The gateway config's objects on a real API server."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from capstan_contract.config import GatewayConfig, ModelEntry, StaticBackend
from capstan_contract.names import CONFIG_FILE
from capstan_contract.sharding import set_of, shards_named_by
from capstan_operator.gateway_config.writer import ConfigWriter
from capstan_operator.kube.client import KubeClient
from capstan_operator.kube.errors import Conflict
from capstan_operator.resources.api_resource import CONFIG_MAPS
from capstan_operator.settings import Settings
from support.llmmodels import CONFIG_NAME, read_config
from support.wait import eventually

pytestmark = pytest.mark.apiserver


def config_of(names: Iterable[int], **fields: int) -> GatewayConfig:
    """Give a config of these models."""
    backend = StaticBackend(urls=())
    return GatewayConfig.build(
        ModelEntry(id=f"ns/m{n}", servedName=f"m{n}", upstreamName=f"m{n}", backend=backend, **fields) for n in names
    )


async def objects(kube: KubeClient, namespace: str) -> dict[str, dict[str, Any]]:
    """Give the ConfigMaps of the config, by name."""
    listing = await kube.list(CONFIG_MAPS, namespace=namespace)
    return {
        item["metadata"]["name"]: item for item in listing.items if item["metadata"]["name"].startswith(CONFIG_NAME)
    }


def writer_in(kube: KubeClient, namespace: str) -> ConfigWriter:
    """Give a writer with small shards."""
    settings = Settings()
    build = replace(settings.build, install_namespace=namespace)
    return ConfigWriter(kube, replace(settings, build=build), shard_bytes=4000)


async def test_configs_are_written_by_turns_and_none_twice(kube: KubeClient, namespace: str) -> None:
    """Each goes into the set that is not live; a second pass changes no version, and what a person edits is put right
    in place, without another set."""
    writer = writer_in(kube, namespace)
    for count, shard_set in ((30, "a"), (31, "b"), (32, "a")):
        await writer.write(config_of(range(count)))
        assert await read_config(kube, namespace) == config_of(range(count))
        index = (await objects(kube, namespace))[CONFIG_NAME]["data"][CONFIG_FILE]
        assert set_of(shards_named_by(index)) == shard_set
    before = {name: item["metadata"]["resourceVersion"] for name, item in (await objects(kube, namespace)).items()}
    await writer.write(config_of(range(32)))
    await writer_in(kube, namespace).write(config_of(range(32)))
    after = {name: item["metadata"]["resourceVersion"] for name, item in (await objects(kube, namespace)).items()}
    assert after == before

    (edited, *_) = (name for name in before if name.startswith(f"{CONFIG_NAME}-a-"))
    mine = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": edited, "namespace": namespace}}
    file = f"shard-{edited.removeprefix(f'{CONFIG_NAME}-')}.json"
    await kube.apply({**mine, "data": {file: '{"models":[]}'}}, manager="person")
    await writer.write(config_of(range(32)))
    assert await read_config(kube, namespace) == config_of(range(32))
    changed = {
        name
        for name, item in (await objects(kube, namespace)).items()
        if item["metadata"]["resourceVersion"] != before[name]
    }
    assert changed == {edited}

    await writer.write(config_of(range(2)))
    await writer.write(config_of(range(3)))

    async def is_pruned() -> bool:
        return set(await objects(kube, namespace)) == {CONFIG_NAME}

    await eventually(is_pruned, what="no shard left")
    assert await read_config(kube, namespace) == config_of(range(3))


async def test_an_operator_that_was_overtaken_does_not_reach_the_index(
    kube: KubeClient, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it knows is of another version than what is there: its write is refused, and the other's config stays."""
    slow, other = writer_in(kube, namespace), writer_in(kube, namespace)
    await slow.write(config_of(range(3)))
    await other.write(config_of(range(4)))

    async def blind() -> bool:
        return True

    monkeypatch.setattr(slow, "_look", blind)
    with pytest.raises(Conflict):
        await slow.write(config_of(range(5)))
    assert await read_config(kube, namespace) == config_of(range(4))
