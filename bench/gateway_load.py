"""Load on one gateway, and what it did under it, for bench/gateway.py."""

import json
import os
import subprocess
import time
import urllib.request
from pathlib import Path

from gateway_machine import CORES, cpu_seconds, rss_megabytes, wait_idle
from gateway_report import Numbers, Scenario
from gateway_rivals import Rival
from gateway_upstreams import CHUNKS, JSON_TOKENS

HERE = Path(__file__).resolve().parent
PROMPT = "Say something about foxes and dogs, please, in one short sentence and without any further explanation."
JSON, STREAM = "JSON", f"{CHUNKS}-chunk stream"
ENOUGH = 20
"""So many requests on each connection are enough to count; of fewer, too large a part is cut off at the end."""
PATIENCE = 4
"""So many times longer a gateway runs that has not finished one request on each connection."""
KINDS = [(kind, connections) for kind in (JSON, STREAM) for connections in (1, 32, 256)]


def body(kind: str, model: str = "bench") -> str:
    """Give the request; the simulator's answer is as long as it allows, the mock's is always the same."""
    request = {"model": model, "messages": [{"role": "user", "content": PROMPT}]}
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
        data=body(kind, rival.model).encode(),
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
        "BENCH_BODY": body(kind, rival.model),
        "BENCH_HEADERS": "\n".join(f"{name}: {value}" for name, value in headers.items()),
    }
    command = ["taskset", "-c", str(CORES[-1]), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s"]
    command += ["-s", str(HERE / "gateway_wrk.lua"), f"http://127.0.0.1:{rival.port}{rival.path}"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    result: dict[str, int] = json.loads(line.removeprefix("RESULT "))
    return result


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
