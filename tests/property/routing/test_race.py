"""Hedged requests, in every order in which two attempts and a client can end."""

import asyncio
import math
import random
from contextlib import suppress
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.routing.breaker import BreakerSettings
from capstan_gateway.routing.budget import BudgetSettings, RetryBudget
from capstan_gateway.routing.dispatch import Dispatcher
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.hedge import HedgeSettings, Hedging
from capstan_gateway.routing.port import Call
from capstan_gateway.routing.registry import EndpointRegistry
from capstan_gateway.upstream.errors import ConnectionLost, UpstreamError
from capstan_gateway.upstream.port import Endpoint, Headers
from support.virtualtime import run_virtually

AFTER = 1.0


@dataclass(frozen=True)
class Plan:
    """What an endpoint does with a request."""

    head: float
    """Seconds to the head of the answer."""
    body: float
    """Seconds from there to its first piece."""
    status: int
    """0: the connection is lost instead."""


class Reply:
    """A response that follows a plan, and counts how often its connection is ended."""

    def __init__(self, plan: Plan) -> None:
        self.status = plan.status
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False
        self.body_began = False
        self.ended = 0
        self._plan = plan

    async def wait_body(self) -> None:
        """Wait as planned."""
        await asyncio.sleep(self._plan.body)

    async def receive(self) -> bytes:
        """Give the whole body, once."""
        if self.complete:
            return b""
        self.complete = True
        self.ended += 1
        return b"answer"

    async def read_beginning(self, max_bytes: int) -> bytes:
        return b""

    async def read(self, max_bytes: int) -> bytes:
        """Give the body."""
        return (await self.receive())[:max_bytes]

    def abort(self) -> None:
        """End the connection; harmless when it has ended."""
        if not self.ended:
            self.ended += 1
        self.complete = True


class Upstreams:
    """An upstream client whose endpoints follow plans in turn: the first request gets the first plan."""

    def __init__(self, *plans: Plan) -> None:
        self._plans = list(plans)
        self.replies: list[Reply] = []
        self.open = 0
        """Requests of which there is no head yet."""
        self.asked: list[str] = []

    async def send(
        self,
        endpoint: Endpoint,
        *,
        method: bytes,
        path: bytes,
        headers: Headers = (),
        body: bytes = b"",
        connect_timeout: float = 5.0,
        first_byte_timeout: float = 120.0,
        idle_timeout: float = 60.0,
        expires_at: float = math.inf,
        repeatable: bool = False,
    ) -> Reply:
        """Follow the next plan."""
        plan = self._plans[len(self.asked) % len(self._plans)]
        self.asked.append(endpoint.id)
        self.open += 1
        try:
            await asyncio.sleep(plan.head)
        finally:
            self.open -= 1
        if not plan.status:
            raise ConnectionLost(endpoint.id, "lost")
        self.replies.append(Reply(plan))
        return self.replies[-1]

    def close_idle(self, endpoint_id: str) -> None:
        """There is nothing idle."""

    async def aclose(self) -> None:
        """There is nothing to close."""


def dispatcher(client: Upstreams, *, share: float = 1.0) -> Dispatcher:
    """A dispatcher that hedges after a second, and never retries."""
    return Dispatcher(
        client,
        budget=RetryBudget(BudgetSettings(share=0, floor_per_second=0, burst=0)),
        rng=random.Random(3),  # noqa: S311 - a test's choices
        hedging=Hedging(HedgeSettings(share=share, burst=5, after_seconds=AFTER)),
    )


def call(endpoints: EndpointSet) -> Call:
    """A stream."""
    return Call(endpoints=endpoints, path=b"/x", expires_at=asyncio.get_running_loop().time() + 100)


def endpoint_set(count: int = 2) -> EndpointSet:
    """Endpoints whose breakers never open."""
    registry = EndpointRegistry(settings=BreakerSettings(threshold=1_000_000))
    return EndpointSet(registry, [Endpoint(f"e{number}", "127.0.0.1", 1000 + number) for number in range(count)])


plans = st.builds(
    Plan,
    head=st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 3.0]),
    body=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    status=st.sampled_from([200, 200, 400, 503, 0]),
)


