"""What engines say of their caches: the share of hits of the last minutes, and how full they are. Pure.

vLLM counts tokens that were asked for and tokens that were there, in its own memory or by a connector (its
`v1/metrics/loggers.py`; up to 0.9 under another name); SGLang counts prompt tokens and cached ones. Other engines tell
nothing. Full is what requests hold: blocks that are only kept for later ones count as free, in both.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

_ENGINES: Final[tuple[tuple[tuple[bytes, ...], bytes], ...]] = (
    ((b"vllm:prefix_cache_hits_total", b"vllm:external_prefix_cache_hits_total"), b"vllm:prefix_cache_queries_total"),
    ((b"vllm:gpu_prefix_cache_hits_total",), b"vllm:gpu_prefix_cache_queries_total"),
    ((b"sglang:cached_tokens_total",), b"sglang:prompt_tokens_total"),
)
"""The counters of hits, and of what was asked for, of each engine that has them."""
_KV_USE: Final = (b"vllm:kv_cache_usage_perc", b"vllm:gpu_cache_usage_perc", b"sglang:token_usage")
"""Shares of the KV cache in use; vLLM up to 0.9 has the second name."""


@dataclass(frozen=True, slots=True)
class Hits:
    """Tokens since an engine began, or within a time."""

    hit: float = 0.0
    asked: float = 0.0

    def __add__(self, other: "Hits") -> "Hits":
        """Give both together."""
        return Hits(self.hit + other.hit, self.asked + other.asked)

    @property
    def ratio(self) -> float | None:
        """The share of hits, from 0 to 1; None where nothing was asked."""
        return min(1.0, max(0.0, self.hit / self.asked)) if self.asked > 0 else None


def read_hits(text: bytes) -> Hits | None:
    """Read the metrics of an engine, in Prometheus' text format; None when they do not say."""
    for hits, asked in _ENGINES:
        total = _sum(text, asked)
        if total is not None:
            return Hits(sum(_sum(text, name) or 0.0 for name in hits), total)
    return None


def read_kv_use(text: bytes) -> float | None:
    """Read which share of its KV cache an engine's requests use, from 0 to 1; None when its metrics do not say.

    An engine of several that compute side by side has one series for each: the average counts.
    """
    for name in _KV_USE:
        found = [value for value in _values(text, name) if math.isfinite(value)]
        if found:
            return min(1.0, max(0.0, sum(found) / len(found)))
    return None


class HitWindow:
    """What one engine has said in the last minutes: a few counts, each with its time."""

    __slots__ = ("_counts", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._counts: deque[tuple[float, Hits]] = deque()

    def add(self, now: float, counted: Hits) -> None:
        """Take what the engine says now. One that counts less than before has begun anew, from nothing."""
        counts = self._counts
        if counts and (counted.asked < counts[-1][1].asked or counted.hit < counts[-1][1].hit):
            counts.clear()
            counts.append((now, Hits()))
        counts.append((now, counted))
        # The newest that is old enough stays: the window begins with it.
        while len(counts) > 1 and counts[1][0] <= now - self._seconds:
            counts.popleft()

    @property
    def latest(self) -> Hits:
        """What was hit and asked for within the window, as far as it was seen."""
        if not self._counts:
            return Hits()
        first, last = self._counts[0][1], self._counts[-1][1]
        return Hits(last.hit - first.hit, last.asked - first.asked)


def ratio_of(windows: Iterable[HitWindow]) -> float | None:
    """Give the share of hits of several engines together, each by what it was asked; None where none was asked."""
    return sum((window.latest for window in windows), Hits()).ratio


def _sum(text: bytes, name: bytes) -> float | None:
    """Add up the series of one counter; None when there is none, or when it is no number."""
    values = list(_values(text, name))
    return None if not values or any(map(math.isnan, values)) else sum(values)


def _values(text: bytes, name: bytes) -> Iterator[float]:
    """Give the values of all series of one metric; NaN for what is no number."""
    at = 0 if text.startswith(name) else text.find(b"\n" + name) + 1
    while at or text.startswith(name):
        end = text.find(b"\n", at)
        line = text[at + len(name) : len(text) if end < 0 else end]
        if line[:1] in (b"{", b" "):
            try:
                yield float(line[line.rfind(b"}") + 1 :].split()[0])
            except (ValueError, IndexError):
                yield math.nan
        following = text.find(b"\n" + name, at)
        if following < 0:
            break
        at = following + 1
