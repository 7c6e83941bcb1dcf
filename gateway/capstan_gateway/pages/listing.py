"""Lists as OpenAI's API pages through them. Pure."""

from collections.abc import Sequence
from typing import Any

from capstan_gateway.errors import InvalidRequest


def read_limit(text: str | None, *, most: int, otherwise: int) -> int:
    """Read `limit`; InvalidRequest where it is no whole number from 1 to `most`."""
    if text is None:
        return otherwise
    limit = int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 0
    if not 1 <= limit <= most:
        raise InvalidRequest(f"`limit` must be a whole number from 1 to {most}", code="invalid_value", param="limit")
    return limit


def place_after(ids: Sequence[str], after: str | None) -> int:
    """Give where a page begins that is behind this id; one that is none ends the list."""
    if after is None:
        return 0
    return ids.index(after) + 1 if after in ids else len(ids)


def page_of(items: Sequence[dict[str, Any]], *, limit: int, after: str | None) -> dict[str, Any]:
    """Give one page of items that have an `id`."""
    begin = place_after([item["id"] for item in items], after)
    return written(items[begin : begin + limit], more=begin + limit < len(items))


def written(page: Sequence[dict[str, Any]], *, more: bool) -> dict[str, Any]:
    """Write a page."""
    first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
    return {"object": "list", "data": list(page), "first_id": first, "last_id": last, "has_more": more}
