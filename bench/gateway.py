"""Gateways side by side on one machine in one run: requests/s, added latency, CPU time and memory.

    python bench/gateway.py [--seconds 4] [--rounds 2] [--only NAME ...] [--upstreams mock simulator] [--no-install]
                            [--no-write]
    python bench/gateway.py --against COMMIT_OR_FOLDER ... [--short]
    python bench/gateway.py --governed [--rounds 6]

It needs wrk, nginx and Redis (Debian packages wrk, nginx-light and redis-server), and npm for Portkey; the other
gateways are installed into .cache/bench. With its defaults it takes about 17 minutes.

Each gateway runs alone on core 0, as one process with one worker, first before an instant mock and then before the
simulator (bench/gateway_upstreams.py); the upstream and wrk have the other core or cores. Every scenario is a closed
loop: JSON answers and complete streams of 64 chunks, at 1, 32 and 256 connections. Before the mock, whose 64 chunks
arrive together, the gateway is what bounds the rate. Before the simulator, whose tokens arrive one by one as from an
engine, the engine bounds it while the gateway keeps up; there, added latency and CPU time tell gateways apart.

Rounds go through all gateways in turn, and the tables give the median of each number. "Added" is the difference to the
upstream called directly. A rate of few long requests is connections / mean latency: the same, but for the requests that
the end cuts off. No gateway writes a line per request. One that is not installed, or that answers with errors, is named
and left out. A run of all gateways puts the tables into bench/RESULTS.md with the machine, its load and the
versions; nothing else should run meanwhile.

With --against nothing is written: this tree, others of Capstan and the fast rivals are measured by turns
(bench/gateway_turns.py), which takes 12 minutes, or with --short 2 to 3. With --governed the same is done with what
keys, limits and budgets cost (bench/gateway_governed.py), beside vllm-router, which has none of them.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from gateway_governed import GOVERNED_RIVALS
from gateway_install import QUICKLY, install
from gateway_load import JSON, KINDS, body, measure_once, try_once, wait_ready, wrk
from gateway_machine import CORES, machine, process, wait_idle
from gateway_report import DIRECT, OURS, Numbers, Results, Scenario, page
from gateway_rivals import RIVALS, Rival
from gateway_turns import FAST, GOVERNED_NAMES, SHORT, compare
from gateway_upstreams import CHUNKS, JSON_TOKENS, TPOT_MS, TTFT_MS, UPSTREAMS

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "RESULTS.md"
OPERATOR_PART = "# The operator at scale\n"


def run_rival(rival: Rival, upstream: str, upstream_pid: int, seconds: int, results: Results) -> None:
    """Start it, put it through the scenarios of one upstream, end it."""
    with tempfile.TemporaryDirectory(prefix="capstan-bench-") as folder, ExitStack() as stack:
        home = Path(folder)
        if rival.beside:
            stack.enter_context(process(list(rival.beside), CORES[1 % len(CORES)], home / "beside.log", {}))
        command = rival.prepare(home, rival.port)
        if not command:
            measure(rival, upstream, upstream_pid, seconds, results)
            return
        with process(command, CORES[0], home / "log", rival.environment) as child:
            try:
                wait_ready(rival, child)
                measure(rival, upstream, child.pid, seconds, results)
            except OSError:
                print((home / "log").read_text()[-2000:], file=sys.stderr)
                raise


def measure(rival: Rival, upstream: str, pid: int, seconds: int, results: Results) -> None:
    """Fill the table's entries of one gateway before one upstream."""
    wrk(rival, JSON, 32, 1)  # warm up
    for scenario in results.scenarios:
        if scenario.upstream != upstream:
            continue
        wait_idle(pid)
        try:
            try_once(rival, scenario.kind)
            numbers = results.table.get((rival.name, scenario), Numbers())
            said = measure_once(rival, scenario, pid, seconds, numbers)
            results.table[rival.name, scenario] = numbers
        except OSError as error:
            said = results.failures[rival.name, scenario] = str(error)
        print(f"  {rival.name}: {scenario.name}: {said}", flush=True)


