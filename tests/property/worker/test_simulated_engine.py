"""What must hold for whatever the simulator is asked."""

import json

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_worker.simulator.answers import Bounds, make_seed, write_prose
from capstan_worker.simulator.blocks import BLOCK_SIZE, BlockCache, Lease, block_hashes, blocks_for
from capstan_worker.simulator.schemas import example
from capstan_worker.simulator.tokens import split
from capstan_worker.simulator.vectors import embed, similarity

TEXT = st.text(st.characters(codec="utf-8"))


@given(TEXT)
def test_tokens_joined_are_the_text(text: str):
    """The tokenizer loses nothing and adds nothing."""
    assert "".join(split(text)) == text


@given(
    capacity=st.integers(1, 12),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(1, 5), st.integers(0, 4)), max_size=60),
)
def test_the_block_cache_never_exceeds_its_size(capacity: int, steps: list[tuple[bool, int, int, int]]):
    """Held and cached blocks together stay within the capacity, and giving all back leaves nothing held."""
    cache = BlockCache(capacity)
    leases: list[tuple[Lease, int]] = []
    for take, family, blocks, more in steps:
        if take or not leases:
            tokens = [f"{family}.{min(number, 8)}" for number in range(blocks * BLOCK_SIZE)]
            hashes = block_hashes(tokens)
            lease = cache.take(hashes, prompt_tokens=len(tokens), total_blocks=len(hashes) + more)
            if lease is not None:
                assert lease.hit_tokens < len(tokens)
                leases.append((lease, family))
        else:
            lease, family = leases.pop(more % len(leases))
            cache.give_back(lease, [hash((family, more, number)) for number in range(more)])
        assert cache.used + cache.cached <= capacity
        assert 0 <= cache.usage <= 1
    for lease, _ in leases:
        cache.give_back(lease)
    assert cache.used == 0
    assert cache.cached <= capacity


