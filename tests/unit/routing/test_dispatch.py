"""One dispatch in virtual time: which endpoints are asked, when it ends, and what their breakers hear of it."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import closing
from typing import Any

import pytest

from capstan_contract.kv_events import Change, Head
from capstan_gateway.errors import UpstreamFailed
from capstan_gateway.routing.attempt import AttemptOutcome
from capstan_gateway.routing.breaker import BreakerSettings, BreakerState
from capstan_gateway.routing.budget import BudgetSettings, RetryBudget
from capstan_gateway.routing.dispatch import Dispatcher
from capstan_gateway.routing.held_blocks import HeldBlocks, PromptBlocks
from capstan_gateway.routing.port import MAX_NOTES, Call
from capstan_gateway.routing.registry import EndpointState
from capstan_gateway.upstream.errors import (
    ConnectFailed,
    ConnectionLost,
    DeadlineExceeded,
    DeadlineKind,
    ProtocolError,
    UpstreamError,
)
from support.scripted import (
    HANGS,
    PING,
    TOKEN,
    Plan,
    Upstreams,
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


def virtually(scenario: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Make a test of a coroutine function whose time is virtual."""

    def test() -> None:
        run_virtually(scenario())

    test.__doc__, test.__name__ = scenario.__doc__, scenario.__name__
    return test


def now() -> float:
    """The loop's time."""
    return asyncio.get_running_loop().time()


def in_flight(states: tuple[EndpointState, ...]) -> list[int]:
    """Slots that are taken."""
    return [state.in_flight for state in states]


# --- full endpoints ---------------------------------------------------------------------------------------------------


@virtually
async def test_full_endpoints_are_not_asked_first() -> None:
    """A call goes past endpoints where it would wait, also past the one that its key prefers; when the other one fails
    it may go there all the same."""
    client, endpoints = Upstreams(by_id={"e0": WELL, "e1": WELL, "e2": REFUSED}), endpoint_set(3)
    full = frozenset(state for state in endpoints.states if state.endpoint.id != "e2")
    for number in range(8):
        one = call(endpoints, affinity=number.to_bytes(8, "big"), full=full)
        (await dispatcher(client).dispatch(one)).close()
    assert client.asked[::2] == ["e2"] * 8
    assert set(client.asked[1::2]) <= {"e0", "e1"}


# --- plain answers ----------------------------------------------------------------------------------------------------


@virtually
async def test_a_plain_answer_may_take_longer_than_a_first_token() -> None:
    """Its deadline is the total one: it is computed once, and nobody is blamed."""
    client, endpoints = Upstreams(Plan(head=90, pieces=((5.0, b"{"), (4.0, b"}")))), endpoint_set(3)
    one = call(endpoints, whole_bytes=1000, first_token_seconds=1, idle_seconds=1)
    answer = await dispatcher(client, retries=9).dispatch(one)
    assert (answer.whole, len(client.asked)) == (b"{}", 1)
    answer.close()
    assert [failures(state) for state in endpoints.states] == [0, 0, 0]
    assert one.stats.tried[0].outcome is AttemptOutcome.SUCCEEDED


@pytest.mark.parametrize("plan", [HANGS, Plan(pieces=((0.0, b"{"),), ends=False)])
def test_the_deadline_of_a_plain_answer_neither_retries_nor_blames(plan: Plan) -> None:
    """Nobody knows whether the engine hangs or the answer is long; probes find out which."""

    async def scenario() -> None:
        client, endpoints = Upstreams(plan), endpoint_set(3)
        one = call(endpoints, whole_bytes=1000, first_token_seconds=1, idle_seconds=1)
        began = now()
        with pytest.raises(DeadlineExceeded) as raised:
            await dispatcher(client, retries=9).dispatch(one)
        assert raised.value.kind is DeadlineKind.TOTAL
        assert now() - began == pytest.approx(100)
        assert len(client.asked) == 1
        assert [(failures(state), state.last_error) for state in endpoints.states] == [(0, None)] * 3
        assert in_flight(endpoints.states) == [0, 0, 0]
        assert one.stats.tried[0].outcome is AttemptOutcome.LEFT
        assert one.stats.tried[0].may_have_worked

    run_virtually(scenario())


@virtually
async def test_a_plain_answer_that_is_left_late_blames_nobody() -> None:
    """Its silence is its work."""
    client, endpoints = Upstreams(HANGS), endpoint_set(2)
    task = asyncio.ensure_future(dispatcher(client).dispatch(call(endpoints, whole_bytes=1000, first_token_seconds=1)))
    await asyncio.sleep(99)
    task.cancel()
    await asyncio.wait([task])
    assert [failures(state) for state in endpoints.states] == [0, 0]


