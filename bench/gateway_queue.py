"""What the queue costs beside the direct way, and what a flood costs others, in one run.

    python bench/gateway_queue.py [--only first load chunks flood] [--seconds 3] [--rounds 5] [--requests 200]
                                  [--flood-seconds 70] [--no-write]

One gateway has two models with the same engine, a simulator in whose process a worker takes: one is always asked
directly, the other always by the queue, by turns, so that what else the machine does meets both alike. Gateway, worker
and Redis are processes of their own; on two cores the gateway has one, and the others share the second with the load.

first   time to the first token of streams, one connection; what the queue adds. The simulator answers at once.
load    answers in one piece and streams whose 64 chunks are there at once, 32 connections: requests/s, and CPU time a
        request of gateway, worker (with the engine in it) and Redis. Redis' time says how many requests a second it
        would take to keep one core of it busy: the queue's calls are all that it does.
chunks  streams of 64 tokens, one each 10 ms, 16 connections: what a chunk costs when it comes by itself, and the times
        between two of them.
flood   two tenants, eight places, 30 ms of work a request. Quiet: each has eight requests under way all the time, so
        that both wait. Flood: one of them has 800. A wait is what a request takes longer than the same one that nobody
        is in front of. Beside them somebody asks one thing after the other in class `low`, and one in class `batch`.

It needs wrk and redis-server. With its defaults it takes four minutes and writes its part of bench/RESULTS.md.
"""

import argparse
import asyncio
import json
import os
import shutil
import socket
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final

from gateway_governed import REDIS, REDIS_PORT
from gateway_load import JSON, STREAM, rate, try_once, wait_ready, wrk
from gateway_machine import CORES, cpu_seconds, machine, process, wait_idle
from gateway_report import write_part
from gateway_rivals import Rival, capstan_command, own_version, write_config
from gateway_upstreams import CHUNKS, UPSTREAM_PORT, WORKER_PORT

from capstan_contract.config import Dispatch, GatewayConfig, ModelEntry, ModelQueue, StaticBackend, Timeouts
from capstan_contract.keys import KeyEntry, digest_of

HEADING: Final = "## The queue"
PORT: Final = 18170
DIRECT, QUEUED = "direct", "queued"
WAYS: Final = (DIRECT, QUEUED)
AIM_MS: Final = 1.5
AIM_RATE: Final = 3_000
PLACES: Final = 8
SHARE: Final = 8
"""Requests that a tenant has under way when it is quiet."""
TIMES: Final = 100
WORK_MS: Final = 30
SALT: Final = "00" * 16
KEYS: Final = {name: f"sk-capstan-bench-{name}-0123456789abcdef0123456789abcdef" for name in ("loud", "other", "late")}
SIMULATOR: Final = [
    *(sys.executable, "-m", "capstan_worker", "simulator", "--model", "bench", "--log-level", "WARNING"),
    *("--port", str(UPSTREAM_PORT), "--worker-port", str(WORKER_PORT), "--answer-tokens", "1000"),
    *("--keep-alive-seconds", "600", "--redis-url", f"redis://127.0.0.1:{REDIS_PORT}/0"),
    *("--queue-model", f"bench/{QUEUED}"),
]  # fmt: skip
PARTS: Final = ("first", "load", "chunks", "flood")


# --- what runs --------------------------------------------------------------------------------------------------------


def config(*, keys: bool) -> GatewayConfig:
    """Give two models of one engine."""
    backend = StaticBackend(urls=(f"http://127.0.0.1:{UPSTREAM_PORT}",))
    ways = {DIRECT: Dispatch.DIRECT, QUEUED: Dispatch.QUEUE}
    entries = [
        ModelEntry(
            id=f"bench/{way}", servedName=way, upstreamName="bench", backend=backend,
            queue=ModelQueue(dispatch=dispatch, maxEntries=100_000, maxWaitSeconds=3600.0),
            timeouts=Timeouts(totalSeconds=600, firstTokenSeconds=600),
        )
        for way, dispatch in ways.items()
    ]  # fmt: skip
    known = [
        KeyEntry(id=name, digest=digest_of(SALT, key.encode()), user=name, tenant=name) for name, key in KEYS.items()
    ]
    return GatewayConfig.build(entries, keys=known, key_salt=SALT) if keys else GatewayConfig.build(entries)


def rival(way: str, *, key: str = "") -> Rival:
    """Give one way, as bench/gateway.py gives gateways."""
    headers = {"authorization": f"Bearer {KEYS[key]}"} if key else {}
    return Rival(way, lambda _, __: [], own_version, port=PORT, model=way, headers=headers)


