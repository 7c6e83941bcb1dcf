"""Reserve, extend, settle, refund, renew, share and let time pass, in a real Redis and in its twin in memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from capstan_gateway.limits.port import Charge, Outcome, Quota, Rate, Rule, Slots
from support.limits import START_MS, Ledger, charge
from support.redis_server import RedisServer, redis_server
from support.twin_limits import Twins

pytestmark = [pytest.mark.redis, pytest.mark.timeout(300)]

LEASE = 3_000
PERIOD = 10_000
STARTS = tuple(START_MS + PERIOD * number for number in range(-1, 900))
KINDS = ("rate", "quota", "slots")
AMOUNTS = st.integers(0, 9)
LONGEST_MS = 2 * 3_600_000
"""No key outlives this here: a reservation is remembered for an hour behind its lease, a bucket until it is full."""


@dataclass(eq=False)
class Maker:
    """Who has a reservation."""

    id: str
    totals: dict[str, int]
    """What it has of each bucket."""
    keeps: bool
    until: int
    used: dict[str, int] = field(default_factory=dict)
    """As far as the stores have been told."""
    alive: bool = True


class Machine(RuleBasedStateMachine):
    """Three buckets of one policy, and what its makers have of them."""

    makers = Bundle("makers")

    def __init__(self, server: RedisServer) -> None:
        super().__init__()
        self.twins = Twins(server)
        self.clock = self.twins.clock
        self.living: list[Maker] = []
        self.ledgers = {kind: Ledger() for kind in KINDS}
        self.rules: dict[str, Rule] = {}
        self.count = 0

    @initialize(
        amount=st.integers(1, 30), window=st.sampled_from([7, 1_000, 10_000]), capacity=st.integers(4, 16),
        quota=st.integers(1, 40), slots=st.integers(1, 20),
    )  # fmt: skip
    def begin(self, amount: int, window: int, capacity: int, quota: int, slots: int) -> None:
        """Choose the rules."""
        self.rules = {"rate": Rate(amount, window, capacity), "quota": Quota(quota, STARTS), "slots": Slots(slots)}

    def charges(self, amounts: Mapping[str, int]) -> list[Charge]:
        """Make charges of these buckets."""
        return [charge(self.rules[kind], amount, key=kind) for kind, amount in amounts.items()]

    def made(self, amounts: dict[str, int], *, keeps: bool) -> Maker | None:
        """Reserve; give who has it."""
        self.count += 1
        id = f"r{self.count}"
        verdict = self.twins.both("reserve", id, self.charges(amounts), lease_ms=LEASE, keeps=keeps)
        if not verdict.admitted:
            return None
        maker = Maker(id, dict(amounts), keeps, self.clock.now + LEASE, dict.fromkeys(amounts, 0))
        self.living.append(maker)
        self.took(maker)
        return maker

    @rule(target=makers, amounts=st.dictionaries(st.sampled_from(KINDS), AMOUNTS, min_size=1))
    def reserve(self, amounts: dict[str, int]) -> object:
        """A request takes of some buckets, or of none."""
        return self.made(amounts, keeps=False) or multiple()

    @rule(target=makers, kind=st.sampled_from(("rate", "quota")), amount=AMOUNTS)
    def share(self, kind: str, amount: int) -> object:
        """A gateway takes ahead of need."""
        return self.made({kind: amount}, keeps=True) or multiple()

    @rule(maker=makers)
    def reserve_again(self, maker: Maker) -> None:
        """What was said is said once more, as after an answer that was lost."""
        if maker.alive:
            verdict = self.twins.both("reserve", maker.id, self.charges(maker.totals), lease_ms=LEASE)
            assert verdict.admitted

    @rule(maker=makers, more=AMOUNTS, used=AMOUNTS)
    def extend(self, maker: Maker, more: int, used: int) -> None:
        """It wants more of all that it has, and has used some."""
        if not maker.alive:
            return
        totals = {kind: total + more for kind, total in maker.totals.items()}
        told = self.told(maker, used)
        verdict = self.twins.both("extend", maker.id, self.charges(totals), used=tuple(told.values()))
        assert verdict.outcome is not Outcome.LOST
        if verdict.admitted:
            self.report(maker, told)
            maker.totals = totals
            self.took(maker)

    @rule(maker=consumes(makers), used=AMOUNTS, times=st.integers(1, 2))
    def settle(self, maker: Maker, used: int, times: int) -> None:
        """It has ended, which may be said twice; one whose lease was over has used no more than it had said."""
        told = self.told(maker, used) if maker.alive else maker.used
        for _ in range(times):
            self.twins.both("settle", "policy", maker.id, tuple(told.values()))
        if maker.alive:
            self.report(maker, told)
            self.ended(maker)

    @rule(maker=consumes(makers))
    def refund(self, maker: Maker) -> None:
        """It has failed, and has used nothing beyond what it had said."""
        self.settle(maker, 0, 1)

    @rule(chosen=st.lists(makers, max_size=3, unique_by=id), used=AMOUNTS)
    def renew(self, chosen: list[Maker], used: int) -> None:
        """Some are alive; of those whose leases are over nobody says so."""
        told = {maker: self.told(maker, used) for maker in chosen if maker.alive}
        self.twins.both(
            "renew", "policy", [(maker.id, tuple(one.values())) for maker, one in told.items()], lease_ms=LEASE
        )
        for maker, one in told.items():
            self.report(maker, one)
            maker.until = self.clock.now + LEASE

    @rule(millis=st.sampled_from([1, 7, 90, 400, 900, 2_000, LEASE - 1, LEASE, 11_000]))
    def wait(self, millis: int) -> None:
        """Time passes, and leases end with those who had them."""
        self.clock.step(millis)
        for maker in [one for one in self.living if one.until <= self.clock.now]:
            if maker.keeps:
                self.report(maker, dict(maker.totals))
            self.ended(maker)

    @rule()
    def flush(self) -> None:
        """Redis forgets the scripts."""
        self.twins.client.script_flush()

    def told(self, maker: Maker, used: int) -> dict[str, int]:
        """Give what it says that it has used: of each bucket no more than it has, and no less than it said before."""
        return {kind: min(max(used, maker.used[kind]), total) for kind, total in maker.totals.items()}

    def took(self, maker: Maker) -> None:
        """It has what it has: of a Rate that is held for later nothing is had before it is used."""
        for kind, total in maker.totals.items():
            if not (maker.keeps and kind == "rate"):
                self.ledgers[kind].take(maker.id, self.clock.forward, total)

    def report(self, maker: Maker, used: dict[str, int]) -> None:
        """It has used so much."""
        maker.used = used
        if maker.keeps and "rate" in used:
            self.ledgers["rate"].take(maker.id, self.clock.forward, used["rate"])

    def ended(self, maker: Maker) -> None:
        """Nobody has it any more."""
        maker.alive = False
        self.living.remove(maker)
        for kind, used in maker.used.items():
            self.ledgers[kind].end(maker.id, 0 if kind == "slots" else used)

    @invariant()
    @precondition(lambda self: bool(self.rules))
    def nobody_has_more(self) -> None:
        """In no time, in no period and at no moment is more had than the rules give."""
        rate, quota, slots = self.rules["rate"], self.rules["quota"], self.rules["slots"]
        assert isinstance(rate, Rate) and isinstance(quota, Quota) and isinstance(slots, Slots)  # noqa: PT018
        held = sum(one.totals["rate"] - one.used["rate"] for one in self.living if one.keeps and "rate" in one.totals)
        for since, used in self.ledgers["rate"].most_since():
            assert used + held <= rate.capacity + rate.amount * (self.clock.forward - since) // rate.window_ms
        began = max(start for start in STARTS if start <= self.clock.now) - START_MS
        parts = [part for parts in self.ledgers["quota"].parts.values() for part in parts if part.time >= began]
        assert sum(part.used for part in parts) <= quota.limit
        assert sum(one.totals.get("slots", 0) for one in self.living) <= slots.limit

    @invariant()
    @precondition(lambda self: bool(self.rules))
    def both_are_alike_and_every_key_has_an_end(self) -> None:
        """Redis keeps nothing for ever, and nothing for longer than anybody may come back to it."""
        self.twins.look(self.charges(dict.fromkeys(KINDS, 0)))
        ends = self.twins.ends()
        assert all(0 < millis <= LONGEST_MS for millis in ends.values()), ends

    def teardown(self) -> None:
        """When everybody is gone and time has passed, all is there again, and neither store remembers anything."""
        if self.rules:
            self.clock.step(4_000_000)
            rate, quota, slots = self.rules["rate"], self.rules["quota"], self.rules["slots"]
            assert isinstance(rate, Rate) and isinstance(quota, Quota) and isinstance(slots, Slots)  # noqa: PT018
            most = {"rate": rate.capacity, "quota": quota.limit, "slots": slots.limit}
            assert self.twins.both("reserve", "all", self.charges(most)).admitted
            self.twins.both("settle", "policy", "all", (0, 0, 0))
            self.clock.step(4_000_000)
            self.twins.look(self.charges(dict.fromkeys(KINDS, 0)))
            self.clock.step(4_000_000)
            assert not self.twins.left()
        self.twins.client.close()


def test_redis_and_memory_keep_the_limits_alike(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever is said in whatever order: equal verdicts, never more than the limit, nothing lost, nothing left."""
    with redis_server(tmp_path_factory.mktemp("limits")) as server:
        run_state_machine_as_test(  # type: ignore[no-untyped-call]
            partial(Machine, server), settings=settings(max_examples=60, stateful_step_count=40, deadline=None)
        )
