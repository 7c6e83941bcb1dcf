"""What routing computes: averages, places in rendezvous hashing, shares, quantiles and budgets, by number."""

import asyncio
import math
from contextlib import closing
from hashlib import blake2b
from random import Random

import pytest

from capstan_gateway.routing.breaker import Breaker, BreakerSettings
from capstan_gateway.routing.budget import BudgetSettings, RetryBudget
from capstan_gateway.routing.firstbytes import EVERY, LEAST_SAMPLES, SAMPLES, FirstBytes
from capstan_gateway.routing.hedge import HedgeSettings, Hedging, with_room
from capstan_gateway.routing.picker import SLACK, better, mix, pick, preferred
from capstan_gateway.routing.registry import (
    LATENCY_SECONDS,
    LEAST_WEIGHT,
    STALE_SECONDS,
    EndpointRegistry,
    EndpointState,
)
from capstan_gateway.routing.retry_after import retry_after
from capstan_gateway.routing.tiers import pick_by_tier
from capstan_gateway.routing.unroutable import NoCredential
from capstan_gateway.upstream.errors import ConnectionLost
from capstan_gateway.upstream.port import Endpoint
from support.scripted import Plan, Upstreams, call, dispatcher, endpoint_set
from support.virtualtime import run_virtually


def state_of(name: str = "e", tier: int = 0, weight: int | None = None) -> EndpointState:
    """An endpoint that is out after one failure, and back after one success."""
    settings = BreakerSettings(threshold=1, open_seconds=1, successes_to_close=1)
    return EndpointState(Endpoint(name, "127.0.0.1", 1, tier=tier, weight=weight), settings)


class Dice(Random):
    """Throws what the test says, again and again."""

    def __init__(self, *throws: float) -> None:
        super().__init__(0)
        self.throws = list(throws)

    def random(self) -> float:
        self.throws.append(self.throws.pop(0))
        return self.throws[-1]

    def sample(self, *given: object, **more: object) -> list[object]:  # type: ignore[override]
        raise AssertionError("two throws are enough, and quicker")


@pytest.mark.parametrize(
    ("value", "mixed"),
    [
        (0, 0),
        (0x9E3779B97F4A7C15, 0xE220A8397B1DCDAF),
        (2 * 0x9E3779B97F4A7C15 % 2**64, 0x6E789E6AA1B965F4),
        (3 * 0x9E3779B97F4A7C15 % 2**64, 0x06C45D188009454F),
    ],
)
def test_the_finaliser_is_that_of_splitmix64(value: int, mixed: int) -> None:
    """The first outputs of the generator whose state begins at zero."""
    assert mix(value) == mixed


def test_an_endpoint_has_the_same_place_in_every_gateway() -> None:
    """Gateways side by side send one conversation to one engine: the place is a hash of the id and nothing else."""
    assert state_of("a").seed == int.from_bytes(blake2b(b"a", digest_size=8).digest(), "big")


def test_a_key_prefers_the_endpoint_of_the_highest_hash() -> None:
    """The finaliser over the place of the endpoint and the key, one against the other; by weight where there are some.

    Gateways of every version come to the same endpoint.
    """
    states = [state_of(f"e{number}", weight=1) for number in range(5)]
    for number in range(100):
        key = Random(number).randbytes(8)  # noqa: S311
        best = max(states, key=lambda state: mix(state.seed ^ int.from_bytes(key, "big")))
        assert preferred(states, key) is best
        assert pick_by_tier(states, 0.0, Dice(0.5), affinity=key) is best
        assert pick(states, 0.0, Dice(0.5), affinity=key) is best


def test_the_average_weighs_a_sample_by_what_passed_since_the_last_one() -> None:
    """As an exponential average of ten seconds: never less than a twentieth, and all behind half a minute."""
    for gap, weight in (
        (0.0, LEAST_WEIGHT),
        (LEAST_WEIGHT * LATENCY_SECONDS, LEAST_WEIGHT),
        (1.0, 1 - math.exp(-0.1)),
        (LATENCY_SECONDS, 1 - math.exp(-1)),
        (STALE_SECONDS, 1 - math.exp(-3)),
        (STALE_SECONDS + 0.1, 1.0),
    ):
        state = state_of()
        state.observe(4.0, 100.0)
        state.observe(2.0, 100.0 + gap)
        assert state.latency(100.0 + gap) == pytest.approx(4.0 - 2.0 * weight)
        assert state.answered_at == 100.0 + gap


