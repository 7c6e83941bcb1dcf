"""`capstan eval compare`: two runs of one suite, and what they say of each other."""

import argparse
import sys
from pathlib import Path

from capstan_evaluation.errors import EvaluationError
from capstan_evaluation.records import Run
from capstan_evaluation.runs.baselines import DIRECTORY, load_baseline
from capstan_evaluation.runs.files import BadRun, load_run
from capstan_evaluation.statistics.compare import MARGIN
from capstan_evaluation.suites.load import load_suite
from capstan_evaluation.suites.suite import DEFAULT_ALPHA
from capstan_operator.cli.eval_reports import (
    DEFAULT_ERRORS,
    add_reports,
    complain,
    decide_code,
    write_reports,
)
from capstan_operator.cli.eval_verdict import decide_verdict, informing_of
from capstan_operator.cli.eval_where import Misused


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("baseline", metavar="A", help="what there was: a name of `baseline list`, or a file of a run")
    parser.add_argument("candidate", metavar="B", help="what is compared with it: the same")
    parser.add_argument("--dir", type=Path, default=DIRECTORY, help="directory of baselines (default: %(default)s)")
    parser.add_argument("--suite", type=Path, metavar="FILE", help="the suite, whose margin and alpha count")
    parser.add_argument("--margin", type=float, help=f"loss that is put up with (default: of the suite, or {MARGIN})")
    parser.add_argument(
        "--alpha", type=float, help=f"chance of a false alarm (default: of the suite, or {DEFAULT_ALPHA})"
    )
    parser.add_argument("--judge-check", type=Path, metavar="FILE", help="of `judge-check --output`")
    parser.add_argument(
        "--max-errors", type=float, default=DEFAULT_ERRORS, metavar="SHARE",
        help="share of B's asks that may have no answer (default: %(default)s)",
    )  # fmt: skip
    add_reports(parser)
    parser.epilog = (
        "Exit codes: 0 pass, 1 regression, 2 usage, 3 inconclusive, 4 B has too many asks without an answer."
    )


def run(arguments: argparse.Namespace) -> int:
    """Compare, report, and give the exit code."""
    try:
        baseline, candidate = (_load(arguments.dir, name) for name in (arguments.baseline, arguments.candidate))
        if baseline.header.suiteHash != candidate.header.suiteHash:
            told = "warning: the runs are of two versions of the suite; cases that differ are left out"
            print(told, file=sys.stderr)
        suite = None if arguments.suite is None else load_suite(arguments.suite)
        margin, alpha = (suite.margin, suite.alpha) if suite is not None else (MARGIN, DEFAULT_ALPHA)
        margin = margin if arguments.margin is None else arguments.margin
        alpha = alpha if arguments.alpha is None else arguments.alpha
        if not 0 <= margin < 1 or not 0 < alpha < 1:
            raise Misused("--margin must be from 0 to less than 1, --alpha between 0 and 1")
        informing = informing_of(suite, candidate, arguments.judge_check)
        verdict = decide_verdict(baseline, candidate, margin=margin, alpha=alpha, informing=informing)
        write_reports(arguments, candidate, baseline, verdict)
    except (EvaluationError, BadRun, OSError, UnicodeDecodeError) as error:
        return complain(error)
    return decide_code(candidate, verdict, most_errors=arguments.max_errors, least_score=None)


def _load(folder: Path, name: str) -> Run:
    return load_run(Path(name)) if "/" in name or name.endswith(".jsonl") else load_baseline(folder, name)
