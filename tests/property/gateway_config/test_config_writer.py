"""An operator may die at any point of a write: what a gateway then finds is a whole config."""

import asyncio
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.config import GatewayConfig, ModelEntry, StaticBackend
from capstan_contract.names import CONFIG_FILE
from capstan_contract.reading import join_config
from capstan_contract.sharding import shards_named_by
from capstan_operator.desired.config_maps import documents_of
from capstan_operator.gateway_config.writer import ConfigWriter
from capstan_operator.settings import Settings
from support.memorykube import Died, MemoryKube

SETTINGS = Settings()
SHARD_BYTES = 4000


def config_of(names: Sequence[int], weight: int) -> GatewayConfig:
    """Give a config of these models."""
    return GatewayConfig.build(
        ModelEntry(
            id=f"ns/m{name}",
            servedName=f"m{name}",
            upstreamName=f"m{name}",
            weight=weight,
            backend=StaticBackend(urls=()),
        )
        for name in names
    )


configs = st.builds(config_of, st.lists(st.integers(0, 30), unique=True, max_size=24), st.integers(0, 3))


def live(kube: MemoryKube) -> GatewayConfig:
    """Give the config that a gateway which starts now finds."""
    return join_config(documents_of(kube.objects, SETTINGS))


def files_of(kube: MemoryKube) -> tuple[str, ...]:
    """Give the shards that the live index names."""
    return shards_named_by(kube.objects[SETTINGS.gateway_config_name]["data"][CONFIG_FILE])


@given(configs, st.lists(st.tuples(configs, st.integers(0, 12)), min_size=1, max_size=4))
def test_whenever_the_writer_dies_a_gateway_can_start(
    first: GatewayConfig, deaths: Sequence[tuple[GatewayConfig, int]]
) -> None:
    """After each prefix of the writes, by however many operators that died before, there is the old config or the new;
    an operator that lives writes its own, and a second pass writes nothing."""

    async def scenario() -> None:
        kube = MemoryKube()
        await ConfigWriter(kube, SETTINGS, shard_bytes=SHARD_BYTES).write(first)
        before = first
        for config, lives in deaths:
            kube.lives = lives
            try:
                await ConfigWriter(kube, SETTINGS, shard_bytes=SHARD_BYTES).write(config)
            except Died:
                pass
            else:
                assert live(kube) == config
            assert live(kube) in (before, config)
            before = live(kube)
        kube.lives = None
        last, survivor = deaths[-1][0], ConfigWriter(kube, SETTINGS, shard_bytes=SHARD_BYTES)
        await survivor.write(last)
        assert live(kube) == last
        assert survivor.written == last
        kube.writes.clear()
        await ConfigWriter(kube, SETTINGS, shard_bytes=SHARD_BYTES).write(last)
        assert kube.writes == []

    asyncio.run(scenario())


@given(st.lists(configs, min_size=2, max_size=6))
def test_a_reader_in_the_middle_of_a_config_finds_the_rest_of_it(written: Sequence[GatewayConfig]) -> None:
    """One write after the index was read, all that it named is there as it was; and nothing is kept for ever."""

    async def scenario() -> None:
        kube = MemoryKube()
        writer = ConfigWriter(kube, SETTINGS, shard_bytes=SHARD_BYTES)
        await writer.write(written[0])
        for config in written[1:]:
            read, before = dict(kube.objects), live(kube)
            named = set(files_of(kube))
            await writer.write(config)
            index = {SETTINGS.gateway_config_name: read[SETTINGS.gateway_config_name]}
            assert join_config(documents_of({**kube.objects, **index}, SETTINGS)) == before
            if config.hash != before.hash:
                assert len(kube.objects) == 1 + len(named | set(files_of(kube)))

    asyncio.run(scenario())
