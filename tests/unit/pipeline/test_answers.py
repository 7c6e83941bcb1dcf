"""Answers that are read here: what they take of the budget, and which are too much."""

from collections.abc import Iterator

import pytest

from capstan_gateway.documents import INLINE_BYTES, MAX_CONTAINERS, count_values, memory_of
from capstan_gateway.errors import UpstreamFailed
from capstan_gateway.memory import MemoryBudget
from capstan_gateway.pipeline.answers import admit, keep
from capstan_gateway.serving.exchange import FREE_BYTES
from capstan_gateway.upstream.errors import NoMemory
from support.threads import Counted

LARGE = b"[%b0]" % (b"0," * INLINE_BYTES)
TOO_MUCH = b"[%b]" % b",".join([b"{}"] * (MAX_CONTAINERS + 1))


@pytest.fixture
def executor() -> Iterator[Counted]:
    """A thread to count in."""
    with Counted() as threads:
        yield threads


async def test_a_small_answer_is_read_for_nothing(executor: Counted) -> None:
    """Up to a bound nothing is counted; nobody is even asked for an account."""
    budget = MemoryBudget(1 << 30)
    await admit(b" " * INLINE_BYTES, budget.share, executor, whose="m")
    assert await keep(b" " * FREE_BYTES, lambda: pytest.fail("asked"), executor, whose="m") == 0
    assert budget.held == 0


async def test_a_large_answer_takes_what_its_document_needs(executor: Counted) -> None:
    """By what stands in it, from one byte above the bound on; it is counted in the thread that is there for it."""
    budget = MemoryBudget(1 << 30)
    await admit(LARGE, budget.share, executor, whose="m")
    assert executor.count == 1
    assert budget.held == memory_of(LARGE, count_values(LARGE))
    budget = MemoryBudget(1 << 30)
    await admit(b" " * (INLINE_BYTES + 1), budget.share, executor, whose="m")
    assert budget.held > 0


async def test_without_room_an_answer_is_not_read(executor: Counted) -> None:
    """That is nobody's fault upstream; the log is told whose answer it was."""
    with pytest.raises(NoMemory) as refused:
        await admit(LARGE, MemoryBudget(1000).share, executor, whose="m@e")
    assert (refused.value.endpoint_id, refused.value.reason) == (
        "m@e", "the gateway has no room for the answer's document",
    )  # fmt: skip


async def test_an_answer_of_too_many_values_is_none(executor: Counted) -> None:
    """To parse it would keep everybody waiting, whatever room there is; it takes none."""
    budget = MemoryBudget(1 << 30)
    with pytest.raises(UpstreamFailed) as refused:
        await admit(TOO_MUCH, budget.share, executor, whose="m")
    assert refused.value.message == "the model's answer holds too many JSON values"
    assert budget.held == 0


async def test_what_is_kept_is_held_for_so_long(executor: Counted) -> None:
    """The bytes and the texts of it, and of a large one the document; it is told how much more that is."""
    budget = MemoryBudget(1 << 30)
    share = budget.share()
    assert share.grow(7)
    small = b"x" * (FREE_BYTES + 1)
    assert await keep(small, lambda: share, executor, whose="m") == 2 * len(small)
    assert share.held == 7 + 2 * len(small)
    more = 2 * len(LARGE) + memory_of(LARGE, count_values(LARGE))
    assert await keep(LARGE, lambda: share, executor, whose="m") == more
    assert share.held == 7 + 2 * len(small) + more
    assert executor.count == 1


@pytest.mark.parametrize("body", [LARGE, TOO_MUCH])
async def test_what_cannot_be_kept_takes_nothing(executor: Counted, body: bytes) -> None:
    """Whether its bytes have no room, or its document: what was held before is held still, and no more."""
    room = [2 * len(body) + 10] if body is TOO_MUCH else [len(body), 2 * len(body) + 100]
    for limit in room:
        budget = MemoryBudget(limit * 4 // 3)
        share = budget.share()
        assert share.grow(5)
        with pytest.raises(UpstreamFailed if body is TOO_MUCH else NoMemory) as refused:
            await keep(body, lambda: share, executor, whose="m@e")  # noqa: B023 - called within the turn
        assert share.held == 5
        if isinstance(refused.value, NoMemory):
            assert refused.value.endpoint_id == "m@e"
            lacks = "answer" if limit == room[0] else "answer's document"
            assert refused.value.reason == f"the gateway has no room for the {lacks}"
