"""What is asked of whoever counts: take from several buckets at once or from none, correct it, give back.

A bucket is one count of one rule for one subject (a key, a user, a team...). There are three kinds:

    Rate     `amount` units come in during `window_ms`, never more than `capacity` are there: a token bucket, so that
             the edge of a window gives no second burst. In any time t at most capacity + amount * t / window_ms is had.
    Quota    `limit` units for one period; full again at its end, whatever was had before.
    Slots    `limit` units, each had until it is given back.

Everything is whole numbers: units are requests, tokens or nano-dollars, time is milliseconds of the store's own clock.

A reservation has an id that its maker has drawn at random, and a lease: when its maker dies, it comes to an end by
itself. Every operation can be said twice and counts once, and in any order: one that is settled before it comes is as
if it had been settled behind. It takes nothing but what it used.

    reserve   take all charges, or none                      ──► a Verdict
    extend    hold so much in all, or what it held before    ──► a Verdict
    settle    say what was used in the end: the rest goes back, what was used beyond it is taken whatever is left
    renew     the maker is alive: the lease begins anew; what was used so far stays charged when it ends
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

LEASE_MS: Final = 30_000
"""How long a reservation outlives its maker."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket."""

    amount: int
    window_ms: int
    capacity: int


@dataclass(frozen=True, slots=True)
class Quota:
    """A count for a period of time."""

    limit: int
    starts_ms: tuple[int, ...]
    """When periods begin, ascending, in Unix milliseconds: the one that is under way by the caller's clock, one before
    it and at least one behind it. The store's clock says which of them counts."""


@dataclass(frozen=True, slots=True)
class Slots:
    """A number of things that may be under way at once."""

    limit: int


Rule = Rate | Quota | Slots


@dataclass(frozen=True, slots=True)
class Bucket:
    """One count."""

    group: str
    """Id of the policy: buckets of one group are kept together, so that one operation may be about all of them."""
    key: str
    """Unique among those of the group that have a rule of this kind, and the same for the same rule and subject in
    every gateway. It holds no secret and no name of a person: subjects are hashed."""
    rule: Rule


class Charge(NamedTuple):
    """What is taken from a bucket."""

    bucket: Bucket
    amount: int
    """At least 0."""


class Outcome(StrEnum):
    """What becomes of a reservation."""

    ADMITTED = "admitted"
    WAIT = "wait"
    """There is not enough now, and will be after `wait_ms`."""
    SPENT = "spent"
    """A Quota has not enough left in this period; the next one begins after `wait_ms`."""
    NEVER = "never"
    """It is more than the bucket ever holds."""
    LOST = "lost"
    """Only of extend: nobody knows the reservation any more."""


class Standing(NamedTuple):
    """A bucket after an operation."""

    remaining: int
    """Units that are there; below 0 when more was used than reserved."""
    reset_ms: int
    """After how much time it is full, if nobody takes anything."""


class Verdict(NamedTuple):
    """The answer to reserve and extend."""

    outcome: Outcome
    standings: tuple[Standing, ...]
    """One for each charge, in their order."""
    denied: int = -1
    """Position of the charge that decided, when not admitted: one that never fits, else one that is spent, else the
    one with the longest wait."""
    wait_ms: int = 0
    """When not admitted: after this time, and not before, there is enough for all charges, if nobody takes anything;
    0 where no waiting helps. For Slots it is a second: nobody knows when one is given back."""

    @property
    def admitted(self) -> bool:
        """Whether it was taken."""
        return self.outcome is Outcome.ADMITTED


class StoreDown(Exception):
    """The store did not answer in time, could not be reached, or refused. What became of the operation is not known."""


class LimitStore(Protocol):
    """Keeps the counts. All charges of one call are of one group, and each of another bucket.

    Raises StoreDown, after a bounded time, and ValueError for what can never be right: such charges, amounts below 0.
    """

    async def reserve(
        self, id: str, charges: Sequence[Charge], *, lease_ms: int = LEASE_MS, keeps: bool = False, force: bool = False
    ) -> Verdict:
        """Take all charges or none.

        With `keeps` all of it stays charged when the lease ends (a share that a gateway has used nobody knows how much
        of); otherwise what `renew` has not reported as used goes back. What is held with `keeps`, and not reported as
        used, is still to be had by its holder: a Rate fills up to its capacity less that, so that bucket and shares
        together never give more than the bucket alone. With `force` it is taken whatever is there. Said again it is
        answered like the first time, by what there is then.
        """
        ...

    async def extend(self, id: str, charges: Sequence[Charge], *, used: Sequence[int]) -> Verdict:
        """Take what is missing so that the reservation has `amount` of each bucket *in all*, or nothing.

        The buckets are those that it was made with, in the same order. An amount in all can be said twice. `used` is
        what was used so far. The lease goes on as it was (see `renew`); where it has ended meanwhile, what went back
        with it is taken again too, and it begins anew.
        """
        ...

    async def settle(self, group: str, id: str, used: Sequence[int]) -> None:
        """End a reservation: each bucket keeps what was used of it (of Slots nothing, whatever is said).

        Also for an hour after the end of its lease: what had gone back and was used all the same is taken again, and
        of what `keeps` had kept the rest goes back. Where nobody knows the reservation it is noted for ten seconds,
        for the case that the reservation comes later than its settlement: then it takes only what was used.
        """
        ...

    async def renew(self, group: str, used: Sequence[tuple[str, Sequence[int]]], *, lease_ms: int = LEASE_MS) -> None:
        """Begin the leases of these reservations anew; `used` is what each has used so far, by its id.

        One whose lease has ended holds again what it held, whatever is left: its maker is alive and uses it. Ids that
        nobody knows are passed over.
        """
        ...


class Reservation(Protocol):
    """What a request has taken. Ends exactly once: whoever made it settles it on every path."""

    @property
    def verdict(self) -> Verdict:
        """What was said when it was made, or extended last."""
        ...

    async def extend(self, amounts: Sequence[int], *, used: Sequence[int]) -> Verdict:
        """Take more, in the order of the charges; all or nothing. Raises StoreDown where it is not `local`."""
        ...

    def settle(self, used: Sequence[int]) -> None:
        """Say what was used. It does not wait: what has to be told to a store is told in the background."""
        ...


class Limiter(Protocol):
    """Decides for requests: from what is at hand, else by asking the store, else by its own counts. See `StoreDown`."""

    async def reserve(self, charges: Sequence[Charge], *, local: bool) -> "Reservation | Verdict":
        """Take all charges, which are of one group, or none: then it gives the Verdict.

        While the store is down: with `local` by counts in memory against the limits divided by the number of gateways,
        else it raises StoreDown.
        """
        ...

    def take(self, charges: Sequence[Charge], *, local: bool = True) -> "Reservation | None":
        """The same without a wait, from shares that are at hand; None: it has to be asked for.

        `local` says what becomes of extensions while the store is down.
        """
        ...
