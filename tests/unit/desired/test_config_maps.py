"""The objects that hold the gateway's config."""

from capstan_contract.config import GatewayConfig, ModelEntry, ServiceBackend
from capstan_contract.names import CONFIG_FILE
from capstan_contract.reading import join_config
from capstan_contract.sharding import shards_named_by, split_config
from capstan_operator.desired.config_maps import build_config_maps, plan_writes
from capstan_operator.settings import Settings


def config_of(count: int) -> GatewayConfig:
    """Give a config of so many models."""
    backend = ServiceBackend(namespace="ns", service="s", portName="http")
    return GatewayConfig.build(
        tuple(
            ModelEntry(id=f"ns/m{n}", servedName=f"m{n}", upstreamName=f"m{n}", backend=backend) for n in range(count)
        )
    )


def test_config_maps_are_written_index_last_and_read_back() -> None:
    """The objects hold exactly the documents of the contract, shards before the index that names them."""
    config = config_of(40)
    maps = build_config_maps(split_config(config, shard_bytes=4096), Settings())
    names = [item["metadata"]["name"] for item in maps]
    assert len(names) > 3
    assert names[-1] == "capstan-gateway-config"
    assert names[0] == "capstan-gateway-config-a-1"
    documents = {file: text for item in maps for file, text in item["data"].items()}
    assert join_config(documents) == config
    assert list(maps[-1]["data"]) == [CONFIG_FILE]


def test_an_object_of_the_config_is_whole() -> None:
    """Kind, place and labels are those by which gateways read it and operators find it."""
    (item,) = build_config_maps(split_config(config_of(1)), Settings())
    metadata = item["metadata"]
    assert (item["apiVersion"], item["kind"]) == ("v1", "ConfigMap")
    assert (metadata["name"], metadata["namespace"]) == ("capstan-gateway-config", Settings().build.install_namespace)
    assert metadata["labels"] == {
        "app.kubernetes.io/managed-by": "capstan", "app.kubernetes.io/component": "gateway-config",
    }  # fmt: skip


def test_an_index_that_somebody_has_damaged_is_written_again() -> None:
    """Although it names the same config; one that is whole is left alone."""
    (index,) = build_config_maps(split_config(config_of(1)), Settings())
    name = index["metadata"]["name"]
    assert plan_writes(config_of(1), {name: index}, Settings()).index is None
    bare = {**index, "metadata": {**index["metadata"], "labels": {}}}
    plan = plan_writes(config_of(1), {name: bare}, Settings())
    assert (plan.index, plan.shards, plan.prune) == (index, (), ())


def test_a_config_that_shrinks_a_little_stays_in_as_many_parts() -> None:
    """So that few of them are written again: it keeps the number that is live, until it needs many less."""

    def parts(count: int, present: int = 1) -> int:
        return len(split_config(config_of(count), shard_bytes=4096, present=present)) - 1

    before = parts(40)
    fewer = next(count for count in range(39, 0, -1) if parts(count) < before)
    assert parts(fewer, present=before) == before
    live = {item["metadata"]["name"]: item for item in build_config_maps(_split(40), Settings())}
    plan = plan_writes(config_of(fewer), live, Settings(), shard_bytes=4096)
    assert plan.index is not None
    index = plan.index["data"][CONFIG_FILE]
    assert len(shards_named_by(index)) == before


def _split(count: int) -> dict[str, str]:
    return split_config(config_of(count), shard_bytes=4096)
