"""Whatever happens in whatever order, nobody has more than the limit, and nothing is lost for ever."""

from dataclasses import dataclass, field

from hypothesis import event, given, settings
from hypothesis import strategies as st

from capstan_gateway.limits.memory import MemoryLimitStore
from capstan_gateway.limits.port import Outcome, Quota, Rate, Slots
from support.limits import START_MS, Clock, Ledger, at_once, charge

LEASE = 3_000
AMOUNTS = st.integers(0, 12)
IDS = st.integers(0, 3)
STEPS_OF_ONE = st.one_of(
    st.tuples(st.just("reserve"), IDS, AMOUNTS, st.booleans()),
    st.tuples(st.just("reserve"), IDS, AMOUNTS, st.just(False)),
    st.tuples(st.just("extend"), IDS, AMOUNTS, AMOUNTS),
    st.tuples(st.just("settle"), IDS, AMOUNTS, st.none()),
    st.tuples(st.just("renew"), IDS, AMOUNTS, st.none()),
    st.tuples(st.just("wait"), st.sampled_from([1, 90, 400, 900, 2_000]), AMOUNTS, st.none()),
    st.tuples(st.just("wait"), st.sampled_from([1, 900, LEASE, 11_000]), AMOUNTS, st.none()),
)
STEPS = st.lists(STEPS_OF_ONE, min_size=8, max_size=50)
BACK_AND_FORTH = st.lists(
    st.one_of(
        STEPS_OF_ONE,
        st.tuples(st.just("wait"), st.sampled_from([-1, -700, -5_000, 5_000, 700]), AMOUNTS, st.none()),
    ),
    min_size=8,
    max_size=50,
)
RATES = st.builds(
    Rate, amount=st.integers(1, 30), window_ms=st.sampled_from([7, 1_000, 10_000]), capacity=st.integers(4, 16)
)


@dataclass
class Maker:
    """Who has a reservation, and what of it."""

    total: int
    keeps: bool
    until: int
    used: int = 0
    """As far as the store has been told."""