# --- the first token --------------------------------------------------------------------------------------------------


@virtually
async def test_a_ping_is_no_first_token() -> None:
    """The deadline lasts until the first token, whatever comes before it; then another endpoint is asked."""
    pings = Plan(pieces=((0.1, PING),) * 100)
    client, endpoints = Upstreams(pings, WELL), endpoint_set(2)
    one = call(endpoints, opening=token_opening, first_token_seconds=3, idle_seconds=50)
    began = now()
    answer = await dispatcher(client, retries=1).dispatch(one)
    assert now() - began == pytest.approx(3.5)
    assert answer.opening.seen == TOKEN
    assert one.stats.failures == ["first_token-deadline"]
    bad = next(state for state in endpoints.states if state.endpoint.id == client.asked[0])
    assert (failures(bad), bad.last_error) == (1, "first_token-deadline")
    answer.close()


@virtually
async def test_behind_the_first_token_the_idle_deadline_holds() -> None:
    """And not earlier: a silence before it is measured by the first-token deadline only."""
    plan = Plan(pieces=((0.0, PING), (20.0, TOKEN)), ends=False)
    client, endpoints = Upstreams(plan), endpoint_set(1)
    answer = await dispatcher(client).dispatch(
        call(endpoints, opening=token_opening, first_token_seconds=30, idle_seconds=5)
    )
    began = now()
    with pytest.raises(DeadlineExceeded) as raised:
        await answer.receive()
    assert raised.value.kind is DeadlineKind.IDLE
    assert now() - began == pytest.approx(5)
    answer.close()
    assert failures(endpoints.states[0]) == 1
    assert in_flight(endpoints.states) == [0]


@virtually
async def test_the_average_is_of_first_tokens() -> None:
    """What comes before the token is waiting: for the average of the endpoint, and for the request's own account."""
    client, endpoints = Upstreams(Plan(pieces=((0.0, PING), (7.0, TOKEN)))), endpoint_set(2)
    answer = await dispatcher(client, hedge_after=50).dispatch(call(endpoints, opening=token_opening))
    state = next(state for state in endpoints.states if state.endpoint is answer.endpoint)
    assert state.answered_at == now()
    assert list(endpoints.first_bytes._seconds), "the hedges' own average hears of it too"
    answer.close()


@virtually
async def test_an_answer_without_an_opening_begins_with_its_first_piece() -> None:
    """What is no event stream is not searched for tokens; the factory says so by giving nothing."""
    client, endpoints = Upstreams(Plan(pieces=((1.0, b"{}"),))), endpoint_set(1)
    answer = await dispatcher(client).dispatch(call(endpoints, opening=lambda _status, _headers: None))
    assert answer.opening is None
    assert await answer.receive() == b"{}"
    answer.close()


@virtually
async def test_an_error_status_is_no_stream() -> None:
    """The opening is asked for answers only, and made anew for each attempt."""
    made = []

    def opening(status: int, headers: object) -> Any:
        made.append(status)
        return token_opening(status, headers)

    client, endpoints = Upstreams(Plan(status=503), Plan(status=400)), endpoint_set(2)
    answer = await dispatcher(client, retries=1).dispatch(call(endpoints, opening=opening))
    assert (answer.status, made) == (400, [])
    answer.close()


@virtually
async def test_a_beginning_without_a_token_is_bounded() -> None:
    """An engine that sends comments without end is cut off before it fills the memory."""
    client, endpoints = Upstreams(Plan(pieces=((0.0, b":" * (1 << 20)),) * 100)), endpoint_set(1)
    with pytest.raises(ProtocolError):
        await dispatcher(client).dispatch(call(endpoints, opening=token_opening))
    assert client.replies[0]._next <= 17
    assert client.replies[0].ended == 1
    assert failures(endpoints.states[0]) == 1
    assert in_flight(endpoints.states) == [0]


@virtually
async def test_a_body_that_ends_without_a_token_is_given() -> None:
    """What that means the reader knows."""
    client, endpoints = Upstreams(Plan(pieces=((0.0, PING),))), endpoint_set(1)
    answer = await dispatcher(client).dispatch(call(endpoints, opening=token_opening))
    assert answer.complete
    assert answer.opening.seen == PING
    answer.close()