def about(results: Results, arguments: argparse.Namespace, load: float) -> list[str]:
    """Say on what and how it was measured."""
    wrk_version = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False).stdout.split("\n")[0]
    named = [f"{name} {version}" for name, version in results.versions.items() if name != DIRECT]
    times = [TTFT_MS + (tokens - 1) * TPOT_MS for tokens in (JSON_TOKENS, CHUNKS)]
    return [
        f"{machine()}; load average before the run {load:.1f}",
        f"{'; '.join(named)}; {wrk_version.split(' Copyright')[0]}",
        f"{arguments.rounds} round(s) of {arguments.seconds} s per scenario; request of {len(body(JSON))} bytes",
        f"simulator: {TTFT_MS} ms to the first token and {TPOT_MS} ms per further one, as a small model on a GPU; JSON "
        f"answers have {JSON_TOKENS} tokens and take {times[0]} ms, streams take {times[1]} ms; called "
        f"directly it used at most {results.busiest(DIRECT, 'simulator'):.0%} of its core",
    ]


def chosen(only: list[str]) -> dict[str, str]:
    """Give the versions of the gateways that take part."""
    versions: dict[str, str] = {}
    for rival in (*RIVALS, *GOVERNED_RIVALS):
        if only and not any(part.lower() in rival.name.lower() for part in [*only, OURS, DIRECT]):
            continue
        try:
            versions[rival.name] = rival.version()
        except OSError as error:
            print(f"{rival.name}: left out, not installed ({error})")
    return versions


def run_all(results: Results, arguments: argparse.Namespace) -> None:
    """Put all gateways through all scenarios, round by round."""
    rivals = [rival for rival in (*RIVALS, *GOVERNED_RIVALS) if rival.name in results.versions]
    for number in range(arguments.rounds):
        for upstream in arguments.upstreams:
            print(f"round {number + 1} of {arguments.rounds}, {upstream}", flush=True)
            with tempfile.TemporaryDirectory() as folder:
                log = Path(folder) / "log"
                with process(UPSTREAMS[upstream], CORES[1 % len(CORES)], log, {}) as child:
                    wait_ready(RIVALS[0], child)
                    for rival in rivals:
                        if rival.upstreams and upstream not in rival.upstreams:
                            continue
                        try:
                            run_rival(rival, upstream, child.pid, arguments.seconds, results)
                        except OSError as error:
                            print(f"  {rival.name}: {error}", flush=True)


def by_turns(arguments: argparse.Namespace) -> int:
    """Measure against other trees; give the exit status."""
    only = arguments.only or (GOVERNED_NAMES if arguments.governed else SHORT if arguments.short else FAST)
    seconds, rounds = (1, 4) if arguments.short else (2, 8)
    upstreams = arguments.upstreams or ["mock"]
    return compare(arguments.against, only, upstreams, arguments.seconds or seconds, arguments.rounds or rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--no-install", action="store_true", help="take only what is installed already")
    parser.add_argument("--seconds", type=int, help="per gateway, scenario and round (4; by turns 2, in short 1)")
    parser.add_argument("--rounds", type=int, help="(2; by turns 8, in short 4)")
    parser.add_argument("--only", nargs="+", default=[], help="gateways whose name contains one of these")
    parser.add_argument("--upstreams", nargs="+", choices=list(UPSTREAMS), help="(both; by turns the mock)")
    parser.add_argument(
        "--against", nargs="+", default=[], help="commits, or folders of checkouts, to measure by turns"
    )
    parser.add_argument("--governed", action="store_true", help="by turns, what keys, limits and budgets cost")
    parser.add_argument("--short", action="store_true", help="by turns, a look of 2 to 3 minutes at the nearest rivals")
    parser.add_argument("--no-write", action="store_true", help="do not write bench/RESULTS.md")
    arguments = parser.parse_args()
    for program in ("wrk", "nginx", "taskset", "redis-server"):
        if shutil.which(program) is None:
            sys.exit(f"{program} is missing: apt-get install wrk nginx-light util-linux redis-server")
    if not arguments.no_install and not arguments.only:
        install(QUICKLY) if arguments.against else install()
    if arguments.against or arguments.governed:
        sys.exit(by_turns(arguments))
    load = os.getloadavg()[0]
    arguments.seconds, arguments.rounds = arguments.seconds or 4, arguments.rounds or 2
    arguments.upstreams = arguments.upstreams or list(UPSTREAMS)
    results = Results([Scenario(upstream, *kind) for upstream in arguments.upstreams for kind in KINDS])
    results.versions = chosen(arguments.only)
    run_all(results, arguments)
    text = page(results, about(results, arguments, load))
    print("\n" + text)
    if not arguments.no_write and not arguments.only and arguments.upstreams == list(UPSTREAMS):
        # The operator's part of the file is another bench's.
        _, mark, operators = RESULTS.read_text().partition(OPERATOR_PART) if RESULTS.exists() else ("", "", "")
        RESULTS.write_text(f"{text.rstrip()}\n\n{mark}{operators}" if mark else text)


if __name__ == "__main__":
    main()
