"""What an answer is kept under: everything that it may depend on, and nothing else."""

import re
from typing import Any

import pytest

from capstan_contract.config import ModelEntry, StaticBackend
from capstan_contract.guards import GuardBody, KeywordsGuard, Source, guard_entry
from capstan_gateway.caches.key import (
    EXCLUDED_FIELDS,
    EXCLUDED_MODEL_FIELDS,
    KEYED_MODEL_FIELDS,
    SLOW_BYTES,
    canonical_request,
    identity_of,
    key_of,
    last_turn,
    partition_of,
    tenant_of,
)
from capstan_gateway.tokens.prompt import known_fields

DOCUMENT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "temperature": 0}
KEYED_FIELDS = frozenset(known_fields()) - EXCLUDED_FIELDS.keys()


def entry(**fields: Any) -> ModelEntry:
    """Give a model's entry."""
    backend = StaticBackend(urls=("http://127.0.0.1:8000",))
    return ModelEntry(**{"id": "t/m", "servedName": "m", "upstreamName": "m", "backend": backend, **fields})


def test_each_field_of_a_models_entry_is_in_the_key_or_on_the_list_of_those_that_are_not() -> None:
    """A field that is new in the config has to be decided about."""
    assert set(ModelEntry.model_fields) == KEYED_MODEL_FIELDS | EXCLUDED_MODEL_FIELDS.keys()
    assert not KEYED_MODEL_FIELDS & EXCLUDED_MODEL_FIELDS.keys()


@pytest.mark.parametrize("name", sorted(KEYED_FIELDS))
def test_each_field_of_a_request_that_is_known_makes_another_key(name: str) -> None:
    """Whatever may change an answer is in the key."""
    assert canonical_request({**DOCUMENT, name: "x"}) != canonical_request({**DOCUMENT, name: "y"})


@pytest.mark.parametrize("name", sorted(EXCLUDED_FIELDS))
def test_what_changes_no_answer_makes_no_other_key(name: str) -> None:
    """A field that is left out for a reason makes no difference."""
    assert canonical_request({**DOCUMENT, name: "x"}) == canonical_request({**DOCUMENT, name: "y"})
    assert len(EXCLUDED_FIELDS[name]) > 3


def test_a_field_that_nobody_knows_is_in_the_key() -> None:
    """What a newer engine understands makes two requests two."""
    assert canonical_request({**DOCUMENT, "of_tomorrow": 1}) != canonical_request(DOCUMENT)


def test_what_takes_long_to_write_is_looked_for_only_while_it_is_small() -> None:
    """A number of more than 64 bits is written by the slow writer, on the loop."""
    odd = {**DOCUMENT, "seed": 2**70}
    assert canonical_request(odd, came=SLOW_BYTES) is not None
    assert canonical_request(odd, came=SLOW_BYTES + 1) is None
    assert canonical_request(DOCUMENT, came=SLOW_BYTES + 1) is not None


def test_the_order_of_names_makes_no_difference_and_that_of_lists_does() -> None:
    """Objects are compared as objects, lists as lists."""
    assert canonical_request({"a": {"x": 1, "y": 2}}) == canonical_request({"a": {"y": 2, "x": 1}})
    assert canonical_request({"a": [1, 2]}) != canonical_request({"a": [2, 1]})


@pytest.mark.parametrize(
    ("one", "other"), [(1, 1.0), (0, False), (1, True), ("1", 1), (None, False), ("é", "e\u0301"), ({}, []), ("", None)]
)
def test_values_that_an_engine_may_tell_apart_are_told_apart(one: Any, other: Any) -> None:
    """Nothing is taken for the same that is only nearly so."""
    assert canonical_request({"a": one}) != canonical_request({"a": other})


@pytest.mark.parametrize("odd", ["\ud800", 2**70])
def test_what_one_writer_cannot_write_another_does(odd: Any) -> None:
    """Half of a surrogate pair and large numbers are requests like others."""
    found = canonical_request({"a": odd, "b": 1})
    assert found is not None
    assert found == canonical_request({"b": 1, "a": odd})


def test_what_is_too_deep_or_too_large_is_not_looked_for() -> None:
    """There is a bound to what is put in order."""
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    assert canonical_request({"a": deep}) is None
    assert canonical_request({"a": "x" * 2_000_000}) is None


def test_another_revision_model_address_or_guard_is_another_identity() -> None:
    """Whatever changes what answers, or what judges it, begins anew; what it is called or costs does not."""
    word = KeywordsGuard(name="w", keywords=("x",), appliesTo=(Source.USER,))
    guard = guard_entry("t", "g", GuardBody(input=(word,)))
    other = guard_entry("t", "g", GuardBody(input=(word.model_copy(update={"keywords": ("y",)}),)))
    same = identity_of(entry(), (guard,))
    assert same == identity_of(entry(servedName="n", aliases=("k",), weight=3), (guard,))
    changed = [
        identity_of(entry(revision="2"), (guard,)),
        identity_of(entry(id="t/n"), (guard,)),
        identity_of(entry(backend=StaticBackend(urls=("http://127.0.0.1:8001",))), (guard,)),
        identity_of(entry(), (other,)),
        identity_of(entry(), ()),
    ]
    assert same not in changed
    assert len(set(changed)) == len(changed)


def test_partitions_of_different_people_are_different() -> None:
    """A tenant is not a user of the same name, and nobody is nobody's namesake."""
    who: list[tuple[str | None, tuple[str, ...] | None]] = [
        ("a", None), (None, None), ("a", ("",)), ("a", ("b",)), ("b", ("a",)), ('a","b', None), ("", ("a",)),
        ("a", ("b", "")), ("a", ("", "b")), ("a", ()),
    ]  # fmt: skip
    found = {partition_of(tenant=tenant, user=user) for tenant, user in who}
    assert len(found) == len(who)
    assert all(re.fullmatch("[0-9a-f]{32}(-[0-9a-f]{32})?", one) for one in found)
    users = [partition_of(tenant="a", user=user) for user in (None, "", "b")]
    assert {tenant_of(one) for one in users} == {users[0]}
    assert tenant_of(partition_of(tenant="b", user="a")) != users[0]


def test_parts_of_a_key_do_not_run_into_each_other() -> None:
    """What ends one part does not begin the next."""
    common: dict[str, Any] = {"partition": "p", "model": "m", "identity": b"", "path": b"/x"}
    one = key_of(b"x", contents="ab", upstream_name="c", **common)
    other = key_of(b"x", contents="a", upstream_name="bc", **common)
    assert one != other


@pytest.mark.parametrize(
    "messages",
    [
        [],
        "text",
        [{"role": "assistant", "content": "hi"}],
        [{"role": "user", "content": "  "}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}],
        [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
        [{"role": "user", "content": "hi", "tool_call_id": "1"}],
        [{"role": "tool", "content": "hi"}],
    ],
)
def test_only_a_text_that_a_user_says_last_is_compared_by_its_meaning(messages: Any) -> None:
    """Nothing else has a meaning of its own."""
    assert last_turn({"messages": messages}) is None


def test_what_is_left_without_the_last_turn_is_all_the_rest() -> None:
    """Earlier turns stay, and so does everything around them."""
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "why?"}]
    found = last_turn({"messages": messages, "seed": 1})
    assert found == ({"messages": [messages[0], {"role": "user", "content": ""}], "seed": 1}, "why?")
