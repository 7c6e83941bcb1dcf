"""What requests have taken: of shares, or of a store by an id. Each ends once, and says then what was used."""

from collections.abc import Sequence
from typing import Final, Protocol

from capstan_gateway.limits.port import Charge, Outcome, Reservation, Standing, Verdict
from capstan_gateway.limits.shares import Share, ShareBook

_new: Final = tuple.__new__


class Keeper(Protocol):
    """Who does what takes time, or is to be told to a store; `limiter.StoreLimiter`."""

    book: ShareBook

    def now(self) -> float:
        """Give the time, in seconds."""
        ...

    async def reserve_more(self, charges: Sequence[Charge], *, local: bool) -> "Reservation | Verdict":
        """Take more for a request that was admitted before: as `port.Limiter.reserve`, and no admission."""
        ...

    async def extend(self, held: "Held", amounts: Sequence[int], used: Sequence[int]) -> Verdict:
        """See `port.Reservation`."""
        ...

    def end(self, held: "Held", used: Sequence[int]) -> None:
        """Settle it, in the background."""
        ...

    def carry(self, share: Share) -> None:
        """Take note that less of a share is in use, of what is counted in memory while the store is away."""
        ...


class FromShares:
    """Implements `port.Reservation` for a request that was decided in memory."""

    __slots__ = ("_charges", "_done", "_grown", "_keeper", "_local", "_shares")

    def __init__(self, keeper: Keeper, charges: Sequence[Charge], shares: list[Share], local: bool) -> None:
        self._keeper = keeper
        self._charges = charges
        self._shares = shares
        self._local = local
        self._done = False
        self._grown: _Grown | None = None

    @property
    def verdict(self) -> Verdict:
        """How the buckets are, by what the store said of them last: what others have taken since is not in it."""
        if self._grown is not None and self._grown.verdict is not None:
            return self._grown.verdict
        return Verdict(
            Outcome.ADMITTED,
            # NB: the constructor of a named tuple of Python's takes longer than all of this.
            tuple([_new(Standing, (share.remaining + share.left, share.reset_ms)) for share in self._shares]),
        )

    async def extend(self, amounts: Sequence[int], *, used: Sequence[int]) -> Verdict:
        """Take more: of the shares, else of the store."""
        shares, keeper, grown = self._shares, self._keeper, self._grown
        if self._done:  # Nobody would give it back.
            return self.verdict
        if grown is None:
            grown = self._grown = _Grown([charge.amount for charge in self._charges])
        if grown.more is not None:
            grown.verdict = await grown.more.extend(amounts, used=_beyond(used, grown.amounts))
            return grown.verdict
        if keeper.book.take_more(shares, amounts, keeper.now()):
            grown.amounts = [before + more for before, more in zip(grown.amounts, amounts, strict=True)]
            grown.verdict = None
            return self.verdict
        charges = [Charge(charge.bucket, more) for charge, more in zip(self._charges, amounts, strict=True)]
        found = await keeper.reserve_more(charges, local=self._local)
        if isinstance(found, Verdict):
            grown.verdict = found
            return found
        if self._done:  # It was settled meanwhile.
            found.settle([0] * len(charges))
            return found.verdict
        grown.more, grown.verdict = found, found.verdict
        return found.verdict

    def settle(self, used: Sequence[int]) -> None:
        """Give back to the shares what was not used."""
        if self._done:
            return
        self._done = True
        shares, grown = self._shares, self._grown
        if grown is None:
            for share, charge, spent in zip(shares, self._charges, used):  # noqa: B905 - as long, and faster
                # As `_give_back` does.
                share.running -= 1
                if share.held:
                    share.left += charge[1]
                    if share.carried:
                        self._keeper.carry(share)
                else:
                    share.left += charge[1] - spent
                    share.used += spent
            return
        if grown.more is not None:
            grown.more.settle(_beyond(used, grown.amounts))
            used = [min(spent, amount) for spent, amount in zip(used, grown.amounts, strict=True)]
        for share, amount, spent in zip(shares, grown.amounts, used, strict=True):
            _give_back(share, amount, spent)
            if share.carried:
                self._keeper.carry(share)


class _Grown:
    """What a request that was decided in memory has taken since."""

    __slots__ = ("amounts", "more", "verdict")

    def __init__(self, amounts: list[int]) -> None:
        self.amounts = amounts
        """Of the shares, in all."""
        self.more: Reservation | None = None
        """Of the store, because the shares had not enough more."""
        self.verdict: Verdict | None = None


def _give_back(share: Share, amount: int, spent: int) -> None:
    """End what a request had of a share: of what is only held nothing is used."""
    share.running -= 1
    if share.held:
        share.left += amount
    else:
        share.left += amount - spent
        share.used += spent


class Held:
    """Implements `port.Reservation` for one that a store knows by its id: Redis, or the memory while Redis is away."""

    __slots__ = (
        "_done", "_keeper", "amounts", "charges", "fallback", "id", "in_memory", "local", "used", "verdict",
    )  # fmt: skip

    def __init__(
        self, keeper: Keeper, id: str, charges: Sequence[Charge], verdict: Verdict, *, local: bool, in_memory: bool
    ) -> None:
        self._keeper = keeper
        self.id = id
        self.charges = charges
        self.verdict = verdict
        self.local = local
        """Whether it may go on by counts in memory while the store is away."""
        self.in_memory = in_memory
        """Whether the store knows nothing of it: it was made while that was away."""
        self.amounts = [charge.amount for charge in charges]
        self.used: Sequence[int] = [0] * len(charges)
        """What was used so far, as was said last."""
        self.fallback: Held | None = None
        """What was taken in memory since the store is away."""
        self._done = False

    @property
    def group(self) -> str:
        """The group of its buckets."""
        return self.charges[0].bucket.group

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self._done

    async def extend(self, amounts: Sequence[int], *, used: Sequence[int]) -> Verdict:
        """See `port.Reservation`."""
        if self.fallback is not None:
            self.verdict = await self.fallback.extend(amounts, used=_beyond(used, self.amounts))
            return self.verdict
        self.used = list(used)
        self.verdict = await self._keeper.extend(self, amounts, used)
        return self.verdict

    def settle(self, used: Sequence[int]) -> None:
        """See `port.Reservation`."""
        if self._done:
            return
        self._done = True
        if self.fallback is not None:
            beyond = _beyond(used, self.amounts)
            used = [min(spent, amount) for spent, amount in zip(used, self.amounts, strict=True)]
            self.fallback.settle(beyond)
        self._keeper.end(self, used)


def _beyond(used: Sequence[int], taken: Sequence[int]) -> list[int]:
    """Give what was used beyond what was taken."""
    return [max(spent - amount, 0) for spent, amount in zip(used, taken, strict=True)]
