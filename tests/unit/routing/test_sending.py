"""One dispatch in virtual time: what each endpoint is sent, how long each step takes, and when whom is asked again."""

import asyncio
import gc
import math
import random
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from capstan_gateway.errors import UpstreamFailed
from capstan_gateway.memory import MemoryBudget
from capstan_gateway.routing.attempt import AttemptOutcome
from capstan_gateway.routing.breaker import BreakerSettings, BreakerState
from capstan_gateway.routing.budget import BudgetSettings, RetryBudget
from capstan_gateway.routing.dispatch import Dispatcher
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.opened import FREE_OPENING_BYTES, MAX_OPENING_BYTES, OPENING_FACTOR
from capstan_gateway.routing.port import MAX_NOTES
from capstan_gateway.routing.race import Race
from capstan_gateway.routing.registry import EndpointRegistry
from capstan_gateway.routing.unroutable import KeyMissing, NoEndpoint, TooManyWaiting
from capstan_gateway.upstream.errors import (
    BodyBroken,
    ConnectFailed,
    ConnectionLost,
    DeadlineExceeded,
    NoMemory,
    ProtocolError,
    TooManyConnections,
)
from capstan_gateway.upstream.port import Endpoint
from support.scripted import (
    HANGS,
    PING,
    TOKEN,
    Plan,
    Upstreams,
    budget_of,
    call,
    dispatcher,
    endpoint_set,
    failures,
    token_opening,
)
from support.virtualtime import run_virtually

LOST = Plan(head=0.5, status=0)
REFUSED = Plan(status=-1)
WELL = Plan(head=0.5)
OUT_AT_ONCE = BreakerSettings(threshold=1, open_seconds=1000, max_open_seconds=1000)
BACK_AT_ONCE = BreakerSettings(threshold=1, open_seconds=1, successes_to_close=1)