@dataclass(frozen=True)
class Running:
    """Processes, by their ids."""

    gateway: int
    worker: int
    redis: int

    def used(self) -> dict[str, float]:
        """CPU seconds of each."""
        return {name: cpu_seconds(pid) for name, pid in vars(self).items()}


@contextmanager
def running(folder: Path, *simulator: str, keys: bool = False) -> Iterator[Running]:
    """Run all of it until the block ends."""
    home = folder / f"run-{time.monotonic_ns()}"
    home.mkdir()
    write_config(config(keys=keys), home)
    command = [*capstan_command(home, PORT), "--redis-url", f"redis://127.0.0.1:{REDIS_PORT}/0"]
    command += ["--redis-seconds", "10", "--redis-limit-seconds", "10"]
    if keys:
        command.remove("--insecure-no-auth")
    other = CORES[1 % len(CORES)]
    with ExitStack() as stack:
        redis = stack.enter_context(process(list(REDIS), other, home / "redis.log", {}))
        wait_listening(REDIS_PORT)
        worker = stack.enter_context(process([*SIMULATOR, *simulator], other, home / "worker.log", {}))
        wait_listening(UPSTREAM_PORT)
        gateway = stack.enter_context(process(command, CORES[0], home / "gateway.log", {}))
        try:
            for way in WAYS:
                wait_ready(rival(way, key="other" if keys else ""), gateway)
        except OSError:
            print((home / "gateway.log").read_text()[-2000:], (home / "worker.log").read_text()[-2000:])
            raise
        yield Running(gateway.pid, worker.pid, redis.pid)


def wait_listening(port: int, seconds: float = 60.0) -> None:
    """Return when something listens."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def turn(**dials: object) -> None:
    """Turn dials of the simulator."""
    url = f"http://127.0.0.1:{WORKER_PORT}/simulator/settings"
    request = urllib.request.Request(url, data=json.dumps(dials).encode(), method="PUT")
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        answer.read()


# --- one connection ---------------------------------------------------------------------------------------------------


class Asker:
    """One connection, one request after the other."""

    def __init__(self, one: Rival, document: dict[str, object]) -> None:
        body = json.dumps({"model": one.model, **document}).encode()
        lines = {"host": "bench", "content-type": "application/json", "content-length": len(body), **one.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._request = f"POST {one.path} HTTP/1.1\r\n{head}\r\n".encode() + body
        self._port = one.port

    async def open(self) -> None:
        """Connect."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)

    async def ask(self) -> list[float]:
        """Ask once; give when each frame of a stream came, or an answer in one piece, in seconds from the question."""
        began = time.perf_counter()
        self._writer.write(self._request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise OSError(f"not answered: {head[:300]!r}")
        lowered = head.lower()
        if b"content-length:" in lowered:
            await self._reader.readexactly(int(lowered.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]))
            return [time.perf_counter() - began]
        times: list[float] = []
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            data = await self._reader.readexactly(size + 2)
            times += [time.perf_counter() - began] * data.count(b"data: ")
        await self._reader.readexactly(2)
        return times

    def close(self) -> None:
        """Let go of the connection."""
        self._writer.close()


def document(tokens: int, *, stream: bool) -> dict[str, object]:
    """Give a request."""
    messages = [{"role": "user", "content": "Say something about foxes and dogs."}]
    return {"messages": messages, "max_tokens": tokens, "stream": stream}


async def closed_loop(
    one: Rival, said: dict[str, object], connections: int, until: Callable[[int], bool]
) -> list[float]:
    """Keep so many requests under way; give how long each took, of those that ended before `until` said so."""
    took: list[float] = []

    async def go_on() -> None:
        asker = Asker(one, said)
        await asker.open()
        try:
            while not until(len(took)):
                took.append((await asker.ask())[-1])
        finally:
            asker.close()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(connections):
            tasks.create_task(go_on())
    return took


