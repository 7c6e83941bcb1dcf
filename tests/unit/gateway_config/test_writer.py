"""Writing the gateway config's objects."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from capstan_contract.config import GatewayConfig, ModelEntry, StaticBackend
from capstan_contract.names import CONFIG_FILE
from capstan_contract.reading import join_config
from capstan_contract.sharding import split_config
from capstan_operator.desired.config_maps import build_config_maps, documents_of
from capstan_operator.errors import Terminal
from capstan_operator.gateway_config.writer import ConfigWriter
from capstan_operator.kube.errors import Conflict
from capstan_operator.settings import Settings
from support.memorykube import MemoryKube

SETTINGS = Settings()
NAME = SETTINGS.gateway_config_name


def config_of(names: Iterable[int], **fields: int) -> GatewayConfig:
    """Give a config of these models."""
    backend = StaticBackend(urls=())
    return GatewayConfig.build(
        ModelEntry(id=f"ns/m{n}", servedName=f"m{n}", upstreamName=f"m{n}", backend=backend, **fields) for n in names
    )


def live(kube: MemoryKube) -> GatewayConfig:
    """Give the config that a gateway which starts now finds."""
    return join_config(documents_of(kube.objects, SETTINGS))


@pytest.fixture
def kube() -> MemoryKube:
    """An empty API server."""
    return MemoryKube()


@pytest.fixture
def writer(kube: MemoryKube) -> ConfigWriter:
    """A writer with small shards."""
    return ConfigWriter(kube, SETTINGS, shard_bytes=4096)


async def test_shards_are_written_before_the_index_that_names_them(kube: MemoryKube, writer: ConfigWriter) -> None:
    """And what nobody needs goes after it; each config is written into the set that the one before is not in."""
    for number, (count, shard_set) in enumerate(((40, "a"), (41, "b"), (42, "a"))):
        kube.writes.clear()
        await writer.write(config_of(range(count), weight=number))
        *shards, last = [name for verb, name in kube.writes if verb == "apply"]
        assert last == NAME
        assert len(shards) > 3
        assert all(name.startswith(f"{NAME}-{shard_set}-") for name in shards)
        assert live(kube) == config_of(range(count), weight=number)


async def test_a_config_that_fits_is_one_object(kube: MemoryKube, writer: ConfigWriter) -> None:
    """Without shards there is the index alone, which is the config."""
    await writer.write(config_of(range(3)))
    assert kube.writes == [("apply", NAME)]


async def test_one_more_model_rewrites_its_shard_in_each_set(kube: MemoryKube, writer: ConfigWriter) -> None:
    """Each set lacks what came since it was written: its own model and the one before, of many shards."""
    for count in (60, 61, 62):
        await writer.write(config_of(range(count)))
    kube.writes.clear()
    await writer.write(config_of(range(63)))
    assert len([name for verb, name in kube.writes if verb == "apply" and name != NAME]) <= 2
    assert live(kube) == config_of(range(63))


async def test_at_rest_nothing_is_written_and_no_content_is_read(kube: MemoryKube, writer: ConfigWriter) -> None:
    """What this process wrote it does not read again."""
    await writer.write(config_of(range(40)))
    kube.writes.clear()
    kube.full_reads = 0
    await writer.write(config_of(range(40)))
    assert (kube.writes, kube.full_reads) == ([], 0)


@pytest.mark.parametrize("damage", ["changed", "deleted"])
async def test_what_somebody_else_damages_is_put_right(kube: MemoryKube, writer: ConfigWriter, damage: str) -> None:
    """In place, since the live index names it: that one object is written, and nothing else."""
    await writer.write(config_of(range(40)))
    name = next(name for name in kube.objects if name != NAME)
    if damage == "deleted":
        del kube.objects[name]
    else:
        kube.objects[name]["data"] = {}
        kube.objects[name]["metadata"]["resourceVersion"] = "999"
    kube.writes.clear()
    await writer.write(config_of(range(40)))
    assert kube.writes == [("apply", name)]
    assert live(kube) == config_of(range(40))


async def test_an_operator_that_was_overtaken_does_not_win(kube: MemoryKube, writer: ConfigWriter) -> None:
    """One that slept between its look and its writes is refused before it touches the index; a shard that it wrote
    until then is put right by the other one's next look."""
    await writer.write(config_of(range(40)))
    await writer.write(config_of(range(41)))
    other = ConfigWriter(kube, SETTINGS, shard_bytes=4096)
    await other.write(config_of(range(42)))
    index, listed = kube.objects[NAME], kube.list

    async def stale(*arguments: object, **options: object) -> object:
        listing = await listed(*arguments, **options)
        return replace(listing, items=[{"metadata": item["metadata"]} for item in writer._live.values()])

    kube.list = stale
    with pytest.raises(Conflict):
        await writer.write(config_of(range(43), weight=1))
    assert kube.objects[NAME] == index
    kube.list = listed
    await other.write(config_of(range(42)))
    assert live(kube) == config_of(range(42))


async def test_the_layout_of_an_older_operator_is_kept_until_the_next_write_but_one(
    kube: MemoryKube, writer: ConfigWriter
) -> None:
    """Shards without a set are read by whoever is in the middle of them, and go afterwards; nothing else does."""
    old = split_config(config_of(range(40)), shard_bytes=4096)
    renamed = {name.replace("shard-a-", "shard-"): text for name, text in old.items()}
    renamed[CONFIG_FILE] = renamed[CONFIG_FILE].replace("shard-a-", "shard-")
    for item in build_config_maps(renamed, SETTINGS):
        await kube.apply(item)
    stranger = {"metadata": {"name": f"{NAME}-mine", "labels": kube.objects[NAME]["metadata"]["labels"]}}
    await kube.apply(stranger)
    assert (await writer.load()) == config_of(range(40))
    await writer.write(config_of(range(41)))
    assert f"{NAME}-1" in kube.objects
    await writer.write(config_of(range(42)))
    assert f"{NAME}-1" not in kube.objects
    assert f"{NAME}-mine" in kube.objects
    assert live(kube) == config_of(range(42))


async def test_a_config_that_does_not_fit_changes_nothing(kube: MemoryKube, writer: ConfigWriter) -> None:
    """It is told with its reason, and the config before stays whole; one that fits again is written."""
    await writer.write(config_of(range(40)))
    kube.writes.clear()
    with pytest.raises(Terminal, match="does not fit into 16 shards") as caught:
        await writer.write(config_of(range(400)))
    assert caught.value.reason == "ConfigTooLarge"
    assert kube.writes == []
    assert writer.written == config_of(range(40))
    await writer.write(config_of(range(41)))
    assert live(kube) == config_of(range(41))


async def test_a_look_takes_in_what_somebody_else_has_written(kube: MemoryKube, writer: ConfigWriter) -> None:
    """And reads nothing again when nobody has."""
    first, second = config_of(range(3)), config_of(range(5))
    await writer.look()
    assert writer.written is None
    await ConfigWriter(kube, SETTINGS).write(first)
    await writer.look()
    assert writer.written == first
    kept, reads = writer.written, kube.full_reads
    await writer.look()
    assert (writer.written is kept, kube.full_reads) == (True, reads)
    await ConfigWriter(kube, SETTINGS).write(second)
    await writer.look()
    assert writer.written == second
