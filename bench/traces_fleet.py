"""Simulators that a scaler starts and ends, as it decides by what is asked of the model.

The decision is the operator's own (`capstan_operator.scaling`), in the time of the trace: what a gateway says in
seconds is so many times `speed` there. Processes stand by, not healthy, so that a cold start takes as long as it is
meant to take, however busy the machine is; they count as GPUs from the decision on.
"""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from capstan_contract.demand import ModelDemand
from capstan_gateway.upstream.errors import UpstreamError
from capstan_gateway.upstream.http1 import Http1Client
from capstan_gateway.upstream.port import Endpoint
from capstan_operator.api.scaling import Scaling, ScalingTargets
from capstan_operator.scaling.decision import Now, Scaler
from capstan_operator.scaling.demand import add_up

MOST: Final = 6
COLD_START: Final = 30
"""Seconds of the trace's time from the decision until a replica is ready."""
DOWN: Final = 60
"""`scaleDownStabilizationSeconds`, of the trace's time."""
LEAVE_SECONDS: Final = 0.5
"""From a replica's leaving the endpoints to its signal, for the gateway to hear of it."""
LEAST_TICK: Final = 0.1
LOADING_SECONDS: Final = 4.0
"""What a new process says that it loads: within it, it is told that it is not healthy."""


@dataclass
class Replica:
    """A simulator's process."""

    process: "subprocess.Popen[bytes]"
    port: int
    worker_port: int
    began: float = 0.0
    """When it was decided that there should be one more."""
    warm_at: float = 0.0
    """When it becomes ready; 0: it stands by."""
    told: bool | None = None
    """Whether it was told last that it is healthy."""
    ended: float | None = None
    ready: bool = False
    leaving: bool = False

    @property
    def url(self) -> str:
        """Where its API is."""
        return f"http://127.0.0.1:{self.port}"