@given(first=plans, second=plans, leaves=st.none() | st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]))
def test_one_answer_is_left_and_everything_else_is_ended_once(first: Plan, second: Plan, leaves: float | None) -> None:
    """Whatever is first: no slot stays taken, each connection ends once, and the best answer there is counts."""

    async def scenario() -> None:
        client, endpoints = Upstreams(first, second), endpoint_set()
        one = call(endpoints)
        status: int | None = None
        began = asyncio.get_running_loop().time()

        async def client_side() -> None:
            nonlocal status
            async with await dispatcher(client).dispatch(one) as answer:
                assert sum(state.in_flight for state in endpoints.states) >= 1
                status = answer.status
                assert await answer.read(100) == b"answer"
                await asyncio.sleep(0)
                loser = sum(state.in_flight for state in endpoints.states) - 1
                assert loser == 0, "the loser is cut off at once, not at the end of the answer"

        task = asyncio.create_task(client_side())
        done, _ = await asyncio.wait([task], timeout=leaves)
        if not done:
            task.cancel()
        with suppress(asyncio.CancelledError, UpstreamError):
            await task
        took = asyncio.get_running_loop().time() - began
        await asyncio.sleep(0)
        assert [state.in_flight for state in endpoints.states] == [0, 0]
        assert client.open == 0
        assert all(reply.ended == 1 for reply in client.replies)
        assert len(client.asked) <= 2
        assert len(set(client.asked)) == len(client.asked)
        if not done:
            return
        if first.head + (first.body if first.status else 0) < AFTER:
            assert len(client.asked) == 1, "what is in time is not hedged"
        good = [
            at + plan.head + plan.body
            for at, plan in ((0.0, first), (AFTER, second))
            if plan.status in (200, 400) and (at == 0.0 or len(client.asked) == 2)
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
            client = Upstreams(Plan(3.0 if is_late else 0.1, 0.0, 200), Plan(0.1, 0.0, 200))
            budget = RetryBudget()
            shared = Dispatcher(client, budget=budget, rng=random.Random(number), hedging=hedging)  # noqa: S311
            async with await shared.dispatch(call(endpoints)) as answer:
                assert answer.status == 200
            sent += len(client.asked) - 1
            assert sent <= 5 + share * number
            assert budget.tokens == 100, "hedges take nothing from the retries"

    run_virtually(scenario())


def test_a_late_first_token_is_overtaken_and_the_slow_endpoint_remembered() -> None:
    """The answer of the second endpoint is given, and the first one counts as slow from then on."""

    async def scenario() -> None:
        client, endpoints = Upstreams(Plan(60, 0, 200), Plan(0.5, 0, 200)), endpoint_set()
        one = call(endpoints)
        async with await dispatcher(client).dispatch(one) as answer:
            assert answer.endpoint.id == client.asked[1]
        assert one.stats.hedges == ("won",)
        assert (one.stats.attempts, one.stats.retries) == (2, 0)
        slow = next(state for state in endpoints.states if state.endpoint.id == client.asked[0])
        assert slow.latency(asyncio.get_running_loop().time()) is not None

    run_virtually(scenario())


def test_a_first_answer_that_is_no_good_waits_for_the_second() -> None:
    """A 503 while the second attempt is under way: its slot is free as soon as the second one has answered."""

    async def scenario() -> None:
        client, endpoints = Upstreams(Plan(2, 0, 503), Plan(3, 0, 200)), endpoint_set()
        one = call(endpoints)
        async with await dispatcher(client).dispatch(one) as answer:
            assert answer.status == 200
            assert sum(state.in_flight for state in endpoints.states) == 1
            assert [reply.ended for reply in client.replies] == [1, 0]
        assert one.stats.hedges == ("won",)

    run_virtually(scenario())


def test_a_client_that_leaves_while_the_second_is_waited_for_leaves_nothing() -> None:
    """The first answer was a 503, the second one is not there yet: both slots are free at once."""

    async def scenario() -> None:
        client, endpoints = Upstreams(Plan(2, 0, 503), Plan(30, 0, 200)), endpoint_set()
        one = call(endpoints)
        task = asyncio.ensure_future(dispatcher(client).dispatch(one))
        await asyncio.sleep(5)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert [state.in_flight for state in endpoints.states] == [0, 0]
        assert one.stats.hedges == ("abandoned",)
        assert client.replies[0].ended == 1

    run_virtually(scenario())
