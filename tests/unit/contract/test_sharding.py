"""Into how many documents a config is cut, where it is cut, and which set is written next."""

from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from capstan_contract.config import (
    ConfigError,
    ConfigTooLargeError,
    GatewayConfig,
    ModelEntry,
    PolicyEntry,
    StaticBackend,
)
from capstan_contract.names import CONFIG_FILE, MAX_CONFIG_SHARDS, SHARD_BYTES
from capstan_contract.sharding import (
    bucket_of,
    buckets_of,
    other_set,
    parse,
    set_of,
    shards_named_by,
    shards_of,
    split_config,
)


def config(count: int, *, policies: int = 0, **more: Any) -> GatewayConfig:
    """Give a config of so many models of one size."""
    backend = StaticBackend(urls=())
    models = [
        ModelEntry(id=f"team/m{number:03}", servedName=f"m{number:03}", upstreamName="m", backend=backend)
        for number in range(count)
    ]
    guards = [PolicyEntry(id=f"Guard/team/g{number:03}", kind="Guard") for number in range(policies)]
    return GatewayConfig.build(models, policies=guards, **more)


def in_bytes(documents: dict[str, str]) -> dict[str, int]:
    """Give how large each document is."""
    return {name: len(text.encode()) for name, text in documents.items()}


def test_a_config_is_whole_as_long_as_it_fits_to_the_byte() -> None:
    """One document up to the very limit; one byte less, and it is two shards and an index."""
    given = config(20)
    size = len(given.text())
    assert split_config(given, shard_bytes=size) == {CONFIG_FILE: given.text().decode()}
    assert set(split_config(given, shard_bytes=size - 1)) == {CONFIG_FILE, "shard-a-1.json", "shard-a-2.json"}
    assert set(split_config(given)) == {CONFIG_FILE}
    assert size < SHARD_BYTES


@pytest.mark.parametrize("policies", [0, 25])
def test_there_are_as_few_shards_as_fit_to_the_byte(policies: int) -> None:
    """The largest shard may be exactly as large as is allowed; with a byte less there are twice as many."""
    given = config(40, policies=policies)
    halves = split_config(given, shard_bytes=len(given.text()) - 1, shard_set="b")
    largest = max(size for name, size in in_bytes(halves).items() if name != CONFIG_FILE)
    # A separator is reckoned behind each entry, also behind the last one of either kind.
    spare = 2 if policies else 1
    assert split_config(given, shard_bytes=largest + spare, shard_set="b") == halves
    assert len(split_config(given, shard_bytes=largest - 1)) == 5


def test_what_fits_into_no_number_of_shards_is_refused() -> None:
    """The most shards are tried too; then the writer is told how much would have been allowed."""
    given = config(60)
    entry = len(given.models[0].text)
    buckets = [sum(bucket_of(model.id, MAX_CONFIG_SHARDS) == number for model in given.models) for number in range(16)]
    most = 13 + max(buckets) * (entry + 1)
    assert len(split_config(given, shard_bytes=most)) == 1 + sum(map(bool, buckets))
    with pytest.raises(ConfigTooLargeError, match=rf"into {MAX_CONFIG_SHARDS} shards of at most {most - 1} bytes"):
        split_config(given, shard_bytes=most - 1)


