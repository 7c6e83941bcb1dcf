"""The suites of a rollout, run against the candidate and the stable revision by their own Services."""

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from capstan_contract.gates import GateSummary, SuiteSummary
from capstan_evaluation.errors import SuiteInvalid
from capstan_evaluation.gating.conclude import conclude, conclude_safety, conclude_suite
from capstan_evaluation.judges.check import JudgeCheck, informing_scorers, read_check
from capstan_evaluation.records import Run, Spent
from capstan_evaluation.runs.conduct import DEFAULT_CONCURRENCY, Asked, Order, build_header, conduct
from capstan_evaluation.runs.files import RunWriter
from capstan_evaluation.runs.retries import UNREACHED
from capstan_evaluation.runs.runner import Ending, Stop
from capstan_evaluation.scorers.build import find_faults, needs_embedder, needs_judge
from capstan_evaluation.suites.load import load_mounted_suite
from capstan_evaluation.suites.suite import Suite

UNREACHABLE: Final = "CandidateUnreachable"
CHECK_FILE: Final = "judge-check.json"
"""Beside a suite: what `capstan eval judge-check --output` has found of its judge."""
STABLE_FAILED: Final = "StableFailed"


class CannotTell(Exception):
    """Nothing can be said of the candidate: `reason` is a CamelCase word, the message says why."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Gate:
    """What is to be found out."""

    candidate: Asked
    stable: Asked | None = None
    judge: Asked | None = None
    judge_check: JudgeCheck | None = None
    """None: that of each suite is `CHECK_FILE` beside it, where there is one."""
    embedder: Asked | None = None
    suites: Mapping[str, Path] = field(default_factory=dict)
    safety: Mapping[str, Path] = field(default_factory=dict)
    concurrency: int = DEFAULT_CONCURRENCY


async def run_gate(gate: Gate, *, on_suite: Callable[[SuiteSummary], None] = lambda _: None) -> GateSummary:
    """Run all suites, and say what they say. Raises CannotTell, SuiteInvalid before anything is asked, and OSError."""
    began = time.monotonic()
    suites = {name: _load(name, path) for name, path in sorted(gate.suites.items())}
    checks = {name: gate.judge_check or _read_check(name, path) for name, path in gate.suites.items()}
    safety = {name: _load(name, path) for name, path in sorted(gate.safety.items())}
    if suites and gate.stable is None:
        raise CannotTell("NoStable", "suites need a stable revision to compare with")
    found: list[SuiteSummary] = []
    spent: list[Spent] = []
    with tempfile.TemporaryDirectory(prefix="capstan-gate-") as folder:
        for number, (name, suite) in enumerate([*safety.items(), *suites.items()]):
            # NB: what one suite has read and said is let go before the next one is run.
            paired = number >= len(safety)
            of_suite = replace(gate, judge_check=checks[name]) if paired else gate
            told, taken = await _conclude(of_suite, name, suite, Path(folder, str(number)), paired=paired)
            found.append(told)
            spent += taken
            on_suite(told)
    return conclude(found, spent, time.monotonic() - began)


async def _conclude(
    gate: Gate, name: str, suite: Suite, folder: Path, *, paired: bool
) -> tuple[SuiteSummary, list[Spent]]:
    stable = None
    if paired and gate.stable is not None:
        stable = await _run(gate, suite, gate.stable, folder / "stable.jsonl", None)
        if all(result.answer.error for result in stable.results):
            raise CannotTell(STABLE_FAILED, f"the stable revision gave no answer to {name}")
    candidate = await _run(gate, suite, gate.candidate, folder / "candidate.jsonl", stable)
    if all(result.answer.error in UNREACHED for result in candidate.results):
        code = candidate.results[0].answer.error if candidate.results else "none"
        raise CannotTell(UNREACHABLE, f"the candidate could not be reached for {name}: {code}")
    runs = [candidate, *([stable] if stable is not None else [])]
    spent = [part for run in runs for part in (run.target, run.judging)]
    if stable is None:
        return conclude_safety(name, suite, candidate), spent
    model = gate.judge.model if gate.judge else ""
    informing = informing_scorers(suite, judge=model, check=gate.judge_check)
    return conclude_suite(name, suite, candidate, stable, informing), spent


async def _run(gate: Gate, suite: Suite, target: Asked, path: Path, baseline: Run | None) -> Run:
    """Run a suite, to its end or until the target has failed: what was not asked then has no result."""
    order = Order(
        suite=suite,
        target=target,
        judge=gate.judge if needs_judge(suite) else None,
        embedder=gate.embedder if needs_embedder(suite) else None,
        baseline=baseline,
        concurrency=gate.concurrency,
    )
    with RunWriter(path, build_header(order)) as writer:
        ending = await conduct(order, writer, stop=Stop())
        if ending is Ending.STOPPED:
            raise CannotTell("Interrupted", "it was told to end")
        return writer.log.run()


def _read_check(name: str, path: Path) -> JudgeCheck | None:
    """Read what is said of the judge beside a suite; None where nobody says anything. Raises CheckInvalid."""
    file = path.with_name(CHECK_FILE)
    return read_check(file.read_text(encoding="utf-8"), f"{name}/{CHECK_FILE}") if file.is_file() else None


def _load(name: str, path: Path) -> Suite:
    """Read a suite that is mounted, and look at all that can be told before anything is asked. Raises SuiteInvalid."""
    suite = load_mounted_suite(path.parent, path.name)
    if faults := find_faults(suite):
        raise SuiteInvalid([replace(fault, file=name) for fault in faults])
    return suite
