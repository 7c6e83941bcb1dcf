"""What the gateway answers itself when it asks for somebody who does not wait, whose turn it is, and when it asks once
more. Pure.

Those are the lines of batches, and responses in the background.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isnan
from typing import Final, NamedTuple, TypeVar

from capstan_gateway.headers import Header, find_header
from capstan_gateway.life.pauses import doubled

MOST_FAILURES: Final = 4
"""How often something is asked whose answers are failures of the server."""
WAITED: Final = frozenset((429, 503, 529))
"""What says that there is no room now; 529 is Anthropic's word for 503."""
_RETRIED: Final = frozenset((408, 500, 502, 504))
T = TypeVar("T")


class Answer(NamedTuple):
    """What the gateway answers to one request."""

    status: int
    headers: Sequence[Header]
    body: bytes


class Retry(NamedTuple):
    """Something is asked once more."""

    seconds: float
    """After so long."""
    all_wait: bool
    """Whether that is so for all that who asks has to ask of this model."""


def by_turns(waiting: Iterable[tuple[str, T]], held: Mapping[str, int]) -> Iterator[T]:
    """Give what waits of tenants, which comes as the oldest first, as it is to be taken.

    That of tenants of whom least is being worked on (`held`, which whoever takes one changes meanwhile) comes first;
    of tenants with equally much the oldest.
    """
    by_tenant: dict[str, list[T]] = {}
    for tenant, one in waiting:
        by_tenant.setdefault(tenant, []).append(one)
    for of_one in by_tenant.values():
        of_one.reverse()
    given = dict.fromkeys(by_tenant, 0)
    while by_tenant:
        # Also those that somebody else has count: so that they are not looked at before all others.
        tenant = min(by_tenant, key=lambda one: held.get(one, 0) + given[one])
        before = held.get(tenant, 0)
        yield by_tenant[tenant].pop()
        if held.get(tenant, 0) == before:
            given[tenant] += 1
        if not by_tenant[tenant]:
            del by_tenant[tenant]


def retry_of(answer: Answer, *, failures: int, waits: int, left_seconds: float) -> Retry | None:
    """Say when something is asked once more that was answered so; None: that is its answer.

    `failures` and `waits` are how often it has failed, and how often it was to wait, this answer included. Limits and
    models without room (`WAITED`) are waited for as long as there is time (`left_seconds`), unless they end later than
    that; other failures of the server a few times (`MOST_FAILURES`).
    """
    if answer.status in WAITED:
        told = _retry_after(answer.headers)
        seconds = _doubled(waits) if told is None else max(told, 0.05)
        # An SDK that is told not to try again has nobody waiting as long as this; what is told is when that would help.
        final = told is None and _says_no(answer.headers)
        return None if final or seconds > left_seconds else Retry(seconds, all_wait=answer.status == 429)
    if answer.status in _RETRIED and failures < MOST_FAILURES and not _says_no(answer.headers):
        seconds = _doubled(failures)
        return None if seconds > left_seconds else Retry(seconds, all_wait=False)
    return None


def _retry_after(headers: Sequence[Header]) -> float | None:
    for name, value in headers:
        if name == b"retry-after":
            try:
                seconds = float(value)
            except ValueError:
                return None
            return None if isnan(seconds) else seconds
    return None


def _says_no(headers: Sequence[Header]) -> bool:
    return find_header(headers, b"x-should-retry") == b"false"


def _doubled(times: int) -> float:
    return doubled(0.5, 30.0, max(times - 1, 0))
