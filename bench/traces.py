"""Is Auto at least as good as sending directly, as always queueing, and as a plain Service? Public traces say.

    trace ──► this process ──► capstan-gateway ──► 1 to 6 simulators ◄── this process, which scales them
                                     └──► Redis ◄──┘

The same requests at the same times, four times by turns: with `dispatch` Queue, Direct and Auto through a gateway, and
in turns to the simulators themselves, as a Service of Kubernetes does without any gateway. All four are scaled by the
operator's decision function, by what the gateway says is asked of the model; for the Service by how many requests this
process has in flight. Everything takes place `--speed` times as fast as in the trace: when requests come, how fast
engines are, how long a replica takes to come up, and the deadlines. All seconds that are told are those of the trace.

A request is good when it is answered, its first token came within FIRST seconds and the time that an idle engine takes
to read its prompt, and its further ones PER_TOKEN seconds apart in the mean (as in DistServe, OSDI '24).
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from traces_fleet import COLD_START, DOWN, MOST, Fleet, Replica
from traces_load import ANSWER_SCALE, MODEL, PROMPT_SCALE, TRACES, Request, Trace, requests_of
from traces_virtual import World

from capstan_contract.config import Dispatch, ModelEntry, ModelQueue
from capstan_contract.demand import DEMAND_PATH, ModelDemand, read_demand
from capstan_gateway.upstream.errors import UpstreamError
from capstan_gateway.upstream.http1 import Http1Client
from capstan_gateway.upstream.port import Endpoint
from support.gateway import entry
from support.gateway_process import GatewayProcess, gateway_process
from support.ports import free_port
from support.redis_server import RedisServer

SERVICE: Final = "Service"
VARIANTS: Final = (Dispatch.QUEUE.value, Dispatch.DIRECT.value, Dispatch.AUTO.value, SERVICE)
FIRST: Final = 3.0
PER_TOKEN: Final = 0.1
PATIENCE: Final = 60.0
"""After so many seconds without a first token a client leaves."""
LONGEST: Final = 300.0
"""After so many seconds it does in any case."""
FULL_SHARE: Final = 0.75
"""Of an engine's places: what `inFlightPerReplica` aims at."""
LEAST_IDLE: Final = 0.15
"""Of the machine's cores: with less a run is marked, as it may tell of the machine."""
LOOK_SECONDS: Final = 0.02
SLOWDOWN: Final = 0.25
"""A token takes so much longer in a full batch."""
BEGIN: Final = 4
"""Replicas at the start."""
ADMIN_KEY: Final = "bench-of-public-traces"
CONTEXT: Final = 16384
BLOCKS: Final = 2048


@dataclass(frozen=True)
class Outcome:
    """What became of one request, in the trace's time."""

    at: float
    first: float
    """Seconds to the first token; PATIENCE where none came."""
    per_token: float
    """Seconds between two tokens, in the mean."""
    good: bool
    failure: str = ""
    queued: bool = False


@dataclass(frozen=True)
class Result:
    """What one run was like."""

    trace: str
    variant: str
    seed: int
    goodput: float
    """Share of the requests that were good."""
    p99: float
    """Seconds to the first token."""
    p50: float
    gpu_seconds: float
    most: int
    """Most replicas at a time."""
    failed: int
    late: int
    """Whose first token was late."""
    slow: int
    """Whose further ones were."""
    queued: float
    """Share that went by the queue."""
    idle: float
    """Share of the machine's time in which it had nothing to do."""
    lag: float
    """Seconds that this process was late, in 99 of 100 looks at most."""


# --- one request ------------------------------------------------------------------------------------------------------


