"""The task that probes, in virtual time: whom it asks, how, when again, and what it makes of the answers."""

import asyncio
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from capstan_gateway.routing.breaker import BreakerState
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.probe import MAX_BODY, Prober
from capstan_gateway.routing.probing import ProbeSettings, Target
from capstan_gateway.routing.registry import EndpointRegistry
from capstan_gateway.upstream.errors import DeadlineExceeded, DeadlineKind, TooManyConnections
from capstan_gateway.upstream.port import Endpoint
from support.scripted import Plan, Reply, Upstreams, settled
from support.virtualtime import run_virtually

READINESS = ProbeSettings(request_seconds=0)
WELL = Plan(pieces=((0.0, b"{}"),))


class Asked(Upstreams):
    """Endpoints that follow plans, and remember all that they were asked; a function may answer in their place."""

    def __init__(self, *plans: Plan, by_id: dict[str, Plan] | None = None) -> None:
        super().__init__(*plans, by_id=by_id)
        self.calls: list[dict[str, Any]] = []
        self.instead: Callable[[Endpoint, bytes], Plan | Exception | None] = lambda *_: None

    async def send(self, endpoint: Endpoint, **options: Any) -> Reply:  # type: ignore[override]
        now = asyncio.get_running_loop().time()
        self.calls.append({"at": now, "endpoint": endpoint, **options})
        instead = self.instead(endpoint, options["path"])
        if isinstance(instead, Exception):
            raise instead
        if instead is not None:
            self._by_id[endpoint.id] = instead
        return await super().send(endpoint, **options)


class Watch:
    """A prober over endpoints e0, e1, ..."""

    def __init__(self, client: Asked, count: int = 1, *, settings: ProbeSettings = READINESS, **target: Any) -> None:
        ends = [Endpoint(f"e{number}", "127.0.0.1", number, base_path=b"/v1") for number in range(count)]
        self.client = client
        self.endpoints = EndpointSet(EndpointRegistry(), ends)
        self.counts: list[tuple[str, str, str]] = []
        self.given = {
            "model": "m",
            "hosted": False,
            "headers": lambda: [(b"x", b"y")],
            "path": b"/chat",
            "body": b"{1}",
        }
        self.given |= target
        self.targets = self.make()
        self.prober = Prober(
            client,
            lambda: self.targets,
            rng=random.Random(1),  # noqa: S311 - jitter
            count=lambda *what: self.counts.append(what),
            settings=settings,
        )

    def make(self) -> dict[str, Target]:
        """Targets of the endpoints of now."""
        return {state.endpoint.id: Target(state, **self.given) for state in self.endpoints.states}

    async def run(self, seconds: float) -> None:
        """Probe for so long; nothing is left of it."""
        task = asyncio.ensure_future(self.prober.run())
        await asyncio.sleep(seconds)
        assert not task.done(), "a prober goes on, whatever happens"
        task.cancel()
        await settled(task)
        assert all(reply.ended for reply in self.client.replies)
        assert [state.in_flight for state in self.endpoints.states] == [0] * len(self.endpoints.states)


def paths(client: Asked) -> list[tuple[bytes, bytes]]:
    """Where it was asked, under which base path."""
    return [(call["endpoint"].base_path, call["path"]) for call in client.calls]


def gaps(client: Asked) -> list[float]:
    """Seconds between two probes."""
    moments = [call["at"] for call in client.calls]
    return [later - sooner for sooner, later in pairwise(moments)]


@pytest.mark.parametrize("seconds", [2.0, 7.0])
def test_how_it_is_asked_whether_it_is_ready(seconds: float) -> None:
    """/health at the root, with the endpoint's headers; one deadline for all of it, five seconds to connect at most."""

    async def main() -> None:
        watch = Watch(Asked(WELL), settings=replace(READINESS, readiness_timeout=seconds))
        await watch.run(0.1)
        (call,) = watch.client.calls
        assert (call["endpoint"].id, call["endpoint"].base_path, call["path"]) == ("e0", b"", b"/health")
        assert (call["method"], call["body"], call["headers"]) == (b"GET", b"", [(b"x", b"y")])
        assert call["expires_at"] == call["at"] + seconds
        assert (call["first_byte_timeout"], call["idle_timeout"]) == (seconds, seconds)
        assert (call["connect_timeout"], call["repeatable"]) == (min(seconds, 5.0), True)
        assert watch.counts == [("m", "readiness", "passed")]

    run_virtually(main())


def test_how_a_token_is_asked_for() -> None:
    """With the target's own path and body, at its base path; it takes a slot as long as it lasts."""

    async def main() -> None:
        watch = Watch(Asked(Plan(head=1.0)), settings=ProbeSettings(request_seconds=5, idle_seconds=2))
        slots: list[int] = []
        watch.client.instead = lambda *_: slots.append(watch.endpoints.states[0].in_flight)
        await watch.run(12.0)
        (call, *_), (slot, *_) = zip(
            *[(call, slot) for call, slot in zip(watch.client.calls, slots, strict=True) if call["method"] == b"POST"],
            strict=True,
        )
        assert (call["endpoint"].base_path, call["path"], call["body"]) == (b"/v1", b"/chat", b"{1}")
        assert (call["headers"], call["expires_at"]) == ([(b"x", b"y")], call["at"] + 30.0)
        assert (slot, slots[0]) == (1, 0), "a question takes none"
        assert watch.counts[0] == ("m", "readiness", "passed")
        assert ("m", "request", "passed") in watch.counts

    run_virtually(main())


