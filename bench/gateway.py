"""Gateways side by side on one machine in one run: requests/s, added latency, CPU time and memory.

    python bench/gateway.py [--seconds 4] [--rounds 2] [--only NAME ...] [--no-install] [--no-write]

It needs wrk and nginx (Debian packages wrk and nginx-light), and npm for Portkey; the other gateways are installed
into .cache/bench.

Each gateway runs alone on core 0, as one process with one worker, before the same instant mock; the mock and wrk have
the other core or cores. Every scenario is a closed loop: JSON answers and complete streams of 64 chunks, at 1, 32 and
256 connections. Rounds go through all gateways in turn, and the table gives the median of each number. "Added" is the
difference to the mock called directly. A gateway that is not installed, or that answers with errors, is named and left
out. A run of all gateways puts the tables into bench/RESULTS.md with the machine, its load and the versions; nothing
else should run meanwhile.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gateway_mock import CHUNKS
from gateway_rivals import MOCK_PORT, RIVALS, Rival, install

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "RESULTS.md"
OURS, DIRECT = "Capstan, pass-through", "mock, directly"
CORES = sorted(os.sched_getaffinity(0))
TICK = os.sysconf("SC_CLK_TCK")
PROMPT = "Say something about foxes and dogs, please, in one short sentence and without any further explanation."
BODY = json.dumps({"model": "bench", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 16})
SCENARIOS = [
    (f"{kind}, c={connections}", kind, connections)
    for kind in ("JSON", "64-chunk stream")
    for connections in (1, 32, 256)
]


@dataclass
class Numbers:
    """What one gateway did in one scenario, one entry per round."""

    rate: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    rss: list[float] = field(default_factory=list)

    def middle(self, name: str) -> float:
        return statistics.median(getattr(self, name))


Table = dict[tuple[str, str], Numbers]


@contextmanager
def process(
    command: list[str], core: int, log: Path, environment: dict[str, str]
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a command on one core; end it and its children."""
    with log.open("w") as sink:
        child = subprocess.Popen(
            command,
            stdout=sink,
            stderr=sink,
            env=os.environ | environment,
            start_new_session=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
        try:
            yield child
        finally:
            try:
                os.killpg(child.pid, 15)
            except ProcessLookupError:
                pass  # it ended by itself
            try:
                child.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, 9)
                child.wait()


def tree(pid: int) -> list[int]:
    """Give a process and all below it."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            found.extend(int(child) for child in task.read_text().split())
    return found


def cpu_seconds(pid: int) -> float:
    """CPU time, user and system, of a process and all below it."""
    total = 0
    for one in tree(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


def rss_megabytes(pid: int) -> float:
    """Resident memory of a process and all below it."""
    pages = sum(int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in tree(pid))
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def wait_ready(rival: Rival, child: "subprocess.Popen[bytes] | None" = None, seconds: float = 120.0) -> None:
    """Return when it answers a request as the mock does."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return try_once(rival, "JSON")
        except OSError as error:
            ended = child is not None and child.poll() is not None
            if ended or time.monotonic() > deadline:
                raise OSError(f"not ready ({'it ended' if ended else f'after {seconds:.0f} s'}): {error}") from error
            time.sleep(0.25)


def try_once(rival: Rival, kind: str) -> None:
    """Send one request; OSError when the answer is not whole."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{rival.port}{rival.path}",
        data=(BODY if kind == "JSON" else stream_body()).encode(),
        headers={"content-type": "application/json", **rival.headers},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        data = answer.read()
    if kind == "JSON" and b"quick brown fox" not in data:
        raise OSError(f"answered something else: {data[:200]!r}")
    if kind != "JSON" and data.count(b"data: ") < CHUNKS:
        raise OSError(f"streamed only {data.count(b'data: ')} events")


def stream_body() -> str:
    return BODY[:-1] + ', "stream": true}'


def wrk(rival: Rival, kind: str, connections: int, seconds: int) -> dict[str, int]:
    """Load it, and give what wrk measured."""
    headers = {"content-type": "application/json", **rival.headers}
    environment = {
        "BENCH_BODY": BODY if kind == "JSON" else stream_body(),
        "BENCH_HEADERS": "\n".join(f"{name}: {value}" for name, value in headers.items()),
    }
    command = ["taskset", "-c", str(CORES[-1]), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s"]
    command += ["-s", str(HERE / "gateway_wrk.lua"), f"http://127.0.0.1:{rival.port}{rival.path}"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    result: dict[str, int] = json.loads(line.removeprefix("RESULT "))
    return result


def run_rival(rival: Rival, seconds: int, mock_pid: int, table: Table) -> None:
    """Start it, put it through every scenario, end it."""
    with tempfile.TemporaryDirectory(prefix="capstan-bench-") as folder:
        home = Path(folder)
        command = rival.prepare(home)
        if not command:
            wait_ready(rival)
            measure(rival, seconds, mock_pid, table)
            return
        with process(command, CORES[0], home / "log", rival.environment) as child:
            try:
                wait_ready(rival, child)
                measure(rival, seconds, child.pid, table)
            except OSError:
                print((home / "log").read_text()[-2000:], file=sys.stderr)
                raise


def measure(rival: Rival, seconds: int, pid: int, table: Table) -> None:
    """Fill the table's entries of one gateway."""
    wrk(rival, "JSON", 32, min(seconds, 2))  # warm up
    for name, kind, connections in SCENARIOS:
        try:
            try_once(rival, kind)
        except OSError as error:
            print(f"  {rival.name}: {name}: {error}", flush=True)
            continue
        before = cpu_seconds(pid)
        result = wrk(rival, kind, connections, seconds)
        used = cpu_seconds(pid) - before
        if result["bad"] or not result["requests"]:
            failed = f"{result['bad']} of {result['requests']} requests failed" if result["bad"] else "none finished"
            print(f"  {rival.name}: {name}: {failed}", flush=True)
            continue
        numbers = table.setdefault((rival.name, name), Numbers())
        numbers.rate.append(result["requests"] / result["micros"] * 1e6)
        numbers.p50.append(result["p50"])
        numbers.p99.append(result["p99"])
        numbers.cpu.append(used / result["requests"] * 1e6)
        numbers.rss.append(rss_megabytes(pid))
        print(f"  {rival.name}: {name}: {numbers.rate[-1]:.0f}/s, {numbers.cpu[-1]:.0f} us CPU", flush=True)


