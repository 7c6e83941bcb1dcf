"""The gateway config survives splitting, and damage is noticed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.config import (
    ConfigError,
    ConfigReader,
    GatewayConfig,
    ModelEntry,
    StaticBackend,
    join_config,
    shards_named_by,
    split_config,
)
from capstan_contract.names import CONFIG_FILE

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


@given(models, st.integers(600, 4000))
def test_join_reverses_split(entries: tuple[ModelEntry, ...], shard_bytes: int) -> None:
    """Whatever the size of a shard, joining what was split gives the same config, and no shard is too large."""
    config = GatewayConfig.build(entries)
    documents = split_config(config, shard_bytes=shard_bytes)
    assert join_config(documents) == config
    shards = shards_named_by(documents[CONFIG_FILE])
    assert set(documents) == {CONFIG_FILE, *shards}
    assert all(len(documents[name].encode()) <= shard_bytes for name in shards)


@given(st.lists(models, min_size=1, max_size=4), st.integers(600, 4000))
def test_a_reader_gives_the_same_entry_again_while_it_is_the_same(
    configs: list[tuple[ModelEntry, ...]], shard_bytes: int
) -> None:
    """Reading one config after the other gives what reading each alone does; what did not change is the same object."""
    reader, before = ConfigReader(), GatewayConfig.build(())
    for config in map(GatewayConfig.build, configs):
        read = reader.read(split_config(config, shard_bytes=shard_bytes))
        assert read == config
        kept = [entry for entry in before.models if entry in read.models]
        assert all(any(entry is again for again in read.models) for entry in kept)
        before = read


@given(models, st.integers(600, 4000), st.integers(1, 4))
def test_documents_that_somebody_formatted_are_read(
    entries: tuple[ModelEntry, ...], shard_bytes: int, indent: int
) -> None:
    """The hash is about the content: another layout of the same JSON is the same config."""
    config = GatewayConfig.build(entries)
    documents = split_config(config, shard_bytes=shard_bytes)
    formatted = {name: json.dumps(json.loads(text), indent=indent) for name, text in documents.items()}
    assert join_config(formatted) == config


@given(models.filter(bool), st.integers(600, 4000))
def test_a_changed_value_does_not_fit_the_hash(entries: tuple[ModelEntry, ...], shard_bytes: int) -> None:
    """One number that is another one, in whatever document it stands, is noticed."""
    documents = split_config(GatewayConfig.build(entries), shard_bytes=shard_bytes)
    for name, text in documents.items():
        changed = text.replace('"weight":100', '"weight":101', 1)
        if changed != text:
            with pytest.raises(ConfigError, match="does not match its hash"):
                join_config({**documents, name: changed})


def test_a_wrong_field_is_named_with_its_place() -> None:
    """The message says which model, by its place in the config, and which field."""
    from capstan_contract.config import _digest

    good = ModelEntry(id="ns/a", generation=1, servedName="a", upstreamName="a", backend=StaticBackend(urls=()))
    document = json.loads(split_config(GatewayConfig.build((good,)))[CONFIG_FILE])
    document["models"].append({**document["models"][0], "id": "ns/b", "generation": -1})
    document["hash"] = _digest(document)
    with pytest.raises(ConfigError, match=r"^models\.1\.generation: "):
        join_config({CONFIG_FILE: json.dumps(document)})


@given(models, st.randoms(use_true_random=False))
def test_order_of_models_does_not_matter(entries: tuple[ModelEntry, ...], random: object) -> None:
    """The same models in another order compile to the same bytes."""
    shuffled = list(entries)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert split_config(GatewayConfig.build(tuple(shuffled))) == split_config(GatewayConfig.build(entries))


@given(models.filter(lambda entries: len(entries) > 1))
def test_shards_of_two_generations_are_refused(entries: tuple[ModelEntry, ...]) -> None:
    """An index of one generation with a shard of another is refused, not served."""
    old = split_config(GatewayConfig.build(entries), shard_bytes=700)
    changed = (entries[0].model_copy(update={"generation": entries[0].generation + 1}), *entries[1:])
    new = split_config(GatewayConfig.build(changed), shard_bytes=700)
    if CONFIG_FILE in old and shards_named_by(old[CONFIG_FILE]):
        with pytest.raises(ConfigError, match="hash"):
            join_config({**new, CONFIG_FILE: old[CONFIG_FILE]})


@given(models)
def test_unknown_fields_are_dropped(entries: tuple[ModelEntry, ...]) -> None:
    """A config of a newer operator with more fields is read by this gateway."""
    from capstan_contract.config import _digest

    config = GatewayConfig.build(entries)
    document = json.loads(split_config(config)[CONFIG_FILE])
    document["policies"] = {"new": True}
    for entry in document["models"]:
        entry["newer"] = 1
    document["hash"] = _digest(document)
    assert join_config({CONFIG_FILE: json.dumps(document)}).models == config.models


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[]", "JSON object"),
        ('{"schemaVersion":2}', "this release reads 1"),
        ('{"schemaVersion":1,"hash":"x","shards":["shard-1.json"]}', r"shard-1\.json is missing"),
        ('{"schemaVersion":1,"hash":"x","shards":7}', "`shards` must be a list"),
        ('{"schemaVersion":1,"hash":"x","models":[]}', "does not match its hash"),
    ],
)
def test_faults_are_named(text: str, message: str) -> None:
    """Each kind of damage is refused with a message that names it."""
    with pytest.raises(ConfigError, match=message):
        join_config({CONFIG_FILE: text})
