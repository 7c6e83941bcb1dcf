"""The gateway config survives splitting, and damage is noticed."""

import contextlib
import json
from random import Random

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.config import (
    ConfigError,
    ConfigTooLargeError,
    GatewayConfig,
    ModelEntry,
    PolicyEntry,
    RouterBackend,
    RouterMember,
    StaticBackend,
    canonical,
    digest,
)
from capstan_contract.names import CONFIG_FILE, SHARD_SETS
from capstan_contract.reading import ConfigReader, join_config
from capstan_contract.requirements import Known
from capstan_contract.sharding import buckets_of, shards_named_by, split_config
from support.keys import SALT, key_entry

names = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=12)
entries = st.builds(
    lambda name, generation, revision, urls: ModelEntry(
        id=f"default/{name}",
        generation=generation,
        servedName=name,
        upstreamName=name,
        revision=revision,
        backend=StaticBackend(urls=tuple(urls)),
    ),
    names,
    st.integers(0, 2**40),
    st.text(max_size=20),
    st.lists(st.text("abc%/~", max_size=20).map("http://127.0.0.1:8000/".__add__), max_size=3),
)
models = st.lists(entries, max_size=12, unique_by=lambda entry: entry.id).map(tuple)


key_names = st.lists(names, max_size=12, unique=True)


@given(models, key_names, st.integers(4000, 9000), st.sampled_from(SHARD_SETS), st.sampled_from((1, 2, 4, 8, 16)))
def test_join_reverses_split(
    entries: tuple[ModelEntry, ...], owners: list[str], shard_bytes: int, shard_set: str, present: int
) -> None:
    """Whatever the size of a shard, joining what was split gives the same config, and no shard is too large."""
    config = GatewayConfig.build(entries, keys=[key_entry(owner) for owner in owners], key_salt=SALT)
    documents = split_config(config, shard_bytes=shard_bytes, shard_set=shard_set, present=present)
    assert join_config(documents) == config
    shards = shards_named_by(documents[CONFIG_FILE])
    assert set(documents) == {CONFIG_FILE, *shards}
    assert all(len(documents[name].encode()) <= shard_bytes for name in shards)
    assert split_config(config, shard_bytes=shard_bytes, shard_set=shard_set, present=buckets_of(shards)) == documents


@given(st.lists(models, min_size=1, max_size=4), st.integers(4000, 9000))
def test_a_reader_gives_the_same_entry_again_while_it_is_the_same(
    configs: list[tuple[ModelEntry, ...]], shard_bytes: int
) -> None:
    """Reading one config after the other gives what reading each alone does; what did not change is the same object."""
    reader, before = ConfigReader(), GatewayConfig.build(())
    for config in map(GatewayConfig.build, configs):
        read = reader.read(split_config(config, shard_bytes=shard_bytes)).config
        assert read == config
        kept = [entry for entry in before.models if entry in read.models]
        assert all(any(entry is again for again in read.models) for entry in kept)
        before = read


@given(models, st.integers(4000, 9000), st.integers(1, 4))
def test_documents_that_somebody_formatted_are_read(
    entries: tuple[ModelEntry, ...], shard_bytes: int, indent: int
) -> None:
    """The hash is about the content: another layout of the same JSON is the same config."""
    config = GatewayConfig.build(entries)
    documents = split_config(config, shard_bytes=shard_bytes)
    formatted = {name: json.dumps(json.loads(text), indent=indent) for name, text in documents.items()}
    assert join_config(formatted) == config


@given(models, key_names, st.randoms(use_true_random=False))
def test_what_somebody_has_put_into_another_order_is_all_there(
    entries: tuple[ModelEntry, ...], owners: list[str], random: Random
) -> None:
    """A config is cut where its order says; of one in any other order nothing is lost, and nothing is there twice."""
    shuffled, keys = list(entries), [key_entry(owner) for owner in owners]
    random.shuffle(shuffled)
    random.shuffle(keys)
    salt = SALT if keys else ""
    draft = GatewayConfig(hash="", models=tuple(shuffled), keys=tuple(keys), keySalt=salt)
    try:
        documents = split_config(draft, shard_bytes=4000, present=8)
    except ConfigTooLargeError:
        return  # said, and nothing is written
    found = [orjson.loads(text) for name, text in documents.items() if name != CONFIG_FILE or len(documents) == 1]
    assert sorted(one["id"] for part in found for one in part["models"]) == sorted(one.id for one in entries)
    assert sorted(one["id"] for part in found for one in part.get("keys", [])) == sorted(owners)


@given(models, key_names, key_names)
def test_keys_are_put_into_a_config_as_if_it_were_built_with_them(
    entries: tuple[ModelEntry, ...], before: list[str], after: list[str]
) -> None:
    """Whatever keys it has had, the bytes are the same; and with the same keys it is the same config."""
    built = GatewayConfig.build(entries, keys=[key_entry(owner) for owner in after], key_salt=SALT)
    former = GatewayConfig.build(entries, keys=[key_entry(owner) for owner in before], key_salt=SALT)
    put = former.with_keys([key_entry(owner) for owner in after], SALT)
    assert (put, put.text()) == (built, built.text())
    assert put.with_keys(reversed(put.keys), SALT) is put