@virtually
async def test_a_beginning_that_is_nonsense_blames_its_endpoint() -> None:
    """At once, also when nobody reads on; what its reader says later is not counted twice."""
    client, endpoints = Upstreams(Plan(pieces=((0.0, b"nonsense"),), ends=False)), endpoint_set(1)
    answer = await dispatcher(client).dispatch(call(endpoints, opening=token_opening))
    answer.blame("Reader")
    answer.close()
    state = endpoints.states[0]
    assert (failures(state), state.last_error) == (1, "Nonsense")
    assert state.latency(now()) is None, "it has not answered"


# --- how answers end --------------------------------------------------------------------------------------------------


async def _half_read(plan: Plan, *, idle: float, stay: float) -> EndpointState:
    """Read a stream with a failure before it, up to its first token, stay for a while, and leave."""
    client, endpoints = Upstreams(plan), endpoint_set(1)
    state = endpoints.states[0]
    state.breaker.fail(now())

    async def read() -> None:
        with closing(await dispatcher(client).dispatch(call(endpoints, idle_seconds=idle))) as answer:
            while await answer.receive():
                pass

    task = asyncio.ensure_future(read())
    await asyncio.sleep(stay)
    task.cancel()
    await asyncio.wait([task])
    assert in_flight(endpoints.states) == [0]
    assert [reply.ended for reply in client.replies] == [1]
    return state


STALLS = Plan(pieces=((0.0, TOKEN),), ends=False)
FLOWS = Plan(pieces=((0.0, TOKEN),) + ((1.0, TOKEN),) * 1000)


@virtually
async def test_a_stall_that_the_client_leaves_is_no_success() -> None:
    """An answer given up in the middle says neither success nor failure: what was counted before stays counted."""
    assert failures(await _half_read(STALLS, idle=60, stay=0.1)) == 1
    assert failures(await _half_read(STALLS, idle=60, stay=29.9)) == 1


@virtually
async def test_a_stall_that_lasted_when_the_client_left_is_a_failure() -> None:
    """After half of the idle deadline in silence the endpoint has failed: clients who leave do not keep it in."""
    state = await _half_read(STALLS, idle=60, stay=30.1)
    assert (failures(state), state.last_error) == (2, "silent")


@virtually
async def test_a_stream_that_flows_when_its_client_leaves_says_nothing() -> None:
    """However long it was read: only the silence at its end counts."""
    assert failures(await _half_read(FLOWS, idle=60, stay=90)) == 1


@virtually
async def test_an_answer_that_came_to_its_end_is_a_success() -> None:
    """Also one whose last frame was there, though its body has no end."""
    for plan, finish in ((Plan(), False), (STALLS, True)):
        client, endpoints = Upstreams(plan), endpoint_set(1)
        endpoints.states[0].breaker.fail(now())
        answer = await dispatcher(client).dispatch(call(endpoints))
        assert await answer.receive() == TOKEN
        if finish:
            answer.finish()
        else:
            assert await answer.receive() == b""
        answer.close()
        answer.close()
        assert failures(endpoints.states[0]) == 0
        assert client.replies[0].ended == 1


@virtually
async def test_a_refusal_is_an_answer() -> None:
    """A 4xx counts as success whether or not its body was read."""
    client, endpoints = Upstreams(Plan(status=404, pieces=((0.0, b"no"),), ends=False)), endpoint_set(1)
    endpoints.states[0].breaker.fail(now())
    (await dispatcher(client).dispatch(call(endpoints))).close()
    assert failures(endpoints.states[0]) == 0
    assert client.replies[0].ended == 1


@virtually
async def test_who_leaves_before_the_first_token_blames_only_a_long_silence() -> None:
    """The first-token deadline is the measure: half of it in silence is a failure, pings or not."""
    for plan in (HANGS, Plan(pieces=((1.0, PING),) * 1000)):
        for stay, failed in ((9.9, 0), (10.5, 1)):
            client, endpoints = Upstreams(plan), endpoint_set(1)
            one = call(endpoints, opening=token_opening, first_token_seconds=20)
            task = asyncio.ensure_future(dispatcher(client).dispatch(one))
            await asyncio.sleep(stay)
            task.cancel()
            await asyncio.wait([task])
            assert failures(endpoints.states[0]) == failed
            assert in_flight(endpoints.states) == [0]
            assert one.stats.tried[0].sent


# --- another attempt --------------------------------------------------------------------------------------------------


