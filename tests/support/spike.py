"""A load that comes at a rate, whoever is answered or not, and what became of each request: when, and which way."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import aiohttp

DIRECT, QUEUED, REFUSED, FAILED = "directly", "by the queue", "refused", "failed"
OUTCOMES: Final = (DIRECT, QUEUED, REFUSED, FAILED)


@dataclass(frozen=True)
class Phase:
    """A part of a load."""

    name: str
    seconds: float
    rate: float
    """Requests per second."""


@dataclass(frozen=True)
class Sample:
    """One request."""

    phase: str
    tier: str
    """The service tier that it asked for."""
    sent: float
    """Seconds since the load began."""
    outcome: str
    first: float | None
    """Seconds to the first token; None where there was none."""
    fault: str = ""


def schedule(phases: Sequence[Phase], tiers: Sequence[str]) -> list[tuple[float, str, str]]:
    """Give when each request is sent, in which phase and tier: evenly over each phase, tiers in turn."""
    begins = accumulate((phase.seconds for phase in phases), initial=0.0)
    times = [
        (begin + number / phase.rate, phase.name)
        for begin, phase in zip(begins, phases, strict=False)
        for number in range(round(phase.seconds * phase.rate))
    ]
    return [(at, name, tiers[number % len(tiers)]) for number, (at, name) in enumerate(times)]


async def send(url: str, model: str, phases: Sequence[Phase], tiers: Sequence[str], *, tokens: int) -> list[Sample]:
    """Ask for a stream of so many tokens at each time of the schedule, on a connection each; give what became of it."""
    began = time.monotonic()
    timeout = aiohttp.ClientTimeout(total=180)
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def one(at: float, phase: str, tier: str) -> Sample:
            await asyncio.sleep(began + at - time.monotonic())
            sent = time.monotonic()
            body = {
                "model": model,
                "messages": [{"role": "user", "content": f"at {at}"}],
                "service_tier": tier,
                "stream": True,
                "max_tokens": tokens,
                "min_tokens": tokens,
            }
            outcome, first, fault = await _ask(session, f"{url}/v1/chat/completions", body)
            return Sample(phase, tier, sent - began, outcome, None if first is None else first - sent, fault)

        return list(await asyncio.gather(*(one(*entry) for entry in schedule(phases, tiers))))


async def _ask(session: aiohttp.ClientSession, url: str, body: dict[str, object]) -> tuple[str, float | None, str]:
    first = None
    text = ""
    try:
        async with session.post(url, json=body) as response:
            if response.status != 200:
                outcome = REFUSED if response.status == 429 and "retry-after" in response.headers else FAILED
                return outcome, None, f"status {response.status}: {(await response.text())[:300]}"
            async for line in response.content:
                if first is None and line.startswith(b"data: ") and json.loads(line[6:])["choices"][0]["delta"]:
                    first = time.monotonic()
                text = line.decode().strip() or text
            if text != "data: [DONE]":
                return FAILED, first, f"cut off: {text[:300]}"
            return QUEUED if "x-capstan-queue-place" in response.headers else DIRECT, first, ""
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return FAILED, first, f"{type(error).__name__}: {error}"


def quantile(values: Sequence[float], share: float) -> float:
    """Give the value that so large a share of the values does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -(-round(share * 1000 * len(ordered)) // 1000) - 1)]


def table(samples: Iterable[Sample], key: Callable[[Sample], tuple[str, ...]], heads: Sequence[str]) -> str:
    """Write a table in Markdown, a row for each key, in the order of their first requests: how many were sent, what
    became of them, and the seconds to their first tokens."""
    groups: dict[tuple[str, ...], list[Sample]] = {}
    for sample in sorted(samples, key=lambda sample: sample.sent):
        groups.setdefault(key(sample), []).append(sample)
    lines = [f"| {' | '.join((*heads, 'sent', *OUTCOMES, 'first token p50', 'p95', 'max'))} |"]
    lines.append(f"| {' | '.join(['---'] * len(heads) + ['---:'] * (len(OUTCOMES) + 4))} |")
    for name, group in groups.items():
        outcomes = Counter(sample.outcome for sample in group)
        firsts = [sample.first for sample in group if sample.first is not None]
        times = [f"{quantile(firsts, share):.2f} s" if firsts else "" for share in (0.5, 0.95, 1.0)]
        cells = (*name, len(group), *(outcomes[outcome] for outcome in OUTCOMES), *times)
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    return "\n".join(lines)
