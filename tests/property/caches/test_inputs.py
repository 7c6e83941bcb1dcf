"""Inputs of requests for embeddings: what is put together of parts is the answer for all of them, in their order."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.caches.inputs import inputs_of, put_together, shared_out, taken_apart, values_of
from capstan_gateway.caches.port import CacheKey

REST = CacheKey("p", "m", b"r" * 32)
TEXTS = st.lists(st.sampled_from(["a", "b", "c", "", "\ud800", "[1]"]), min_size=1, max_size=12)
IDS = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=3), min_size=1, max_size=12)


def vector(value: Any) -> list[float]:
    """Compute it, as an engine does."""
    return [float(len(repr(value))), hash(repr(value)) / 7]


def answer(values: list[Any], order: list[int]) -> bytes:
    """Answer as an engine does, perhaps in another order than was asked."""
    data = [{"object": "embedding", "embedding": vector(values[at]), "index": at} for at in order]
    return json.dumps({"object": "list", "model": "m", "data": data, "usage": {"prompt_tokens": 9}}).encode()


@given(st.one_of(TEXTS, IDS), st.data())
def test_parts_make_the_whole(given_: list[Any], data: st.DataObject) -> None:
    """Whatever is there, and in whichever order the rest comes."""
    values = values_of({"input": given_})
    assert values is not None
    inputs = inputs_of(values, REST)
    there = [data.draw(st.booleans()) for _ in values]
    for at, key in enumerate(inputs.keys):
        there[at] = there[inputs.keys.index(key)]
    asked = inputs.missing(there)
    assert len(set(asked.keys)) == len(asked.keys)
    order = data.draw(st.permutations(range(len(asked.values))))
    made: dict[CacheKey, bytes] = {}
    if asked.values:
        parts = taken_apart(answer(list(asked.values), list(order)), len(asked.values))
        assert parts is not None
        made = dict(zip(asked.keys, parts.items, strict=True))
    for key, value in zip(inputs.keys, values, strict=True):
        made.setdefault(key, json.dumps({"object": "embedding", "embedding": vector(value)}).encode())
    whole = json.loads(put_together({"model": "m"}, [made[key] for key in inputs.keys], prompt=7, cached=3))
    assert [item["index"] for item in whole["data"]] == list(range(len(values)))
    assert [item["embedding"] for item in whole["data"]] == [vector(value) for value in values]
    assert whole["usage"] == {
        "prompt_tokens": 7, "total_tokens": 7, "prompt_tokens_details": {"cached_tokens": 3}
    }  # fmt: skip


@given(st.integers(0, 1000), st.lists(st.integers(0, 50), min_size=1, max_size=20))
def test_what_is_shared_out_is_all_of_it(amount: int, weights: list[int]) -> None:
    """Nothing is lost, and nobody gets less than nothing."""
    shares = shared_out(amount, weights)
    assert sum(shares) == amount
    assert len(shares) == len(weights)
    assert min(shares) >= 0


class Summed(list[int]):
    """Weights that know how often they were read."""

    read = 0

    def __iter__(self) -> Iterator[int]:
        self.read += 1
        return super().__iter__()


def test_what_is_shared_out_takes_as_long_as_there_are_weights() -> None:
    """And not the square of that: 2048 of them took 20 ms of the loop."""
    weights = Summed([1] * 2048)
    shared_out(5000, weights)
    assert weights.read <= 3


def test_two_inputs_have_two_keys() -> None:
    """A text is not the ids that it looks like, and what else is asked makes a difference."""
    keys = [
        *inputs_of(("1", "[1]", "[1,2]"), REST).keys,
        *inputs_of(([1], [1, 2]), REST).keys,
        *inputs_of(("1",), REST._replace(digest=b"s" * 32)).keys,
        *inputs_of(("1",), REST, secret=b"k").keys,
    ]
    assert len({key.digest for key in keys}) == len(keys)


@pytest.mark.parametrize(
    ("given_", "values"),
    [
        ("a", ("a",)),
        ([1, 2], ([1, 2],)),
        (["a", [1]], None),
        ([], None),
        (None, None),
        ([[]], None),
        ([True], None),
        ([1.0], None),
        ({"a": 1}, None),
        (["a"] * 2049, None),
    ],
)  # fmt: skip
def test_what_is_taken_apart(given_: Any, values: Any) -> None:
    """Texts and lists of ids; all else is one question."""
    assert values_of({"input": given_}) == values


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{}", b'{"data":[]}', b'{"data":[{"index":1,"embedding":[1]}]}', b'{"data":[{"embedding":[1]}]}',
        b'{"data":[{"index":0,"embedding":[]}]}', b'{"data":[{"index":0,"embedding":null}]}',
        b'{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}]}', b'{"data":[1]}',
        b'{"error":{"message":"no"},"data":[{"index":0,"embedding":[1]}]}',
    ],
)  # fmt: skip
def test_what_is_no_answer_is_not_taken_apart(body: bytes) -> None:
    """Nothing is kept of what is not one vector for each input."""
    assert taken_apart(body, 1) is None
