"""What a hit of a cache takes, what a miss costs more than pass-through, and what an entry takes in memory.

    python bench/caches.py [--seconds 2] [--rounds 4] [--hits 3000] [--no-write]

The time of a hit is the gateway's own, from the last byte of a request to the first of its answer, as it tells it in
`x-gateway-overhead-ms`; Redis is on the machine, and what it takes is in it. Requests/s and CPU time are of gateways by
turns on one core, before a mock that answers at once: pass-through, one that has every answer in memory, one that finds
every answer in Redis (its memory holds one), and one that is asked for nothing twice. The ratios of one round can be
believed where the machine's numbers cannot. Memory is what a process grows by per entry, beside what the cache counts.

It needs wrk and redis-server. With its defaults it takes two minutes and writes its part of bench/RESULTS.md.
"""

import argparse
import gc
import http.client
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from gateway_load import JSON, STREAM, body, measure_once, wait_ready
from gateway_machine import CORES, machine, process, wait_idle
from gateway_report import OURS, Numbers, Scenario, write_part
from gateway_rivals import RIVALS, Rival, bench_entry, capstan_command, own_version, write_config
from gateway_turns import Turn, cell, running
from gateway_upstreams import UPSTREAMS

from capstan_contract.caches import Bypass, CacheBody, MemoryTier, RedisTier, cache_entry
from capstan_contract.config import GatewayConfig
from capstan_gateway.caches.memory import MemoryEntries
from capstan_gateway.caches.port import CacheKey, Entry, Form
from capstan_gateway.tokens.usage import Usage

HEADING: Final = "## Caches"
PORTS: Final = 18160
REDIS_PORT: Final = 18098
REDIS: Final = (
    "redis-server", "--port", str(REDIS_PORT), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
)  # fmt: skip
MEMORY, REDIS_HITS, MISSES = "hits in memory", "hits in Redis", "misses, kept in memory and in Redis"
LOADS: Final = {MEMORY: 1, REDIS_HITS: 100, MISSES: 10**12}
"""How many different prompts each gateway is asked."""
LARGEST: Final = 20_000
SAID: Final = (
    "The mock answers at once: beside a model that takes seconds none of this is seen. A hit in Redis is one call of",
    "it; a miss is a look that takes the lease, an entry that is packed and written, and the lease given back.",
)


def body_of(name: str) -> CacheBody:
    """Give the policy of a gateway."""
    memory = MemoryTier(maxEntries=1) if name == REDIS_HITS else MemoryTier()
    redis = None if name == MEMORY else RedisTier()
    return CacheBody(memory=memory, redis=redis, bypass=Bypass(tools=False))


def rival(name: str, port: int) -> Rival:
    """Give a gateway with a cache; Redis is beside all of them."""

    def prepare(folder: Path, port: int) -> list[str]:
        policy = cache_entry("bench", "cache", body_of(name))
        entry = bench_entry().model_copy(update={"policies": (policy.id,)})
        write_config(GatewayConfig.build((entry,), policies=(policy,)), folder)
        return [*capstan_command(folder, port), "--redis-url", f"redis://127.0.0.1:{REDIS_PORT}/0"]

    return Rival(name, prepare, own_version, port=port, beside=REDIS)


def rivals() -> list[Rival]:
    """Give all that take turns, pass-through first."""
    plain = next(one for one in RIVALS if one.name == OURS)
    found = [replace(plain, port=PORTS)]
    return [*found, *(rival(name, PORTS + place) for place, name in enumerate(LOADS, start=1))]


@contextmanager
def prompts(count: int) -> Iterator[None]:
    """Have the load be of so many different prompts."""
    os.environ["BENCH_PROMPTS"] = str(count)
    os.environ["BENCH_FIRST"] = str(secrets.randbelow(10**9))
    try:
        yield
    finally:
        del os.environ["BENCH_PROMPTS"], os.environ["BENCH_FIRST"]


# --- the time of a hit ------------------------------------------------------------------------------------------------


