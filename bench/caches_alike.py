"""How long it takes to find the nearest of 100,000 questions, without their vectors and with them.

    python bench/caches_alike.py [QUESTIONS]

One partition, made-up vectors for all but the question that is asked, which is embedded and judged as in the gateway.
"""

import sys
import time
from collections.abc import Callable

import numpy

from capstan_contract.caches import SemanticTier
from capstan_gateway.caches.port import CacheKey
from capstan_gateway.caches.semantic.index import DIMENSIONS, Asked, Neighbours
from capstan_gateway.caches.semantic.judge import Judge
from capstan_gateway.embed.sentences import EMBEDDER

ASKED = "How do I reset the password of my account?"
SAME = "How can I reset the password of my account?"


def main() -> None:
    """Fill it, and measure."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    found, embedder, judge = Neighbours(most=count), EMBEDDER.get(), Judge(SemanticTier())
    kept = embedder.read(ASKED)
    assert kept is not None
    rows = numpy.random.default_rng(1).normal(size=(count, DIMENSIONS)).astype(numpy.float32)
    # Half of them are about as near as questions of one subject are.
    rows[::2] = rows[::2] / 16 + kept.vector
    rows /= numpy.linalg.norm(rows, axis=1, keepdims=True)
    begun = time.perf_counter()
    for number in range(count - 1):
        key = CacheKey("p", "m", number.to_bytes(32, "big"))
        found.put("a", Asked(key, f"Where is the shop number {number}?", 10**15), rows[number])
    found.put("a", Asked(CacheKey("p", "m", b"asked"), ASKED, 10**15), kept.vector)
    took = time.perf_counter() - begun
    print(f"{count:,} questions put in {took:.0f} s, {took / count * 1000:.2f} ms each")
    sentence = embedder.read(SAME)
    assert sentence is not None

    def search() -> None:
        found.nearest("a", sentence.vector, count=5, now_ms=0)

    def judged() -> None:
        near = found.nearest("a", sentence.vector, count=5, now_ms=0)
        serving = judge.serving(SAME, sentence, near, least=0, sentence_of=lambda _: kept)
        assert serving, near

    def whole() -> None:
        mine = embedder.read(SAME)
        assert mine is not None
        near = found.nearest("a", mine.vector, count=5, now_ms=0)
        assert judge.serving(SAME, mine, near, least=0, sentence_of=embedder.read)

    def asked() -> None:
        mine = embedder.read(SAME)
        assert mine is not None
        near = found.nearest("a", mine.vector, count=5, now_ms=0)
        assert judge.serving(SAME, mine, near, least=0, sentence_of=lambda _: kept)

    for name, work in (
        ("the nearest five", search), ("and rules and score", judged), ("and the question embedded", asked),
        ("and both questions embedded", whole),
    ):  # fmt: skip
        print(f"{name:32} {_times(work)}")


def _times(work: Callable[[], None]) -> str:
    took = []
    for _ in range(300):
        begun = time.perf_counter()
        work()
        took.append((time.perf_counter() - begun) * 1000)
    took.sort()
    return f"p50 {took[150]:.3f} ms   p99 {took[297]:.3f} ms"


if __name__ == "__main__":
    main()
