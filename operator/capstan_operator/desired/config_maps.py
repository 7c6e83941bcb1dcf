"""The ConfigMaps that carry the gateway config."""

from collections.abc import Mapping
from typing import Final

from capstan_contract.names import COMPONENT_LABEL, CONFIG_FILE, MANAGED_BY, MANAGED_BY_LABEL, shard_object
from capstan_operator.desired.diff import with_applied_hash
from capstan_operator.resources.api_resource import CONFIG_MAPS
from capstan_operator.resources.resource import Manifest
from capstan_operator.settings import Settings

CONFIG_COMPONENT: Final = "gateway-config"


def build_config_maps(documents: Mapping[str, str], settings: Settings) -> tuple[Manifest, ...]:
    """Build the ConfigMaps that hold the documents of `split_config`, in the order to write them: the index last."""
    shards = sorted(name for name in documents if name != CONFIG_FILE)
    numbered = [(shard_object(settings.gateway_config_name, _number(name)), name) for name in shards]
    return tuple(
        with_applied_hash(
            {
                "apiVersion": CONFIG_MAPS.api_version,
                "kind": CONFIG_MAPS.kind,
                "metadata": {
                    "name": name,
                    "namespace": settings.build.install_namespace,
                    "labels": {MANAGED_BY_LABEL: MANAGED_BY, COMPONENT_LABEL: CONFIG_COMPONENT},
                },
                "data": {file: documents[file]},
            }
        )
        for name, file in [*numbered, (settings.gateway_config_name, CONFIG_FILE)]
    )


def _number(shard: str) -> int:
    return int(shard.removeprefix("shard-").removesuffix(".json"))