def part_of(values: Sequence[float], percent: int) -> float:
    """Give a percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) * percent // 100, len(ordered) - 1)]


# --- first ------------------------------------------------------------------------------------------------------------


def first(folder: Path, chosen: argparse.Namespace) -> list[str]:
    """Measure the time to the first token, one request at a time."""

    async def measure() -> dict[str, list[list[float]]]:
        found: dict[str, list[list[float]]] = {way: [] for way in WAYS}
        askers = {way: Asker(rival(way), document(4, stream=True)) for way in WAYS}
        for asker in askers.values():
            await asker.open()
            for _ in range(50):
                await asker.ask()
        for number in range(chosen.rounds):
            for way in WAYS if number % 2 == 0 else reversed(WAYS):
                found[way].append([(await askers[way].ask())[0] * 1000 for _ in range(chosen.requests)])
        for asker in askers.values():
            asker.close()
        return found

    with running(folder):
        found = asyncio.run(measure())
    rows = ["| time to the first token, one connection | direct, ms | queued, ms | added, ms (rounds) | aim |"]
    rows.append("| --- | ---: | ---: | ---: | ---: |")
    for percent in (50, 99):
        direct, queued = ([part_of(one, percent) for one in found[way]] for way in WAYS)
        added = [b - a for a, b in zip(direct, queued, strict=True)]
        rows.append(
            f"| p{percent} | {statistics.median(direct):.2f} | {statistics.median(queued):.2f} "
            f"| {statistics.median(added):.2f} ({min(added):.2f} to {max(added):.2f}) | < {AIM_MS} |"
        )
    return rows


# --- load -------------------------------------------------------------------------------------------------------------


@dataclass
class Cost:
    """What one way has taken, one entry for each round."""

    rate: list[float] = field(default_factory=list)
    micros: dict[str, list[float]] = field(default_factory=lambda: {"gateway": [], "worker": [], "redis": []})

    def middle(self, name: str) -> float:
        """Give the median of what a process took of one request, in microseconds."""
        return statistics.median(self.micros[name])


def measured(
    one: Rival, processes: Running, kind: str, connections: int, seconds: int
) -> tuple[float, dict[str, float]]:
    """Load one way; give requests/s and the microseconds of each process for one."""
    before = processes.used()
    result = wrk(one, kind, connections, seconds)
    wait_idle(processes.gateway, look_seconds=0.05)
    after = processes.used()
    if result["bad"] or not result["requests"]:
        raise SystemExit(f"{one.name}: {result['bad']} of {result['requests']} requests failed")
    # Those that the end has cut off have cost something as well: half of it, on average.
    count = result["requests"] + connections / 2
    return rate(result, connections), {name: (after[name] - before[name]) / count * 1e6 for name in after}


def costs(processes: Running, kind: str, connections: int, chosen: argparse.Namespace) -> dict[str, Cost]:
    """Measure both ways by turns."""
    table = {way: Cost() for way in WAYS}
    for way in WAYS:
        try_once(rival(way), kind)
        measured(rival(way), processes, kind, connections, 1)
    for number in range(chosen.rounds):
        for way in WAYS if number % 2 == 0 else reversed(WAYS):
            found, micros = measured(rival(way), processes, kind, connections, chosen.seconds)
            table[way].rate.append(found)
            for name, value in micros.items():
                table[way].micros[name].append(value)
    return table


def load(folder: Path, chosen: argparse.Namespace) -> list[str]:
    """Measure what a request costs under load."""
    rows = [
        "| 32 connections | requests/s, direct | queued | gateway, us direct | queued | worker, us direct | queued "
        "| Redis, us | requests/s for one core of Redis |",
        "| --- |" + " ---: |" * 8,
    ]
    with running(folder, "--concurrency", "64") as processes:
        for kind in (JSON, STREAM):
            table = costs(processes, kind, 32, chosen)
            direct, queued = table[DIRECT], table[QUEUED]
            redis = queued.middle("redis") - direct.middle("redis")
            shown = [f"{statistics.median(one.rate):,.0f}" for one in (direct, queued)]
            shown += [f"{one.middle(name):,.0f}" for name in ("gateway", "worker") for one in (direct, queued)]
            rows.append(f"| {kind} | {' | '.join(shown)} | {redis:,.0f} | {1e6 / redis:,.0f} (aim {AIM_RATE:,}) |")
            print(rows[-1], flush=True)
    return rows


# --- chunks -----------------------------------------------------------------------------------------------------------


def chunks(folder: Path, chosen: argparse.Namespace) -> list[str]:
    """Measure what a chunk costs that comes by itself."""
    connections = 16

    async def gaps(way: str) -> list[float]:
        asker = Asker(rival(way), document(CHUNKS, stream=True))
        await asker.open()
        found: list[float] = []
        for _ in range(max(chosen.requests // 20, 2)):
            times = await asker.ask()
            found += [(after - before) * 1000 for before, after in pairwise(times)]
        asker.close()
        return found

    with running(folder, "--concurrency", "64") as processes:
        turn(tpotMs=10)
        table = costs(processes, STREAM, connections, chosen)
        between = {way: asyncio.run(gaps(way)) for way in WAYS}
    rows = ["| a chunk by itself | direct | queued | more |", "| --- | ---: | ---: | ---: |"]
    for name in ("gateway", "worker", "redis"):
        pairs = zip(*(table[way].micros[name] for way in WAYS), strict=True)
        more = statistics.median(queued - direct for direct, queued in pairs) / CHUNKS
        shown = " | ".join(f"{table[way].middle(name) / CHUNKS:.0f}" for way in WAYS)
        rows.append(f"| CPU time of {'Redis' if name == 'redis' else name}, us | {shown} | {more:+.0f} |")
    for percent in (50, 99):
        values = [part_of(between[way], percent) for way in WAYS]
        shown = " | ".join(f"{value:.2f}" for value in values)
        rows.append(f"| between two, one connection, p{percent}, ms | {shown} | {values[1] - values[0]:+.2f} |")
    return rows


# --- flood ------------------------------------------------------------------------------------------------------------


def flood(folder: Path, chosen: argparse.Namespace) -> list[str]:
    """Measure what one tenant's flood costs another one."""
    said = document(1, stream=False)

    async def measure(loud: int, seconds: float) -> tuple[list[float], int, int]:
        over = time.monotonic() + SETTLE_SECONDS + seconds

        def ended(_: int) -> bool:
            return time.monotonic() >= over

        # Of what is still under way at the end nobody waits for the answer.
        asks = {"loud": ("loud", "auto", loud), "low": ("late", "flex", 1), "batch": ("late", "batch", 1)}
        asked = {
            name: asyncio.create_task(
                closed_loop(rival(QUEUED, key=key), said | {"service_tier": tier}, connections, ended)
            )
            for name, (key, tier, connections) in asks.items()
        }
        # A gateway that is just told of 800 requests at once is not what a wait in the queue is about.
        await asyncio.sleep(SETTLE_SECONDS)
        other = await closed_loop(rival(QUEUED, key="other"), said, SHARE, ended)
        done, late = await asyncio.wait(asked.values(), timeout=2 * BATCH_WAIT_SECONDS)
        for one in late:
            one.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        counts = [len(asked[name].result()) if asked[name] in done else 0 for name in ("low", "batch")]
        return other[SHARE:], counts[0], counts[1]

    async def alone() -> float:
        return statistics.median(await closed_loop(rival(QUEUED, key="other"), said, 1, lambda count: count >= 30))

    dials = ("--concurrency", str(PLACES), "--ttft-ms", str(WORK_MS))
    rows = [
        "| eight places, 30 ms of work a request | answers of the other | its wait, p50, ms | p99, ms | to quiet | low "
        "| batch |",
        "| --- |" + " ---: |" * 6,
    ]
    with running(folder, *dials, keys=True):
        least = asyncio.run(alone())
        quiet = 0.0
        for name, loud in (("quiet", SHARE), ("flood", TIMES * SHARE)):
            times, low, batch = asyncio.run(measure(loud, chosen.flood_seconds))
            waits = [max(one - least, 0.0) * 1000 for one in times]
            p99 = part_of(waits, 99)
            quiet = quiet or p99
            shown = f"{len(waits):,} | {part_of(waits, 50):.0f} | {p99:.0f} | {p99 / quiet:.2f} | {low} | {batch}"
            rows.append(f"| {name}: the first tenant has {loud:,} under way | {shown} |")
            print(rows[-1], flush=True)
    return rows


