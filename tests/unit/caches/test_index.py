"""Vectors of questions, apart by partition and bounded."""

import threading
import tracemalloc
from random import Random

import numpy
import pytest

from capstan_gateway.caches.port import CacheKey
from capstan_gateway.caches.semantic import index
from capstan_gateway.caches.semantic.index import DIMENSIONS, Asked, Neighbours


def vector(seed: int) -> numpy.ndarray:
    """Give a direction."""
    found = numpy.random.default_rng(seed).normal(size=DIMENSIONS).astype(numpy.float32)
    return found / numpy.linalg.norm(found)


def asked(number: int, expires_ms: int = 100) -> Asked:
    """Give a question."""
    return Asked(CacheKey("p", "m", number.to_bytes(4, "big")), f"question {number}", expires_ms)


def nearest(found: Neighbours, partition: str, seed: int, count: int = 3, now_ms: int = 0) -> list[str]:
    """Give the texts."""
    return [near.asked.text for near in found.nearest(partition, vector(seed), count=count, now_ms=now_ms)]


@pytest.fixture(params=[5, 10_000])
def small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """From how many on a graph is taken: at once, and never."""
    monkeypatch.setattr(index, "SMALL", request.param)
    return int(request.param)


def test_what_is_nearest_comes_first_and_of_no_other_partition(small: int) -> None:
    """A question finds itself with similarity 1 in its own partition, and nothing in another."""
    found = Neighbours(most=1000)
    for number in range(50):
        found.put("a", asked(number), vector(number))
    near = found.nearest("a", vector(7), count=3, now_ms=0)
    assert near[0].asked.text == "question 7"
    assert near[0].similarity == pytest.approx(1, abs=0.002)
    assert [one.similarity for one in near] == sorted((one.similarity for one in near), reverse=True)
    assert found.nearest("b", vector(7), count=3, now_ms=0) == []


def test_the_bound_holds_and_what_was_found_stays_longest(small: int) -> None:
    """Over all partitions together; the least recently used go first."""
    found = Neighbours(most=10)
    for number in range(10):
        found.put("ab"[number % 2], asked(number), vector(number))
    found.used(asked(0).key)
    for number in range(10, 19):
        found.put("c", asked(number), vector(number))
    assert len(found) == 10
    assert nearest(found, "a", 0) == ["question 0"]
    assert nearest(found, "b", 1) == []


def test_what_has_expired_or_was_dropped_is_not_found(small: int) -> None:
    """And takes no place; put again it is found again, once."""
    found = Neighbours(most=100)
    for number in range(8):
        found.put("a", asked(number, expires_ms=number * 10), vector(number))
    found.drop(asked(7).key)
    found.drop(asked(7).key)
    left = nearest(found, "a", 2, count=8, now_ms=20)
    assert left
    assert "question 2" not in left
    found.put("a", asked(5, expires_ms=500), vector(5))
    found.put("a", asked(5, expires_ms=600), vector(5))
    assert nearest(found, "a", 5, count=1, now_ms=400) == ["question 5"]
    assert sum(text == "question 5" for text in nearest(found, "a", 5, count=8, now_ms=400)) == 1


def test_many_puts_and_drops_keep_it_in_order(small: int) -> None:
    """After any of them each question that is there finds itself, and one that is not does not."""
    rng, found, there = Random(3), Neighbours(most=1000), set[int]()  # noqa: S311
    for _ in range(300):
        number = rng.randrange(40)
        if number in there and rng.random() < 0.5:
            found.drop(asked(number).key)
            there.discard(number)
        else:
            found.put("a", asked(number), vector(number))
            there.add(number)
        assert len(found) == len(there)
    for number in range(40):
        assert (nearest(found, "a", number, count=1) == [f"question {number}"]) == (number in there)