def hit_times(one: Rival, word: str, kind: str, count: int) -> list[float]:
    """Give what the gateway took for so many hits, in milliseconds; OSError when one was none."""
    connection = http.client.HTTPConnection("127.0.0.1", one.port, timeout=30)
    texts = [body(kind), body(kind).replace("foxes", "wolves")] if one.name == REDIS_HITS else [body(kind)]
    times: list[float] = []
    for number in range(count + len(texts)):
        connection.request("POST", one.path, texts[number % len(texts)], {"content-type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        if number >= len(texts):
            if answer.headers["x-cache"] != word:
                raise OSError(f"{one.name}: {answer.headers['x-cache']} and not {word}")
            times.append(float(answer.headers["x-gateway-overhead-ms"]))
    connection.close()
    return sorted(times)


def hits_table(turns: Sequence[Turn], count: int) -> list[str]:
    """Measure the time of hits."""
    rows = ["| hit | asked | p50, ms | p90, ms | p99, ms |", "| --- | ---: | ---: | ---: | ---: |"]
    for turn in turns:
        name = turn.rival.name
        if name not in (MEMORY, REDIS_HITS):
            continue
        word, asked = ("hit-memory", "0.1") if name == MEMORY else ("hit-redis", "0.5")
        for kind in (JSON, STREAM):
            times = hit_times(turn.rival, word, kind, count)
            shown = " | ".join(f"{times[len(times) * part // 100]:.2f}" for part in (50, 90, 99))
            rows.append(f"| {word}, {kind} | < {asked} | {shown} |")
            print(rows[-1], flush=True)
    return rows


# --- rates ------------------------------------------------------------------------------------------------------------


def rates_table(turns: Sequence[Turn], seconds: int, rounds: int) -> list[str]:
    """Measure all of them by turns, with 32 connections."""
    scenario = Scenario("mock", JSON, 32)
    table: dict[str, Numbers] = {turn.rival.name: Numbers() for turn in turns}
    for number in range(rounds):
        for turn in turns if number % 2 == 0 else reversed(turns):
            with prompts(LOADS.get(turn.rival.name, 1)):
                if number == 0:
                    measure_once(turn.rival, scenario, turn.pid, 1, Numbers())  # warm up
                measure_once(turn.rival, scenario, turn.pid, seconds, table[turn.rival.name])
            wait_idle(turn.pid, look_seconds=0.05)
    plain = table[OURS]
    rows = ["| 32 connections | requests/s | to pass-through | CPU time a request, us | more than pass-through, us |"]
    rows.append("| --- |" + " ---: |" * 4)
    for name, numbers in table.items():
        ratios = [one / other for one, other in zip(numbers.rate, plain.rate, strict=True)]
        more = statistics.median(one - other for one, other in zip(numbers.cpu, plain.cpu, strict=True))
        said = "pass-through" if numbers is plain else name
        shown = "" if numbers is plain else cell(ratios)
        rows.append(
            f"| {said} | {numbers.middle('rate'):,.0f} | {shown} | {numbers.middle('cpu'):,.0f} | {more:+,.0f} |"
        )
        print(rows[-1], flush=True)
    return rows


# --- memory -----------------------------------------------------------------------------------------------------------


def memory_table() -> list[str]:
    """Measure what entries take, each size in a process of its own."""
    rows = ["| bytes of an answer | memory per entry, bytes | counted | |", "| ---: | ---: | ---: | ---: |"]
    for size in (500, 4_000, LARGEST):
        command = [sys.executable, __file__, "--memory-of", str(size)]
        taken, counted = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        rows.append(f"| {size:,} | {taken:,.0f} | {counted:,.0f} | {taken / counted:.2f} |")
        print(rows[-1], flush=True)
    return rows


def memory_of(size: int) -> tuple[float, float]:
    """Give what an entry of this size takes of the process, and what it is counted as: of tenants of their own."""
    count = 100_000_000 // (size + 1000)
    memory = MemoryEntries(max_bytes=1 << 40, max_entries=1 << 40, now_ms=lambda: 0)
    gc.collect()
    before = _resident()
    for number in range(count):
        key = CacheKey(f"{number:032x}", f"{number:016x}", number.to_bytes(32, "big"))
        usage = Usage(1000 + number, 2000 + number)
        times = 10**12 + number, 10**12 + 60_000 + number
        memory.put(key, Entry(Form.ANSWER, os.urandom(size), b"application/json", *times, usage, 10**6 + number))
    gc.collect()
    return (_resident() - before) / count, memory.bytes / count


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# --- all of it --------------------------------------------------------------------------------------------------------


def gateways_tables(chosen: argparse.Namespace) -> list[str]:
    """Run the gateways, and measure them."""
    with tempfile.TemporaryDirectory(prefix="capstan-bench-") as place, ExitStack() as stack:
        stack.enter_context(process(UPSTREAMS["mock"], CORES[1 % len(CORES)], Path(place) / "log", {}))
        wait_ready(RIVALS[0])
        found = rivals()
        turns = stack.enter_context(running(found, Path(place)))
        if len(turns) < len(found):
            raise SystemExit("a gateway did not get ready")
        return [*hits_table(turns, chosen.hits), "", *rates_table(turns, chosen.seconds, chosen.rounds)]


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="what caches cost and save")
    parser.add_argument("--seconds", type=int, default=2, help="per gateway and round (2)")
    parser.add_argument("--rounds", type=int, default=4, help="(4)")
    parser.add_argument("--hits", type=int, default=3000, help="of each kind, for their time (3000)")
    parser.add_argument("--no-write", action="store_true", help="do not write bench/RESULTS.md")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.memory_of is not None:
        print(json.dumps(memory_of(chosen.memory_of)))
        return 0
    print(machine())
    load = os.getloadavg()[0]
    lines = [
        "By `make bench-cache`, which says in its first lines how it measures.",
        f"{machine()}; load average before it {load:.1f}.", *SAID, "", *gateways_tables(chosen), "", *memory_table(),
    ]  # fmt: skip
    if not chosen.no_write:
        write_part(HEADING, lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