def test_the_average_fades_and_ends() -> None:
    """By a factor e in ten seconds; behind half a minute it says nothing."""
    state = state_of()
    state.observe(4.0, 100.0)
    assert state.latency(105.0) == pytest.approx(4.0 * math.exp(-0.5))
    assert state.latency(130.0) == pytest.approx(4.0 * math.exp(-3))
    assert state.latency(130.1) is None


def test_silence_counts_for_at_least_what_is_known() -> None:
    """Nothing known: what it lasted; something known: what is more of the two."""
    state = state_of()
    state.observe_silence(0.5, 100.0)
    assert state.latency(100.0) == 0.5
    state = state_of()
    state.observe_silence(3.0, 100.0)
    assert state.latency(100.0) == 3.0
    state.observe_silence(9.0, 110.0)
    known = 3.0 * math.exp(-1)
    assert state.latency(110.0) == pytest.approx(3.0 + (1 - math.exp(-1)) * (9.0 - 3.0))
    assert known < 3.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({b"retry-after": b"2"}, 2.0),
        ({b"retry-after": b"2", b"retry-after-ms": b"1500"}, 1.5),
        ({b"retry-after": b"2", b"retry-after-ms": b"soon"}, 2.0),
        ({b"retry-after-ms": b"Mon, 12 Jan 1970 13:47:10 GMT"}, None),
        ({b"retry-after": b"Mon, 12 Jan 1970 13:47:10 GMT"}, 30.0),
        ({b"retry-after": b"Mon, 12 Jan 1970 13:46:30 GMT"}, 0.0),
        ({b"retry-after": b"Mon, \xff Jan 1970"}, None),
        ({b"retry-after": b"-1"}, None),
        ({b"retry-after": b"0"}, 0.0),
        ({b"retry-after": b"inf"}, None),
        ({b"retry-after": b"nan"}, None),
        ({b"retry-after": b"7" + b" " * 63}, 7.0),
        ({b"retry-after": b"7" + b" " * 64}, None),
    ],
)
def test_how_long_an_upstream_asks_to_be_left_alone(headers: dict[bytes, bytes], seconds: float | None) -> None:
    """Milliseconds before seconds before a date; what is none of it, or too long to be one, says nothing."""
    assert retry_after([*headers.items()], lambda: 1_000_000.0) == seconds


def test_late_is_computed_anew_now_and_then() -> None:
    """As soon as enough is known, and then with every sixteenth sample, of the latest ones."""
    times = FirstBytes()
    for _ in range(LEAST_SAMPLES):
        times.observe(1.0)
    assert times.late() == 1.0
    for since in range(1, 3 * EVERY + 1):
        times.observe(float(since))
        last = since - since % EVERY
        assert times.late() == (1.0 if last == 0 else pytest.approx(quantile(LEAST_SAMPLES, last)))
    for _ in range(SAMPLES):
        times.observe(0.5)
    assert times.late() == 0.5


def quantile(ones: int, count: int) -> float:
    """The time that nineteen of twenty stay below, of so many ones and the numbers up to a count."""
    values = sorted([1.0] * ones + [float(number) for number in range(1, count + 1)])
    return values[int(0.95 * (len(values) - 1))]


def test_a_tier_whose_endpoints_are_all_coming_back() -> None:
    """What the dice leave to no tier goes to the first one; a tier that was never away takes all that reaches it."""
    home, away = state_of("home", weight=1), state_of("away", tier=1, weight=1)
    for state in (home, away):
        state.breaker.fail(0.0)
        state.breaker.succeed(1.0, state.breaker.begin(1.0))
    assert pick_by_tier([away, home], 1.0, Dice(0.0999)) is home
    assert pick_by_tier([away, home], 1.0, Dice(0.1)) is home, "somebody has to"
    assert pick_by_tier([away, home], 1.0, Dice(0.5, 0.1, 0.5, 0.05)) is away
    assert pick_by_tier([away, home], 11.0, Dice(0.99)) is home