@pytest.mark.parametrize(
    ("status", "passed"), [(200, True), (401, True), (429, True), (499, True), (500, False), (503, False)]
)
def test_what_is_no_server_error_is_ready(status: int, passed: bool) -> None:
    """Then it is asked again after the idle time, else after the retry time."""

    async def main() -> None:
        watch = Watch(Asked(Plan(status=status)))
        await watch.run(14.0 if passed else 1.6)
        assert set(watch.counts) == {("m", "readiness", "passed" if passed else "failed")}
        assert len(watch.client.calls) == 2
        (gap,) = gaps(watch.client)
        least, most = (7.5, 12.75) if passed else (0.75, 1.5)
        assert least <= gap <= most

    run_virtually(main())


@pytest.mark.parametrize(("status", "passed"), [(499, True), (500, False)])
def test_an_answer_below_500_is_one(status: int, passed: bool) -> None:
    """Of a token and of a list of models too; slots that others hold stay theirs, and no more is read than it takes."""

    async def main() -> None:
        watch = Watch(Asked(), settings=ProbeSettings(request_seconds=1, idle_seconds=0.5))
        watch.client.instead = lambda _, path: Plan(status=404 if path == b"/health" else status)
        state = watch.endpoints.states[0]
        state.in_flight = 3
        task = asyncio.ensure_future(watch.prober.run())
        await asyncio.sleep(8)
        task.cancel()
        await settled(task)
        assert state.in_flight == 3
        word = "passed" if passed else "failed"
        assert {count for count in watch.counts if count[1] == "request"} == {("m", "request", word)}
        assert {count for count in watch.counts if count[1] == "readiness"} == {("m", "readiness", word)}
        models = [call for call in watch.client.calls if call["path"] == b"/models"]
        assert models
        assert all(call["headers"] == [(b"x", b"y")] for call in models)
        assert {reply.asked_for[0] for reply in watch.client.replies} == {("whole", MAX_BODY)}

    run_virtually(main())


@pytest.mark.parametrize("status", [404, 405, 501])
def test_what_has_no_health_lists_its_models(status: int) -> None:
    """And is not asked for its /health again; hosted APIs never are."""

    async def main() -> None:
        watch = Watch(Asked())
        watch.client.instead = lambda _, path: Plan(status=status) if path == b"/health" else WELL
        await watch.run(30.0)
        assert paths(watch.client)[:3] == [(b"", b"/health"), (b"/v1", b"/models"), (b"/v1", b"/models")]
        assert set(watch.counts) == {("m", "readiness", "passed")}
        watch = Watch(Asked(Plan(status=status)))
        await watch.run(0.1)
        assert watch.counts == [("m", "readiness", "failed" if status == 501 else "passed")]
        hosted = Watch(Asked(WELL), hosted=True)
        for _ in range(3):
            hosted.endpoints.states[0].last_error = "ConnectFailed"
            hosted.endpoints.states[0].breaker.fail(asyncio.get_running_loop().time())
        await hosted.run(1.5)
        assert paths(hosted.client) == [(b"/v1", b"/models")]

    run_virtually(main())


def test_an_endpoint_without_its_key_is_not_asked() -> None:
    """It is looked at again after the idle time; nothing is counted for or against it."""

    async def main() -> None:
        looked: list[float] = []

        def headers() -> Sequence[tuple[bytes, bytes]] | None:
            looked.append(asyncio.get_running_loop().time())
            return None if len(looked) < 3 else ()

        watch = Watch(Asked(WELL), headers=headers)
        await watch.run(21.0)
        assert [later - looked[0] for later in looked] == pytest.approx([0.0, 10.0, 20.0], abs=0.5)
        assert (len(watch.client.calls), watch.counts) == (1, [("m", "readiness", "passed")])

    run_virtually(main())


def test_our_own_limits_are_no_failed_probe() -> None:
    """They are tried again soon, and count for nothing; a deadline is the endpoint's, whichever it is."""

    async def main() -> None:
        watch = Watch(Asked(WELL))
        watch.client.instead = lambda *_: TooManyConnections("e0", "full")
        await watch.run(3.5)
        assert [gap for gap in gaps(watch.client) if not 0.9 <= gap <= 1.3] == []
        assert len(watch.client.calls) in (3, 4)
        assert watch.counts == []
        assert watch.endpoints.states[0].last_error is None
        watch = Watch(Asked(WELL))
        watch.client.instead = lambda *_: DeadlineExceeded("e0", DeadlineKind.TOTAL)
        await watch.run(0.1)
        assert watch.counts == [("m", "readiness", "failed")]
        assert watch.endpoints.states[0].last_error == "probe"

    run_virtually(main())


