"""What caches have done, summed over replicas that come and go."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.caches import CacheCounts, CachesReport
from capstan_contract.limits import Mode
from capstan_operator.api.cachepolicy import CachedStatus
from capstan_operator.policies.cached import CachesTally
from capstan_operator.resources.resource import PolicyKey

KEY = PolicyKey("CachePolicy", "team", "cache")


def said(since: int, *, shared: bool = True, **counts: Any) -> bytes:
    """What a replica says."""
    report = CachesReport(since=since, shared=shared, policies={str(KEY): CacheCounts(**counts)})
    return report.model_dump_json().encode()


class Story:
    """One operator, and what it has read of the status."""

    def __init__(self, status: dict[str, Any] | None = None) -> None:
        self.tally = CachesTally(before=lambda _: status)
        self.uid = "uid"

    def hear(self, **answers: bytes | None) -> dict[str, Any]:
        """Take in a round; give what is to be said of the policy."""
        return dict(self.tally.take({KEY: self.uid}, answers).get(KEY, {}))


def test_replicas_are_added_up() -> None:
    """What each has counted is one sum: hits of all tiers, their share, and what they have saved, as dollars are
    written. What is said fits the status."""
    found = Story().hear(
        a=said(100, memoryHits=5, misses=7, savedTokens=50, savedNanoDollars=1_500_000_000, entries=3, bytes=900),
        b=said(
            60, redisHits=2, semanticHits=1, misses=1, bypassed=4, savedNanoDollars=250_000_000, entries=1, bytes=80
        ),
    )
    assert (found["since"], found["hits"], found["misses"], found["hitPercent"]) == ("1970-01-01T00:01:00Z", 8, 8, 50)
    assert (found["memoryHits"], found["redisHits"], found["semanticHits"], found["bypassed"]) == (5, 2, 1, 4)
    assert (found["savedTokens"], found["savedDollars"], found["entries"], found["bytes"]) == (50, "1.75", 4, 980)
    CachedStatus.model_validate({"observedTime": "1970-01-01T00:10:00Z", **found})


def test_a_replica_that_begins_anew_takes_nothing_away() -> None:
    """What it counts after its restart is added to what it had counted before; so is it with one that goes."""
    story = Story()
    story.hear(a=said(100, memoryHits=7), b=said(100, memoryHits=1))
    assert story.hear(a=said(200, memoryHits=2), b=said(100, memoryHits=1))["hits"] == 10
    assert story.hear(c=said(300, memoryHits=4))["hits"] == 14


def test_silence_changes_nothing() -> None:
    """While replicas say nothing, or what nobody understands, sums stay; before anything was said there are none."""
    story = Story()
    assert story.hear(a=None) == {}
    known = story.hear(a=said(100, memoryHits=7, redisDown=True))
    assert known["redisDown"] == 1
    assert story.hear(a=None) == known
    assert story.hear(a=b"{") == known
    assert story.hear() == known


def test_what_one_replica_says_does_not_come_and_go_with_its_answers() -> None:
    """One that does not answer for a moment is still off, and keeps what it keeps; one that is gone is not and does
    not."""
    story = Story()
    off = said(100, shared=False, semanticOff=True, entries=3, memoryHits=2)
    both = story.hear(a=off, b=said(100, shared=False, entries=1))
    assert (both["semanticOff"], both["entries"], both["hits"]) == (True, 4, 2)
    assert story.hear(a=None, b=said(100, shared=False, entries=1)) == both
    gone = story.hear(b=said(100, shared=False, entries=1))
    assert (gone["semanticOff"], gone["entries"], gone["hits"]) == (False, 1, 2)


def test_a_new_operator_goes_on_from_the_status() -> None:
    """What was written stays, dollars to the last nano; what older replicas have counted is in it, and is not added."""
    first = Story()
    first.hear(gone=said(100, memoryHits=5, savedNanoDollars=7))
    written = first.hear(a=said(100, memoryHits=8, misses=1, savedNanoDollars=1_000_000_001))
    status = {"observedTime": "1970-01-01T00:10:00Z", **written}
    assert (status["hits"], status["savedDollars"]) == (13, "1.000000008")
    second = Story(status)
    assert second.hear(a=said(100, memoryHits=8, misses=1, savedNanoDollars=1_000_000_001)) == written
    assert second.hear(a=said(100, memoryHits=10, misses=1))["hits"] == 15
    assert second.hear(new=said(700, memoryHits=2))["hits"] == 17


def test_a_mode_begins_at_nothing() -> None:
    """What would have been there is never added to what was; most replicas say which mode it is while it changes."""
    story = Story()
    story.hear(a=said(100, memoryHits=9, mode=Mode.SHADOW), b=said(100, memoryHits=1, mode=Mode.SHADOW))
    mixed = story.hear(
        a=said(100, memoryHits=2), b=said(100, memoryHits=1), c=said(100, memoryHits=5, mode=Mode.SHADOW)
    )
    assert (mixed["mode"], mixed["hits"]) == ("Enforce", 3)
    status = {"observedTime": "1970-01-01T00:10:00Z", **mixed}
    assert Story(status).hear(a=said(100, memoryHits=9, mode=Mode.SHADOW))["hits"] == 9


def test_another_policy_of_the_name_begins_at_nothing() -> None:
    """A policy that is made anew has done nothing yet, and nothing is said of it before a replica does."""
    story = Story()
    story.hear(a=said(100, memoryHits=7))
    story.uid = "another"
    assert story.hear(a=None) == {}
    assert story.hear(a=said(100, memoryHits=1))["hits"] == 1


def test_what_is_compared_is_counted_once() -> None:
    """Replicas that share Redis count together, so that the most is all; others count each for itself."""
    two = {"a": {"sampled": 40, "wrong": 1}, "b": {"sampled": 38, "wrong": 1}}
    shared = Story().hear(**{name: said(100, **one) for name, one in two.items()})
    assert (shared["falseHits"]["sampled"], shared["falseHits"]["wrong"], shared["shared"]) == (40, 1, True)
    alone = Story().hear(**{name: said(100, shared=False, **one) for name, one in two.items()})
    assert (alone["falseHits"]["sampled"], alone["falseHits"]["wrong"], alone["shared"]) == (78, 2, False)
    assert alone["falseHits"] == {"sampled": 78, "wrong": 2, "rate": "0.0256", "low": "0.0071", "high": "0.0888"}
    assert "falseHits" not in Story().hear(a=said(100))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["count", "restart", "silent"]), st.integers(0, 5))))
def test_no_sum_ever_goes_down(steps: list[tuple[str, str, int]]) -> None:
    """Whatever replicas do, hits are never fewer than before, and never more than were ever counted."""
    story, before, ever = Story(), 0, 0
    lives, counted = dict.fromkeys("abc", 0), dict.fromkeys("abc", 0)
    for time, (replica, what, amount) in enumerate(steps, start=1):
        if what == "restart":
            lives[replica], counted[replica] = time, 0
            continue
        counted[replica] += amount
        ever += amount
        heard = said(lives[replica], memoryHits=counted[replica]) if what == "count" else None
        hits = story.hear(**{replica: heard}).get("hits", 0)
        assert before <= hits <= ever
        before = hits