def test_shares_and_weights_decide_within_a_tier() -> None:
    """One that is coming back has a tenth of its weight; with a key as well, and then always the same endpoint."""
    old, back = state_of("old", weight=30), state_of("back", weight=70)
    back.breaker.fail(0.0)
    back.breaker.succeed(1.0, back.breaker.begin(1.0))
    bound = 30 / 37
    assert pick_by_tier([old, back], 1.0, Dice(bound - 0.001)) is old
    assert pick_by_tier([old, back], 1.0, Dice(bound + 0.001)) is back
    keys = [Random(number).randbytes(8) for number in range(2000)]  # noqa: S311
    share = sum(pick_by_tier([old, back], 1.0, Dice(0.5), affinity=key) is old for key in keys) / len(keys)
    assert share == pytest.approx(bound, abs=0.03)
    share = sum(pick_by_tier([old, back], 100.0, Dice(0.5), affinity=key) is old for key in keys) / len(keys)
    assert share == pytest.approx(0.3, abs=0.03)


def test_an_endpoint_without_a_weight_counts_one() -> None:
    """Beside one that has a weight of one it gets half."""
    plain, weighed = state_of("plain"), state_of("weighed", weight=1)
    assert pick_by_tier([plain, weighed], 0.0, Dice(0.499)) is plain
    assert pick_by_tier([plain, weighed], 0.0, Dice(0.501)) is weighed


def test_without_a_fit_one_the_first_tier_is_asked_all_the_same() -> None:
    """The last endpoint is never ejected; excluded ones are left out, and of none there is none."""
    home, away = state_of("home", weight=1), state_of("away", tier=1, weight=1)
    for state in (home, away):
        state.breaker.fail(0.0)
    assert pick_by_tier([away, home], 0.5, Dice(0.5)) is home
    assert pick_by_tier([away, home], 0.5, Dice(0.5), excluded=(home,)) is away
    assert pick_by_tier([away, home], 0.5, Dice(0.5), excluded=(home, away)) is None


def test_any_two_of_many_may_be_compared() -> None:
    """Each pair is drawn in two throws, none with itself; the better one of it is chosen."""
    for count, better_of in ((2, min), (3, min), (5, min), (2, max), (3, max), (5, max)):
        states = [state_of(f"e{number}") for number in range(count)]
        for number, state in enumerate(states):
            state.in_flight = number if better_of is min else count - number
        for first in range(count):
            for second in range(count - 1):
                dice = Dice((first + 0.5) / count, (second + 0.5) / (count - 1))
                other = [number for number in range(count) if number != first][second]
                assert pick(states, 0.0, dice) is states[better_of(first, other)]
    assert pick(states[:1], 0.0, Dice(0.5)) is states[0]


def test_a_pair_with_one_that_is_out_is_no_pair() -> None:
    """Whichever of the two it is, one of those that are well is asked."""
    for broken in range(2):
        states = [state_of(f"e{number}") for number in range(3)]
        states[broken].breaker.fail(0.0)
        states[1 - broken].in_flight = states[2].in_flight = 9
        for throws in ((0.1, 0.1), (0.4, 0.1), (0.4, 0.9), (0.9, 0.1)):
            dice = Dice(*throws)
            dice.sample = Random(1).sample  # type: ignore[method-assign]  # noqa: S311
            assert pick(states, 0.5, dice) is not states[broken]