def render(table: Table, versions: dict[str, str]) -> str:
    """Write the tables."""
    lines = []
    for name, _, _ in SCENARIOS:
        if (OURS, name) not in table:
            continue
        ours = table[OURS, name]
        direct = table.get((DIRECT, name))
        lines += [f"### {name}", "", "| gateway | requests/s | Capstan does | added p50, ms | added p99, ms |"]
        lines[-1] += " CPU, us/request | RSS, MB |"
        lines += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
        for gateway in versions:
            numbers = table.get((gateway, name))
            if numbers is None:
                lines.append(f"| {gateway} | failed | | | | | |")
                continue
            ratio = ours.middle("rate") / numbers.middle("rate")
            added = ["", ""]
            if direct is not None and gateway != DIRECT:
                added = [f"{(numbers.middle(p) - direct.middle(p)) / 1000:.2f}" for p in ("p50", "p99")]
            lines.append(
                f"| {gateway} | {numbers.middle('rate'):,.0f} | {ratio:.2f} x | {added[0]} | {added[1]} "
                f"| {numbers.middle('cpu'):.0f} | {numbers.middle('rss'):.0f} |"
            )
        lines.append("")
    return "\n".join(lines)


def machine() -> str:
    """Describe the machine in one line."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = models[0].split(":", 1)[1].strip() if models else platform.machine()
    return f"{model}, {len(CORES)} cores, Linux {platform.release()}, Python {platform.python_version()}"


def report(table: Table, versions: dict[str, str], arguments: argparse.Namespace, load: float) -> str:
    """Write the whole page."""
    named = ", ".join(f"{name} {version}" for name, version in versions.items() if version != "-")
    return (
        "# Gateways side by side\n\n"
        "Written by `python bench/gateway.py`; how it measures is in its first lines. "
        "Compare within a table only: another machine, or the same one at another time, gives other numbers.\n\n"
        f"- {machine()}; load average before the run {load:.1f}\n- {named}\n"
        f"- {arguments.rounds} round(s) of {arguments.seconds} s per scenario; request of {len(BODY)} bytes\n\n"
        + render(table, versions)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--no-install", action="store_true", help="take only what is installed already")
    parser.add_argument("--seconds", type=int, default=4, help="per gateway, scenario and round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", nargs="+", default=[], help="gateways whose name contains one of these")
    parser.add_argument("--no-write", action="store_true", help="do not write bench/RESULTS.md")
    arguments = parser.parse_args()
    for program in ("wrk", "nginx", "taskset"):
        if shutil.which(program) is None:
            sys.exit(f"{program} is missing: apt-get install wrk nginx-light util-linux")
    if not arguments.no_install and not arguments.only:
        install()
    load = os.getloadavg()[0]
    versions: dict[str, str] = {}
    for rival in RIVALS:
        wanted = not arguments.only or any(
            part.lower() in rival.name.lower() for part in [*arguments.only, OURS, DIRECT]
        )
        try:
            versions.update({rival.name: rival.version()} if wanted else {})
        except OSError as error:
            print(f"{rival.name}: left out, not installed ({error})")
    table: Table = {}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(HERE / "gateway_mock.py"), str(MOCK_PORT)]
        with process(command, CORES[1 % len(CORES)], Path(folder) / "mock", {}) as mock:
            for number in range(arguments.rounds):
                print(f"round {number + 1} of {arguments.rounds}", flush=True)
                for rival in RIVALS:
                    if rival.name in versions:
                        try:
                            run_rival(rival, arguments.seconds, mock.pid, table)
                        except OSError as error:
                            print(f"  {rival.name}: {error}", flush=True)
    page = report(table, versions, arguments, load)
    print("\n" + page)
    if not arguments.no_write and not arguments.only:
        RESULTS.write_text(page)


if __name__ == "__main__":
    main()
