"""Runs and gates before the real simulator, whose quality is set."""

import json
from pathlib import Path

import yaml

from capstan_contract.gates import GateOrder, GateTarget, Outcome, read_gate_summary
from support.eval_engine import run
from support.worker import simulator

CASES = 120


def write_suite(folder: Path) -> Path:
    """Write a suite of sums whose answers the simulator knows."""
    asked = [
        {"id": f"sum-{at}", "prompt": f"What is {at} + 1?", "expected": str(at + 1), "checks": [{"type": "Numeric"}]}
        for at in range(CASES)
    ]
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump({"name": "sums", "margin": 0.1, "cases": asked}))
    return path


async def test_a_less_accurate_simulator_is_a_regression(tmp_path: Path) -> None:
    """What the simulator is set to get wrong is what run and gate find, and an equal one passes."""
    suite = write_suite(tmp_path)
    with (
        simulator("--bare-answers", "on", model="good") as good,
        simulator("--bare-answers", "on", "--accuracy", "0.6", model="bad") as bad,
    ):
        where = ["run", str(suite), "--quiet"]
        assert (await run(*where, "--target", "good", "--url", good.url, "--out", "a.jsonl", folder=tmp_path))[0] == 0
        more = ["--baseline", "a.jsonl", "--json", "r.json"]
        code, _, err = await run(
            *where, "--target", "bad", "--url", bad.url, "--out", "b.jsonl", *more, folder=tmp_path
        )
        assert code == 1, err
        told = json.loads((tmp_path / "r.json").read_text())
        assert 0.4 < told["figures"]["scorers"][0]["mean"] < 0.8
        assert told["figures"]["firstTokenSeconds"] is not None
        assert told["spent"]["target"]["outputTokens"] > 0
        for candidate, model, outcome in ((bad, "bad", Outcome.FAIL), (good, "good", Outcome.PASS)):
            order = GateOrder(
                candidate=GateTarget(url=candidate.url, model=model),
                stable=GateTarget(url=good.url, model="good"),
                suites={"sums": str(suite)},
                summary=str(tmp_path / "log"),
            )
            assert (await run(*order.arguments()[1:], folder=tmp_path))[0] == 0
            summary = read_gate_summary((tmp_path / "log").read_bytes())
            assert summary is not None
            assert summary.outcome is outcome
