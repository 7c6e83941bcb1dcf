"""What failing over costs the client: added latency when the first engine refuses, resets or fails.

    python bench/failover.py [--requests 150]

One gateway process, simulated engines that answer at once, one client connection. Each case has fresh models, so that
its first engine is asked: a model with a single dead engine and a fallback model, which is the longest way round (the
failed call, the decision, another model's engine). A breaker that has opened would make later requests cheaper, so
every request has a model of its own. The cases take turns, and "added" is to the middle of the case without failure.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from capstan_contract.config import ModelEntry  # noqa: E402
from support.gateway import entry  # noqa: E402
from support.gateway_process import gateway_process  # noqa: E402
from support.ports import free_port  # noqa: E402
from support.worker import Worker, simulator  # noqa: E402

CHAT = "/v1/chat/completions"
FAILURES = ("refused", "reset", "500")
TARGET_MS = 50.0
PAUSE_SECONDS = 0.07
"""Between requests: the retry budget is a share of the traffic, and this is little but failures."""


def models(urls: dict[str, str], requests: int) -> list[ModelEntry]:
    """Give one model for each request of each case."""
    healthy = entry("healthy", urls["healthy"], upstreamName="sim")
    cases = [
        entry(f"{case}-{number}", urls[case], upstreamName="sim", fallbacks=("healthy",))
        for case in urls
        for number in range(requests)
        if case != "healthy"
    ]
    return [healthy, *cases]


async def once(http: aiohttp.ClientSession, model: str, *, stream: bool) -> tuple[float, str]:
    """Ask; give the milliseconds to the end of the answer, and who answered."""
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "stream": stream}
    began = time.perf_counter()
    async with http.post(CHAT, json={**body, "max_tokens": 4}) as response:
        text = await response.text()
    took = (time.perf_counter() - began) * 1000
    if response.status != 200:
        raise RuntimeError(f"{model}: status {response.status}: {text[:200]}")
    return took, response.headers["x-capstan-model"]


async def measure(url: str, requests: int, *, stream: bool) -> dict[str, list[float]]:
    """Give the milliseconds of every request, by case."""
    found: dict[str, list[float]] = {case: [] for case in ("none", *FAILURES)}
    offset = requests if stream else 0
    async with aiohttp.ClientSession(url) as http:
        for _ in range(20):
            await once(http, "healthy", stream=stream)
        for number in range(requests):
            for case, times in found.items():
                model = "healthy" if case == "none" else f"{case}-{offset + number}"
                took, by = await once(http, model, stream=stream)
                if by != "healthy":
                    raise RuntimeError(f"{model} was answered by {by}")
                times.append(took)
                await asyncio.sleep(PAUSE_SECONDS)
    return found


def percentile(values: list[float], share: float) -> float:
    """Give a percentile."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def report(kind: str, found: dict[str, list[float]]) -> bool:
    """Print the table of one kind of answer; give whether every p99 is below the target."""
    base = statistics.median(found["none"])
    print(f"\n{kind:12} {'p50 ms':>8} {'p99 ms':>8} {'added p50':>10} {'added p99':>10}")
    for case, values in found.items():
        p50, p99 = statistics.median(values), percentile(values, 0.99)
        print(f"{case:12} {p50:8.2f} {p99:8.2f} {p50 - base:10.2f} {p99 - base:10.2f}")
    return all(percentile(values, 0.99) - base < TARGET_MS for values in found.values())


def run(requests: int, folder: Path) -> int:
    """Measure whole answers and streams."""
    with ExitStack() as stack:

        def engine(*faults: str) -> Worker:
            return stack.enter_context(simulator(*(f"--fault={fault}" for fault in faults)))

        urls = {
            "healthy": engine().url,
            "refused": f"http://127.0.0.1:{free_port()}",
            "reset": engine("reset").url,
            "500": engine("500").url,
        }
        gateway = stack.enter_context(gateway_process(folder, models(urls, 2 * requests)))
        met = [
            report(kind, asyncio.run(measure(gateway.url, requests, stream=stream)))
            for kind, stream in (("JSON", False), ("stream", True))
        ]
    verdict = "below" if all(met) else "NOT below"
    print(f"\n{requests} requests a case; added p99 is {verdict} {TARGET_MS:.0f} ms in every case")
    return 0 if all(met) else 1


def main() -> int:
    parser = argparse.ArgumentParser(description="What failing over costs the client.")
    parser.add_argument("--requests", type=int, default=150)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="capstan-failover-") as folder:
        return run(options.requests, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
