"""The ConfigMaps that carry the gateway config, and in which order they are written.

A config in shards is written into the set that the live index does not name; then the index; then what neither the new
index names nor the one before it goes. Whenever the writer dies, the live index names a whole config, and a reader that
is in the middle of one finds the rest of it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from capstan_contract.config import ConfigError, GatewayConfig
from capstan_contract.names import (
    COMPONENT_LABEL,
    CONFIG_FILE,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    SHARD_BYTES,
    shard_object,
)
from capstan_contract.sharding import ShardedConfig, buckets_of, is_shard, other_set, set_of, shards_named_by
from capstan_operator.desired.diff import needs_apply, with_applied_hash
from capstan_operator.resources.api_resource import CONFIG_MAPS
from capstan_operator.resources.resource import Manifest
from capstan_operator.settings import Settings

CONFIG_COMPONENT: Final = "gateway-config"
CONFIG_SELECTOR: Final = f"{MANAGED_BY_LABEL}={MANAGED_BY},{COMPONENT_LABEL}={CONFIG_COMPONENT}"
"""The ConfigMaps that carry the gateway config."""


@dataclass(frozen=True)
class WritePlan:
    """What is to be written, in this order; all of it may be empty."""

    shards: tuple[Manifest, ...]
    """In any order among themselves."""
    index: Manifest | None
    """The object that makes the shards count; None when it is there already."""
    prune: tuple[str, ...]
    """Names of ConfigMaps that nobody needs any more."""


def plan_writes(
    config: GatewayConfig, live: Mapping[str, Manifest], settings: Settings, *, shard_bytes: int = SHARD_BYTES
) -> WritePlan:
    """Say what brings the live ConfigMaps, by name, to this config.

    Raises ConfigTooLargeError when the config does not fit.
    """
    name = settings.gateway_config_name
    named = _named_by(live.get(name))
    split = ShardedConfig(config, shard_bytes=shard_bytes, present=buckets_of(named))
    there = split.documents(set_of(named) or other_set(named))
    if _text_of(live.get(name)) == there[CONFIG_FILE]:
        # Nothing to switch to: what somebody has damaged is put right where it is.
        *shards, last = build_config_maps(there, settings)
        return WritePlan(_differing(shards, live), last if needs_apply(last, live.get(name)) else None, ())
    *shards, index = build_config_maps(split.documents(other_set(named)), settings)
    needed = {_name(item) for item in (*shards, index)} | {shard_object(name, file) for file in named}
    surplus = (found for found in live if found not in needed and _is_shard_object(found, settings))
    return WritePlan(_differing(shards, live), index, tuple(sorted(surplus)))


def _differing(shards: Iterable[Manifest], live: Mapping[str, Manifest]) -> tuple[Manifest, ...]:
    return tuple(shard for shard in shards if needs_apply(shard, live.get(_name(shard))))


def build_config_maps(documents: Mapping[str, str], settings: Settings) -> tuple[Manifest, ...]:
    """Build the ConfigMaps that hold the documents of `split_config`, in the order to write them: the index last."""
    named = [(shard_object(settings.gateway_config_name, file), file) for file in documents if file != CONFIG_FILE]
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
        for name, file in [*named, (settings.gateway_config_name, CONFIG_FILE)]
    )


def documents_of(live: Mapping[str, Manifest], settings: Settings) -> dict[str, str]:
    """Give the documents of the live config, as a gateway would read them; none without an index."""
    index = live.get(settings.gateway_config_name)
    documents = dict((index or {}).get("data") or {})
    for file in _named_by(index):
        shard = live.get(shard_object(settings.gateway_config_name, file)) or {}
        documents |= {name: text for name, text in (shard.get("data") or {}).items() if name == file}
    return documents


def _named_by(index: Manifest | None) -> tuple[str, ...]:
    """Give the shards that the live index names; none when it cannot be read, because then no reader finds them."""
    try:
        return shards_named_by(_text_of(index) or "{}")
    except ConfigError:
        return ()


def _text_of(index: Manifest | None) -> str | None:
    return ((index or {}).get("data") or {}).get(CONFIG_FILE)


def _name(manifest: Manifest) -> str:
    return str(manifest["metadata"]["name"])


def _is_shard_object(name: str, settings: Settings) -> bool:
    part = name.removeprefix(f"{settings.gateway_config_name}-")
    return part != name and is_shard(f"shard-{part}.json")
