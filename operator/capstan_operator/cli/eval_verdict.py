"""Two runs compared, as `capstan eval run` and `compare` do it. It loads scipy, so load it only where it is needed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from capstan_evaluation.judges.check import JudgeCheck, informing_scorers, read_check
from capstan_evaluation.records import Comparison, Run, Verdict
from capstan_evaluation.statistics.compare import compare_runs
from capstan_evaluation.suites.suite import Suite

_NO_CHECK: Final = "a judge that was not checked informs, and does not gate (--judge-check)"


def informing_of(suite: Suite | None, run: Run, check_file: Path | None) -> Mapping[str, str]:
    """Give the scorers that decide nothing, each with the reason. Raises CheckInvalid, and OSError.

    Without the suite, as where two files are compared, all that a judge has scored informs, unless its check says that
    it may gate and is of the same model and rubric.
    """
    check = None if check_file is None else read_check(check_file.read_text(encoding="utf-8"), str(check_file))
    if suite is not None:
        return informing_scorers(suite, judge=run.header.judge, check=check)
    return {name: _NO_CHECK for name, stamped in _judged(run).items() if not _may_gate(check, stamped)}


def _judged(run: Run) -> dict[str, set[tuple[str, str]]]:
    found: dict[str, set[tuple[str, str]]] = {}
    for result in run.results:
        for score in result.scores:
            if score.stamp is not None:
                found.setdefault(score.scorer, set()).add((score.stamp.model, score.stamp.rubric))
    return found


def _may_gate(check: JudgeCheck | None, stamped: set[tuple[str, str]]) -> bool:
    return check is not None and check.mayGate and stamped == {(check.model, check.rubric)}


def decide_verdict(baseline: Run, run: Run, *, margin: float, alpha: float, informing: Mapping[str, str]) -> Verdict:
    """Compare, and say beside each scorer that only informs why it does."""
    verdict = compare_runs(baseline, run, margin=margin, alpha=alpha, informing=informing.keys())
    comparisons = tuple(_noted(one, informing) for one in verdict.comparisons)
    return verdict.model_copy(update={"comparisons": comparisons})


def _noted(one: Comparison, informing: Mapping[str, str]) -> Comparison:
    reason = informing.get(one.scorer, "")
    return one.model_copy(update={"note": "; ".join(filter(None, (one.note, reason)))})