SETTLE_SECONDS: Final = 5.0
BATCH_WAIT_SECONDS: Final = 35.0
"""Longer than class batch waits for its turn."""
MEASURES: Final = {"first": first, "load": load, "chunks": chunks, "flood": flood}


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts (all)")
    parser.add_argument("--seconds", type=int, default=3, help="of load, for each way and round (3)")
    parser.add_argument("--rounds", type=int, default=5, help="(5)")
    parser.add_argument("--requests", type=int, default=200, help="one at a time, for each way and round (200)")
    parser.add_argument("--flood-seconds", type=int, default=70, help="(70)")
    parser.add_argument("--no-write", action="store_true", help="do not write bench/RESULTS.md")
    chosen = parser.parse_args()
    for program in ("wrk", "redis-server"):
        if shutil.which(program) is None:
            sys.exit(f"{program} is missing: apt-get install wrk redis-server")
    began = os.getloadavg()[0]
    lines = [
        "By `make bench-queue`, which says in its first lines how it measures.",
        f"{machine()}; load average before it {began:.1f}.",
    ]
    with tempfile.TemporaryDirectory(prefix="capstan-bench-") as place:
        for part in chosen.only:
            rows = MEASURES[part](Path(place), chosen)
            print("\n".join(rows), flush=True)
            lines += ["", *rows]
    if not chosen.no_write and chosen.only == list(PARTS):
        write_part(HEADING, lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
