"""What the documents of small bodies take of the budget of bytes."""

import gc
import gzip
import tracemalloc
import zlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from capstan_gateway.documents import (
    INLINE_BYTES,
    MAX_CONTAINERS,
    TINY_BYTES,
    WORST_FACTOR,
    count_values,
    memory_of,
)
from capstan_gateway.errors import InvalidRequest, Overloaded, RequestTooLarge
from capstan_gateway.memory import MemoryBudget
from capstan_gateway.pipeline.decompress import STEP
from capstan_gateway.pipeline.loading import decompress, load, load_large, load_small
from capstan_gateway.serving.exchange import FREE_BYTES, Exchange
from support.threads import Counted

BOUND = 48 * 1024
"""What docs/gateway.md says that a body and its document take at most without being counted."""


def exchange(budget: MemoryBudget) -> Exchange:
    """Give one as far as loading knows it."""
    share = budget.share()

    def reserve(size: int) -> None:
        if not share.grow(size):
            raise Overloaded()

    return cast(Exchange, SimpleNamespace(memory=share, reserve=reserve))


def padded(value: str) -> bytes:
    """Give a document of FREE_BYTES with as many of these values as fit."""
    count = (FREE_BYTES - 10) // (len(value) + 1)
    return b'{"a":[%b]}' % b",".join([value.encode()] * count)


@pytest.mark.parametrize("value", ["{}", "[]", "0", '{"a":0}', '""', '"a"'])
def test_small_bodies_of_many_values_are_counted(value: str) -> None:
    """Thousands of them cannot fill the memory uncounted: where there is no room for one more it is refused."""
    budget = MemoryBudget(1_000_000)
    body = padded(value)
    assert len(body) <= FREE_BYTES
    while budget.held <= budget.limit // 2:
        held = budget.held
        load_small(exchange(budget), body)
        assert budget.held > held
    budget.share().grow(budget.limit - budget.limit // 4 - budget.held)
    full = exchange(budget)
    with pytest.raises(Overloaded):
        load_small(full, body)
    assert budget.held > budget.limit // 2


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":[%b]}' % b",".join([b"{}"] * 339),
        b"{%b}" % b",".join(b'"%d":{}' % at for at in range(125)),
        ('{"a":"%s"}' % ("x" * 1000 + "😀")).encode(),
    ],
)
def test_what_is_not_counted_is_little(body: bytes) -> None:
    """A tiny body takes nothing of the budget; it and its document are no more than is said."""
    budget = MemoryBudget(10_000_000)
    assert len(body) <= TINY_BYTES
    gc.collect()
    tracemalloc.start()
    try:
        kept: list[Any] = [load_small(exchange(budget), body) for _ in range(20)]
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(kept) == 20
    assert budget.held == 0
    assert held / 20 + FREE_BYTES <= BOUND


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "the body is not JSON: "),
        (b"", "the body is not JSON: "),
        (b"[1]", "the body must be a JSON object"),
        (b"null", "the body must be a JSON object"),
    ],
)
def test_what_is_no_object_is_refused(body: bytes, message: str) -> None:
    """With what the parser says, where it says something."""
    with pytest.raises(InvalidRequest) as refused:
        load(body)
    assert refused.value.message.startswith(message)
    assert (refused.value.status, refused.value.code) == (400, "invalid_json")


def test_a_small_body_takes_the_worst_where_there_is_plenty() -> None:
    """Nothing is counted then; where half of the room is taken it is, and takes what it needs."""
    body = padded('"a"')
    budget = MemoryBudget(1_000_000)
    assert load_small(exchange(budget), body)["a"][0] == "a"
    assert budget.held == WORST_FACTOR * len(body)
    assert load_small(exchange(budget), b'{"a":"%b"}' % (b"x" * (TINY_BYTES - 8)))
    assert budget.held == WORST_FACTOR * len(body), "a tiny one takes nothing"
    other = budget.share()
    assert other.grow(500_000)
    held = budget.held
    load_small(exchange(budget), body)
    assert budget.held - held == memory_of(body, count_values(body))


@pytest.fixture
def executor() -> Iterator[Counted]:
    """One."""
    with Counted() as threads:
        yield threads


@pytest.mark.parametrize(("size", "large"), [(INLINE_BYTES, False), (INLINE_BYTES + 1, True)])
async def test_a_large_body_is_read_beside_the_loop(executor: Counted, size: int, large: bool) -> None:
    """It is counted, takes what it needs, and is parsed there; up to a size a body is read where it is."""
    budget = MemoryBudget(1 << 30)
    body = b'{"a":"%b"}' % (b"x" * (size - 8))
    assert len(body) == size
    assert len((await load_large(exchange(budget), body, executor))["a"]) == size - 8
    assert executor.count == (2 if large else 0)
    assert budget.held == (memory_of(body, count_values(body)) if large else WORST_FACTOR * size)


async def test_a_large_body_of_too_many_values_is_refused(executor: Counted) -> None:
    """Before it is parsed, and before it takes anything; it is told how many there are about."""
    budget = MemoryBudget(1 << 30)
    body = b'{"a":[%b]}' % b",".join([b"{}"] * (MAX_CONTAINERS + 1))
    with pytest.raises(RequestTooLarge) as refused:
        await load_large(exchange(budget), body, executor)
    assert refused.value.message == f"the body holds too many JSON values (about {count_values(body).values})"
    assert (budget.held, executor.count) == (0, 1)
    full = exchange(MemoryBudget(1000))
    with pytest.raises(Overloaded):
        await load_large(full, b'{"a":[%b0]}' % (b"0," * INLINE_BYTES), executor)


async def test_a_compressed_body_is_bounded_by_what_it_becomes(executor: Counted) -> None:
    """The limit itself is allowed; each step takes its room beside what came, and is made beside the loop."""
    plain = b"ab" * STEP
    packed = gzip.compress(plain)
    reserved: list[int] = []
    one = cast(Exchange, SimpleNamespace(reserve_body=reserved.append))
    assert await decompress(one, b"gzip", packed, len(plain), executor) == plain
    assert reserved == [len(packed) + STEP, len(packed) + 2 * STEP]
    assert executor.count == 3
    assert await decompress(one, b"deflate", zlib.compress(plain), len(plain), executor) == plain
    with pytest.raises(RequestTooLarge) as refused:
        await decompress(one, b"gzip", packed, len(plain) - 1, executor)
    assert refused.value.message == f"the decompressed body is larger than {len(plain) - 1} bytes"
