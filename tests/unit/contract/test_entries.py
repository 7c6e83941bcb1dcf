"""Entries of a config: their text, their order, and what goes back into them."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from capstan_contract.config import (
    GatewayConfig,
    LoraAdapter,
    ModelEntry,
    PolicyEntry,
    StaticBackend,
    canonical,
    digest,
    spread,
)


def model(name: str, **fields: Any) -> ModelEntry:
    """Give a model."""
    given = {"id": f"team/{name}", "servedName": name, "upstreamName": name, "backend": StaticBackend(urls=())}
    return ModelEntry(**{**given, **fields})


def test_a_copy_has_a_text_of_its_own() -> None:
    """What was cached of the original says nothing of a copy that differs, and stays where it was."""
    first = model("a")
    before = first.text
    copy = first.model_copy(update={"weight": 7})
    assert json.loads(copy.text)["weight"] == 7
    assert first.text is before
    assert first.model_copy().text == before


def test_a_deep_copy_shares_nothing() -> None:
    """Changing what is inside a deep copy leaves the original; a plain one shares it."""
    policy = PolicyEntry(id="Guard/a", kind="Guard", body={"blocks": ["x"]})
    deep = policy.model_copy(deep=True)
    deep.body["blocks"].append("y")
    assert policy.body == {"blocks": ["x"]}
    assert policy.model_copy().body is policy.body


def test_json_has_one_form() -> None:
    """Keys in order, no spaces, text as it is in UTF-8, and no number that JSON does not have."""
    assert canonical({"b": [1, 2.5], "a": {"é": None}}) == '{"a":{"é":null},"b":[1,2.5]}'.encode()
    with pytest.raises(ValueError, match="Out of range"):
        canonical(float("nan"))


def test_a_hash_leaves_itself_out() -> None:
    """Whatever a document says is its hash, it is the same; all else counts."""
    assert digest({"a": 1, "hash": "x"}) == digest({"a": 1, "hash": "y"}) == digest({"a": 1})
    assert digest({"a": 2}) != digest({"a": 1})


def test_the_place_of_an_entry_never_changes() -> None:
    """Two releases side by side sort and cut one config alike: the place is the SHA-256 of the id."""
    assert spread("abc").hex().startswith("ba7816bf8f01cfea414140de5dae2223b00361a396177a9c")  # FIPS 180-2


def test_everything_is_in_order_whatever_came_first() -> None:
    """Models and policies by their places, requirements and reserved names by the alphabet, each requirement once."""
    ids = [f"m{number}" for number in range(6)]
    policies = [PolicyEntry(id=f"Guard/{name}", kind="Guard") for name in ids]
    reserved = {"z": "team/z", "a": "team/a"}
    given = GatewayConfig.build(map(model, ids), policies=policies, requires=("b", "a", "b"), reserved=reserved)
    assert [entry.id for entry in given.models] == sorted((f"team/{name}" for name in ids), key=spread)
    assert [entry.id for entry in given.policies] == sorted((f"Guard/{name}" for name in ids), key=spread)
    assert (given.requires, list(given.reserved), given.schemaVersion) == (("a", "b"), ["a", "z"], 2)
    assert given.text() == canonical(given.model_dump(mode="json"))
    assert given.hash == digest(json.loads(given.text()))


def test_a_name_has_one_owner() -> None:
    """Served names, aliases and adapters share one room; a model may say its own name twice."""
    adapter = LoraAdapter(servedName="x", upstreamName="lora")
    for other in (model("x"), model("b", aliases=("x",)), model("b", adapters=(adapter,))):
        with pytest.raises(
            ValidationError, match=r"model name 'x' is claimed by both 'team/(a|b|x)' and 'team/(a|b|x)'"
        ):
            GatewayConfig.build([model("a", aliases=("x",)), other])
    twice = model("a", aliases=("a", "x"), adapters=(adapter,))
    assert GatewayConfig.build([twice]).models == (twice,)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://h:70000", "is not a URL: its host or its port cannot be"),
        ("http://[x", "is not a URL: its host or its port cannot be"),
        ("http://h:0", "must be an http or https URL with a host, and a port from 1 to 65535 if any"),
        ("http://:80", "must be an http or https URL with a host, and a port from 1 to 65535 if any"),
        ("HTTPX://h", "must be an http or https URL with a host, and a port from 1 to 65535 if any"),
        ("http://h/é", "must be a URL of printable ASCII characters without spaces"),
        ("http://h/\x7f", "must be a URL of printable ASCII characters without spaces"),
        ("http://h/a b", "must be a URL of printable ASCII characters without spaces"),
        ("http://a..b", "the parts of a URL's host must have 1 to 63 characters"),
        ("http://.", "the parts of a URL's host must have 1 to 63 characters"),
        (f"http://{'a' * 64}", "the parts of a URL's host must have 1 to 63 characters"),
    ],
)
def test_a_url_that_cannot_be_says_why(url: str, message: str) -> None:
    """The sentence says what is allowed, and not what stood there: a URL may hold a password."""
    with pytest.raises(ValidationError) as refusal:
        StaticBackend(urls=(url,))
    assert refusal.value.errors()[0]["msg"] == f"Value error, {message}"


@pytest.mark.parametrize(
    "url", ["http://h:1", "https://h:65535", "HTTP://h", "http://[::1]:80", "http://a.b.", "http://a-b"]
)
def test_a_url_on_the_edge_is_one(url: str) -> None:
    """The first and the last port, an address of the sixth version, the root behind a name."""
    assert StaticBackend(urls=(url,)).urls == (url,)