@dataclass
class World:
    """A store with one bucket, and all that its makers have."""

    rule: Rate | Quota | Slots
    clock: Clock = field(default_factory=Clock)
    makers: dict[str, Maker] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=Ledger)
    count: int = 0
    names: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store = MemoryLimitStore(self.clock)

    def maker(self, number: int) -> tuple[str, Maker | None]:
        """Give who goes by this number now."""
        name = self.names.get(number, "")
        return name, self.makers.get(name)

    def reserve(self, number: int, amount: int, keeps: bool) -> None:
        """Another one of this number, when there is none."""
        if self.maker(number)[1] is not None:
            return
        self.count += 1
        name = self.names[number] = f"r{self.count}"
        verdict = at_once(self.store.reserve(name, [charge(self.rule, amount)], lease_ms=LEASE, keeps=keeps))
        event(str(verdict.outcome))
        if verdict.admitted:
            self.makers[name] = Maker(amount, keeps, self.clock.now + LEASE)
            self.took(name, amount)

    def extend(self, number: int, more: int, used: int) -> None:
        """It wants more, and has used some."""
        name, maker = self.maker(number)
        if maker is None:
            return
        total = maker.total + more
        used = min(max(used, maker.used), maker.total)
        verdict = at_once(self.store.extend(name, [charge(self.rule, total)], used=(used,)))
        assert verdict.outcome is not Outcome.LOST
        if verdict.admitted:
            self.report(name, maker, used)
            maker.total = total
            self.took(name, total)

    def settle(self, number: int, used: int) -> None:
        """It has ended."""
        name, maker = self.maker(number)
        if maker is not None:
            used = min(max(used, maker.used), maker.total)
            at_once(self.store.settle("policy", name, (used,)))
            self.report(name, maker, used)
            self.ended(name, maker, used)

    def renew(self, number: int, used: int) -> None:
        """It is alive."""
        name, maker = self.maker(number)
        if maker is not None:
            used = min(max(used, maker.used), maker.total)
            at_once(self.store.renew("policy", [(name, (used,))], lease_ms=LEASE))
            self.report(name, maker, used)
            maker.until = self.clock.now + LEASE

    def wait(self, millis: int, _: int) -> None:
        """Time goes on, and makers die."""
        self.clock.step(millis)
        for name, maker in list(self.makers.items()):
            if maker.until <= self.clock.now:
                if maker.keeps:
                    self.report(name, maker, maker.total)
                self.ended(name, maker, maker.used)

    def took(self, name: str, total: int) -> None:
        """It has so much in all: what is held for later counts when it is used."""
        if not (self.makers[name].keeps and isinstance(self.rule, Rate)):
            self.ledger.take(name, self.clock.forward, total)

    def report(self, name: str, maker: Maker, used: int) -> None:
        """It has used so much, of what is held for later in this moment."""
        maker.used = used
        if maker.keeps and isinstance(self.rule, Rate):
            self.ledger.take(name, self.clock.forward, used)

    def ended(self, name: str, maker: Maker, used: int) -> None:
        """Nobody has it any more."""
        self.ledger.end(name, 0 if isinstance(self.rule, Slots) else used)
        del self.makers[name]

    def held(self) -> int:
        """How much may be used at any moment besides what has been taken."""
        return sum(maker.total - maker.used for maker in self.makers.values() if maker.keeps)

    def run(self, steps: list[tuple[str, int, int, object]]) -> None:
        """Do all of it, and look after each step."""
        for name, *arguments in steps:
            getattr(self, name)(*arguments[: 3 if name in ("reserve", "extend") else 2])
            self.check()

    def check(self) -> None:
        """Nobody has more than the rule gives."""
        if isinstance(self.rule, Rate):
            held = self.held()
            for since, used in self.ledger.most_since():
                came_in = self.rule.amount * (self.clock.forward - since) // self.rule.window_ms
                assert used + held <= self.rule.capacity + came_in
        elif isinstance(self.rule, Slots):
            assert sum(maker.total for maker in self.makers.values()) <= self.rule.limit
        else:
            began = max(start for start in self.rule.starts_ms if start <= self.clock.now) - START_MS
            used = sum(part.used for parts in self.ledger.parts.values() for part in parts if part.time >= began)
            assert used <= self.rule.limit

    def all_comes_back(self) -> None:
        """When everybody is gone and time has passed, all of it is there again."""
        self.clock.step(4_000_000)
        rule = self.rule
        most = rule.capacity if isinstance(rule, Rate) else rule.limit
        assert at_once(self.store.reserve("all", [charge(rule, most)])).admitted
        assert len(self.store) <= 2 + len(self.names)


@settings(max_examples=600)
@given(RATES, STEPS)
def test_a_rate_never_gives_more(rule: Rate, steps: list[tuple[str, int, int, object]]) -> None:
    """In any time at most the capacity and what came in is used, shares that are held included."""
    world = World(rule)
    world.run(steps)
    world.all_comes_back()


@settings(max_examples=300)
@given(RATES, BACK_AND_FORTH)
def test_a_clock_that_goes_back_and_forth_gives_no_more(rate: Rate, steps: list[tuple[str, int, int, object]]) -> None:
    """What comes in is no more than for all the time by which the store's clock went forward."""
    world = World(rate)
    world.run(steps)
    world.all_comes_back()


@given(st.integers(1, 40), STEPS)
def test_a_quota_never_gives_more(limit: int, steps: list[tuple[str, int, int, object]]) -> None:
    """In a period at most the limit is used."""
    world = World(Quota(limit=limit, starts_ms=tuple(START_MS + 10_000 * number for number in range(-1, 500))))
    world.run(steps)
    world.all_comes_back()


@given(st.integers(1, 30), STEPS)
def test_slots_never_give_more(limit: int, steps: list[tuple[str, int, int, object]]) -> None:
    """At no moment more than the limit is held."""
    world = World(Slots(limit=limit))
    world.run(steps)
    world.all_comes_back()
