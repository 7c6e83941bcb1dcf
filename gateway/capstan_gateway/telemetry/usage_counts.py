"""Who has used how much of which model on which day: counted in memory, for somebody to fetch and add up.

A request is one of the model that answered; tokens and money are those of the models that were called for it, members
and judges of virtual models among them. Pure, but for the clock that says which day it is.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Final, NamedTuple

from capstan_gateway.tokens.bill import Bill

OTHER: Final = "(other)"
"""Where those are counted for whom there is no room: their tenant and model."""
COUNTERS: Final = (
    "requests", "input_tokens", "cached_tokens", "output_tokens", "nano_dollars", "unpriced_requests",
)  # fmt: skip
"""What is counted, in the order of a row's numbers."""
NAMES: Final = ("day", "tenant", "team", "user", "model")
"""What a row is about."""
Numbers = list[int]


class Row(NamedTuple):
    """What numbers are about."""

    day: str
    """In UTC, such as 2026-11-29."""
    tenant: str
    team: str
    user: str
    model: str


Rows = dict[Row, Numbers]


def today() -> str:
    """Give the day that it is in UTC."""
    return datetime.now(UTC).date().isoformat()


class UsageCounts:
    """Counts until somebody takes the counts. Bounded: what is new beyond so many rows is one row of the day."""

    __slots__ = ("_cells", "_most", "_today", "day")

    def __init__(self, *, most: int, today: Callable[[], str] = today) -> None:
        self._most = most
        self._today = today
        self._cells: dict[tuple[str, str, str, str, str], Numbers] = {}
        self.day = today()

    def note(self, tenant: str, team: str, user: str, answered: str, bill: Bill) -> None:
        """Count a request that has ended, for these, of the model that answered."""
        cells, day, settled = self._cells, self.day, bill.settled
        if len(settled) == 1:
            usage, _, _, nano, model = settled[0]
            if model == answered:
                # As nearly all: one row is looked for once.
                key = (day, tenant, team, user, answered)
                cell = cells.get(key) or self._new(key)
                cell[0] += 1
                cell[1] += usage[0]
                cell[3] += usage[1]
                if usage[2]:
                    cell[2] += usage[2]
                if nano is None:
                    cell[5] += 1
                else:
                    cell[4] += nano
                return
        unpriced = False
        for usage, _, _, nano, model in bill.settled:
            key = (day, tenant, team, user, model)
            cell = cells.get(key) or self._new(key)
            cell[1] += usage[0]
            cell[2] += usage[2]
            cell[3] += usage[1]
            if nano is None:
                unpriced = True
            else:
                cell[4] += nano
        key = (day, tenant, team, user, answered)
        cell = cells.get(key) or self._new(key)
        cell[0] += 1
        if unpriced:
            cell[5] += 1

    def _new(self, key: tuple[str, str, str, str, str]) -> Numbers:
        if len(self._cells) >= self._most:
            key = (key[0], OTHER, "", "", OTHER)
        return self._cells.setdefault(key, [0] * len(COUNTERS))

    def look(self) -> None:
        """Look what day it is, of which is counted from now on."""
        self.day = self._today()

    def take(self) -> Rows:
        """Give what was counted since the last time, and look what day it is."""
        cells, self._cells = self._cells, {}
        self.look()
        return {Row(*key): numbers for key, numbers in cells.items()}


def add_up(into: Rows, rows: Mapping[Row, Sequence[int]], *, most: int | None = None) -> None:
    """Add rows to others; with `most`, a row that is new beyond so many of its day joins the others of the day."""
    per_day: dict[str, int] = {}
    if most is not None:
        for row in into:
            per_day[row.day] = per_day.get(row.day, 0) + 1
    for row, numbers in rows.items():
        if most is not None and row not in into:
            if per_day.get(row.day, 0) >= most:
                row = Row(row.day, OTHER, "", "", OTHER)
            if row not in into:
                per_day[row.day] = per_day.get(row.day, 0) + 1
        known = into.setdefault(row, [0] * len(COUNTERS))
        for place, number in enumerate(numbers):
            known[place] += number


def grouped(rows: Mapping[Row, Sequence[int]], by: Iterable[str]) -> dict[tuple[str, ...], Numbers]:
    """Give the sums for each value of these names, in the order of the names."""
    places = [NAMES.index(name) for name in by]
    sums: dict[tuple[str, ...], Numbers] = {}
    for row, numbers in rows.items():
        known = sums.setdefault(tuple(row[place] for place in places), [0] * len(COUNTERS))
        for place, number in enumerate(numbers):
            known[place] += number
    return dict(sorted(sums.items()))


def days_between(first: str, last: str, *, most: int) -> list[str]:
    """Give every day from one to the other; ValueError, with what is allowed, for days that are none or too many."""
    try:
        begin, end = date.fromisoformat(first), date.fromisoformat(last)
    except ValueError:
        raise ValueError("must be days such as 2026-11-29") from None
    if not begin <= end or (end - begin).days >= most:
        raise ValueError(f"must be at most {most} days, the first one first")
    return [date.fromordinal(number).isoformat() for number in range(begin.toordinal(), end.toordinal() + 1)]
