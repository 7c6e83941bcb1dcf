"""What guards have decided, summed over replicas that come and go."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.guards import GuardCounts, GuardsReport, Stage
from capstan_operator.policies.decisions import COUNTED, DecisionsTally, GuardName
from capstan_operator.policies.sums import Life, Totals
from capstan_operator.resources.resource import PolicyKey

KEY = PolicyKey("GuardPolicy", "team", "guards")
MAIL = GuardName("input", "mail", "PII")


def counts(blocked: int = 0, redacted: int = 0, name: str = "mail") -> GuardCounts:
    """What a replica says of one guard."""
    return GuardCounts(stage=Stage.INPUT, name=name, type="PII", blocked=blocked, redacted=redacted)


def said(since: int, *guards: GuardCounts) -> bytes:
    """What a replica says."""
    return GuardsReport(since=since, policies={str(KEY): guards}).model_dump_json().encode()


class Story:
    """One operator, and what it has read of the status."""

    def __init__(self, status: dict[str, Any] | None = None) -> None:
        self.tally = DecisionsTally(before=lambda _: status)
        self.uid = "uid"

    def hear(self, **answers: bytes | None) -> dict[str, Any]:
        """Take in a round; give what is to be said of the policy."""
        return dict(self.tally.take({KEY: self.uid}, answers).get(KEY, {}))


def test_replicas_are_added_up() -> None:
    """What each has counted is one sum, by guard and of all; it is counted from when the older one began."""
    found = Story().hear(a=said(100, counts(2, 1), counts(5, name="other")), b=said(60, counts(3)))
    assert found["since"] == "1970-01-01T00:01:00Z"
    assert [found[what] for what in COUNTED] == [10, 1, 0, 0]
    mail, other = found["guards"]
    assert mail == {
        "stage": "input",
        "name": "mail",
        "type": "PII",
        "blocked": 5,
        "redacted": 1,
        "warned": 0,
        "failed": 0,
    }
    assert (other["name"], other["blocked"]) == ("other", 5)


def test_a_replica_that_begins_anew_takes_nothing_away() -> None:
    """What it counts after its restart is added to what it had counted before; so is it with one that goes."""
    story = Story()
    story.hear(a=said(100, counts(7)), b=said(100, counts(1)))
    assert story.hear(a=said(200, counts(2)), b=said(100, counts(1)))["blocked"] == 10
    assert story.hear(c=said(300, counts(4)))["blocked"] == 14
    assert story.hear(a=said(200, counts(3)), c=said(300, counts(4)))["blocked"] == 15


def test_silence_changes_nothing() -> None:
    """While replicas say nothing, or what nobody understands, sums stay; before anything was said there are none."""
    story = Story()
    assert story.hear(a=None) == {}
    known = story.hear(a=said(100, counts(7)))
    assert story.hear(a=None) == known
    assert story.hear(a=b"{") == known
    assert story.hear() == known


def test_a_new_operator_goes_on_from_the_status() -> None:
    """What was written stays, with replicas that are gone; what older ones have counted is in it, and is not added."""
    first = Story()
    first.hear(a=said(100, counts(7)), gone=said(100, counts(5)))
    status = {"observedTime": "1970-01-01T00:10:00Z", **first.hear(a=said(100, counts(8)))}
    assert status["blocked"] == 13
    second = Story(status)
    assert second.hear(a=said(100, counts(9)))["blocked"] == 13
    assert second.hear(a=said(100, counts(11)))["blocked"] == 15
    assert second.hear(a=said(100, counts(11)), new=said(700, counts(2)))["blocked"] == 17
    assert second.hear(a=said(100, counts(11)))["since"] == "1970-01-01T00:01:40Z"


def test_what_was_counted_while_there_was_no_operator_is_in_the_sum() -> None:
    """Where the replicas that are there have counted more than the status says, that is what is said."""
    status = {"observedTime": "1970-01-01T00:10:00Z", **Story().hear(a=said(100, counts(8)))}
    assert Story(status).hear(a=said(100, counts(30)))["blocked"] == 30


def test_another_policy_of_the_name_begins_at_nothing() -> None:
    """A policy that is made anew has decided nothing yet."""
    story = Story()
    story.hear(a=said(100, counts(7)))
    story.uid = "another"
    assert story.hear(a=said(100, counts(1)))["blocked"] == 1


def test_a_guard_that_is_gone_is_not_told() -> None:
    """The guards are those that the replicas name now, in their order."""
    story = Story()
    story.hear(a=said(100, counts(7), counts(1, name="other")))
    found = story.hear(a=said(100, counts(2, name="another"), counts(7)))
    assert [one["name"] for one in found["guards"]] == ["another", "mail"]
    assert found["blocked"] == 9


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["count", "restart", "silent"]), st.integers(0, 5))))
def test_no_sum_ever_goes_down(steps: list[tuple[str, str, int]]) -> None:
    """Whatever replicas do, the sum is what each life of each has said last, and never less than before."""
    totals, before = Totals[GuardName](len(COUNTED)), 0
    lives, counted = dict.fromkeys("abc", 0), dict.fromkeys("abc", 0)
    said: dict[tuple[str, int], int] = {}
    for time, (replica, what, amount) in enumerate(steps, start=1):
        if what == "restart":
            lives[replica], counted[replica] = time, 0
            continue
        counted[replica] += amount
        if what == "count":
            totals.take(Life(replica, lives[replica]), {MAIL: (counted[replica], 0, 0, 0)})
            said[replica, lives[replica]] = counted[replica]
        assert before <= totals.of(MAIL)[0] == sum(said.values())
        before = totals.of(MAIL)[0]
