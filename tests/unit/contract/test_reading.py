"""What a reader says of a config that is damaged, and how little it does for one that is as it was written."""

import hashlib
import json
from typing import Any

import pytest

from capstan_contract import reading as readings
from capstan_contract.config import (
    ConfigError,
    ConfigIndex,
    GatewayConfig,
    ModelEntry,
    PolicyEntry,
    StaticBackend,
    canonical,
    digest,
)
from capstan_contract.names import CONFIG_FILE
from capstan_contract.reading import ConfigReader, join_config
from capstan_contract.requirements import Known
from capstan_contract.sharding import split_config
from support.keys import SALT, key_entry

KNOWS_GUARDS = Known(policy_kinds=frozenset(("Guard",)))
GUARD = PolicyEntry(id="Guard/team/strict", kind="Guard", body={"blocks": ["x"]})


def models(count: int) -> list[ModelEntry]:
    """Give models."""
    backend = StaticBackend(urls=())
    return [
        ModelEntry(id=f"team/m{number}", servedName=f"m{number}", upstreamName="é", backend=backend)
        for number in range(count)
    ]


def written(document: dict[str, Any]) -> dict[str, str]:
    """Write a whole config by hand, with a hash that fits."""
    return {CONFIG_FILE: json.dumps({**document, "hash": digest(document)})}


WHOLE: dict[str, Any] = json.loads(GatewayConfig.build(models(2)).text())


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ({}, "config.json is missing"),
        ({"shard-a-1.json": "{}"}, "config.json is missing"),
        ({CONFIG_FILE: "[]"}, "config.json must hold a JSON object"),
        (written({**WHOLE, "schemaVersion": 3}), "config.json: `schemaVersion` is 3; this release reads 1 and 2"),
        (written({**WHOLE, "schemaVersion": "1"}), "config.json: `schemaVersion` is '1'; this release reads 1 and 2"),
        (written({**WHOLE, "models": {}}), "`models` must be a list"),
        (written({**WHOLE, "policies": 7}), "`policies` must be a list"),
        (written({**WHOLE, "models": [*WHOLE["models"], 7]}), "models.2: has no `id`"),
        (written({**WHOLE, "models": [{"id": 7}]}), "models.0: has no `id`"),
        (written({**WHOLE, "policies": [{"kind": "Guard"}]}), "policies.0: has no `id`"),
        (
            written({**WHOLE, "requires": ["b/v2", "a/v2"]}),
            "the config requires what this release does not know: a/v2, b/v2",
        ),
        (
            {CONFIG_FILE: json.dumps({**WHOLE, "hash": "0" * 64})},
            "the content does not match its hash: the config is damaged or its parts are of two generations",
        ),
        (written({**WHOLE, "reserved": {"a": 1}}), "reserved.a: Input should be a valid string"),
        (
            written({**WHOLE, "models": [{**WHOLE["models"][0], "aliases": ["m0", "m1"]}, WHOLE["models"][1]]}),
            "document: Value error, model name 'm0' is claimed by both 'team/m1' and 'team/m0'",
        ),
    ],
)
def test_what_is_wrong_with_the_whole_is_said(documents: dict[str, str], message: str) -> None:
    """Whoever keeps the last good config shows this one sentence: where the fault is, and what is allowed."""
    with pytest.raises(ConfigError) as refusal:
        join_config(documents)
    assert str(refusal.value) == message


def test_parts_of_a_shard_are_lists() -> None:
    """A shard is named with the part of it that is something else."""
    documents = split_config(GatewayConfig.build(models(30)), shard_bytes=4000)
    names = sorted(documents.keys() - {CONFIG_FILE})
    for part in ("models", "policies"):
        with pytest.raises(ConfigError, match=rf"^{names[0]}: `{part}` must be a list$"):
            join_config({**documents, names[0]: json.dumps({part: {}})})
    with pytest.raises(ConfigError, match=rf"^{names[1]} is missing$"):
        join_config({name: text for name, text in documents.items() if name != names[1]})
    with pytest.raises(ConfigError, match=rf"^{names[1]} must hold a JSON object$"):
        join_config({**documents, names[1]: "[]"})


@pytest.mark.parametrize("shard_bytes", [10**6, 4000])
@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("with_policies", [False, True])
@pytest.mark.parametrize("with_keys", [False, True])
def test_a_config_that_is_as_it_was_written_is_not_written_anew(
    monkeypatch: pytest.MonkeyPatch, shard_bytes: int, *, encoded: bool, with_policies: bool, with_keys: bool
) -> None:
    """Its hash is that of the very bytes: to know that costs no copy of it as JSON, whole or in shards."""
    policies = [PolicyEntry(id=f"Guard/team/{n}", kind="Guard", body={"keys": [{"a": [1]}]}) for n in range(8)]
    keys = [key_entry(f"k{number}", user="é", models=("a", "b")) for number in range(40 if with_keys else 0)]
    given = GatewayConfig.build(
        models(30),
        requires=("known",),
        reserved={"é": "team/gone"},
        policies=policies if with_policies else (),
        keys=keys,
        key_salt=SALT,
    )
    monkeypatch.setattr(readings, "digest", lambda _: pytest.fail("was written anew"))
    documents = split_config(given, shard_bytes=shard_bytes)
    offered = {name: text.encode() if encoded else text for name, text in documents.items()}
    known = Known(frozenset(("known",)), frozenset(("Guard",)))
    assert ConfigReader(known=known).read(offered).config == given  # type: ignore[arg-type]