@virtually
async def test_no_retry_is_spent_when_every_other_breaker_is_open() -> None:
    """A 503 is the answer then; and nothing is taken from the budget."""
    for other_fails, spent in ((True, 0), (False, 1)):
        client, endpoints = Upstreams(by_id={"e0": Plan(status=503), "e1": WELL}), endpoint_set(2, settings=OUT_AT_ONCE)
        if other_fails:
            endpoints.states[1].breaker.fail(now())
        shared = dispatcher(client, retries=9)
        while "e0" not in client.asked:
            answer = await shared.dispatch(call(endpoints))
            answer.close()
        assert answer.status == (503 if other_fails else 200)
        assert shared._budget.tokens == 9 - spent


@virtually
async def test_no_retry_is_spent_on_nonsense_when_every_other_breaker_is_open() -> None:
    """The same for an answer that turned out to be none."""
    client, endpoints = Upstreams(WELL), endpoint_set(2, settings=OUT_AT_ONCE)
    endpoints.states[1].breaker.fail(now())
    shared, one = dispatcher(client, retries=9), call(endpoints)
    answer = await shared.dispatch(one)
    assert not shared.again(one, answer, UpstreamFailed("nonsense"))
    assert shared._budget.tokens == 9
    assert endpoints.states[0].last_error == "UpstreamFailed"
    assert in_flight(endpoints.states) == [0, 0]


@virtually
async def test_nonsense_goes_elsewhere_once_for_each_endpoint() -> None:
    """Its endpoint is blamed and left out; the budget pays; after the bound it is over."""
    client, endpoints = Upstreams(WELL), endpoint_set(5)
    shared, one = dispatcher(client, retries=9), call(endpoints)
    rounds = 0
    while True:
        answer = await shared.dispatch(one)
        rounds += 1
        if not shared.again(one, answer, UpstreamFailed("nonsense")):
            break
    assert (rounds, len(set(client.asked)), shared._budget.tokens) == (3, 3, 7)
    assert one.stats.failures == ["UpstreamFailed"] * 2
    assert sum(failures(state) for state in endpoints.states) == 3
    assert in_flight(endpoints.states) == [0] * 5


@virtually
async def test_nonsense_and_failures_share_one_bound() -> None:
    """An answer that was none is an attempt like any other: three are sent, whatever became of each."""
    client, endpoints = Upstreams(WELL, LOST, LOST, LOST), endpoint_set(5)
    shared, one = dispatcher(client, retries=9), call(endpoints)
    answer = await shared.dispatch(one)
    assert shared.again(one, answer, UpstreamFailed("nonsense"))
    with pytest.raises(ConnectionLost):
        await shared.dispatch(one)
    assert len(client.asked) == 3


@virtually
async def test_nothing_is_retried_when_time_is_up() -> None:
    """An attempt that could not end is not paid for."""
    client, endpoints = Upstreams(WELL), endpoint_set(2)
    shared, one = dispatcher(client, retries=9), call(endpoints)
    answer = await shared.dispatch(one)
    await asyncio.sleep(100)
    assert not shared.again(one, answer, UpstreamFailed("nonsense"))
    assert shared._budget.tokens == 9


@virtually
async def test_one_request_fills_the_budget_once() -> None:
    """Further attempts at it, and its fallbacks, are no requests of their own: retries cannot pay for retries."""
    client, endpoints = Upstreams(WELL), endpoint_set(3)
    budget = RetryBudget(BudgetSettings(share=0.25, floor_per_second=0, burst=10))
    while budget.spend(now()):
        pass
    shared, one = Dispatcher(client, budget=budget, rng=random.Random(1)), call(endpoints)  # noqa: S311
    for _ in range(3):
        (await shared.dispatch(one)).close()
    assert budget.tokens == 0.25


@virtually
async def test_fallbacks_spend_the_retry_budget() -> None:
    """Another model costs what another endpoint costs, from the same purse."""
    shared = dispatcher(Upstreams(WELL), retries=2)
    assert [shared.pay_for_fallback() for _ in range(3)] == [True, True, False]
    with pytest.raises(ConnectionLost):
        await dispatcher(Upstreams(LOST)).dispatch(call(endpoint_set(2)))


@virtually
async def test_unsent_attempts_cost_nothing_and_are_bounded_in_what_is_kept() -> None:
    """Refused connections are tried for as long as the wait allows; the record of them does not grow."""
    client, endpoints = Upstreams(REFUSED), endpoint_set(3)
    one = call(endpoints, wait_seconds=60)
    shared = dispatcher(client, retries=5)
    with pytest.raises(Exception, match="no endpoint is available"):
        await shared.dispatch(one)
    assert shared._budget.tokens == 5
    assert len(client.asked) == one.stats.attempts > 2 * MAX_NOTES
    assert len(one.stats.tried) <= MAX_NOTES + 1
    assert len(one.stats.failures) == MAX_NOTES
    assert not one.stats.spent
    assert in_flight(endpoints.states) == [0, 0, 0]