def unmixed(value: int) -> int:
    """The number that the finaliser of splitmix64 makes this one of."""

    def undo_shift(number: int, shift: int) -> int:
        found = number
        for _ in range(64 // shift):
            found = number ^ (found >> shift)
        return found

    value = undo_shift(value, 31) * pow(0x94D049BB133111EB, -1, 2**64) % 2**64
    value = undo_shift(value, 27) * pow(0xBF58476D1CE4E5B9, -1, 2**64) % 2**64
    return undo_shift(value, 30)


@pytest.mark.parametrize("hashed", [0, 1, 2**64 - 1, 2**64 - 2**10])
def test_the_extremes_of_a_hash_are_hashes(hashed: int) -> None:
    """The least and the greatest of them divide by nothing that is zero; the greatest wins, the least does not."""
    assert mix(unmixed(hashed)) == hashed
    states = [state_of("a", weight=1), state_of("b", weight=1)]
    key = (states[0].seed ^ unmixed(hashed)).to_bytes(8, "big")
    chosen = pick_by_tier(states, 0.0, Dice(0.5), affinity=key)
    assert chosen is states[0 if hashed > 1 else 1]


def test_the_first_tier_has_the_last_word() -> None:
    """When the dice leave nothing to any tier it is the endpoint that was drawn in the first one."""
    states = [state_of("h1", weight=1), state_of("h2", weight=9), state_of("away", tier=1, weight=1)]
    for state in states:
        state.breaker.fail(0.0)
        state.breaker.succeed(1.0, state.breaker.begin(1.0))
    assert pick_by_tier(states, 1.0, Dice(0.5)) is states[1]
    assert pick_by_tier(states, 1.0, Dice(0.09)) is states[0]


def test_a_budget_counts_exactly() -> None:
    """Shares of requests and time come in up to the most that is saved; a retry takes one, or nothing."""
    budget = RetryBudget(BudgetSettings(share=0.5, floor_per_second=2.0, burst=3.0))
    assert budget.tokens == 3.0
    budget.deposit()
    assert budget.tokens == 3.0
    assert [budget.spend(10.0) for _ in range(4)] == [True, True, True, False]
    assert budget.tokens == 0.0
    budget.deposit()
    assert not budget.spend(10.0)
    budget.deposit()
    assert budget.spend(10.0)
    assert not budget.spend(10.25)
    assert budget.tokens == 0.5
    assert budget.spend(10.5)
    assert budget.tokens == 0.0
    assert budget.spend(100.0)
    assert budget.tokens == 2.0
    for _ in range(3):
        budget.deposit()
    assert budget.tokens == 3.0
    assert [budget.spend(100.0) for _ in range(4)] == [True, True, True, False]
    for _ in range(2):
        budget.deposit()
    assert budget.spend(100.0), "each of them was counted"
    default = RetryBudget()
    assert default.tokens == 100.0


def test_a_breaker_that_opens_again_soon_is_out_for_longer() -> None:
    """Counted from when it closed, whatever time it is; a minute later it begins anew."""
    settings = BreakerSettings(threshold=1, open_seconds=1, successes_to_close=1, forget_seconds=60)
    for well_for, pause in ((30.0, 2.0), (61.0, 1.0)):
        breaker = Breaker(settings)
        breaker.fail(5000.0, breaker.begin(5000.0))
        assert breaker.succeed(5001.0, breaker.begin(5001.0))
        now = 5001.0 + well_for
        breaker.fail(now, breaker.begin(now))
        assert not breaker.allows(now + pause - 0.01)
        assert breaker.allows(now + pause)


def test_the_pause_of_a_breaker_is_bounded_however_often_it_opens() -> None:
    """It doubles to the most; what is far beyond overflows nothing."""
    breaker = Breaker(BreakerSettings(threshold=1, open_seconds=1, max_open_seconds=1e9))
    now = 0.0
    for count in range(2000):
        assert breaker.fail(now, breaker.begin(now))
        pause = 2.0 ** min(count, 16)
        assert not breaker.allows(now + pause - 0.01)
        now += pause
        assert breaker.allows(now)


def test_a_hedge_goes_to_the_lowest_tier_with_room() -> None:
    """Then to the least loaded; as full as the first is room, fuller is not, nor more than its share."""
    first, near, far = state_of("first"), state_of("near"), state_of("far", tier=1)
    states = (first, far, near)
    assert with_room(states, first, (), 0.0) is near
    near.in_flight = 1
    assert with_room(states, first, (), 0.0) is None, "the nearest one decides"
    first.in_flight = 1
    assert with_room(states, first, (), 0.0) is near
    assert with_room(states, first, (near,), 0.0) is far
    near.breaker.defer(0.0, 10.0)
    assert with_room(states, first, (), 5.0) is far
    first.in_flight = near.in_flight = far.in_flight = 4
    assert with_room((first, near), first, (), 20.0) is near, "four of a bound of six"
    first.in_flight, near.in_flight = 5, 5
    assert with_room((first, near), first, (), 20.0) is near
    first.in_flight, near.in_flight = 20, 20
    assert with_room((first, near), first, (), 20.0) is near
    first.in_flight, near.in_flight, far.in_flight = 20, 20, 0
    assert with_room((first, near, far), first, (far,), 20.0) is None, "its share of forty among three is fewer"
    first.in_flight, near.in_flight, far.in_flight = 4, 4, 0
    assert with_room((first, near, far), first, (far,), 20.0) is None, "four of a bound of four"


def test_whom_nobody_may_hedge_takes_nothing_from_the_budget() -> None:
    """No other endpoint with room, or no time left: the hedge is there for the next request."""

    async def main() -> None:
        hedging = Hedging(HedgeSettings(share=0.0, burst=1.0, after_seconds=0.1))
        endpoints = endpoint_set(2)
        one = call(endpoints, expires_at=50.0)
        first, other = endpoints.states
        assert hedging.delay(one) == 0.1
        assert hedging.second(one, first, (), 50.0) is None
        assert hedging.second(one, first, (other,), 1.0) is None
        assert hedging.second(one, first, (), 1.0) is other
        assert hedging.second(one, first, (), 1.0) is None
        assert Hedging().settings == HedgeSettings()

    run_virtually(main())


def test_endpoints_without_a_key_are_left_out() -> None:
    """As long as one has its key; where none has there is nobody to ask, and it is said when to come again."""

    async def main() -> None:
        for missing, asked in (({"e0"}, {"e1"}), ({"e1"}, {"e0"}), (set(), {"e0", "e1"})):
            client, endpoints = Upstreams(Plan()), endpoint_set(2)

            def headers_of(endpoint: Endpoint, missing: set[str] = missing) -> tuple[()] | None:
                return None if endpoint.id in missing else ()

            shared = dispatcher(client)
            for _ in range(20):
                (await shared.dispatch(call(endpoints, headers_of=headers_of))).close()
            assert set(client.asked) == asked
        with pytest.raises(NoCredential, match="credential") as raised:
            await dispatcher(client).dispatch(call(endpoints, headers_of=lambda _: None))
        assert raised.value.retry_after == 5.0

    run_virtually(main())


def test_what_is_kept_of_endpoints_that_nobody_uses() -> None:
    """The last ones to leave; one that comes back is no longer among them; one that others use too does not leave."""
    registry = EndpointRegistry(max_unused=2)
    ends = [Endpoint(f"e{number}", "127.0.0.1", number) for number in range(4)]
    held = [registry.acquire(end) for end in ends]
    assert registry.acquire(ends[0]) is held[0]
    registry.release(held[0])
    assert registry.states() == tuple(held)
    for state in held:
        registry.release(state)
    assert registry.states() == ()
    again = [registry.acquire(end) for end in reversed(ends)]
    assert [new is old for new, old in zip(again, reversed(held), strict=True)] == [True, True, False, False]
    assert registry.states() == tuple(again)
    assert not registry._unused


def test_what_a_registry_keeps_without_more_said() -> None:
    """A thousand, with breakers of the usual settings."""
    registry = EndpointRegistry()
    state = registry.acquire(Endpoint("e", "127.0.0.1", 1))
    assert [state.breaker.fail(0.0) for _ in range(3)] == [False, False, True]
    assert registry._max_unused == 1024


def test_a_race_that_the_first_wins_cuts_the_second_off_at_once() -> None:
    """Its slot is free and its request ended when the answer is given, and not at its own deadline."""

    async def main() -> None:
        client, endpoints = Upstreams(Plan(head=2.0), Plan(head=60.0)), endpoint_set(2)
        one = call(endpoints, first_token_seconds=90)
        with closing(await dispatcher(client, hedge_after=1.0).dispatch(one)) as answer:
            assert answer.endpoint.id == client.asked[0]
            await asyncio.sleep(0)
            assert sum(state.in_flight for state in endpoints.states) == 1
            assert client.open == 0
        assert one.stats.hedges == ("lost",)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtually(main())


def test_a_race_without_a_second_attempt_has_no_outcome() -> None:
    """Nothing is counted as hedged; and a second attempt that fails as well is told as failed."""

    async def main() -> None:
        client, endpoints = Upstreams(Plan(head=0.5)), endpoint_set(2)
        one = call(endpoints)
        (await dispatcher(client, hedge_after=1.0).dispatch(one)).close()
        assert one.stats.hedges == ()
        client, one = Upstreams(Plan(head=3.0, status=0), Plan(head=1.0, status=0)), call(endpoints)
        with pytest.raises(ConnectionLost):
            await dispatcher(client, hedge_after=1.0).dispatch(one)
        assert one.stats.hedges == ("failed",)
        assert len(client.asked) == 2

    run_virtually(main())


@pytest.mark.parametrize("second", [Plan(head=3.0, status=0), Plan(head=3.0, status=503)])
def test_a_first_answer_that_is_no_good_and_a_second_one_neither(second: Plan) -> None:
    """What the first one gave is the answer, or what it raised; the second one's end changes nothing of it."""

    async def main() -> None:
        client, endpoints = Upstreams(Plan(head=2.0, status=503), second), endpoint_set(2)
        one = call(endpoints)
        answer = await dispatcher(client, hedge_after=1.0).dispatch(one)
        assert (answer.status, answer.endpoint.id) == (503, client.asked[0])
        assert one.stats.hedges == ("failed",)
        answer.close()
        client, one = Upstreams(Plan(head=2.0, status=0), second), call(endpoints)
        with pytest.raises(ConnectionLost):
            await dispatcher(client, hedge_after=1.0).dispatch(one)
        assert [state.in_flight for state in endpoints.states] == [0, 0]
        assert all(reply.ended == 1 for reply in client.replies)

    run_virtually(main())


def test_a_client_that_leaves_in_the_moment_in_which_the_second_wins_has_left() -> None:
    """It is cancelled, and not given an answer that nobody reads."""

    async def main() -> None:
        client, endpoints = Upstreams(Plan(head=60.0), Plan(head=1.0)), endpoint_set(2)
        task = asyncio.ensure_future(dispatcher(client, hedge_after=1.0).dispatch(call(endpoints)))
        asyncio.get_running_loop().call_later(2.0, task.cancel)
        await asyncio.wait([task])
        assert task.cancelled()
        for _ in range(3):
            await asyncio.sleep(0)
        assert [state.in_flight for state in endpoints.states] == [0, 0]
        assert all(reply.ended == 1 for reply in client.replies)
        assert client.open == 0

    run_virtually(main())


def test_two_answers_in_one_turn_of_the_loop() -> None:
    """The first one is given, the second one closed, and its caller is not cancelled behind the race."""

    async def main() -> None:
        client, endpoints = Upstreams(Plan(head=2.0), Plan(head=1.0)), endpoint_set(2)
        one = call(endpoints)
        answer = await dispatcher(client, hedge_after=1.0).dispatch(one)
        for _ in range(5):
            await asyncio.sleep(0)
        answer.close()
        assert [state.in_flight for state in endpoints.states] == [0, 0]
        assert all(reply.ended == 1 for reply in client.replies)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    run_virtually(main())


def test_time_fills_no_budget_of_hedges() -> None:
    """Only requests do: a model that is seldom asked must not have all that is late sent twice."""

    async def main() -> None:
        hedging = Hedging(HedgeSettings(share=0.5, burst=1.0, after_seconds=0.1))
        endpoints = endpoint_set(2)
        one, first = call(endpoints, expires_at=math.inf), endpoints.states[0]
        assert hedging.second(one, first, (), 10.0) is not None
        assert hedging.second(one, first, (), 10_000.0) is None
        hedging.delay(one)
        assert hedging.second(one, first, (), 10_001.0) is None
        hedging.delay(one)
        assert hedging.second(one, first, (), 10_002.0) is not None

    run_virtually(main())


def test_load_counts_with_the_request_that_is_to_come() -> None:
    """One more in flight here than there is twice the load where that one has nothing to do; equals go to the first."""
    one, other = state_of("one"), state_of("other")
    for first, second, loads, wanted in (
        (0.2, 0.2, (0, 0), one), (0.2, 0.39, (1, 0), other), (0.2, 0.41, (1, 0), one), (0.2, 0.4, (1, 0), one),
        (0.3, 0.2, (1, 2), one), (0.31, 0.2, (1, 2), other),
    ):  # fmt: skip
        one, other = state_of("one"), state_of("other")
        one.observe(first, 0.0)
        other.observe(second, 0.0)
        one.in_flight, other.in_flight = loads
        assert better(one, other, 0.0).endpoint.id == wanted.endpoint.id


def test_an_endpoint_at_its_bound_is_passed_over() -> None:
    """Exactly as many in flight as make it overloaded; without load its own keys come to it."""
    states = [state_of(f"e{number}") for number in range(3)]
    key = Random(1).randbytes(8)  # noqa: S311
    best = preferred(states, key)
    best.in_flight = SLACK - 1
    assert preferred(states, key) is best
    best.in_flight = SLACK
    assert preferred(states, key) is not best


def test_a_clock_that_went_back_gives_nothing_twice() -> None:
    """What was counted up to a time is not counted again behind it."""
    budget = RetryBudget(BudgetSettings(share=0, floor_per_second=1, burst=1))
    assert budget.spend(100.0)
    assert not budget.spend(50.0)
    assert not budget.spend(100.9)
    assert budget.spend(101.0)
