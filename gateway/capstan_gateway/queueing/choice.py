"""Which way a request goes: directly to an endpoint, or by the queue. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from capstan_contract.config import Dispatch
from capstan_contract.queue.calls import State
from capstan_contract.queue.names import PriorityClass


class Way(Enum):
    """How a request comes to an engine."""

    DIRECT = "direct"
    QUEUE = "queue"


@dataclass(frozen=True, slots=True)
class Sight:
    """What is known of a model when a request comes."""

    usable: bool
    """Whether an entry could be put in: Redis is there, as far as is known, and so is what seals entries."""
    ready: bool
    """Whether an endpoint is there, in good health."""
    free: bool
    """Whether one of those has a free place; see `has_place`."""
    waiting: int
    """How many entries wait that are as urgent as the request, or more."""
    workers: int | None
    """How many workers take from the queue; None: not known."""


def choose(dispatch: Dispatch, sight: Sight, *, apart: bool, may_wait: bool) -> Way:
    """Say which way a request goes.

    `apart`: it is one of those that are better sent at once (the gateway's own questions, what must not be sent twice).
    `may_wait`: nobody else answers in place of a model without endpoints.
    """
    if not sight.usable or dispatch is Dispatch.DIRECT:
        return Way.DIRECT
    if not sight.ready:
        return Way.QUEUE if may_wait else Way.DIRECT
    if apart:
        return Way.DIRECT
    if dispatch is Dispatch.QUEUE:
        return Way.QUEUE
    if sight.workers == 0:
        return Way.DIRECT  # There are engines, and nobody takes for them: what is put in would wait in vain.
    return Way.DIRECT if sight.free and not sight.waiting else Way.QUEUE


def places_of_one(places: int, gateways: int) -> int:
    """Give how many requests one gateway sends to one endpoint at a time, of so many that it works on in all."""
    return -(-places // max(gateways, 1))


def free_places(places: int, loads: Iterable[int]) -> int:
    """Give how many requests more engines would run at once, of which each works on `places` at a time and has a
    load."""
    return sum(places - load for load in loads if load < places)


def has_place(places: int, loads: Iterable[int], unplaced: int) -> bool:
    """Say whether an engine would run one more request at once, when `unplaced` more than their loads are, or soon will
    be, at any of them."""
    return free_places(places, loads) > unplaced


def waits(unanswered: int, *, free: int, state: State | None) -> int:
    """Give how many entries wait for a worker, of so many of which no answer has begun.

    An answer begins with its first token, or when all of it is there; a worker may have had its entry long before. So
    those wait that Redis counted last, or else what is more than engines have `free` places beside what they are known
    to have: a queue that grows is seen at once, however seldom Redis is asked.
    """
    if state is None:
        return unanswered
    return min(unanswered, max(sum(state.waiting), unanswered - free))


def waiting_as_urgent(state: State | None, priority: PriorityClass) -> int:
    """Give how many entries wait in this class and in those before it, as far as is known."""
    return 0 if state is None else sum(state.waiting[: int(priority) + 1])