def test_the_number_of_shards_is_halved_only_with_room_to_grow() -> None:
    """A config on the edge is not rewritten as a whole with each model that comes or goes; one far below it is."""
    given = config(40)
    size = len(given.text())
    assert len(split_config(given, shard_bytes=size, present=1)) == 1
    assert len(split_config(given, shard_bytes=size, present=2)) == 3
    assert len(split_config(given, shard_bytes=size * 4 // 3 + 2, present=2)) == 1
    assert len(split_config(given, shard_bytes=size * 4 // 3 - 2, present=2)) == 3
    assert len(split_config(given, shard_bytes=size * 2, present=16)) == 1


def test_a_config_without_room_to_shrink_stays_in_as_many_shards_as_it_has() -> None:
    """An entry that fits alone, but leaves no room beside it in any number of shards, is no error of the config."""
    entry = config(1).models[0].model_copy(update={"revision": "r" * 4000})
    given = GatewayConfig.build([entry])
    size = len(given.text())
    assert len(split_config(given, shard_bytes=size)) == 1
    for present in (2, 8):
        shards = shards_named_by(split_config(given, shard_bytes=size, present=present)[CONFIG_FILE])
        assert shards == (f"shard-a-{bucket_of(entry.id, present) + 1}.json",)


def test_an_index_says_what_the_whole_says_of_all_entries() -> None:
    """Version, hash, requirements and reserved names are in the index: a reader sees them before any shard."""
    given = config(20, requires=("guard/v2",), reserved={"gone": "team/gone"})
    index = orjson.loads(split_config(given, shard_bytes=4000)[CONFIG_FILE])
    assert {name: index[name] for name in ("schemaVersion", "hash", "requires", "reserved")} == {
        "schemaVersion": 2,
        "hash": given.hash,
        "requires": ["guard/v2"],
        "reserved": {"gone": "team/gone"},
    }


def test_each_entry_has_its_bucket() -> None:
    """Half of them fall into either half when the number is doubled, and none beyond the last."""
    ids = [f"team/m{number}" for number in range(400)]
    assert {bucket_of(name, 1) for name in ids} == {0}
    for count in (2, 4, 8, 16):
        assert {bucket_of(name, count) for name in ids} == set(range(count))
        assert all(bucket_of(name, count) // 2 == bucket_of(name, count // 2) for name in ids)


@pytest.mark.parametrize(
    ("shards", "of", "then", "buckets"),
    [
        ((), None, "a", 1),
        (("shard-1.json", "shard-3.json"), None, "a", 4),
        (("shard-a-1.json",), "a", "b", 1),
        (("shard-a-2.json",), "a", "b", 2),
        (("shard-b-3.json", "shard-b-4.json"), "b", "a", 4),
        (("shard-b-1.json", "shard-b-5.json"), "b", "a", 8),
        (("shard-a-9.json",), "a", "b", 16),
        (("shard-a-16.json",), "a", "b", 16),
        (("shard-a-99.json",), "a", "b", 16),
        (("other.json", "shard-a-3.json"), None, "b", 4),
    ],
)
def test_the_shards_that_are_live_say_which_come_next(
    shards: Sequence[str], of: str | None, then: str, buckets: int
) -> None:
    """The other set is written, and the number of buckets is told by the highest shard that is there."""
    assert (set_of(shards), other_set(shards), buckets_of(shards)) == (of, then, buckets)


@pytest.mark.parametrize(
    ("shards", "message"),
    [
        ("shard-1.json", r"config\.json: `shards` must be a list of file names of shards"),
        ([7], r"config\.json: `shards` must be a list of file names of shards"),
        (["shard-1.json", "key"], r"config\.json: `shards` must be a list of file names of shards"),
        (["shard-1.json"] * 17, r"config\.json: names 17 shards; at most 16 are allowed"),
    ],
)
def test_a_document_names_only_shards(shards: object, message: str) -> None:
    """What it names is opened: nothing but the files of shards, and not more than there can be."""
    with pytest.raises(ConfigError, match=message):
        shards_of({"shards": shards})
    assert shards_of({"shards": ["shard-1.json"] * MAX_CONFIG_SHARDS}) == ("shard-1.json",) * MAX_CONFIG_SHARDS
    assert shards_of({}) == ()


@pytest.mark.parametrize(
    ("text", "message"), [("{", r"x\.json is not JSON: "), ("[]", r"x\.json must hold a JSON obj")]
)
def test_a_document_is_a_json_object(text: str, message: str) -> None:
    """What is something else is named by its file."""
    with pytest.raises(ConfigError, match=message):
        parse(text, "x.json")
    with pytest.raises(ConfigError, match=r"config\.json "):
        shards_named_by(text)
    assert parse(b'{"a":1}', "x.json") == {"a": 1}
