"""A gate whose runs are given."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from capstan_contract.gates import Outcome
from capstan_evaluation.gating import gate
from capstan_evaluation.records import Answer, Result, Run, RunHeader, Score
from capstan_evaluation.runs.client import Server
from capstan_evaluation.runs.conduct import Asked

SUITE = "{name: s, margin: 0.1, defaults: {checks: [{type: Exact, values: [x]}]}, cases: [%s]}"
CASES = 60


def run_of(errors: Sequence[str]) -> Run:
    """A run in which the first cases have these errors, and the others are right."""
    right = (Score(scorer="exact", value=1.0),)
    codes = [*errors, *[""] * (CASES - len(errors))]
    results = tuple(
        Result(case=f"c{at}", place=at, request="r", answer=Answer(error=code), scores=() if code else right)
        for at, code in enumerate(codes)
    )
    return Run(
        header=RunHeader(id="r", suite="s", suiteHash="h", target="t", cases=CASES, repeats=1, results=CASES),
        results=results,
    )


@pytest.mark.parametrize(
    ("candidate", "stable", "told"),
    [
        (["timeout"], [], Outcome.PASS),
        (["connection_lost"] * 30, [], Outcome.FAIL),
        (["connection_failed"] * CASES, [], gate.UNREACHABLE),
        (["connection_failed"] * (CASES - 1) + ["http_500"], [], Outcome.FAIL),
        ([], ["http_500"] * CASES, gate.STABLE_FAILED),
        ([], ["http_500"], Outcome.PASS),
    ],
)
async def test_only_who_never_answers_was_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, candidate: list[str], stable: list[str], told: str
) -> None:
    """A connection that breaks now and then is an error of the candidate's; one that there never was says nothing."""
    file = tmp_path / "suite.yaml"
    file.write_text(SUITE % ", ".join(f"{{id: c{at}, prompt: hi}}" for at in range(CASES)))
    runs = {"new": run_of(candidate), "old": run_of(stable)}

    async def run(_: object, __: object, target: Asked, *___: object) -> Run:
        return runs[target.model]

    monkeypatch.setattr(gate, "_run", run)
    server = Server("http://a")
    wanted = gate.Gate(candidate=Asked(server, "new"), stable=Asked(server, "old"), suites={"s": file})
    try:
        found: str = (await gate.run_gate(wanted)).outcome or ""
    except gate.CannotTell as error:
        found = error.reason
    assert found == told
