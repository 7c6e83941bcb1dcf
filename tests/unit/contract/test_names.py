"""Names that operator and gateway each put together for themselves, and that must come out the same."""

from capstan_contract.names import credential_object, shard_file, shard_object
from capstan_contract.sharding import is_shard


def test_shards_of_the_config_have_names_that_are_kept() -> None:
    """Releases that run beside each other find one config: its shards are called as they always were."""
    assert [shard_file("a", 1), shard_file("b", 16)] == ["shard-a-1.json", "shard-b-16.json"]
    assert shard_object("gateway-config", "shard-b-16.json") == "gateway-config-b-16"
    assert shard_object("shard-x.json", "shard-3.json") == "shard-x.json-3"


def test_the_first_credentials_are_in_the_secret_itself() -> None:
    """What fits into one Secret is in the one that the chart names; the further ones are counted from 1."""
    assert [credential_object("keys", number) for number in (0, 1, 2)] == ["keys", "keys-1", "keys-2"]


def test_a_shard_is_known_by_its_whole_name() -> None:
    """Of a set or of none, counted from 1, and nothing beside it: a path into another folder is none."""
    good = ["shard-a-1.json", "shard-b-16.json", "shard-7.json", "shard-99.json"]
    bad = ["shard-a-0.json", "shard-c-1.json", "shard-100.json", "xshard-1.json", "shard-1.json/..", "shard-1xjson", ""]
    assert all(map(is_shard, good))
    assert not any(map(is_shard, bad))
