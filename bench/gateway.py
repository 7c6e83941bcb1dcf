"""Gateways side by side on one machine in one run: requests/s, added latency, CPU time and memory.

    python bench/gateway.py [--seconds 4] [--rounds 2] [--only NAME ...] [--upstreams mock simulator] [--no-install]
                            [--no-write]

It needs wrk and nginx (Debian packages wrk and nginx-light), and npm for Portkey; the other gateways are installed
into .cache/bench. With its defaults it takes about 14 minutes.

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
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from gateway_machine import CORES, cpu_seconds, machine, process, rss_megabytes, wait_idle
from gateway_report import DIRECT, OURS, Numbers, Results, Scenario, page
from gateway_rivals import RIVALS, Rival, install
from gateway_upstreams import CHUNKS, JSON_TOKENS, TPOT_MS, TTFT_MS, UPSTREAMS

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "RESULTS.md"
OPERATOR_PART = "# The operator at scale\n"
PROMPT = "Say something about foxes and dogs, please, in one short sentence and without any further explanation."
JSON, STREAM = "JSON", f"{CHUNKS}-chunk stream"
ENOUGH = 20
"""So many requests on each connection are enough to count; of fewer, too large a part is cut off at the end."""
PATIENCE = 4
"""So many times longer a gateway runs that has not finished one request on each connection."""


def body(kind: str) -> str:
    """Give the request; the simulator's answer is as long as it allows, the mock's is always the same."""
    request = {"model": "bench", "messages": [{"role": "user", "content": PROMPT}]}
    return json.dumps(
        request | ({"max_tokens": JSON_TOKENS} if kind == JSON else {"max_tokens": CHUNKS, "stream": True})
    )


def wait_ready(rival: Rival, child: "subprocess.Popen[bytes] | None" = None, seconds: float = 120.0) -> None:
    """Return when it gives a whole answer."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return try_once(rival, JSON)
        except OSError as error:
            ended = child is not None and child.poll() is not None
            if ended or time.monotonic() > deadline:
                raise OSError(f"not ready ({'it ended' if ended else f'after {seconds:.0f} s'}): {error}") from error
            time.sleep(0.25)


def try_once(rival: Rival, kind: str) -> None:
    """Send one request; OSError when the answer is not whole."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{rival.port}{rival.path}",
        data=body(kind).encode(),
        headers={"content-type": "application/json", **rival.headers},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        data = answer.read()
    if kind == JSON and b'"completion_tokens"' not in data:
        raise OSError(f"answered something else: {data[:200]!r}")
    if kind == STREAM and data.count(b"data: ") < CHUNKS:
        raise OSError(f"streamed only {data.count(b'data: ')} events")


def wrk(rival: Rival, kind: str, connections: int, seconds: int) -> dict[str, int]:
    """Load it, and give what wrk measured."""
    headers = {"content-type": "application/json", **rival.headers}
    environment = {
        "BENCH_BODY": body(kind),
        "BENCH_HEADERS": "\n".join(f"{name}: {value}" for name, value in headers.items()),
    }
    command = ["taskset", "-c", str(CORES[-1]), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s"]
    command += ["-s", str(HERE / "gateway_wrk.lua"), f"http://127.0.0.1:{rival.port}{rival.path}"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    result: dict[str, int] = json.loads(line.removeprefix("RESULT "))
    return result


def run_rival(rival: Rival, upstream: str, upstream_pid: int, seconds: int, results: Results) -> None:
    """Start it, put it through the scenarios of one upstream, end it."""
    with tempfile.TemporaryDirectory(prefix="capstan-bench-") as folder:
        home = Path(folder)
        command = rival.prepare(home)
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


def rate(result: dict[str, int], connections: int) -> float:
    """Give requests/s: counted, or where they are too few by Little's law for a closed loop."""
    if result["requests"] >= ENOUGH * connections:
        return result["requests"] / result["micros"] * 1e6
    return connections / result["mean"] * 1e6


def measure_once(rival: Rival, scenario: Scenario, pid: int, seconds: int, numbers: Numbers) -> str:
    """Add one round's numbers, and say them; OSError when it did not do what it should."""
    before = cpu_seconds(pid)
    connections = scenario.connections
    result = wrk(rival, scenario.kind, connections, seconds)
    if result["requests"] < connections:
        wait_idle(pid)
        before = cpu_seconds(pid)
        result = wrk(rival, scenario.kind, connections, PATIENCE * seconds)
    used = (cpu_seconds(pid) - before) / result["micros"] * 1e6
    if result["bad"]:
        raise OSError(f"{result['bad']} of {result['requests']} requests failed")
    if not result["requests"]:
        raise OSError(f"none finished within {PATIENCE * seconds} s")
    numbers.rss.append(rss_megabytes(pid))
    numbers.rate.append(rate(result, connections))
    numbers.p50.append(result["p50"])
    numbers.p99.append(result["p99"])
    numbers.cpu.append(used / numbers.rate[-1] * 1e6)
    return f"{numbers.rate[-1]:.0f}/s, {numbers.cpu[-1]:.0f} us CPU"


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
    for rival in RIVALS:
        if only and not any(part.lower() in rival.name.lower() for part in [*only, OURS, DIRECT]):
            continue
        try:
            versions[rival.name] = rival.version()
        except OSError as error:
            print(f"{rival.name}: left out, not installed ({error})")
    return versions


def run_all(results: Results, arguments: argparse.Namespace) -> None:
    """Put all gateways through all scenarios, round by round."""
    rivals = [rival for rival in RIVALS if rival.name in results.versions]
    for number in range(arguments.rounds):
        for upstream in arguments.upstreams:
            print(f"round {number + 1} of {arguments.rounds}, {upstream}", flush=True)
            with tempfile.TemporaryDirectory() as folder:
                log = Path(folder) / "log"
                with process(UPSTREAMS[upstream], CORES[1 % len(CORES)], log, {}) as child:
                    wait_ready(RIVALS[0], child)
                    for rival in rivals:
                        try:
                            run_rival(rival, upstream, child.pid, arguments.seconds, results)
                        except OSError as error:
                            print(f"  {rival.name}: {error}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--no-install", action="store_true", help="take only what is installed already")
    parser.add_argument("--seconds", type=int, default=4, help="per gateway, scenario and round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", nargs="+", default=[], help="gateways whose name contains one of these")
    parser.add_argument("--upstreams", nargs="+", default=list(UPSTREAMS), choices=list(UPSTREAMS))
    parser.add_argument("--no-write", action="store_true", help="do not write bench/RESULTS.md")
    arguments = parser.parse_args()
    for program in ("wrk", "nginx", "taskset"):
        if shutil.which(program) is None:
            sys.exit(f"{program} is missing: apt-get install wrk nginx-light util-linux")
    if not arguments.no_install and not arguments.only:
        install()
    load = os.getloadavg()[0]
    kinds = [(kind, connections) for kind in (JSON, STREAM) for connections in (1, 32, 256)]
    results = Results([Scenario(upstream, *kind) for upstream in arguments.upstreams for kind in kinds])
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