@virtually
async def test_each_attempt_is_told_for_the_bill() -> None:
    """Endpoint, whether it was sent, whether somebody may charge for it, and what became of it."""
    client, endpoints = Upstreams(REFUSED, Plan(status=503), LOST, WELL), endpoint_set(4)
    one = call(endpoints)
    (await dispatcher(client, retries=9).dispatch(one)).close()
    told = [(attempt.sent, attempt.may_have_worked, attempt.hedge, attempt.outcome) for attempt in one.stats.tried]
    assert told == [
        (False, False, False, AttemptOutcome.FAILED),
        (True, False, False, AttemptOutcome.FAILED),
        (True, True, False, AttemptOutcome.FAILED),
        (True, True, False, AttemptOutcome.LEFT),
    ]
    assert [attempt.endpoint.id for attempt in one.stats.tried] == client.asked
    assert one.stats.failures == ["ConnectFailed", "503", "ConnectionLost"]


# --- what must not be sent twice --------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", [LOST, Plan(status=503), Plan(status=429), HANGS], ids=["lost", "503", "429", "hangs"])
def test_what_is_not_repeatable_is_sent_once(plan: Plan) -> None:
    """Whatever becomes of it: no other endpoint, no second try at the same one, no hedge."""

    async def scenario() -> None:
        client, endpoints = Upstreams(plan), endpoint_set(3)
        one = call(endpoints, repeatable=False, wait_seconds=50, first_token_seconds=20)
        try:
            answer = await dispatcher(client, retries=9, hedge_after=1).dispatch(one)
        except UpstreamError:
            pass
        else:
            assert answer.status == plan.status
            answer.close()
        assert len(client.asked) == 1
        assert client.options[0]["repeatable"] is False
        assert one.stats.hedges == ()
        assert one.stats.spent

    run_virtually(scenario())


@virtually
async def test_what_is_not_repeatable_may_go_elsewhere_until_it_is_sent() -> None:
    """A refused connection made nobody act."""
    client, endpoints = Upstreams(REFUSED, WELL), endpoint_set(3)
    one = call(endpoints, repeatable=False)
    (await dispatcher(client).dispatch(one)).close()
    assert len(client.asked) == 2


@virtually
async def test_nonsense_is_not_asked_for_again_if_it_must_not_be() -> None:
    """It was sent."""
    client, endpoints = Upstreams(WELL), endpoint_set(3)
    shared, one = dispatcher(client, retries=9), call(endpoints, repeatable=False)
    answer = await shared.dispatch(one)
    assert not shared.again(one, answer, UpstreamFailed("nonsense"))
    assert shared._budget.tokens == 9


# --- hedges -----------------------------------------------------------------------------------------------------------


def _state(endpoints: Any, endpoint_id: str) -> EndpointState:
    return next(state for state in endpoints.states if state.endpoint.id == endpoint_id)


@virtually
async def test_a_first_attempt_that_fails_while_the_hedge_wins_is_recorded() -> None:
    """Its breaker hears of it, with a word, though its error is never raised."""
    for plan, word in ((Plan(head=2, status=0), "ConnectionLost"), (Plan(head=2, status=503), "503")):
        client, endpoints = Upstreams(plan, Plan(head=3)), endpoint_set(2)
        one = call(endpoints)
        (await dispatcher(client, hedge_after=1).dispatch(one)).close()
        assert one.stats.hedges == ("won",)
        loser = _state(endpoints, client.asked[0])
        assert (failures(loser), loser.last_error) == (1, word)
        assert one.stats.failures == [word]
        assert one.stats.tried[0].outcome is AttemptOutcome.FAILED
        assert loser.latency(now()) is None, "how long it would have taken nobody knows"


