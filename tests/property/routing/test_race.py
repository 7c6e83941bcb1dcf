"""Hedged requests, in every order in which two attempts and a client can end."""

import asyncio
import math
import random
from contextlib import closing, suppress

from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.routing.attempt import AttemptOutcome
from capstan_gateway.routing.budget import RetryBudget
from capstan_gateway.routing.dispatch import Dispatcher
from capstan_gateway.routing.hedge import HedgeSettings, Hedging
from capstan_gateway.upstream.errors import UpstreamError
from support.scripted import PING, TOKEN, Plan, Upstreams, call, dispatcher, endpoint_set, failures, token_opening
from support.virtualtime import run_virtually

AFTER = 1.0


def plan(head: float, token: float, status: int, *, pings: int = 0) -> Plan:
    """An endpoint that gives its head after a while, and a token later; status 0: the connection is lost instead."""
    before = ((0.0, PING),) * pings
    return Plan(head=head, pieces=(*before, (token, TOKEN)), status=status)


def begins(one: Plan) -> float:
    """Seconds from the request to the first token; to the refusal or the loss of the connection, if there is none."""
    return one.head + (sum(seconds for seconds, _ in one.pieces) if one.status == 200 else 0)


plans = st.builds(
    plan,
    head=st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 3.0]),
    token=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    status=st.sampled_from([200, 200, 400, 503, 0]),
    pings=st.sampled_from([0, 0, 2]),
)


@given(first=plans, second=plans, leaves=st.none() | st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]))
def test_one_answer_is_left_and_everything_else_is_ended_once(first: Plan, second: Plan, leaves: float | None) -> None:
    """Whatever is first: no slot stays taken, each connection ends once, and the best answer there is counts."""

    async def scenario() -> None:
        client, endpoints = Upstreams(first, second), endpoint_set()
        one = call(endpoints, opening=token_opening)
        status: int | None = None
        took = math.inf
        began = asyncio.get_running_loop().time()

        async def client_side() -> None:
            nonlocal status, took
            with closing(await dispatcher(client, hedge_after=AFTER).dispatch(one)) as answer:
                assert sum(state.in_flight for state in endpoints.states) >= 1
                status, took = answer.status, asyncio.get_running_loop().time() - began
                begun = b"" if answer.opening is None else answer.opening.seen
                assert TOKEN in begun + await answer.read(100)
                await asyncio.sleep(0)
                loser = sum(state.in_flight for state in endpoints.states) - 1
                assert loser == 0, "the loser is cut off at once, not at the end of the answer"

        task = asyncio.create_task(client_side())
        done, _ = await asyncio.wait([task], timeout=leaves)
        if not done:
            task.cancel()
        with suppress(asyncio.CancelledError, UpstreamError):
            await task
        await asyncio.sleep(0)
        assert [state.in_flight for state in endpoints.states] == [0, 0]
        assert client.open == 0
        assert all(reply.ended == 1 for reply in client.replies)
        assert len(client.asked) <= 2
        assert len(set(client.asked)) == len(client.asked)
        assert [attempt.endpoint.id for attempt in one.stats.tried] == client.asked
        for attempt in one.stats.tried:
            assert attempt.outcome is not AttemptOutcome.RUNNING
            failed = attempt.outcome is AttemptOutcome.FAILED
            assert failures(attempt.state) == failed, "what fails is counted once, and what is cut off is not"
        if not done:
            return
        if begins(first) < AFTER:
            assert len(client.asked) == 1, "what is in time is not hedged"
        good = [
            at + begins(one_plan)
            for at, one_plan in ((0.0, first), (AFTER, second))
            if one_plan.status in (200, 400) and (at == 0.0 or len(client.asked) == 2)
        ]
        if good:
            assert status in (200, 400)
            assert took <= min(good) + 1e-6, "who begins first wins"
        assert len(one.stats.hedges) == len(client.asked) - 1

    run_virtually(scenario())


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.sampled_from([0.0, 0.02, 0.3]))
def test_the_budget_of_hedges_is_never_exceeded(late: list[bool], share: float) -> None:
    """Whatever is late: second attempts <= burst + share * requests, and without budget the first one is waited for."""

    async def scenario() -> None:
        endpoints, sent = endpoint_set(3), 0
        hedging = Hedging(HedgeSettings(share=share, burst=5, after_seconds=AFTER))
        for number, is_late in enumerate(late, 1):
            client = Upstreams(plan(3.0 if is_late else 0.1, 0.0, 200), plan(0.1, 0.0, 200))
            budget = RetryBudget()
            shared = Dispatcher(client, budget=budget, rng=random.Random(number), hedging=hedging)  # noqa: S311
            with closing(await shared.dispatch(call(endpoints))) as answer:
                assert answer.status == 200
            sent += len(client.asked) - 1
            assert sent <= 5 + share * number
            assert budget.tokens == 100, "hedges take nothing from the retries"

    run_virtually(scenario())


def test_a_late_first_token_is_overtaken_and_the_slow_endpoint_remembered() -> None:
    """The answer of the second endpoint is given, and the first one counts as slow from then on."""

    async def scenario() -> None:
        client, endpoints = Upstreams(plan(60, 0, 200), plan(0.5, 0, 200)), endpoint_set()
        one = call(endpoints)
        with closing(await dispatcher(client, hedge_after=AFTER).dispatch(one)) as answer:
            assert answer.endpoint.id == client.asked[1]
        assert one.stats.hedges == ("won",)
        assert (one.stats.attempts, one.stats.retries) == (2, 0)
        slow = next(state for state in endpoints.states if state.endpoint.id == client.asked[0])
        assert slow.latency(asyncio.get_running_loop().time()) is not None

    run_virtually(scenario())


def test_a_first_answer_that_is_no_good_waits_for_the_second() -> None:
    """A 503 while the second attempt is under way: its slot is free as soon as the second one has answered."""

    async def scenario() -> None:
        client, endpoints = Upstreams(plan(2, 0, 503), plan(3, 0, 200)), endpoint_set()
        one = call(endpoints)
        with closing(await dispatcher(client, hedge_after=AFTER).dispatch(one)) as answer:
            assert answer.status == 200
            assert sum(state.in_flight for state in endpoints.states) == 1
            assert [reply.ended for reply in client.replies] == [1, 0]
        assert one.stats.hedges == ("won",)

    run_virtually(scenario())


def test_a_client_that_leaves_while_the_second_is_waited_for_leaves_nothing() -> None:
    """The first answer was a 503, the second one is not there yet: both slots are free at once."""

    async def scenario() -> None:
        client, endpoints = Upstreams(plan(2, 0, 503), plan(30, 0, 200)), endpoint_set()
        one = call(endpoints)
        task = asyncio.ensure_future(dispatcher(client, hedge_after=AFTER).dispatch(one))
        await asyncio.sleep(5)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert [state.in_flight for state in endpoints.states] == [0, 0]
        assert one.stats.hedges == ("abandoned",)
        assert client.replies[0].ended == 1

    run_virtually(scenario())
