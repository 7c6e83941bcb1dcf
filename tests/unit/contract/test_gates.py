"""The summary of a rollout's suites, which has to fit into a termination message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.gates import (
    MOST_BYTES,
    Bar,
    GateOrder,
    GateSummary,
    GateTarget,
    Outcome,
    ScorerSummary,
    SuiteSummary,
    read_gate_summary,
    write_gate_summary,
)


def scorer(name: str = "exact", outcome: Outcome = Outcome.PASS, ids: tuple[str, ...] = ()) -> ScorerSummary:
    """One scorer's comparison."""
    return ScorerSummary(
        scorer=name, outcome=outcome, cases=100, stable=0.9, candidate=0.8, difference=-0.1, low=-0.15, high=-0.05,
        margin=0.02, pValue=0.001, detectable=0.05, neededCases=400, regressions=len(ids), regressed=ids,
    )  # fmt: skip


def suite(name: str = "maths", outcome: Outcome = Outcome.PASS, *scorers: ScorerSummary) -> SuiteSummary:
    """One suite's."""
    return SuiteSummary(name=name, hash="ab" * 32, outcome=outcome, cases=100, scorers=scorers)


def test_a_summary_that_has_room_is_written_whole() -> None:
    """What fits comes back as it was."""
    bar = Bar(outcome=Outcome.PASS, cases=60, failures=0, low=0, high=0.0487, bar=0.05, neededCases=59)
    summary = GateSummary(
        outcome=Outcome.FAIL,
        suites=(suite("maths", Outcome.FAIL, scorer(ids=("a", "ü"))), suite().model_copy(update={"mustRefuse": bar})),
        requests=200,
        cost=0.5,
    )
    assert read_gate_summary(write_gate_summary(summary)) == summary


def test_what_decided_stays_longest() -> None:
    """Without room ids go first, then scorers that pass, then suites that pass; what goes is counted."""
    failing = suite("bad", Outcome.FAIL, scorer("exact", Outcome.FAIL, ("x" * 200,)), scorer("extra"))
    passing = [suite(f"good-{at}", Outcome.PASS, scorer(), scorer("other")) for at in range(60)]
    short = read_gate_summary(write_gate_summary(GateSummary(outcome=Outcome.FAIL, suites=(*passing, failing))))
    assert short is not None
    assert short.outcome is Outcome.FAIL
    assert short.suites[0].name == "bad"
    assert [one.scorer for one in short.suites[0].scorers] == ["exact"]
    assert short.suites[0].scorers[0].regressions == 1
    assert short.left == 1 + 1 + 120 + (61 - len(short.suites))


def test_what_is_open_stays_longer_than_what_passes() -> None:
    """Scorers that pass, and those that only inform, go before those that are inconclusive and gate."""
    informing = scorer("informing", Outcome.INCONCLUSIVE).model_copy(update={"mayGate": False})
    scorers = (scorer("open", Outcome.INCONCLUSIVE), informing, *(scorer(f"good-{at}") for at in range(30)))
    open_ = suite("open", Outcome.INCONCLUSIVE, *scorers)
    short = read_gate_summary(write_gate_summary(GateSummary(outcome=Outcome.INCONCLUSIVE, suites=(open_,))))
    assert short is not None
    assert [one.scorer for one in short.suites[0].scorers] == ["open"]
    assert short.left == 31


@given(st.text(max_size=3000), st.lists(st.text(max_size=300), max_size=40), st.integers(0, 30))
def test_no_summary_is_larger_than_a_termination_message(error: str, ids: list[str], suites: int) -> None:
    """Whatever is in it, in whichever language, it has room, and can be read."""
    one = suite(error[:100], Outcome.FAIL, *[scorer(name, Outcome.FAIL, tuple(ids)) for name in ids[:8]])
    written = write_gate_summary(GateSummary(outcome=Outcome.FAIL, error=error, suites=(one,) * suites))
    assert len(written) <= MOST_BYTES
    read = read_gate_summary(written.decode())
    assert read is not None
    assert read.outcome is Outcome.FAIL


def test_a_reader_passes_over_what_it_does_not_know() -> None:
    """A Job of the next release may say more."""
    read = read_gate_summary('{"version": 1, "outcome": "Pass", "mood": "good", "suites": []}')
    assert read == GateSummary(outcome=Outcome.PASS)


@pytest.mark.parametrize("text", ["", "Killed", '{"version": 2}', '{"outcome": "Maybe"}', "[]"])
def test_what_is_no_summary_is_none(text: str) -> None:
    """A container that was killed leaves no summary, and is not taken for one that has."""
    assert read_gate_summary(text) is None


def test_an_order_is_a_command() -> None:
    """The operator writes the Job's command from an order, in one order of the flags."""
    order = GateOrder(
        candidate=GateTarget(url="http://llama-canary:8000", model="llama"),
        stable=GateTarget(url="http://llama:8000", model="llama"),
        suites={"b": "/suites/b", "a": "/suites/a"},
        safety={"harm": "/suites/harm"},
    )
    assert " ".join(order.arguments()) == (
        "eval gate --candidate llama --candidate-url http://llama-canary:8000 --stable llama"
        " --stable-url http://llama:8000 --suite a=/suites/a --suite b=/suites/b --safety harm=/suites/harm"
        " --concurrency 8 --seconds 3600 --summary /dev/termination-log"
    )