def test_nobody_waits_for_the_graph_of_a_partition_that_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making it takes most of a second; what is found, dropped and put meanwhile is found, dropped and put."""
    monkeypatch.setattr(index, "SMALL", 5)
    found = Neighbours(most=1000)
    for number in range(5):
        found.put("a", asked(number), vector(number))
    begun, go = threading.Event(), threading.Event()
    made = index._Few.as_many

    def slowly(few: index._Few) -> index._Many:
        begun.set()
        assert go.wait(30)
        return made(few)

    monkeypatch.setattr(index._Few, "as_many", slowly)
    growing = threading.Thread(target=found.put, args=("a", asked(5), vector(5)))
    growing.start()
    assert begun.wait(30)
    doing = threading.Thread(target=lambda: (found.drop(asked(1).key), nearest(found, "a", 0)), daemon=True)
    doing.start()
    doing.join(25)
    waited = doing.is_alive()
    go.set()
    growing.join(30)
    assert not waited
    assert [nearest(found, "a", number, count=1) == [f"question {number}"] for number in range(6)] == [
        True, False, True, True, True, True,
    ]  # fmt: skip
    assert isinstance(found._shelves["a"], index._Many)


def test_what_changes_while_a_graph_is_made_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was put in place of another one is there once, and as it is now."""
    monkeypatch.setattr(index, "SMALL", 5)
    found = Neighbours(most=1000)
    for number in range(5):
        found.put("a", asked(number), vector(number))
    made = index._Few.as_many

    def meanwhile(few: index._Few) -> index._Many:
        monkeypatch.setattr(index._Few, "as_many", made)
        monkeypatch.setattr(index, "SMALL", 100)
        found.put("a", asked(2, expires_ms=500), vector(2))
        found.put("a", asked(8), vector(8))
        return made(few)

    monkeypatch.setattr(index._Few, "as_many", meanwhile)
    found.put("a", asked(6), vector(6))
    assert isinstance(found._shelves["a"], index._Many)
    assert len(found) == 7
    assert nearest(found, "a", 2, count=1, now_ms=400) == ["question 2"]
    assert nearest(found, "a", 8, count=1) == ["question 8"]


def test_one_is_dropped_without_a_look_at_the_others() -> None:
    """However many there are: clients report answers, and each report drops one."""
    found = Neighbours(most=1000)
    for number in range(10):
        found.put("ab"[number % 2], asked(number), vector(number))
    assert found.drop(asked(3).key)
    assert not found.drop(asked(3).key)
    assert nearest(found, "b", 3) != ["question 3"]
    assert len(found) == 9


def test_it_says_until_when_there_is_an_answer(small: int) -> None:
    """Of one that is there, the last that was put under its key; 0 of any other."""
    found = Neighbours(most=100)
    for number in range(20):
        found.put("a", asked(number, expires_ms=10 + number), vector(number))
    found.put("a", asked(3, expires_ms=99), vector(3))
    assert [found.until(asked(number).key) for number in (2, 3, 19)] == [12, 99, 29]
    found.drop(asked(3).key)
    assert found.until(asked(3).key) == 0


@pytest.mark.parametrize("apart", [True, False])
def test_questions_take_no_more_memory_than_they_are_counted_as(apart: bool) -> None:
    """Also where each is alone in its partition, as those of conversations are; and what is dropped counts no more."""
    found = Neighbours(most=10_000)
    found.put("warm", asked(10_000), vector(1))
    found.drop(asked(10_000).key)
    vectors = [vector(number) for number in range(600)]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number, row in enumerate(vectors):
            found.put(f"{number if apart else 0:064x}", asked(number), row)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.6 * found.bytes < taken < found.bytes
    for number in range(500):
        found.drop(asked(number).key)
    assert found.bytes < 110 * index.MOST_BYTES_EACH
    for number in range(500, 600):
        found.drop(asked(number).key)
    assert (len(found), found.bytes) == (0, 0)


def test_large_vectors_are_fewer_and_the_last_one_is_there() -> None:
    """Of vectors of 4,096 numbers there are as many as bytes allow, and one in any case; the least recently used go."""
    found = Neighbours(most=10)
    for number in range(10):
        found.put("a", asked(number), numpy.ones(4096, numpy.float32))
        assert found.bytes <= 10 * index.MOST_BYTES_EACH
    assert found.keys() == [asked(8).key, asked(9).key]
    alone = Neighbours(most=1)
    alone.put("a", asked(1), numpy.ones(4096, numpy.float32))
    assert len(alone) == 1


def test_ordinary_questions_reach_their_number(small: int) -> None:
    """With the vectors that the process makes itself the number is what bounds, wherever they are."""
    found = Neighbours(most=40)
    for number in range(60):
        text = "a question of the greatest length that is compared ".ljust(600, "x")
        found.put(str(number), Asked(asked(number).key, text, 100), vector(number))
    assert len(found) == 40
    for number in range(60, 120):
        found.put("one", asked(number), vector(number))
    assert len(found) == 40
    there = found.keys()
    for key in there:
        found.drop(key)
    assert found.bytes == 0


def test_who_loses_questions_loses_their_memory() -> None:
    """A partition of a few takes what these take, however many it once had."""
    found = Neighbours(most=10_000)
    rows = [vector(number) for number in range(400)]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number, row in enumerate(rows):
            found.put("a", asked(number), row)
        for number in range(395):
            found.drop(asked(number).key)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken < 100_000
    assert nearest(found, "a", 397, count=1) == ["question 397"]