def test_a_bug_in_one_probe_ends_no_other() -> None:
    """It is counted, and that endpoint is left for as long as it takes until a request is due."""

    async def main() -> None:
        watch = Watch(Asked(WELL), 2, settings=ProbeSettings(request_seconds=40, idle_seconds=10), body=b"")
        watch.client.instead = lambda endpoint, _: LookupError("a bug") if endpoint.id == "e0" else None
        await watch.run(41.0)
        asked = [call["endpoint"].id for call in watch.client.calls]
        assert asked.count("e0") == 2
        assert asked.count("e1") >= 3
        assert watch.counts.count(("m", "readiness", "failed")) == 2
        assert ("m", "readiness", "passed") in watch.counts

    run_virtually(main())


def test_three_failures_take_an_endpoint_out_and_three_answers_bring_it_back() -> None:
    """Without a client's request; a trial each."""

    async def main() -> None:
        client = Asked(Plan(status=503))
        watch = Watch(client)
        breaker = watch.endpoints.states[0].breaker
        now = asyncio.get_running_loop().time
        task = asyncio.ensure_future(watch.run(30.0))
        await asyncio.sleep(3.2)
        assert (breaker.state(now()) is BreakerState.CLOSED, len(client.calls)) == (False, 3)
        client.instead = lambda *_: WELL
        await asyncio.sleep(5.0)
        assert breaker.state(now()) is BreakerState.CLOSED
        assert watch.counts == [("m", "readiness", "failed")] * 3 + [("m", "readiness", "passed")] * 3
        assert watch.endpoints.states[0].last_error is None
        await task

    run_virtually(main())


def test_only_so_many_at_once_and_each_by_one_probe() -> None:
    """The others have their turn when one of those has ended."""

    async def main() -> None:
        settings = replace(READINESS, max_concurrency=2, readiness_timeout=4.0)
        watch = Watch(Asked(Plan(head=math.inf)), 5, settings=settings)
        task = asyncio.ensure_future(watch.run(12.5))
        await asyncio.sleep(3.9)
        assert [call["endpoint"].id for call in watch.client.calls] == ["e0", "e1"]
        await asyncio.sleep(0.5)
        assert len(watch.client.calls) == 4
        assert len({call["endpoint"].id for call in watch.client.calls}) == 4, "who was asked last waits"
        assert watch.client.open == 2
        await task
        assert watch.client.open == 0

    run_virtually(main())


def test_targets_that_change() -> None:
    """One that stays keeps its schedule, a new one is asked at once, and the probe of one that left is cut off."""

    async def main() -> None:
        watch = Watch(Asked(by_id={"e0": WELL, "e1": Plan(head=math.inf), "e2": WELL}), 3)
        both = dict(list(watch.targets.items())[:2])
        late = watch.targets["e2"]
        watch.targets = both
        task = asyncio.ensure_future(watch.run(5.0))
        await asyncio.sleep(1.0)
        assert watch.prober.known == {"e0", "e1"}
        assert watch.client.open == 1
        watch.targets["e2"] = late
        await asyncio.sleep(1.0)
        assert watch.prober.known == {"e0", "e1"}, "the same mapping is not looked through again"
        watch.targets = {"e0": both["e0"], "e2": late}
        await asyncio.sleep(1.0)
        assert watch.prober.known == {"e0", "e2"}
        assert watch.client.open == 0
        assert [call["endpoint"].id for call in watch.client.calls] == ["e0", "e1", "e2"]
        assert len(watch.counts) == 2
        await task

    run_virtually(main())


def test_without_an_idle_time_there_are_no_probes() -> None:
    """The job has nothing to do, and ends."""

    async def main() -> None:
        watch = Watch(Asked(WELL), settings=ProbeSettings(idle_seconds=0))
        await asyncio.wait_for(watch.prober.run(), 1)
        assert watch.client.calls == []
        watch = Watch(Asked(WELL), settings=ProbeSettings(idle_seconds=0.5))
        await watch.run(0.1)
        assert len(watch.client.calls) == 1

    run_virtually(main())


def test_a_probe_that_ends_late_is_not_taken_for_a_clients_trial() -> None:
    """Its endpoint went out and is being tried by a client meanwhile: what the probe says is of another time."""

    async def main() -> None:
        watch = Watch(Asked(Plan(head=4.0, status=503)), settings=replace(READINESS, readiness_timeout=9.0))
        state, now = watch.endpoints.states[0], asyncio.get_running_loop().time
        task = asyncio.ensure_future(watch.prober.run())
        await asyncio.sleep(0.5)
        for _ in range(3):
            state.breaker.fail(now() - 100)
        state.last_error = "500"
        trial = state.breaker.begin(now())
        await asyncio.sleep(5)
        assert watch.counts == [("m", "readiness", "failed")]
        assert (state.breaker.state(now()), state.last_error) == (BreakerState.HALF_OPEN, "500")
        assert state.breaker.counts(trial)
        task.cancel()
        await settled(task)

    run_virtually(main())