class Replay:
    """Sends the requests of one run."""

    def __init__(self, client: Http1Client, target: Callable[[], Endpoint | None], speed: float) -> None:
        """`target` says where the next request goes."""
        self.in_flight = 0
        self.arrived = 0
        self._client = client
        self._target = target
        self._speed = speed

    async def run(self, requests: Sequence[Request]) -> list[Outcome]:
        """Send them all in their times."""
        started = asyncio.get_running_loop().time() + 0.2
        return list(await asyncio.gather(*(self._send(request, started) for request in requests)))

    async def _send(self, request: Request, started: float) -> Outcome:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, started + request.at / self._speed - loop.time()))
        began = started + request.at / self._speed  # NB: what this process itself is late counts too.
        self.in_flight += 1
        self.arrived += 1
        first = last = 0.0
        failure, queued = "", False
        try:
            async with asyncio.timeout_at(began + PATIENCE / self._speed) as patience:
                target = self._target()
                if target is None:
                    raise UpstreamError("none", "no replica")
                response = await self._client.send(
                    target, method=b"POST", path=b"/v1/chat/completions", body=request.body,
                    headers=((b"content-type", b"application/json"),),
                )  # fmt: skip
                try:
                    queued = any(name == b"x-capstan-queue-place" for name, _ in response.headers)
                    text = b""
                    while piece := await response.receive():
                        last = loop.time()
                        if not first:
                            first = last
                            patience.reschedule(began + LONGEST / self._speed)
                        text = text[-200:] + piece
                finally:
                    response.abort()
                if response.status != 200:
                    failure = str(response.status)
                elif b"[DONE]" not in text:
                    failure = "broken off"
        except TimeoutError:
            failure = "left"
        except UpstreamError as error:
            failure = type(error).__name__
        finally:
            self.in_flight -= 1
        seconds = PATIENCE if failure else (first - began) * self._speed
        per_token = (last - first) * self._speed / ((request.tokens - 1) * ANSWER_SCALE)
        good = not failure and seconds <= FIRST + request.prefill and per_token <= PER_TOKEN
        return Outcome(request.at, seconds, per_token, good, failure, queued)


# --- one run ----------------------------------------------------------------------------------------------------------


