"""Whole dispatches in every order of failures, tokens, hedges, waits and clients that leave."""

import asyncio
import math
from contextlib import closing, suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from capstan_gateway.errors import UpstreamFailed
from capstan_gateway.routing.attempt import AttemptOutcome
from capstan_gateway.routing.breaker import BreakerSettings, BreakerState
from capstan_gateway.routing.registry import EndpointState
from capstan_gateway.routing.unroutable import RoutingError
from capstan_gateway.upstream.errors import UpstreamError
from support.scripted import PING, TOKEN, Plan, Upstreams, call, dispatcher, endpoint_set, token_opening
from support.virtualtime import run_virtually

MOMENTS = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0]
TOUCHY = BreakerSettings(threshold=2, open_seconds=2, successes_to_close=2, trial_lease_seconds=3)

plans = st.builds(
    Plan,
    head=st.sampled_from([0.0, 0.0, 0.5, 1.0, 2.0, math.inf]),
    pieces=st.lists(
        st.tuples(st.sampled_from([0.0, 0.5, 1.0, 2.0]), st.sampled_from([TOKEN, TOKEN, PING, b"nonsense"])), max_size=4
    ).map(tuple),
    status=st.sampled_from([200, 200, 200, 400, 429, 503, 0, -1]),
    ends=st.booleans(),
    breaks=st.booleans(),
)


def check_left_nothing(client: Upstreams, states: tuple[EndpointState, ...]) -> None:
    """No slot, no request, no connection and no task is left."""
    assert [state.in_flight for state in states] == [0] * len(states)
    assert client.open == 0
    assert all(reply.ended == 1 for reply in client.replies)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@settings(max_examples=300)
@given(
    script=st.lists(plans, min_size=1, max_size=6),
    leaves=st.none() | st.tuples(st.sampled_from(MOMENTS), st.integers(0, 4)),
    plain=st.booleans(),
    hedged=st.booleans(),
    repeatable=st.booleans(),
    rereads=st.booleans(),
    wait=st.sampled_from([0.0, 4.0]),
)
def test_whatever_happens_everything_is_given_back(
    script: list[Plan], leaves: tuple[float, int] | None, plain: bool, hedged: bool, repeatable: bool,
    rereads: bool, wait: float,
) -> None:  # fmt: skip
    """Cancelled in any turn of the loop or left alone: slots, connections and tasks are back, attempts are settled."""

    async def scenario() -> None:
        client, endpoints = Upstreams(*script), endpoint_set(3, settings=TOUCHY)
        states = endpoints.states
        shared = dispatcher(client, retries=2, hedge_after=1.0 if hedged else None)
        one = call(
            endpoints, whole_bytes=1000 if plain else 0, opening=None if plain else token_opening,
            repeatable=repeatable, wait_seconds=wait, first_token_seconds=4, idle_seconds=3,
            expires_at=asyncio.get_running_loop().time() + 12,
        )  # fmt: skip

        async def client_side() -> None:
            while True:
                with closing(await shared.dispatch(one)) as answer:
                    await asyncio.sleep(0)
                    assert sum(state.in_flight for state in states) == 1, "one answer is left"
                    if rereads and answer.status == 200:
                        assert answer.attempt.outcome in (AttemptOutcome.RUNNING, AttemptOutcome.FAILED)
                        if shared.again(one, answer, UpstreamFailed("nonsense")):
                            continue
                        return
                    while answer.whole is None and await answer.receive():
                        pass
                return

        task = asyncio.ensure_future(client_side())
        if leaves is not None:
            await asyncio.sleep(leaves[0])
            for _ in range(leaves[1]):
                await asyncio.sleep(0)
            task.cancel()
        with suppress(asyncio.CancelledError, UpstreamError, RoutingError):
            await task
        for _ in range(3):
            await asyncio.sleep(0)
        check_left_nothing(client, states)
        assert endpoints.waiting == 0
        assert all(attempt.outcome is not AttemptOutcome.RUNNING for attempt in one.stats.tried)
        sent = [attempt for attempt in one.stats.tried if attempt.sent]
        assert len(sent) <= 3 + len(one.stats.hedges)
        if not repeatable:
            assert len(sent) <= 1
            assert not one.stats.hedges
        for state in states:
            failed = [a for a in one.stats.tried if a.state is state and a.outcome is AttemptOutcome.FAILED]
            if not failed:
                assert state.breaker.state(asyncio.get_running_loop().time()) is BreakerState.CLOSED
                assert state.last_error is None

    run_virtually(scenario())


@given(
    steps=st.lists(st.sampled_from(["begin", "well", "ill", "left", "wait"]), max_size=60),
    picks=st.lists(st.integers(0, 7), min_size=60, max_size=60),
)
def test_a_breaker_counts_only_what_began_in_its_phase(steps: list[str], picks: list[int]) -> None:
    """Any order of beginnings and ends, against the plainest model: a list of what is under way, by phase."""
    from capstan_gateway.routing.breaker import UNCOUNTED, Breaker

    breaker, now = Breaker(TOUCHY), 0.0
    running: list[tuple[int, int, bool]] = []
    phase, open_, failed, well = 0, False, 0, 0
    for step, pick in zip(steps, picks, strict=False):
        if step == "wait":
            now += 0.7 * (pick + 1)
        elif step == "begin":
            allowed = breaker.allows(now)
            ticket = breaker.begin(now)
            assert (ticket == UNCOUNTED) == (open_ and not allowed)
            running.append((ticket, phase, ticket != UNCOUNTED))
        elif running:
            ticket, began, counted = running.pop(pick % len(running))
            current = counted and began == phase
            if step == "well":
                breaker.succeed(now, ticket)
                failed = 0 if current else failed
                well += current and open_
                if open_ and well >= TOUCHY.successes_to_close:
                    open_, phase, failed, well = False, phase + 1, 0, 0
            elif step == "ill":
                breaker.fail(now, ticket)
                failed += current
                if current and (open_ or failed >= TOUCHY.threshold):
                    open_, phase, failed, well = True, phase + 1, 0, 0
        assert (breaker.state(now) is BreakerState.CLOSED) == (not open_)
