"""What the documents of small bodies take of the budget of bytes."""

import gc
import tracemalloc
from types import SimpleNamespace
from typing import Any, cast

import pytest

from capstan_gateway.documents import TINY_BYTES
from capstan_gateway.errors import Overloaded
from capstan_gateway.memory import MemoryBudget
from capstan_gateway.pipeline.loading import load_small
from capstan_gateway.serving.exchange import FREE_BYTES, Exchange

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