class Machine:
    """How busy all cores are, whoever uses them."""

    def __init__(self) -> None:
        self._before = self._read()

    def idle(self) -> float:
        """Give the share of the time since it was made in which they had nothing to do."""
        idle, total = (now - before for now, before in zip(self._read(), self._before, strict=True))
        return idle / max(total, 1.0)

    def _read(self) -> tuple[float, float]:
        numbers = [float(one) for one in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return numbers[3] + numbers[4], sum(numbers)


class Clock:
    """How late this process is, as long as it runs: what a machine that is too busy adds to everything."""

    def __init__(self) -> None:
        self._late: list[float] = [0.0]

    async def run(self) -> None:
        """Look until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LOOK_SECONDS
            await asyncio.sleep(LOOK_SECONDS)
            self._late.append(loop.time() - due)

    def lag(self) -> float:
        """Give the seconds that 99 of 100 looks were late at most."""
        return sorted(self._late)[len(self._late) * 99 // 100]


def simulator_flags(trace: Trace, speed: float, redis: str | None) -> Callable[[int, int], Sequence[str]]:
    """Give the flags of simulators for a trace."""
    engine = trace.engine
    flags = [
        f"--model={MODEL}", f"--concurrency={engine.places}", f"--ttft-ms={engine.first_ms / speed}",
        f"--prefill-tokens-per-second={engine.prefill * speed / PROMPT_SCALE}",
        f"--tpot-ms={engine.token_ms * ANSWER_SCALE / speed}", f"--batch-slowdown={SLOWDOWN}",
        f"--context-window={CONTEXT}", f"--kv-blocks={BLOCKS}", "--settle-seconds=0.2", "--log-level=warning",
    ]  # fmt: skip
    if redis is not None:
        flags += [f"--redis-url={redis}", f"--queue-model=test/{MODEL}"]
    return lambda port, worker_port: (*flags, f"--port={port}", f"--worker-port={worker_port}")


def model_at(replicas: Sequence[Replica], dispatch: str, places: int) -> ModelEntry:
    """Give the model's entry of a config."""
    return entry(MODEL, *(one.url for one in replicas), queue=ModelQueue(dispatch=Dispatch(dispatch), places=places))


def target_of(trace: Trace) -> int:
    """Give `inFlightPerReplica`."""
    return max(round(trace.engine.places * FULL_SHARE), 1)


class Turns:
    """One replica after the other, as IPVS chooses in its default mode."""

    def __init__(self) -> None:
        self._endpoints: tuple[Endpoint, ...] = ()
        self._turn = 0

    def publish(self, replicas: Sequence[Replica]) -> None:
        """Make these the endpoints."""
        self._endpoints = tuple(Endpoint(id=one.url, host="127.0.0.1", port=one.port) for one in replicas)

    def next(self) -> Endpoint | None:
        """Give the next one."""
        self._turn += 1
        return self._endpoints[self._turn % len(self._endpoints)] if self._endpoints else None


async def ask_gateway(client: Http1Client, gateway: Endpoint) -> ModelDemand | None:
    """Ask a gateway how much is asked of the model."""
    try:
        response = await client.send(
            gateway, method=b"GET", path=DEMAND_PATH.encode(), first_byte_timeout=5.0,
            headers=((b"authorization", f"Bearer {ADMIN_KEY}".encode()),),
        )  # fmt: skip
        text = await response.read(1 << 20)
    except UpstreamError:
        return None
    if response.status != 200:
        raise SystemExit(f"error: the gateway does not say what is asked of it: {response.status}")
    return read_demand(text).models.get(f"test/{MODEL}")


async def drive(
    trace: Trace, requests: Sequence[Request], variant: str, speed: float, gateway: GatewayProcess | None,
    redis: str | None,
) -> tuple[list[Outcome], float, int, tuple[float, float]]:  # fmt: skip
    """Give what became of the requests, the GPU-seconds, the most replicas, and how the machine did:
    its share of idle time, and how late this process was."""
    client, turns, places = Http1Client(), Turns(), trace.engine.places
    if gateway is None:
        replay = Replay(client, turns.next, speed)

        async def demand() -> ModelDemand | None:
            return ModelDemand(
                inFlight=replay.in_flight, arrived=replay.arrived, rejected=0, readyEndpoints=len(fleet.serving)
            )

        publish = turns.publish
    else:
        port = int(gateway.url.rpartition(":")[2])
        at = Endpoint(id="gateway", host="127.0.0.1", port=port)
        replay = Replay(client, lambda: at, speed)

        async def demand() -> ModelDemand | None:
            return await ask_gateway(client, at)

        def publish(replicas: Sequence[Replica]) -> None:
            gateway.configure([model_at(replicas, variant, places)], wait=False)

    flags = simulator_flags(trace, speed, redis)
    fleet = Fleet(flags, demand, publish, client, free_port, speed, target_of(trace))
    try:
        await fleet.begin(BEGIN)
        while gateway is not None:
            said = await demand()
            if said is not None and said.readyEndpoints >= BEGIN:
                break
            await asyncio.sleep(0.1)
        machine, began = Machine(), time.monotonic()
        clock = Clock()
        scaler, looks = asyncio.create_task(fleet.run()), asyncio.create_task(clock.run())
        outcomes = await replay.run(requests)
        ended = time.monotonic()
        if scaler.done():
            scaler.result()  # It has failed, and what was measured is nothing.
        for task in (scaler, looks):
            task.cancel()
        await asyncio.gather(scaler, looks, return_exceptions=True)
        return outcomes, fleet.gpu_seconds(began, ended), fleet.most, (machine.idle(), clock.lag() * speed)
    finally:
        fleet.end()
        await client.aclose()


def measure(trace: Trace, requests: Sequence[Request], variant: str, seed: int, speed: float) -> tuple[Result, Any]:
    """Run one variant on new processes."""
    with tempfile.TemporaryDirectory(prefix="capstan-bench-") as folder, ExitStack() as stack:
        redis = gateway = None
        if variant != SERVICE:
            redis = stack.enter_context(RedisServer(Path(folder))).url
            (Path(folder) / "gateway").mkdir()
            key = Path(folder) / "key"
            key.write_text(ADMIN_KEY)
            gateway = stack.enter_context(
                gateway_process(
                    Path(folder) / "gateway", [model_at((), variant, trace.engine.places)], "--redis-url", redis,
                    "--admin-key-file", str(key), environ={},
                )
            )  # fmt: skip
        outcomes, gpu, most, busy = asyncio.run(drive(trace, requests, variant, speed, gateway, redis))
    return summarised(trace, requests, variant, seed, outcomes, gpu, most, busy), outcomes


def imagine(trace: Trace, seconds: float, variant: str, seed: int) -> Result:
    """Run one variant in virtual time."""
    dispatch = None if variant == SERVICE else Dispatch(variant)
    world = World(trace, seconds, seed, dispatch, begin=BEGIN, target=target_of(trace), slowdown=SLOWDOWN)
    world.run()
    outcomes = []
    for one in world.sent:
        first = one.first - one.began
        good = first <= FIRST + one.row.prompt / trace.engine.prefill and one.per_token <= PER_TOKEN
        outcomes.append(Outcome(one.row.at, first, one.per_token, good, "", one.queued))
    requests = requests_of(trace, seconds, seed)
    return summarised(trace, requests, variant, seed, outcomes, world.gpu_seconds(), world.most, (1.0, 0.0))


def summarised(
    trace: Trace, requests: Sequence[Request], variant: str, seed: int, outcomes: Sequence[Outcome], gpu: float,
    most: int, busy: tuple[float, float],
) -> Result:  # fmt: skip
    """Give a run in a few numbers."""
    answered = [(one, request) for one, request in zip(outcomes, requests, strict=True) if not one.failure]
    cuts = statistics.quantiles([one.first for one in outcomes], n=100, method="inclusive")
    return Result(
        trace.name, variant, seed, statistics.mean(one.good for one in outcomes), cuts[98], cuts[49], gpu, most,
        len(outcomes) - len(answered), sum(one.first > FIRST + request.prefill for one, request in answered),
        sum(one.per_token > PER_TOKEN for one, _ in answered),
        statistics.mean(one.queued for one in outcomes), *busy,
    )  # fmt: skip


# --- tables -----------------------------------------------------------------------------------------------------------


def middle(numbers: Sequence[float], form: str) -> str:
    """Give the median and the range."""
    said = f"{statistics.median(numbers):{form}}"
    return said if len(numbers) == 1 else f"{said} ({min(numbers):{form}} to {max(numbers):{form}})"


def show(results: Sequence[Result], *, virtual: bool = False) -> None:
    """Print a table. In virtual time there is no machine to tell of."""
    machine = "" if virtual else " idle | late, s |"
    print(f"| trace | | goodput | first token p50, s | p99, s | GPU-seconds | queued |{machine}")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |" + ("" if virtual else " ---: | ---: |"))
    for name in dict.fromkeys(one.trace for one in results):
        for variant in dict.fromkeys(one.variant for one in results):
            runs = [one for one in results if one.trace == name and one.variant == variant]
            if runs:
                print(f"| {name} | {variant} | {_row(runs)}{'' if virtual else _machine(runs)}")
    if not virtual and any(one.idle < LEAST_IDLE for one in results):
        print(f"\n*: in one of the runs the machine was idle for less than {LEAST_IDLE:.0%} of the time.")


def _row(runs: Sequence[Result]) -> str:
    goodput = middle([one.goodput for one in runs], ".1%")
    p50, p99 = middle([one.p50 for one in runs], ".2f"), middle([one.p99 for one in runs], ".2f")
    gpus = middle([one.gpu_seconds for one in runs], ",.0f")
    return f"{goodput} | {p50} | {p99} | {gpus} | {statistics.mean(one.queued for one in runs):.0%} |"


def _machine(runs: Sequence[Result]) -> str:
    idle = min(one.idle for one in runs)
    return f" {idle:.0%}{' *' if idle < LEAST_IDLE else ''} | {max(one.lag for one in runs):.2f} |"


def explain(options: Any, traces: Mapping[str, Trace]) -> None:
    """Print how it is measured."""
    how = f"{options.speed:g} times as fast, prompts of 1/{PROMPT_SCALE} and answers of 1/{ANSWER_SCALE} of the tokens"
    for line in (
        f"{options.seconds:g} s of each trace, {'in virtual time' if options.virtual else how}; seeds {options.seeds};",
        f"{BEGIN} replicas at first, at most {MOST}, cold start {COLD_START} s, fewer after {DOWN} s; first token",
        f"within {FIRST:g} s and the prompt's own time, further ones {PER_TOKEN:g} s apart; clients leave after",
        f"{PATIENCE:g} s without one; {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}",
    ):
        print(line)
    for trace in traces.values():
        engine = trace.engine
        print(f"- {trace.name}: from second {trace.begin:g} on, {trace.share:.0%} of the requests; engines with "
              f"{engine.places} places, {engine.prefill:g} prompt tokens/s, {engine.first_ms:g} ms, "
              f"{engine.token_ms:g} ms a token and up to {SLOWDOWN:.0%} more")  # fmt: skip
    print()


def main(arguments: Sequence[str]) -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", nargs="+", choices=TRACES, default=list(TRACES))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--seconds", type=float, default=120.0, help="of each trace")
    parser.add_argument("--speed", type=float, default=2.0, help="how much faster than it was")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="one round each; says which requests")
    parser.add_argument("--virtual", action="store_true", help="in virtual time, without processes, at speed 1")
    parser.add_argument("--out", type=Path, help="folder for what became of each request")
    options: Any = parser.parse_args(arguments)
    traces = {name: TRACES[name] for name in options.traces}
    explain(options, traces)
    results: list[Result] = []
    for seed in options.seeds:
        for name, trace in traces.items():
            if options.virtual:
                results += [imagine(trace, options.seconds, variant, seed) for variant in options.variants]
                continue
            requests = requests_of(trace, options.seconds, seed)
            turn = random.Random(seed).randrange(len(options.variants))
            for variant in (*options.variants[turn:], *options.variants[:turn]):
                result, outcomes = measure(trace, requests, variant, seed, options.speed)
                results.append(result)
                print(f"{len(requests)} requests: {result}", file=sys.stderr, flush=True)
                if options.out is not None:
                    options.out.mkdir(exist_ok=True)
                    rows = [asdict(one) for one in outcomes]
                    (options.out / f"{name}-{variant}-{seed}.json").write_text(json.dumps(rows))
    show(sorted(results, key=lambda one: VARIANTS.index(one.variant)), virtual=options.virtual)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
