"""A model under a load that grows tenfold from one second to the next, simulated second by second."""

from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from capstan_operator.api.scaling import Scaling
from capstan_operator.scaling.decision import Now, Scaler
from capstan_operator.scaling.demand import Demand

PLACES = 8
"""Requests that a replica works on at once; each takes SERVICE seconds."""
SERVICE = 4
COLD_START = 20


@dataclass
class Engines:
    """Replicas that take COLD_START seconds to come up, and a queue in front of them."""

    scaling: Scaling
    current: int = 0
    second: int = 0
    waiting: deque[int] = field(default_factory=deque)
    running: list[int] = field(default_factory=list)
    """When each ends."""
    starting: list[int] = field(default_factory=list)
    """When each is ready."""
    ready: int = 0
    scaler: Scaler = field(default_factory=Scaler)
    desired: list[int] = field(default_factory=list)
    waits: list[int] = field(default_factory=list)

    def run(self, seconds: int, per_second: int) -> None:
        """Let so many requests come per second."""
        for _ in range(seconds):
            self._tick(per_second)

    def _tick(self, per_second: int) -> None:
        self.second += 1
        self.ready += sum(at <= self.second for at in self.starting)
        self.starting = [at for at in self.starting if at > self.second]
        self.running = [end for end in self.running if end > self.second]
        self.waiting.extend([self.second] * per_second)
        while self.waiting and len(self.running) < self.ready * PLACES:
            self.waits.append(self.second - self.waiting.popleft())
            self.running.append(self.second + SERVICE)
        demand = Demand(
            in_flight=len(self.running),
            waiting=len(self.waiting),
            oldest_wait=self.second - self.waiting[0] if self.waiting else 0,
            came=per_second > 0,
        )
        now = Now(
            datetime(2026, 5, 4, tzinfo=UTC) + timedelta(seconds=self.second), self.second, self.current, self.ready
        )
        self._become(self.scaler.decide(self.scaling, demand, now).desired)

    def _become(self, desired: int) -> None:
        self.starting += [self.second + COLD_START] * max(0, desired - self.current)
        for _ in range(self.current - desired):
            if self.starting:
                self.starting.pop()
            else:
                self.ready -= 1
        self.current = desired
        self.desired.append(desired)


def _engines() -> Engines:
    return Engines(
        Scaling.model_validate(
            {
                "min": 0,
                "max": 20,
                "targets": {"inFlightPerReplica": PLACES},
                "scaleDownStabilizationSeconds": 60,
                "idleSeconds": 90,
                "coldStartSeconds": COLD_START,
            }
        )
    )


def test_a_spike_is_met_within_two_cold_starts() -> None:
    """From 2 requests per second to 20: the replicas for it are asked for within seconds, and no wait outlasts two cold
    starts."""
    model = _engines()
    model.run(200, 2)
    assert model.current == 1  # 2 per second of 4 seconds each are the 8 places of one replica
    began = len(model.desired)
    model.waits.clear()
    model.run(120, 20)
    needed = 20 * SERVICE // PLACES
    assert max(model.desired[began : began + 5]) >= needed
    assert max(model.waits) <= 2 * COLD_START
    assert not model.waiting


def test_it_does_not_flap_on_the_way() -> None:
    """Up to the spike, then down after it: between these no replica goes and comes back."""
    model = _engines()
    model.run(200, 2)
    began = len(model.desired)
    model.run(120, 20)
    up = model.desired[began:]
    peak = up.index(max(up))
    assert up[: peak + 1] == sorted(up[: peak + 1])
    model.run(300, 2)
    down = model.desired[began + peak :]
    assert down == sorted(down, reverse=True)
    assert model.current == 1


def test_it_wakes_serves_and_sleeps_again() -> None:
    """At zero until a request comes, which is answered after one cold start; at zero again when nobody asks."""
    model = _engines()
    model.run(50, 0)
    assert model.current == 0
    model.run(1, 1)
    assert model.current == 1
    model.run(60, 0)
    assert model.waits == [COLD_START]
    assert model.current == 1
    model.run(100, 0)
    assert model.current == 0
