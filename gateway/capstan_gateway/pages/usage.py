"""What was used: by tenant, team, user, model and day, for whoever has the admin credential."""

from functools import partial
from typing import Final

from fastapi import APIRouter, Request

from capstan_gateway.errors import InvalidRequest, StoreUnavailable
from capstan_gateway.life.threads import Threads
from capstan_gateway.pipeline.beside import beside
from capstan_gateway.stores.port import StoreDown
from capstan_gateway.stores.usage import UsageStore
from capstan_gateway.telemetry.usage_counts import (
    COUNTERS,
    NAMES,
    Numbers,
    Rows,
    add_up,
    days_between,
    grouped,
    today,
)

MOST_DAYS: Final = 92
_PARAMETERS: Final = ("from", "to", "by", *NAMES[1:])


def usage_routes(store: UsageStore | None, threads: Threads) -> APIRouter:
    """GET /internal/usage; without a store there is none."""
    router = APIRouter(tags=["admin"])
    if store is None:
        return router

    @router.get("/internal/usage")
    async def get_usage(request: Request) -> dict[str, object]:
        """Say what was used from one day to another, summed up by what is asked for.

        `from` and `to` are days in UTC, today by default; `by` is a list of day, tenant, team, user and model, by
        default tenant and model; tenant, team, user and model leave out all other ones.
        """
        query = dict(request.query_params)
        for name in query:
            if name not in _PARAMETERS:
                raise _invalid(name, f"is unknown; there are {', '.join(_PARAMETERS)}")
        last = query.get("to") or today()
        by = _by(query.get("by") or "tenant,model")
        try:
            days = days_between(query.get("from") or last, last, most=MOST_DAYS)
        except ValueError as error:
            raise _invalid("from", str(error)) from None
        only: dict[str, str] = {name: query[name] for name in NAMES[1:] if name in query}
        sums: Rows = {}
        for day in days:
            try:
                rows = await store.day(day)
            except StoreDown as error:
                raise StoreUnavailable("counts of usage") from error
            await beside(threads, partial(_add, sums, rows, only, "day" in by))
        found = await beside(threads, partial(grouped, sums, by))
        return {
            "object": "usage", "source": store.source, "from": days[0], "to": days[-1], "by": by,
            "rows": [{**dict(zip(by, names, strict=True)), **_numbers(numbers)} for names, numbers in found.items()],
        }  # fmt: skip

    return router


def _add(sums: Rows, rows: Rows, only: dict[str, str], by_day: bool) -> None:
    """Add the rows of one day that are asked for; unless days matter they become one."""
    wanted = {
        row if by_day else row._replace(day=""): numbers
        for row, numbers in rows.items()
        if all(getattr(row, name) == value for name, value in only.items())
    }
    add_up(sums, wanted)


def _numbers(numbers: Numbers) -> dict[str, int]:
    return dict(zip(COUNTERS, numbers, strict=True))


def _by(text: str) -> list[str]:
    names = list(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in NAMES:
            raise _invalid("by", f"must be a list of {', '.join(NAMES)}")
    return names


def _invalid(name: str, must: str) -> InvalidRequest:
    return InvalidRequest(f"`{name[:64]}` {must}", code="invalid_value", param=name[:64])
