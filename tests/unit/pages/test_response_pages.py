"""Pages of the items that a stored response answers."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import orjson
import pytest

from capstan_gateway.dialects.clients.responses_history import kept_items
from capstan_gateway.documents import INLINE_BYTES, MAX_CONTAINERS
from capstan_gateway.errors import GatewayError, InvalidRequest, Overloaded, RequestTooLarge
from capstan_gateway.memory import MemoryBudget
from capstan_gateway.pages.responses import list_items, listed
from support.threads import Counted

ITEMS = [{"id": f"i{number}"} for number in range(25)]


def ids(**query: Any) -> tuple[list[str], bool]:
    """Give the ids of a page, and whether more follow."""
    page = list_items(ITEMS, **{"limit": None, "order": None, "after": None, **query})
    found = [item["id"] for item in page["data"]]
    assert (page["object"], page["first_id"], page["last_id"]) == (
        "list", found[0] if found else None, found[-1] if found else None,
    )  # fmt: skip
    return found, page["has_more"]


def test_the_newest_first() -> None:
    """Without a word about order and limit the twenty newest come, the newest first."""
    assert ids() == ([f"i{number}" for number in range(24, 4, -1)], True)
    assert ids(after="i5") == (["i4", "i3", "i2", "i1", "i0"], False)


def test_page_by_page() -> None:
    """Each page goes on behind the last id of the one before, and the last one says that it is."""
    assert ids(order="asc", limit="10") == ([f"i{number}" for number in range(10)], True)
    assert ids(order="asc", limit="15", after="i9") == ([f"i{number}" for number in range(10, 25)], False)
    assert ids(order="desc", limit="1", after="i1") == (["i0"], False)
    assert ids(after="i0") == ids(after="nobody") == ([], False)


@pytest.mark.parametrize("limit", ["0", "101", "-1", "x", "", "1.5", "1e1", "٣", "1" * 5000])
def test_limits_that_are_none(limit: str) -> None:
    """A limit that is not from 1 to 100 is refused by name."""
    with pytest.raises(InvalidRequest, match="`limit` must be a whole number from 1 to 100") as raised:
        ids(limit=limit)
    assert raised.value.param == "limit"


def test_orders_that_are_none() -> None:
    """An order that is neither `asc` nor `desc` is refused by name."""
    with pytest.raises(InvalidRequest, match="`order` must be asc or desc"):
        ids(order="up")


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_ids_that_stand_twice(order: str) -> None:
    """A client that asks page by page, behind the last id each time, comes to the end and has seen every item."""
    own = [{"id": "msg_1", "role": "user", "content": str(number)} for number in range(7)]
    items = kept_items({"input": own}, "cs0")
    assert items[0]["id"] == "msg_1"
    seen: list[str] = []
    after = None
    for _ in items:
        page = list_items(items, limit="1", order=order, after=after)
        after = page["last_id"]
        seen += [item["content"][0]["text"] for item in page["data"]]
    assert (sorted(seen), page["has_more"]) == ([str(number) for number in range(7)], False)


def test_ids_that_were_kept_twice() -> None:
    """What stands twice in a list that was kept before is behind its last one, so that no list goes on for ever."""
    page = list_items([{"id": "a"}, {"id": "a"}, {"id": "b"}], limit="1", order="asc", after="a")
    assert (page["data"], page["has_more"]) == ([{"id": "b"}], False)


@pytest.fixture
def executor() -> Iterator[Counted]:
    """The thread that reads what is large."""
    with Counted() as threads:
        yield threads


FIRST = partial(list_items, limit="1", order=None, after=None)


def many(size: int) -> bytes:
    """Give a list of items of so many bytes, and some more."""
    item = {"type": "message", "id": "i", "content": [{"type": "input_text", "text": "x" * 1000}]}
    return orjson.dumps([item] * (size // 1000))


async def test_a_large_list_is_read_beside_the_loop_and_within_the_budget(executor: Counted) -> None:
    """What is stored may be as large as a request: it keeps nobody waiting, and is counted as long as it is read."""
    small, large = many(INLINE_BYTES // 2), many(4 * INLINE_BYTES)
    budget, held = MemoryBudget(1 << 30), list[int]()

    def first(items: list[dict[str, Any]]) -> dict[str, Any]:
        held.append(budget.held)
        return FIRST(items)

    page = orjson.loads(await listed(small, first, budget, executor))
    assert (len(page["data"]), page["has_more"], executor.count) == (1, True, 0)
    assert orjson.loads(await listed(large, first, budget, executor)) == page
    assert (executor.count, budget.held) == (2, 0)
    assert held[0] > 3 * len(small)
    assert held[1] > 3 * len(large)


@pytest.mark.parametrize(
    ("items", "budget", "kind"),
    [
        (many(4 * INLINE_BYTES), 4 * INLINE_BYTES, RequestTooLarge),
        (b"[%b{}]" % (b"{}," * MAX_CONTAINERS), 1 << 30, RequestTooLarge),
        (many(4 * INLINE_BYTES), 64 * INLINE_BYTES, Overloaded),
    ],
)
async def test_a_list_without_room(items: bytes, budget: int, kind: type[GatewayError], executor: Counted) -> None:
    """It is refused as a request would be, and holds nothing behind that."""
    bounds = MemoryBudget(budget)
    others = bounds.share()
    if kind is Overloaded:
        assert others.grow(budget * 5 // 8)
    with pytest.raises(kind):
        await listed(items, FIRST, bounds, executor)
    assert bounds.held == others.held