def test_a_layout_of_its_own_hides_no_damage() -> None:
    """In documents that somebody has formatted a changed value is noticed as in any other."""
    documents = split_config(GatewayConfig.build(models(30)), shard_bytes=4000)
    formatted = {name: json.dumps(json.loads(text), indent=1) for name, text in documents.items()}
    assert join_config(formatted) == join_config(documents)
    changed = {name: text.replace('"weight": 100', '"weight": 101', 1) for name, text in formatted.items()}
    with pytest.raises(ConfigError, match="does not match its hash"):
        join_config(changed)


def test_a_config_without_models_is_one() -> None:
    """An operator that has nothing to serve says so, and nobody keeps what was there before."""
    assert join_config(written({"schemaVersion": 1})).models == ()


def test_a_shard_without_models_takes_no_place() -> None:
    """Empty shards, which are not written but may be read, leave no separator behind."""
    given = GatewayConfig.build(models(30))
    documents = split_config(given, shard_bytes=4000)
    index = json.loads(documents[CONFIG_FILE])
    shards = ("shard-b-1.json", *index["shards"], "shard-b-2.json")
    more = ConfigIndex(schemaVersion=1, hash=given.hash, shards=shards)
    empty = dict.fromkeys(("shard-b-1.json", "shard-b-2.json"), '{"models":[]}')
    assert join_config({**documents, **empty, CONFIG_FILE: canonical(more.model_dump(mode="json")).decode()}) == given


def test_of_the_whole_only_one_hash_is_its_own() -> None:
    """An entry may say something that looks like the config's hash, and the config is still as it was written."""
    entry = models(1)[0]
    draft = GatewayConfig.build([entry])
    sly = entry.model_copy(update={"revision": f'"hash":"{draft.hash}"'})
    given = GatewayConfig.build([sly])
    assert join_config(split_config(given)) == given
    assert given.hash == hashlib.sha256(given.model_copy(update={"hash": ""}).text()).hexdigest()


def test_of_two_policies_that_cannot_be_read_each_is_named() -> None:
    """A fault of one policy costs those that name it, and the others are enforced."""
    broken = {**GUARD.model_dump(mode="json"), "id": "Guard/team/broken", "body": 7, "newer": 1}
    document = json.loads(GatewayConfig.build(models(1), policies=(GUARD,)).text())
    document["policies"] = [broken, {**document["policies"][0], "newer": 1}]
    reading = ConfigReader(known=KNOWS_GUARDS).read(written(document))
    assert reading.config.policies == (GUARD,)
    assert reading.refused == {"Guard/team/broken": ("field/body: Input should be a valid dictionary",)}


def test_a_reader_rests_between_entries() -> None:
    """Whoever reads a large config in a thread lets others have their turn: once for each entry, refused or not."""
    rests: list[None] = []
    reader = ConfigReader(rest=lambda: rests.append(None))
    reader.read(split_config(GatewayConfig.build([*models(4), models(5)[4].model_copy(update={"requires": ("x",)})])))
    assert len(rests) == 5


def test_an_entry_that_went_is_forgotten() -> None:
    """What a reader keeps is the config before, and not all that there ever was."""
    reader, (one, other) = ConfigReader(), models(2)
    kept = reader.read(split_config(GatewayConfig.build([one]))).config.models[0]
    assert reader.read(split_config(GatewayConfig.build([one, other]))).config.models.count(kept) == 1
    assert any(entry is kept for entry in reader.read(split_config(GatewayConfig.build([one, other]))).config.models)
    reader.read(split_config(GatewayConfig.build([other])))
    assert len(reader._entries) == 1
    assert reader.read(split_config(GatewayConfig.build([one]))).config.models[0] is not kept


def test_what_is_refused_has_a_field_path() -> None:
    """The path leads to the field through lists, so that a writer finds it."""
    document = json.loads(GatewayConfig.build(models(2)).text())
    document["models"][0]["backend"] = {"kind": "Static", "urls": ["http://h", 7]}
    reading = join_reading(document)
    assert list(reading.values()) == [("field/backend.Static.urls.1: Input should be a valid string",)]


def join_reading(document: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """Give what is refused of a config."""
    return dict(ConfigReader().read(written(document)).refused)
