"""A gateway's part of a limit, and what it owes for the time in which it could not ask. Pure."""

from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.limits.debts import IN_ONE, MOST_DEBTS, Debts
from capstan_gateway.limits.divided import charge_on_part, most_of, part_of, refilled
from capstan_gateway.limits.port import Bucket, Charge, Quota, Rate, Rule, Slots
from capstan_gateway.limits.shares import LEAST_REQUESTS, PART, worth

PERIODS = (0, 1_000, 2_000)
RULES = st.one_of(
    st.builds(Rate, st.integers(1, 10**9), st.integers(1, 10**9), st.integers(1, 10**9)),
    st.builds(Quota, st.integers(1, 10**15), st.just(PERIODS)),
    st.builds(Slots, st.integers(1, 10**6)),
)


def now_ms() -> int:
    """Before the first of the periods ends."""
    return 500


def charge(rule: Rule, amount: int, key: str = "key", group: str = "policy") -> Charge:
    """A charge on a bucket."""
    return Charge(Bucket(group, key, rule), amount)


@given(RULES, st.integers(1, 50))
def test_parts_come_to_the_limit(rule: Rule, gateways: int) -> None:
    """All parts together are no more than the limit, but for one unit each; a rate's come in no faster than it does."""
    part = part_of(rule, gateways)
    assert most_of(part) * gateways <= max(most_of(rule), gateways)
    assert most_of(part) >= 1
    if isinstance(rule, Rate):
        assert isinstance(part, Rate)
        assert part.amount * gateways * rule.window_ms == rule.amount * part.window_ms


@given(RULES, st.integers(1, 50), st.integers(0, 10**15))
def test_what_fits_the_limit_fits_the_part(rule: Rule, gateways: int, amount: int) -> None:
    """What fits the limit takes at most all of the part; what does not fit the limit does not fit the part either."""
    found = charge_on_part(charge(rule, amount), gateways)
    assert (found.amount <= most_of(found.bucket.rule)) == (amount <= most_of(rule))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-2, 50)), max_size=30))
def test_debts_are_sums(owed: list[tuple[int, int]]) -> None:
    """Each bucket's debts are charged as one sum, once; nothing of slots, and nothing below one."""
    debts = Debts(now_ms)
    for key, amount in owed:
        debts.add([charge(Quota(9, PERIODS), amount, f"k{key}"), charge(Slots(9), amount, "s")], [amount, amount],
                  now=0.0, gateways=1)  # fmt: skip
    paid: dict[str, int] = {}
    while (payment := debts.take("id", now=0.0, gateways=1)) is not None:
        for one in payment.charges:
            assert one.bucket.key not in paid
            paid[one.bucket.key] = one.amount
    assert paid == {f"k{key}": sum(a for k, a in owed if k == key and a > 0) for key, a in owed if a > 0}


def test_debts_are_told_by_group() -> None:
    """One payment is of one group, and of so many buckets at most."""
    debts = Debts(now_ms)
    for number in range(IN_ONE + 1):
        debts.add([charge(Slots(1), 1), charge(Quota(9, PERIODS), 1, f"k{number}")], [1, 1], now=0.0, gateways=1)
    debts.add([charge(Quota(9, PERIODS), 1, group="other")], [1], now=0.0, gateways=1)
    sizes = []
    while (payment := debts.take("id", now=0.0, gateways=1)) is not None:
        sizes.append((payment.group, len(payment.charges)))
    assert sizes == [("policy", IN_ONE), ("policy", 1), ("other", 1)]


def test_time_pays_a_rate() -> None:
    """A rate's debt becomes less as its part fills, and is gone in the end; that of a period is not paid by time."""
    debts, rule = Debts(now_ms), Rate(60, 60_000, 60)
    debts.add([charge(rule, 1), charge(Quota(9, PERIODS), 1, "q")], [20, 5], now=0.0, gateways=2)
    debts.add([charge(rule, 1)], [10], now=20.0, gateways=2)
    payment = debts.take("id", now=30.0, gateways=2)
    assert payment is not None
    assert {one.bucket.key: one.amount for one in payment.charges} == {"key": 20 - 11 + 10 - 6, "q": 5}
    debts.add([charge(rule, 1)], [20], now=0.0, gateways=2)
    assert debts.take("id", now=60.0, gateways=2) is None
    assert (refilled(rule, 1.0), refilled(Slots(5), 9.0)) == (2, 0)


def test_a_period_pays_what_was_used_in_it() -> None:
    """What was used of a budget before midnight is not owed of the one that begins then."""
    now = 999
    debts, spent = Debts(lambda: now), charge(Quota(9, PERIODS), 1)
    debts.add([spent], [5], now=0.0, gateways=1)
    now = 1000
    assert debts.take("id", now=0.1, gateways=1) is None
    debts.add([spent], [5], now=0.2, gateways=1)
    debts.add([spent], [3], now=0.3, gateways=1)
    payment = debts.take("id", now=0.4, gateways=1)
    assert payment is not None
    assert [one.amount for one in payment.charges] == [8]


def test_debts_are_bounded() -> None:
    """Of more buckets than there is room for the rest is counted as dropped."""
    debts = Debts(now_ms)
    for number in range(MOST_DEBTS + 3):
        debts.add([charge(Quota(9, PERIODS), 1, str(number))], [1], now=0.0, gateways=1)
    assert (len(debts), debts.dropped) == (MOST_DEBTS, 3)


@given(st.integers(-10, 10**6), st.integers(1, 20), st.integers(0, 10**5), st.integers(0, 10**5), st.integers(0, 100))
def test_what_a_share_is_worth(remaining: int, gateways: int, held: int, want: int, amount: int) -> None:
    """All gateways' shares together are a small part of what is left, and each is for several requests, or none."""
    more = worth(remaining, gateways=gateways, held=held, want=want, amount=amount)
    assert more >= 0
    if more:
        assert (held + more) * gateways * PART <= remaining
        assert held + more >= LEAST_REQUESTS * amount


def test_a_limit_of_fifty_is_worth_none() -> None:
    """A limit of 50 requests is never shared out."""
    assert worth(50, gateways=1, held=0, want=1000, amount=1) == 0