@given(models.filter(bool), st.integers(4000, 9000))
def test_a_changed_value_does_not_fit_the_hash(entries: tuple[ModelEntry, ...], shard_bytes: int) -> None:
    """One number that is another one, in whatever document it stands, is noticed."""
    documents = split_config(GatewayConfig.build(entries), shard_bytes=shard_bytes)
    for name, text in documents.items():
        changed = text.replace('"weight":100', '"weight":101', 1)
        if changed != text:
            with pytest.raises(ConfigError, match="does not match its hash"):
                join_config({**documents, name: changed})


@given(models, st.randoms(use_true_random=False))
def test_order_of_models_does_not_matter(entries: tuple[ModelEntry, ...], random: object) -> None:
    """The same models in another order compile to the same bytes."""
    shuffled = list(entries)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert split_config(GatewayConfig.build(tuple(shuffled))) == split_config(GatewayConfig.build(entries))


@given(models.filter(lambda entries: len(entries) > 1))
def test_shards_of_two_generations_are_refused(entries: tuple[ModelEntry, ...]) -> None:
    """An index of one generation with a shard of another is refused, not served."""
    old = split_config(GatewayConfig.build(entries), shard_bytes=4000)
    changed = (entries[0].model_copy(update={"weight": 7}), *entries[1:])
    new = split_config(GatewayConfig.build(changed), shard_bytes=4000)
    if shards_named_by(old[CONFIG_FILE]):
        with pytest.raises(ConfigError, match="hash"):
            join_config({**new, CONFIG_FILE: old[CONFIG_FILE]})


@given(models)
def test_the_text_is_canonical(entries: tuple[ModelEntry, ...]) -> None:
    """What is put together from the texts of entries is the canonical JSON of the whole, also of copies that differ."""
    whole = GatewayConfig.build(entries)
    copied = GatewayConfig.build(entry.model_copy(update={"weight": 3}) for entry in whole.models)
    for config in (whole, copied):
        assert config.text() == canonical(config.model_dump(mode="json"))
        assert config.hash == digest(config.model_dump(mode="json"))


@given(models.filter(bool))
def test_one_more_model_changes_one_shard(entries: tuple[ModelEntry, ...]) -> None:
    """As long as the number of shards stays, the shards of all others stay as they are, byte by byte."""
    *few, one = entries
    before = split_config(GatewayConfig.build(few), shard_bytes=6000, present=8)
    after = split_config(GatewayConfig.build(entries), shard_bytes=6000, present=8)
    if buckets_of(shards_named_by(before[CONFIG_FILE])) == buckets_of(shards_named_by(after[CONFIG_FILE])) > 1:
        changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        assert len(changed - {CONFIG_FILE}) == 1
        assert one.id in after[next(iter(changed - {CONFIG_FILE}))]


@given(models)
def test_unknown_fields_are_dropped(entries: tuple[ModelEntry, ...]) -> None:
    """A config of a newer operator with more fields is read by this gateway."""

    config = GatewayConfig.build(entries)
    document = json.loads(split_config(config)[CONFIG_FILE])
    document["newer"] = {"new": True}
    for entry in document["models"]:
        entry["newer"] = 1
    document["hash"] = digest(document)
    assert join_config({CONFIG_FILE: json.dumps(document)}).models == config.models


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[]", "JSON object"),
        ('{"schemaVersion":3}', "this release reads 1 and 2"),
        ('{"schemaVersion":1,"hash":"x","shards":["../credentials/key"]}', "file names of shards"),
        ('{"schemaVersion":1,"hash":"x","shards":["shard-1.json"]}', r"shard-1\.json is missing"),
        ('{"schemaVersion":1,"hash":"x","shards":7}', "`shards` must be a list"),
        ('{"schemaVersion":1,"hash":"x","models":[]}', "does not match its hash"),
    ],
)
def test_faults_are_named(text: str, message: str) -> None:
    """Each kind of damage is refused with a message that names it."""
    with pytest.raises(ConfigError, match=message):
        join_config({CONFIG_FILE: text})


def _places(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Give the paths of all values in a document."""
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)  # type: ignore[assignment]
    else:
        return [path]
    return [path, *(found for key, item in inner for found in _places(item, (*path, key)))]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**70) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(models, st.data(), _JSON)
def test_any_value_in_any_place_is_read_or_refused(
    entries: tuple[ModelEntry, ...], data: st.DataObject, value: object
) -> None:
    """Whatever stands where something else belongs: ConfigError or a config with entries refused, nothing else."""
    policies = (PolicyEntry(id="Guard/a", kind="Guard", body={}),)
    member = ModelEntry(id="default/M", servedName="M", upstreamName="M", backend=StaticBackend(urls=()))
    router = ModelEntry(
        id="default/R",
        servedName="R",
        upstreamName="R",
        backend=RouterBackend(members=(RouterMember(model="default/M"),)),
        policies=("Guard/a",),
    )
    document = json.loads(
        split_config(GatewayConfig.build((*entries, member, router), policies=policies), shard_bytes=10**6)[CONFIG_FILE]
    )
    path = data.draw(st.sampled_from([path for path in _places(document) if path]))
    parent = document
    for step in path[:-1]:
        parent = parent[step]
    parent[path[-1]] = value
    with contextlib.suppress(orjson.JSONDecodeError, TypeError):  # of what is no JSON there is no hash
        if path != ("hash",):
            document["hash"] = digest(orjson.loads(json.dumps(document)))
    known = Known(policy_kinds=frozenset(("Guard",)))
    with contextlib.suppress(ConfigError):
        ConfigReader(known=known).read({CONFIG_FILE: json.dumps(document)})