def virtually(scenario: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Make a test of a coroutine function whose time is virtual, also the time by which dispatch reckons."""

    def test() -> None:
        async def main() -> None:
            with pytest.MonkeyPatch.context() as patch:
                clock = SimpleNamespace(perf_counter=asyncio.get_running_loop().time)
                patch.setattr("capstan_gateway.routing.dispatch.time", clock)
                await scenario()

        run_virtually(main())

    test.__doc__, test.__name__ = scenario.__doc__, scenario.__name__
    return test


def now() -> float:
    """The loop's time."""
    return asyncio.get_running_loop().time()


class Dice(random.Random):
    """Always throws the same."""

    def __init__(self, throw: float) -> None:
        super().__init__(0)
        self.throw = throw

    def random(self) -> float:
        return self.throw


class Timed(Upstreams):
    """Endpoints that follow plans, and know when they were asked."""

    def __init__(self, *plans: Plan, by_id: dict[str, Plan] | None = None) -> None:
        super().__init__(*plans, by_id=by_id)
        self.began = now()
        self.times: list[float] = []

    async def send(self, endpoint: Endpoint, **options: Any) -> Any:
        self.times.append(now() - self.began)
        return await super().send(endpoint, **options)


# --- what is sent -----------------------------------------------------------------------------------------------------


@virtually
async def test_what_an_endpoint_is_sent() -> None:
    """Method, path, headers and body of the call, within its deadlines; a plain answer has only the total one."""
    for plain in (0, 500):
        client, endpoints = Upstreams(Plan()), endpoint_set(1)
        one = call(
            endpoints, method=b"PUT", path=b"/y", headers=[(b"a", b"b")], body=b"{}", whole_bytes=plain,
            first_token_seconds=7.0, idle_seconds=8.0, repeatable=True,
        )  # fmt: skip
        (await dispatcher(client).dispatch(one)).close()
        assert client.options == [
            {
                "method": b"PUT", "path": b"/y", "headers": [(b"a", b"b")], "body": b"{}", "repeatable": True,
                "connect": 5.0, "first": math.inf if plain else 7.0, "idle": 8.0, "expires_at": one.expires_at,
            }
        ]  # fmt: skip


@virtually
async def test_each_endpoint_is_sent_its_own_headers() -> None:
    """Where they have a key each; those of the call are nobody's then."""
    client, endpoints = Upstreams(REFUSED, WELL), endpoint_set(2)
    one = call(endpoints, headers=[(b"no", b"body")], headers_of=lambda endpoint: [(b"key", endpoint.id.encode())])
    (await dispatcher(client).dispatch(one)).close()
    assert [options["headers"] for options in client.options] == [[(b"key", id_.encode())] for id_ in client.asked]


@virtually
async def test_a_connection_may_take_its_time_only_where_there_is_no_other() -> None:
    """A second as long as another endpoint is there to be tried, five for the last one."""
    for count in (1, 2, 3):
        client = Upstreams(REFUSED)
        with pytest.raises(ConnectFailed):
            await dispatcher(client).dispatch(call(endpoint_set(count)))
        assert [options["connect"] for options in client.options] == [1.0] * (count - 1) + [5.0]


@virtually
async def test_the_first_tier_is_asked_and_equals_by_load() -> None:
    """Tiers where there are some; otherwise the endpoint with less in flight, each time."""
    client, registry = Upstreams(WELL), EndpointRegistry()
    tiers = [Endpoint(f"e{number}", "127.0.0.1", 1, tier=1 - number, weight=1) for number in range(2)]
    endpoints = EndpointSet(registry, tiers)
    shared = dispatcher(client)
    for _ in range(20):
        (await shared.dispatch(call(endpoints))).close()
    assert set(client.asked) == {"e1"}
    equals = endpoint_set(2)
    equals.states[1].in_flight = 6
    client.asked.clear()
    for _ in range(20):
        (await shared.dispatch(call(equals))).close()
    assert set(client.asked) == {"e0"}


@virtually
async def test_requests_with_one_key_go_to_one_endpoint() -> None:
    """Whatever the dice say."""
    client, endpoints = Upstreams(Plan()), endpoint_set(8)
    shared = dispatcher(client)
    for _ in range(20):
        (await shared.dispatch(call(endpoints, affinity=b"12345678"))).close()
    assert len(set(client.asked)) == 1


# --- how a body is read, and how long it took -------------------------------------------------------------------------


@virtually
async def test_a_plain_answer_is_read_up_to_its_bound_from_the_budget_that_is_given() -> None:
    """Its time to the first byte ends with the first piece of its body, and its time of reading begins there."""
    client, endpoints = Upstreams(Plan(head=2, pieces=((3.0, b"{"), (4.0, b"}")))), endpoint_set(1)
    memory: Any = object()
    one = call(endpoints, whole_bytes=1000, memory=memory)
    answer = await dispatcher(client).dispatch(one)
    assert (one.stats.first_byte, one.stats.read) == (5.0, 4.0)
    assert client.replies[0].asked_for == [("now", 1000), ("whole", (1000, memory))]
    assert (answer.whole, answer.opening) == (b"{}", None)
    answer.close()
    assert endpoints.states[0].latency(now()) == pytest.approx(5.0)


@virtually
async def test_a_body_that_is_there_with_its_head_is_not_waited_for() -> None:
    """Nothing is read behind it."""
    client, endpoints = Upstreams(Plan(head=2, pieces=((9.0, b"{}"),), at_once=True)), endpoint_set(1)
    one = call(endpoints, whole_bytes=1000)
    answer = await dispatcher(client).dispatch(one)
    assert (one.stats.first_byte, one.stats.read) == (2.0, 0.0)
    assert (answer.whole, answer.opening) == (b"{}", None)
    assert client.replies[0].asked_for == [("now", 1000)]
    answer.close()


@pytest.mark.parametrize(("status", "plain"), [(400, 1000), (404, 1000), (200, 0), (400, 0)])
def test_only_plain_answers_are_read_as_a_whole(status: int, plain: int) -> None:
    """A refusal or a stream is left to who knows what it is."""

    async def main() -> None:
        client, endpoints = Upstreams(Plan(head=2, status=status, at_once=True)), endpoint_set(1)
        answer = await dispatcher(client).dispatch(call(endpoints, whole_bytes=plain))
        assert (answer.whole, client.replies[0].asked_for) == (None, [])
        assert answer.headers is client.replies[0].headers
        answer.close()

    run_virtually(main())


@virtually
async def test_the_rest_of_a_body_is_read_up_to_the_bound_that_is_asked_for() -> None:
    """Of a refusal its beginning, without a word to the endpoint if that breaks off."""
    client, endpoints = Upstreams(Plan(status=400, pieces=((0.0, b"no"),), breaks=True)), endpoint_set(1)
    answer = await dispatcher(client).dispatch(call(endpoints))
    with pytest.raises(BodyBroken):
        await answer.read_beginning(77)
    assert client.replies[0].asked_for[0] == ("beginning", 77)
    answer.close()
    client = Upstreams(Plan(pieces=((0.0, b"abc"),)))
    answer = await dispatcher(client).dispatch(call(endpoints))
    assert await answer.read(2) == b"ab"
    assert client.replies[0].asked_for == [("whole", 2)]
    answer.close()


@pytest.mark.parametrize("how", ["read", "receive"])
def test_a_body_that_breaks_off_is_its_endpoints_failure(how: str) -> None:
    """At the moment at which it breaks off, and by its name."""

    async def main() -> None:
        client, endpoints = Upstreams(Plan(pieces=((0.0, TOKEN),), breaks=True)), endpoint_set(1, settings=OUT_AT_ONCE)
        answer = await dispatcher(client).dispatch(call(endpoints))
        with pytest.raises(BodyBroken):
            await answer.read(100) if how == "read" else [await answer.receive() for _ in range(2)]
        state = endpoints.states[0]
        assert (state.last_error, state.breaker.state(now())) == ("BodyBroken", BreakerState.OPEN)
        answer.close()
        assert state.in_flight == 0

    run_virtually(main())


@virtually
async def test_a_beginning_may_be_as_long_as_its_bound() -> None:
    """Sixteen megabytes without a token are read, and not one byte more."""
    chunk = b":" * (1 << 20)
    full = ((0.0, chunk),) * (MAX_OPENING_BYTES >> 20)
    client, endpoints = Upstreams(Plan(pieces=(*full, (0.0, TOKEN)))), endpoint_set(1)
    answer = await dispatcher(client).dispatch(call(endpoints, opening=token_opening))
    assert answer.opening is not None
    answer.close()
    client = Upstreams(Plan(pieces=(*full, (0.0, b":"), (0.0, TOKEN))))
    with pytest.raises(ProtocolError, match=f"more than {MAX_OPENING_BYTES} bytes without a token"):
        await dispatcher(client).dispatch(call(endpoints, opening=token_opening))


@virtually
async def test_a_long_beginning_is_taken_from_the_budget() -> None:
    """What has come without a token is counted, each attempt by itself; without room the attempt ends."""
    budget = MemoryBudget(40 << 20)
    chunk = ((0.0, b":" * (1 << 20)),)
    client, endpoints = Upstreams(Plan(pieces=(*chunk * 5, (0.0, TOKEN)))), endpoint_set(1)
    answer = await dispatcher(client).dispatch(call(endpoints, opening=token_opening, memory=budget.share))
    assert budget.held == OPENING_FACTOR * 5 << 20
    answer.close()
    held = budget.held
    client = Upstreams(Plan(pieces=(*chunk * 6, (0.0, TOKEN))))
    with pytest.raises(NoMemory):
        await dispatcher(client).dispatch(call(endpoints, opening=token_opening, memory=budget.share))
    assert budget.held == held
    assert endpoints.states[0].in_flight == 0
    small = ((0.0, b":" * FREE_OPENING_BYTES), (0.0, TOKEN))
    client = Upstreams(Plan(pieces=small))
    (await dispatcher(client).dispatch(call(endpoints, opening=token_opening, memory=budget.share))).close()
    assert budget.held == held


@virtually
async def test_which_deadline_is_in_force_is_told_to_the_response() -> None:
    """That of the first token until it is there; a plain answer has none but the total one, to its end."""
    for plan, options, awaits in (
        (Plan(), {"opening": token_opening}, False),
        (Plan(), {}, False),
        (Plan(), {"whole_bytes": 9}, True),
        (Plan(status=400), {"whole_bytes": 9}, False),
        (Plan(status=400), {"opening": token_opening}, False),
    ):
        client = Upstreams(plan)
        answer = await dispatcher(client).dispatch(call(endpoint_set(1), **options))
        assert client.replies[0].awaits_token is awaits
        answer.close()


# --- who is asked next ------------------------------------------------------------------------------------------------


@virtually
async def test_retries_are_the_attempts_behind_the_first_one() -> None:
    """Each counts once, and so does each attempt."""
    client, endpoints = Upstreams(LOST, Plan(status=503), WELL), endpoint_set(3)
    one = call(endpoints)
    (await dispatcher(client, retries=9).dispatch(one)).close()
    assert (one.stats.attempts, one.stats.retries) == (3, 2)


@pytest.mark.parametrize("plan", [Plan(status=503), LOST], ids=["503", "lost"])
@pytest.mark.parametrize("seed", range(6))
def test_three_are_asked_and_nobody_twice(plan: Plan, seed: int) -> None:
    """Whatever they fail with; what was in flight to one is back before the next is asked."""

    async def main() -> None:
        client, endpoints = Upstreams(plan), endpoint_set(5)
        one = call(endpoints)
        shared = dispatcher(client, retries=9, seed=seed)
        if plan.status:
            (await shared.dispatch(one)).close()
        else:
            with pytest.raises(ConnectionLost):
                await shared.dispatch(one)
        assert (len(client.asked), len(set(client.asked)), shared._budget.tokens) == (3, 3, 7)
        assert [state.in_flight for state in endpoints.states] == [0] * 5
        assert all(reply.ended == 1 for reply in client.replies)

    run_virtually(main())


@virtually
async def test_a_refused_key_is_tried_elsewhere_only_among_keys() -> None:
    """Another endpoint has another key; without keys it is about the request."""
    for keyed, status in ((True, 200), (False, 401)):
        client, endpoints = Upstreams(Plan(status=401), WELL), endpoint_set(2)
        options: dict[str, Any] = {"headers_of": lambda _: []} if keyed else {}
        answer = await dispatcher(client, retries=9).dispatch(call(endpoints, **options))
        assert answer.status == status
        answer.close()
        first = next(state for state in endpoints.states if state.endpoint.id == client.asked[0])
        assert failures(first) == (1 if keyed else 0)


@virtually
async def test_a_key_that_is_lost_on_the_way_costs_nothing() -> None:
    """Its endpoint is passed over, freely and by name; nobody is blamed, and nothing was sent to it."""
    client, endpoints = Upstreams(WELL), endpoint_set(2)
    looked: list[str] = []

    def headers_of(endpoint: Endpoint) -> list[tuple[bytes, bytes]] | None:
        looked.append(endpoint.id)
        return None if len(looked) == 3 else []

    one, shared = call(endpoints, headers_of=headers_of), dispatcher(client, retries=9)
    (await shared.dispatch(one)).close()
    assert (one.stats.failures, one.stats.attempts, shared._budget.tokens) == (["KeyMissing"], 1, 9)
    assert client.asked == [next(id_ for id_ in ("e0", "e1") if id_ != looked[2])]
    gone: list[bool] = []

    def only_once(_: Endpoint) -> list[tuple[bytes, bytes]] | None:
        gone.append(True)
        return [] if len(gone) == 1 else None

    with pytest.raises(KeyMissing, match=r"the gateway has no key for it$"):
        await shared.dispatch(call(endpoint_set(1), headers_of=only_once))


@virtually
async def test_our_own_limits_are_no_failure_of_an_endpoint() -> None:
    """It is left out for this request, freely, and not blamed."""

    class Full(Upstreams):
        async def send(self, endpoint: Endpoint, **options: Any) -> Any:
            if not self.asked:
                self.asked.append(endpoint.id)
                raise TooManyConnections(endpoint.id, "full")
            return await super().send(endpoint, **options)

    client, endpoints = Full(WELL), endpoint_set(2)
    shared, one = dispatcher(client, retries=9), call(endpoints)
    (await shared.dispatch(one)).close()
    assert (len(set(client.asked)), shared._budget.tokens) == (2, 9)
    assert [failures(state) for state in endpoints.states] == [0, 0]
    assert one.stats.tried[0].outcome is AttemptOutcome.LEFT


@virtually
async def test_an_only_endpoint_is_asked_again_only_while_there_is_time_to_wait() -> None:
    """A lost connection may come back; without a wait nothing is paid for what cannot be; a hang is not tried again."""
    for plan, wait, spent in (
        (LOST, 0, 0), (Plan(status=0), 0, 0), (LOST, 60, 1), (Plan(pieces=((9.0, PING),) * 9), 60, 0),
    ):  # fmt: skip
        client, endpoints = Upstreams(plan, WELL), endpoint_set(1)
        shared = dispatcher(client, retries=9)
        one = call(endpoints, wait_seconds=wait, opening=token_opening, first_token_seconds=20)
        if spent:
            (await shared.dispatch(one)).close()
        else:
            with pytest.raises(ConnectionLost if not plan.status else DeadlineExceeded):
                await shared.dispatch(one)
        assert (len(client.asked), shared._budget.tokens) == (1 + spent, 9 - spent)


@virtually
async def test_a_failure_is_known_when_it_happens() -> None:
    """The breaker of the endpoint is open from then on: of a lost connection, and of a long silence that is left."""
    client, endpoints = Upstreams(LOST), endpoint_set(1, settings=OUT_AT_ONCE)
    with pytest.raises(ConnectionLost):
        await dispatcher(client).dispatch(call(endpoints))
    assert endpoints.states[0].breaker.state(now()) is BreakerState.OPEN
    endpoints = endpoint_set(1, settings=OUT_AT_ONCE)
    task = asyncio.ensure_future(dispatcher(Upstreams(HANGS)).dispatch(call(endpoints, first_token_seconds=20)))
    await asyncio.sleep(15)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert endpoints.states[0].breaker.state(now()) is BreakerState.OPEN


@virtually
async def test_an_answer_that_is_left_in_silence_opens_the_breaker_then() -> None:
    """And one that came to its end closes one that was on its way back."""
    for plan, state in ((Plan(pieces=((0.0, TOKEN),), ends=False), BreakerState.OPEN), (Plan(), BreakerState.CLOSED)):
        client, endpoints = Upstreams(plan), endpoint_set(1, settings=BACK_AT_ONCE)
        breaker = endpoints.states[0].breaker
        if plan.ends:
            breaker.fail(now())
            await asyncio.sleep(2)
        answer = await dispatcher(client).dispatch(call(endpoints, idle_seconds=20))
        await answer.receive()
        task = asyncio.ensure_future(answer.receive())
        await asyncio.sleep(15)
        answer.close()
        assert breaker.state(now()) is state
        assert breaker.share(now()) == 0.1, "it comes back slowly, from now on"
        task.cancel()
        await asyncio.wait([task])


@virtually
async def test_a_refusal_of_any_kind_is_an_answer_to_its_end() -> None:
    """Also the first of them, whose body nobody reads."""
    client, endpoints = Upstreams(Plan(status=400, ends=False)), endpoint_set(1)
    endpoints.states[0].breaker.fail(now())
    one = call(endpoints)
    (await dispatcher(client).dispatch(one)).close()
    assert failures(endpoints.states[0]) == 0
    assert one.stats.tried[0].outcome is AttemptOutcome.SUCCEEDED


@virtually
async def test_the_beginning_of_an_answer_is_told_by_whom_and_how_it_came() -> None:
    """Status and headers to who makes its reader, once for each; nonsense opens the breaker when it comes."""
    told: list[tuple[int, object]] = []

    def opening(status: int, headers: object) -> Any:
        told.append((status, headers))
        return token_opening(status, headers)

    client = Upstreams(Plan(headers=((b"a", b"b"),)))
    (await dispatcher(client).dispatch(call(endpoint_set(1), opening=opening))).close()
    assert told == [(200, [(b"a", b"b")])]
    endpoints = endpoint_set(1, settings=OUT_AT_ONCE)
    nonsense = Upstreams(Plan(pieces=((0.0, b"nonsense"),)))
    (await dispatcher(nonsense).dispatch(call(endpoints, opening=token_opening))).close()
    assert endpoints.states[0].breaker.state(now()) is BreakerState.OPEN


@virtually
async def test_when_to_come_again_is_reckoned_by_the_clock_on_the_wall() -> None:
    """An endpoint that says so by a date is left alone until then."""
    headers = ((b"retry-after", b"Thu, 01 Jan 1970 00:00:30 GMT"),)
    client, endpoints = Upstreams(Plan(status=503, headers=headers)), endpoint_set(1)
    shared = Dispatcher(client, budget=budget_of(0), rng=random.Random(1), wall_clock=lambda: 10.0)  # noqa: S311
    (await shared.dispatch(call(endpoints))).close()
    breaker = endpoints.states[0].breaker
    assert [breaker.allows(now() + seconds) for seconds in (19, 21)] == [False, True]


@virtually
async def test_the_first_refusal_is_no_time_of_an_answer() -> None:
    """A 400 says nothing of how long the endpoint takes; what went wrong is said of the endpoint that it was."""
    endpoints = endpoint_set(1)
    (await dispatcher(Upstreams(Plan(head=3, status=400))).dispatch(call(endpoints))).close()
    assert endpoints.states[0].latency(now()) is None
    looked: list[bool] = []

    def once(_: Endpoint) -> list[tuple[bytes, bytes]] | None:
        looked.append(True)
        return [] if len(looked) == 1 else None

    with pytest.raises(KeyMissing) as missing:
        await dispatcher(Upstreams(WELL)).dispatch(call(endpoints, headers_of=once))
    assert missing.value.endpoint_id == "e0"


@virtually
async def test_what_was_never_sent_is_not_spent() -> None:
    """A request that must not be sent twice may go to another model, if no engine has seen it."""
    one = call(endpoint_set(1), repeatable=False)
    with pytest.raises(ConnectFailed):
        await dispatcher(Upstreams(REFUSED)).dispatch(one)
    assert not one.stats.spent
    one = call(endpoint_set(1), repeatable=True)
    with pytest.raises(ConnectionLost):
        await dispatcher(Upstreams(LOST)).dispatch(one)
    assert not one.stats.spent


@virtually
async def test_what_is_kept_of_attempts_that_were_never_sent_has_a_bound() -> None:
    """The latest twenty."""
    one = call(endpoint_set(3), wait_seconds=60)
    with pytest.raises(NoEndpoint):
        await dispatcher(Upstreams(REFUSED)).dispatch(one)
    assert len(one.stats.tried) == MAX_NOTES


@virtually
async def test_nothing_is_retried_in_the_moment_in_which_time_is_up() -> None:
    """The deadline itself is too late."""
    client, endpoints = Upstreams(WELL), endpoint_set(2)
    shared, one = dispatcher(client, retries=9), call(endpoints)
    answer = await shared.dispatch(one)
    await asyncio.sleep(99.5)
    assert now() == one.expires_at
    assert not shared.again(one, answer, UpstreamFailed("nonsense"))
    assert shared._budget.tokens == 9


@virtually
async def test_nobody_is_asked_again_whose_answer_was_none() -> None:
    """An endpoint that gave nonsense is no other endpoint, though its breaker is closed."""
    client = Upstreams(by_id={"e0": WELL, "e1": WELL})
    endpoints = endpoint_set(2, settings=BreakerSettings(threshold=2, open_seconds=1000, max_open_seconds=1000))
    for _ in range(2):
        endpoints.states[1].breaker.fail(now())
    shared, one = dispatcher(client, retries=9), call(endpoints)
    answer = await shared.dispatch(one)
    assert not shared.again(one, answer, UpstreamFailed("nonsense"))
    assert endpoints.states[0].breaker.state(now()) is BreakerState.CLOSED
    assert (shared._budget.tokens, one.avoid) == (9, ())


@virtually
async def test_time_refills_the_purse() -> None:
    """For another endpoint as for another model."""
    client, endpoints = Upstreams(LOST, WELL), endpoint_set(2)
    budget = RetryBudget(BudgetSettings(share=0, floor_per_second=1, burst=1))
    assert budget.spend(now())
    shared = Dispatcher(client, budget=budget, rng=random.Random(1))  # noqa: S311
    with pytest.raises(ConnectionLost):
        await shared.dispatch(call(endpoints))
    client.asked.clear()
    await asyncio.sleep(1)
    assert shared.pay_for_fallback()
    await asyncio.sleep(1)
    (await shared.dispatch(call(endpoints))).close()
    assert len(client.asked) == 2


@virtually
async def test_a_failed_attempt_is_not_kept_by_its_dispatch() -> None:
    """Its error, and with it the frames of the request, is free as soon as the answer is there."""
    kept: list[weakref.ref[BaseException]] = []

    class Watched(Upstreams):
        async def send(self, endpoint: Endpoint, **options: Any) -> Any:
            try:
                return await super().send(endpoint, **options)
            except ConnectFailed as error:
                kept.append(weakref.ref(error))
                raise

    with uncollected():
        (await dispatcher(Watched(REFUSED, WELL)).dispatch(call(endpoint_set(2)))).close()
        assert [one() for one in kept] == [None]


@contextmanager
def uncollected() -> Iterator[None]:
    """Nothing is freed but what nothing refers to."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


# --- waiting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("throw", [0.0, 1.0])
def test_how_long_it_waits_for_endpoints_that_refuse(throw: float) -> None:
    """Half a pause to a whole one, which doubles from fifty milliseconds to a second. All of it is told as waiting."""

    async def main() -> None:
        client, endpoints = Timed(*(REFUSED,) * 7, WELL), endpoint_set(1)
        shared = Dispatcher(client, budget=budget_of(0), rng=Dice(throw))
        one = call(endpoints, wait_seconds=60)
        (await shared.dispatch(one)).close()
        pauses = [(0.5 + throw / 2) * pause for pause in (0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0)]
        assert client.times == pytest.approx([sum(pauses[:number]) for number in range(8)])
        assert one.stats.waited == pytest.approx(sum(pauses))
        assert one.stats.first_byte == pytest.approx(0.5)

    virtually(main)()


@virtually
async def test_who_waits_for_less_than_a_second_waits_all_the_same() -> None:
    """To the end of that time and not longer, for an endpoint or for one that refuses."""
    began = now()
    with pytest.raises(NoEndpoint, match=r"^no endpoint is available$") as nobody:
        await dispatcher(Upstreams(WELL)).dispatch(call(endpoint_set(0), wait_seconds=0.75))
    assert (now() - began, nobody.value.retry_after) == (0.75, 5.0)
    (await dispatcher(Upstreams(REFUSED, WELL)).dispatch(call(endpoint_set(1), wait_seconds=0.75))).close()
    began = now()
    with pytest.raises(NoEndpoint) as refused:
        await dispatcher(Upstreams(REFUSED)).dispatch(call(endpoint_set(1), wait_seconds=0.75))
    assert now() - began == 0.75
    assert isinstance(refused.value.__cause__, ConnectFailed)


@virtually
async def test_who_waits_is_answered_by_the_endpoint_that_comes() -> None:
    """At once when it is there, not at the end of the wait."""
    client, endpoints = Timed(WELL), endpoint_set(0)
    one = call(endpoints, wait_seconds=60)
    task = asyncio.ensure_future(dispatcher(client).dispatch(one))
    await asyncio.sleep(2)
    endpoints.replace([Endpoint("new", "127.0.0.1", 1)])
    (await task).close()
    assert (client.times, one.stats.waited) == ([2.0], 2.0)


@virtually
async def test_only_so_many_wait() -> None:
    """One more is told how many there are, and when to come again; it waits not at all."""
    endpoints = EndpointSet(EndpointRegistry(), max_waiting=2)
    shared = dispatcher(Upstreams(WELL))
    waiting = [asyncio.ensure_future(shared.dispatch(call(endpoints, wait_seconds=9))) for _ in range(2)]
    await asyncio.sleep(1)
    began = now()
    with pytest.raises(TooManyWaiting, match=r"^2 requests wait for an endpoint$") as full:
        await shared.dispatch(call(endpoints, wait_seconds=9))
    assert (now() - began, full.value.retry_after) == (0, 5.0)
    assert [type(error) for error in await asyncio.gather(*waiting, return_exceptions=True)] == [NoEndpoint] * 2


# --- hedges -----------------------------------------------------------------------------------------------------------


@virtually
async def test_of_two_the_time_is_counted_from_the_first() -> None:
    """For the request's own account and for the average by which the next ones are late; each race is told."""
    client, endpoints = Upstreams(HANGS, Plan(head=0.5)), endpoint_set(3)
    one, shared = call(endpoints), dispatcher(client, retries=9, hedge_after=1)
    answer = await shared.dispatch(one)
    assert one.stats.first_byte == 1.5
    assert list(endpoints.first_bytes._seconds) == [1.5]
    assert shared.again(one, answer, UpstreamFailed("nonsense"))
    (await shared.dispatch(one)).close()
    assert one.stats.hedges == ("won", "won")


@pytest.mark.parametrize("status", [400, 404])
def test_a_refusal_says_nothing_of_when_tokens_come(status: int) -> None:
    """Neither does nonsense: the average by which requests are late is of streams that have begun."""

    async def main() -> None:
        for plan in (Plan(status=status), Plan(pieces=((0.0, b"nonsense"),))):
            endpoints = endpoint_set(2)
            answer = await dispatcher(Upstreams(plan), hedge_after=50).dispatch(call(endpoints, opening=token_opening))
            answer.close()
            assert list(endpoints.first_bytes._seconds) == []

    run_virtually(main())


@virtually
async def test_without_another_endpoint_nothing_is_hedged() -> None:
    """The first one is waited for; nothing is told of a race that was none."""
    client, endpoints = Upstreams(Plan(head=5)), endpoint_set(2, settings=OUT_AT_ONCE)
    endpoints.states[1].breaker.fail(now())
    one = call(endpoints)
    (await dispatcher(client, hedge_after=1).dispatch(one)).close()
    assert (client.asked, one.stats.hedges, one.stats.first_byte) == (["e0"], (), 5.0)


@pytest.mark.parametrize("seed", range(6))
def test_who_failed_as_the_second_is_not_asked_as_the_third(seed: int) -> None:
    """An endpoint gets a request once, whichever attempt that was."""

    async def main() -> None:
        client, endpoints = Upstreams(Plan(head=4, status=0), Plan(head=1, status=0), Plan()), endpoint_set(3)
        one = call(endpoints)
        (await dispatcher(client, retries=9, hedge_after=1, seed=seed).dispatch(one)).close()
        assert sorted(client.asked) == ["e0", "e1", "e2"]

    run_virtually(main())


@virtually
async def test_what_is_not_hedged_is_left_like_any_other() -> None:
    """With one endpoint there is nobody to hedge with: a long silence is its failure all the same."""
    endpoints = endpoint_set(1, settings=OUT_AT_ONCE)
    shared = dispatcher(Upstreams(HANGS), hedge_after=1)
    task = asyncio.ensure_future(shared.dispatch(call(endpoints, first_token_seconds=20)))
    await asyncio.sleep(15)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert endpoints.states[0].breaker.state(now()) is BreakerState.OPEN


@virtually
async def test_a_call_begins_with_nothing_done() -> None:
    """No time was spent, nothing tried; what goes wrong is said of the endpoint that it was."""
    stats = call(endpoint_set(1)).stats
    assert (stats.first_byte, stats.read, stats.waited, stats.attempts, stats.retries) == (0.0, 0.0, 0.0, 0, 0)
    assert (stats.tried, stats.hedges, stats.failures, stats.spent) == ((), (), [], False)
    client = Upstreams(Plan(pieces=((0.0, b":" * (MAX_OPENING_BYTES + 1)),)))
    with pytest.raises(ProtocolError) as endless:
        await dispatcher(client).dispatch(call(endpoint_set(1), opening=token_opening))
    assert endless.value.endpoint_id == "e0"
    assert EndpointSet(EndpointRegistry(), [Endpoint("a", "127.0.0.1", 1)]).version == 1


@virtually
async def test_an_answer_that_comes_in_spite_of_its_end_is_closed() -> None:
    """The second of two attempts that has its answer when it is cut off gives that back."""
    closed: list[str] = []

    async def stubborn() -> Any:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            return SimpleNamespace(close=lambda: closed.append("second"))

    async def first() -> Any:
        await asyncio.sleep(2)
        return SimpleNamespace(close=lambda: closed.append("first"))

    race = Race(stubborn, lambda _: True)
    await race.run(first(), after=1)
    await asyncio.sleep(1)
    assert (closed, race.outcome) == (["second"], "lost")