@virtually
async def test_a_hedge_that_fails_is_recorded_too() -> None:
    """The second attempt's failure counts against its endpoint when the first one answers."""
    for plan, word in ((Plan(head=1, status=0), "ConnectionLost"), (Plan(pieces=((1.0, b"nonsense"),)), "Nonsense")):
        client, endpoints = Upstreams(Plan(head=5), plan), endpoint_set(2)
        one = call(endpoints, opening=token_opening)
        answer = await dispatcher(client, hedge_after=1).dispatch(one)
        assert answer.endpoint.id == client.asked[0]
        assert one.stats.hedges == ("failed",)
        second = _state(endpoints, client.asked[1])
        assert (failures(second), second.last_error) == (1, word)
        assert one.stats.failures == [word]
        answer.close()
        assert in_flight(endpoints.states) == [0, 0]


@virtually
async def test_a_hedges_loser_has_not_answered() -> None:
    """It counts as slow, and is due for a probe; nothing is counted for or against it."""
    client, endpoints = Upstreams(HANGS, Plan(head=0.5)), endpoint_set(2)
    one = call(endpoints)
    answer = await dispatcher(client, hedge_after=1).dispatch(one)
    loser = _state(endpoints, client.asked[0])
    assert loser.answered_at == float("-inf")
    assert loser.latency(now()) == pytest.approx(1.5)
    assert (failures(loser), loser.last_error, loser.in_flight) == (0, None, 0)
    assert [(attempt.hedge, attempt.outcome) for attempt in one.stats.tried] == [
        (False, AttemptOutcome.LEFT),
        (True, AttemptOutcome.RUNNING),
    ]
    assert one.stats.tried[0].may_have_worked, "somebody may charge for it"
    answer.close()


@virtually
async def test_the_race_is_for_the_first_token() -> None:
    """An endpoint that sends pings is overtaken by one that sends tokens."""
    client, endpoints = Upstreams(Plan(pieces=((0.1, PING),) * 1000), Plan(head=0.5)), endpoint_set(2)
    one = call(endpoints, opening=token_opening)
    answer = await dispatcher(client, hedge_after=1).dispatch(one)
    assert answer.endpoint.id == client.asked[1]
    assert answer.opening.seen == TOKEN
    assert one.stats.hedges == ("won",)
    assert in_flight(endpoints.states).count(1) == 1
    answer.close()


@virtually
async def test_a_half_open_endpoint_keeps_its_state_through_a_hedge() -> None:
    """A trial that loses a race is no outcome: the breaker stays half-open until another trial."""
    settings = BreakerSettings(threshold=1, open_seconds=1, successes_to_close=1)
    client, endpoints = Upstreams(by_id={"e0": HANGS, "e1": Plan(head=0.5)}), endpoint_set(2, settings=settings)
    trial = endpoints.states[0]
    trial.breaker.fail(now())
    await asyncio.sleep(1)
    shared = dispatcher(client, hedge_after=1)
    while "e0" not in client.asked:
        (await shared.dispatch(call(endpoints))).close()
    assert trial.breaker.state(now()) is BreakerState.HALF_OPEN
    await asyncio.sleep(settings.trial_lease_seconds)
    assert trial.breaker.allows(now())


def test_a_call_with_its_attempts_survives_a_dispatch_that_finds_none() -> None:
    """Nothing is tried where nothing is."""

    async def scenario() -> None:
        one: Call = call(endpoint_set(0))
        with pytest.raises(Exception, match="no endpoint"):
            await dispatcher(Upstreams(WELL)).dispatch(one)
        assert (one.stats.tried, one.stats.spent) == ((), False)

    run_virtually(scenario())


def test_errors_of_unsent_attempts_come_out_as_they_are() -> None:
    """Without a wait the refused connection is the failure."""

    async def scenario() -> None:
        with pytest.raises(ConnectFailed):
            await dispatcher(Upstreams(REFUSED)).dispatch(call(endpoint_set(2)))

    run_virtually(scenario())


@virtually
async def test_a_prompt_counts_as_held_where_it_was_sent() -> None:
    """Not where nobody could be reached: equal prompts that come next do not go there for it. It is counted once."""
    client, endpoints = Upstreams(by_id={"e0": REFUSED, "e1": WELL}), endpoint_set(2)
    held = endpoints.held = HeldBlocks()
    for id_, stored in ("e0", [1, 2]), ("e1", [1]):
        held.begin(id_, Head(16, len(stored)))
        held.apply(id_, Change(stored=stored))
    prompt = PromptBlocks(64, {16: [1, 2, 3, 4]})
    answer = await dispatcher(client).dispatch(call(endpoints, prompt=prompt))
    answer.close()
    assert client.asked == ["e0", "e1"]
    assert held.held(prompt, now()) == {"e0": 32, "e1": 64}
    assert (held.prompt_tokens, held.expected_hits) == (64, 32)
