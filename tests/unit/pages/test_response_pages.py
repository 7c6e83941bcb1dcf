"""Pages of the items that a stored response answers."""

from typing import Any

import pytest

from capstan_gateway.errors import InvalidRequest
from capstan_gateway.pages.responses import list_items

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