@dataclass
class Fleet:
    """All replicas of the model, in one run."""

    flags: Callable[[int, int], Sequence[str]]
    """Give a simulator's flags, by its two ports."""
    demand: Callable[[], Awaitable[ModelDemand | None]]
    """Say what is asked of the model, in seconds of the run."""
    publish: Callable[[Sequence[Replica]], None]
    """Make these the endpoints."""
    client: Http1Client
    ports: Callable[[], int]
    speed: float
    target: int
    """`inFlightPerReplica`."""
    replicas: list[Replica] = field(default_factory=list)
    standby: list[Replica] = field(default_factory=list)
    most: int = 0
    """Most replicas that there were."""

    def __post_init__(self) -> None:
        self._scaler = Scaler()
        self._before: ModelDemand | None = None
        self._published: list[Replica] = []
        self._leaving: set[asyncio.Task[None]] = set()
        self._scaling = Scaling(
            min=1, max=MOST, scaleDownStabilizationSeconds=DOWN, coldStartSeconds=COLD_START,
            targets=ScalingTargets(inFlightPerReplica=self.target),
        )  # fmt: skip

    @property
    def serving(self) -> list[Replica]:
        """Those that requests may go to."""
        return [one for one in self.replicas if one.ready and not one.leaving]

    async def begin(self, count: int) -> None:
        """Start so many, and wait until they are ready."""
        for _ in range(MOST):
            self._stand_by()
        for _ in range(count):
            self._start(0.0)
        until = time.monotonic() + 120
        while not all(one.ready for one in self.replicas) or any(one.told is None for one in self.standby):
            if time.monotonic() > until:
                raise SystemExit("error: the simulators do not become ready")
            await self._look()
            await asyncio.sleep(0.1)

    async def run(self) -> None:
        """Decide again and again, until cancelled."""
        tick = max(1.0 / self.speed, LEAST_TICK)
        while True:
            await self._look()
            await self._decide()
            await asyncio.sleep(tick)

    def gpu_seconds(self, since: float, until: float) -> float:
        """Give how long replicas were there in all, of the trace's time."""
        return self.speed * sum(
            max(min(one.ended or until, until) - max(one.began, since), 0.0) for one in self.replicas
        )

    def end(self) -> None:
        """Kill whatever is left."""
        for task in self._leaving:
            task.cancel()
        for one in (*self.replicas, *self.standby):
            one.process.kill()
            one.process.wait()

    def _start(self, cold: float) -> None:
        if not self.standby:
            self._stand_by()
        one = self.standby.pop(0)
        one.began = time.monotonic()
        one.warm_at = one.began + cold
        self.replicas.append(one)
        self.most = max(self.most, sum(not one.leaving for one in self.replicas))

    def _stand_by(self) -> None:
        port, worker_port = self.ports(), self.ports()
        flags = (*self.flags(port, worker_port), f"--startup-seconds={LOADING_SECONDS}")
        process = subprocess.Popen(
            [sys.executable, "-m", "capstan_worker", "simulator", *flags],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.standby.append(Replica(process, port, worker_port))

    async def _look(self) -> None:
        now = time.monotonic()
        for one in (*self.standby, *self.replicas):
            healthy = 0.0 < one.warm_at <= now
            if one.told is not healthy and not one.leaving and await self._tell(one, healthy=healthy):
                one.told = healthy
        for one in self.replicas:
            if one.told and not one.ready and not one.leaving:
                one.ready = await self._is_ready(one)
            if one.leaving and one.ended is None and one.process.poll() is not None:
                one.ended = time.monotonic()
        if self.serving != self._published:
            self._published = self.serving
            self.publish(self._published)

    async def _tell(self, one: Replica, *, healthy: bool) -> bool:
        """Tell a simulator whether it is healthy; say whether it has heard it."""
        body = b'{"healthy": true}' if healthy else b'{"healthy": false}'
        return await self._ask(one, b"PUT", b"/simulator/settings", body)

    async def _is_ready(self, one: Replica) -> bool:
        return await self._ask(one, b"GET", b"/readyz")

    async def _ask(self, one: Replica, method: bytes, path: bytes, body: bytes = b"") -> bool:
        if one.process.poll() is not None:
            raise SystemExit(f"error: a simulator ended with {one.process.returncode}")
        worker = Endpoint(id=f"worker-{one.worker_port}", host="127.0.0.1", port=one.worker_port)
        try:
            response = await self.client.send(worker, method=method, path=path, body=body, first_byte_timeout=5.0)
            await response.read(1 << 16)
        except UpstreamError:
            return False
        return response.status == 200

    async def _decide(self) -> None:
        said = await self.demand()
        said = None if said is None else _in_trace_time(said, self.speed)
        there = [one for one in self.replicas if not one.leaving]
        now = Now(datetime.now(UTC), time.monotonic() * self.speed, len(there), len(self.serving))
        desired = self._scaler.decide(self._scaling, add_up([(said, self._before)]), now).desired
        self._before = said or self._before
        for _ in range(desired - len(there)):
            self._start(COLD_START / self.speed)
        # As a Deployment does: those that are not ready go first, then the youngest.
        for one in sorted(there, key=lambda one: (one.ready, -one.began))[: max(len(there) - desired, 0)]:
            one.leaving = True
            task = asyncio.create_task(self._leave(one))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def _leave(self, one: Replica) -> None:
        await asyncio.sleep(LEAVE_SECONDS)
        one.process.send_signal(signal.SIGTERM)
        self._stand_by()


def _in_trace_time(said: ModelDemand, speed: float) -> ModelDemand:
    first = said.firstTokenP95Seconds
    queue = said.queue
    return said.model_copy(
        update={
            "oldestWaitSeconds": said.oldestWaitSeconds * speed,
            "arrivalsPerSecond": said.arrivalsPerSecond / speed,
            "rejectedPerSecond": said.rejectedPerSecond / speed,
            "tokensPerSecond": said.tokensPerSecond / speed,
            "firstTokenP95Seconds": None if first is None else first * speed,
            "queue": queue and queue.model_copy(update={"oldestWaitSeconds": queue.oldestWaitSeconds * speed}),
        }
    )