@given(first=st.integers(1, 200), shared=st.integers(0, 200), rest=st.integers(0, 100))
def test_a_hit_is_the_shared_prefix_in_whole_blocks(first: int, shared: int, rest: int):
    """A second prompt hits exactly the full blocks that it shares with the first, but never its own last token."""
    shared = min(shared, first)
    one = [f"a{number}" for number in range(first)]
    other = one[:shared] + [f"b{number}" for number in range(rest)]
    if not other:
        return
    cache = BlockCache(1000)
    lease = cache.take(block_hashes(one), prompt_tokens=len(one), total_blocks=blocks_for(len(one)))
    assert lease is not None
    cache.give_back(lease)
    second = cache.take(block_hashes(other), prompt_tokens=len(other), total_blocks=blocks_for(len(other)))
    assert second is not None
    same = shared if rest else len(other)
    assert second.hit_tokens == min(same // BLOCK_SIZE, (len(other) - 1) // BLOCK_SIZE) * BLOCK_SIZE


def test_the_least_recently_used_prefix_goes_first():
    """When room is needed, the prefix that was used last stays, and of one prefix its tail goes first."""
    cache = BlockCache(4)
    a, b = (block_hashes([f"{name}{number}" for number in range(32)]) for name in "ab")
    for hashes in (a, b, a):
        lease = cache.take(hashes, prompt_tokens=33, total_blocks=2)
        assert lease is not None
        cache.give_back(lease)
    lease = cache.take([], prompt_tokens=16, total_blocks=1)
    assert lease is not None
    cache.give_back(lease)
    kept = cache.take(a, prompt_tokens=33, total_blocks=2)
    assert kept is not None
    assert kept.hit_tokens == 32
    lost = cache.take(b, prompt_tokens=33, total_blocks=2)
    assert lost is not None
    assert lost.hit_tokens == 16


@given(
    parts=st.lists(TEXT, max_size=3),
    most=st.integers(1, 80),
    mean=st.integers(1, 60),
    stop=st.lists(st.text(" .aeim", min_size=1, max_size=3), max_size=2),
    keep=st.booleans(),
    ignore=st.booleans(),
)
def test_answers_are_reproducible_and_within_bounds(
    parts: list[str], most: int, mean: int, stop: list[str], keep: bool, ignore: bool
):
    """The same request has the same answer, no longer than allowed, without a stop string unless it was asked for."""
    bounds = Bounds(max_tokens=most, stop=tuple(stop), keep_stop=keep, ignore_eos=ignore)
    seed = make_seed(*parts)
    answer = write_prose(seed, model="m", mean_tokens=mean, bounds=bounds)
    assert answer == write_prose(seed, model="m", mean_tokens=mean, bounds=bounds)
    assert len(answer.tokens) <= most
    assert all(answer.tokens)
    if answer.stop_reason is None:
        assert not any(item in answer.text for item in stop)
        assert ignore is False or len(answer.tokens) == most
    elif keep:
        assert answer.text.endswith(answer.stop_reason)
    else:
        assert not any(item in answer.text for item in stop)


@given(seed=st.integers(0, 2**64 - 1), short=st.integers(1, 40), more=st.integers(0, 40))
def test_a_smaller_bound_gives_the_beginning(seed: int, short: int, more: int):
    """Asking for fewer tokens gives the beginning of the longer answer."""
    few, many = (
        write_prose(seed, model="m", mean_tokens=48, bounds=Bounds(max_tokens=most)) for most in (short, short + more)
    )
    assert many.text.startswith(few.text)


SCHEMAS = st.recursive(
    st.one_of(
        st.just({"type": "string"}),
        st.builds(
            lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more},
            st.integers(0, 20),
            st.integers(0, 20),
        ),
        st.builds(
            lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more},
            st.integers(-50, 50),
            st.integers(0, 90),
        ),
        st.builds(lambda high: {"type": "number", "exclusiveMaximum": high}, st.integers(-50, 50)),
        st.builds(lambda step: {"type": "integer", "multipleOf": step}, st.integers(1, 9)),
        st.just({"type": ["boolean", "null"]}),
        st.builds(lambda options: {"enum": options}, st.lists(st.integers(), min_size=1, max_size=3)),
        st.builds(lambda value: {"const": value}, st.text(max_size=4)),
    ),
    lambda inner: st.one_of(
        st.builds(lambda items, least: {"type": "array", "items": items, "minItems": least}, inner, st.integers(0, 3)),
        st.builds(
            lambda names: {"type": "object", "properties": names, "required": sorted(names)},
            st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3),
        ),
        st.builds(lambda options: {"anyOf": options}, st.lists(inner, min_size=1, max_size=2)),
    ),
    max_leaves=6,
)


@given(SCHEMAS, st.integers(0, 2**64 - 1))
def test_structured_answers_fit_their_schema(schema: dict[str, object], seed: int):
    """An answer to a JSON schema is valid JSON that the schema allows."""
    value = json.loads(json.dumps(example(schema, seed)))
    jsonschema.validate(value, schema)


def test_a_recursive_schema_comes_to_an_end():
    """A schema that refers to itself gives a finite value that it allows."""
    schema = {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                },
                "required": ["name", "children"],
            }
        },
    }
    jsonschema.validate(example(schema, 1), schema)


@given(TEXT, st.integers(1, 64))
def test_vectors_have_length_one_and_are_reproducible(text: str, size: int):
    """Every text has a vector of length one, always the same."""
    vector = embed(text, size)
    assert len(vector) == size
    assert similarity(vector, vector) == pytest.approx(1.0)
    assert vector == embed(text, size)


def test_shared_words_make_texts_similar():
    """A text is nearer to one that shares words with it than to one that shares none."""
    base, near, far = (
        embed(text, 384)
        for text in ("how do I return a parcel", "I want to return my parcel", "the moon is made of green cheese")
    )
    assert similarity(base, near) > similarity(base, far) + 0.2
