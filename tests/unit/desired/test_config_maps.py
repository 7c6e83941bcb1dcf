"""The objects that hold the gateway's config."""

from capstan_contract.config import GatewayConfig, ModelEntry, ServiceBackend
from capstan_contract.names import CONFIG_FILE
from capstan_contract.reading import join_config
from capstan_contract.sharding import split_config
from capstan_operator.desired.config_maps import build_config_maps
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
