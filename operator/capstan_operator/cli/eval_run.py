"""`capstan eval run`: ask a model the cases of a suite, score the answers, and compare them with a baseline's."""

import argparse
import asyncio
import re
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from capstan_evaluation.errors import EvaluationError, SuiteInvalid
from capstan_evaluation.records import Result, Run, RunHeader, Verdict
from capstan_evaluation.runs.baselines import DIRECTORY, load_baseline
from capstan_evaluation.runs.client import DEFAULT_ANSWER_TOKENS
from capstan_evaluation.runs.conduct import DEFAULT_CONCURRENCY, Order, build_header, conduct
from capstan_evaluation.runs.files import BadRun, RunWriter, find_mismatch, load_run, read_log
from capstan_evaluation.runs.plan import MOST_REPEATS
from capstan_evaluation.runs.progress import Progress
from capstan_evaluation.runs.runner import MOST_FAILURES, Ending, Stop
from capstan_evaluation.scorers.build import find_faults, needs_embedder, needs_judge
from capstan_evaluation.suites.load import load_suite
from capstan_evaluation.suites.suite import Suite
from capstan_operator.cli.eval_reports import (
    DEFAULT_ERRORS,
    INCONCLUSIVE,
    TARGET_FAILED,
    add_reports,
    complain,
    decide_code,
    write_reports,
)
from capstan_operator.cli.eval_where import MOST_CONCURRENCY, Misused, add_where, context_of, models_of, prices_of

RUNS: Final = Path(".capstan/runs")
SUFFIX: Final = ".jsonl"
INTERRUPTED: Final = 130
_UNFIT: Final = re.compile(r"[^A-Za-z0-9._-]+")
_EPILOG: Final = f"""\
Exit codes: 0 pass; 1 regression, or below --min-score; 2 wrong command line, suite or file; 3 inconclusive, or the
bound on spend was reached; 4 the target failed: {MOST_FAILURES} asks in a row, or a larger share than --max-errors,
had no answer; 130 interrupted. A run that ended before it was over is gone on with by the same command."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("suite", type=Path, metavar="SUITE", help="file of the suite (docs/evaluation-suites.md)")
    parser.add_argument("--target", required=True, metavar="MODEL", help="model that is asked")
    parser.add_argument("--revision", default="", metavar="TEXT", help="what the reports call this state of it")
    parser.add_argument(
        "--baseline", metavar="NAME", help="run to compare with: a name of `baseline list`, or a file of a run"
    )
    parser.add_argument("--dir", type=Path, default=DIRECTORY, help="directory of baselines (default: %(default)s)")
    parser.add_argument("--judge", metavar="MODEL", help="model that judges where the suite asks for it")
    parser.add_argument(
        "--judge-check", type=Path, metavar="FILE", help="of `judge-check --output`: a judge without one informs only"
    )
    parser.add_argument("--embedder", metavar="MODEL", help="model of task embed, for Similarity")
    parser.add_argument("--repeats", type=int, metavar="N", help="ask each case N times (default: as the suite says)")
    parser.add_argument(
        "--concurrency", type=int, default=DEFAULT_CONCURRENCY, metavar="N", help="asks at once (default: %(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, default=RUNS, metavar="PATH",
        help=f"file of the run ({SUFFIX}), or a directory (default: %(default)s), in which the newest run of the same"
        " suite, models and settings that is not over is gone on with",
    )  # fmt: skip
    parser.add_argument("--new", action="store_true", help="begin a new run, also where one is not over")
    parser.add_argument(
        "--min-score", type=float, metavar="S", help="without a baseline: least mean of each scorer, from 0 to 1"
    )
    parser.add_argument(
        "--max-errors", type=float, default=DEFAULT_ERRORS, metavar="SHARE",
        help="share of asks that may have no answer (default: %(default)s)",
    )  # fmt: skip
    spend = parser.add_argument_group("spend")
    spend.add_argument(
        "--prices", type=Path, metavar="FILE",
        help="YAML or JSON: MODEL: {inputPerMillion, outputPerMillion, cachedInputPerMillion}",
    )  # fmt: skip
    spend.add_argument(
        "--max-cost", type=float, metavar="DOLLARS", help="never passed, judges included; needs --prices"
    )
    spend.add_argument("--max-tokens", type=int, metavar="N", help="never passed, judges included")
    spend.add_argument(
        "--answer-tokens", type=int, default=DEFAULT_ANSWER_TOKENS, metavar="N",
        help="with either bound: most tokens of an answer where the suite says nothing (default: %(default)s)",
    )  # fmt: skip
    add_where(parser)
    add_reports(parser)
    parser.epilog = _EPILOG


def run(arguments: argparse.Namespace) -> int:
    """Run, report, and give the exit code (see the epilog)."""
    try:
        suite = _suite(arguments.suite)
        baseline = _baseline(arguments)
        order = _order(arguments, suite, baseline)
        header = build_header(order)
        path = (
            arguments.out if arguments.out.suffix == SUFFIX else choose_file(arguments.out, header, new=arguments.new)
        )
        with RunWriter(path, header) as writer:
            ending = asyncio.run(_conduct(order, writer, arguments))
            log = writer.log
        if ending is not Ending.OVER and not log.complete:
            return _unfinished(ending, path, len(log.results), log.expected)
        finished = log.run()
        verdict = _verdict(arguments, suite, baseline, finished)
        write_reports(arguments, finished, baseline, verdict)
    except (EvaluationError, BadRun, OSError, UnicodeDecodeError) as error:
        return complain(error)
    print(f"run: {path}", file=sys.stderr)
    return decide_code(finished, verdict, most_errors=arguments.max_errors, least_score=arguments.min_score)


def choose_file(folder: Path, header: RunHeader, *, new: bool) -> Path:
    """Give the file of the newest run in a directory that this one goes on with, else a new one. Raises OSError."""
    begun: list[tuple[str, Path]] = []
    for path in () if new else folder.glob(f"*{SUFFIX}"):
        try:
            log, _ = read_log(path)
        except BadRun:
            continue
        if log is not None and not log.complete and not find_mismatch(log.header, header):
            begun.append((log.header.began, path))
    if begun:
        return max(begun)[1]
    words = (header.suite, header.target, header.began.replace(":", ""), header.id[:4])
    return folder / f"{'-'.join(_UNFIT.sub('_', word)[:60] for word in words)}{SUFFIX}"


def _suite(path: Path) -> Suite:
    suite = load_suite(path)
    if faults := find_faults(suite):
        raise SuiteInvalid([replace(fault, file=str(path)) for fault in faults])
    return suite


def _baseline(arguments: argparse.Namespace) -> Run | None:
    name: str | None = arguments.baseline
    if name is None:
        return None
    if arguments.min_score is not None:
        raise Misused("--min-score is for runs without --baseline")
    return load_run(Path(name)) if "/" in name or name.endswith(SUFFIX) else load_baseline(arguments.dir, name)


def _order(arguments: argparse.Namespace, suite: Suite, baseline: Run | None) -> Order:
    _check_numbers(arguments)
    models = models_of(arguments)
    target = models["target"]
    if target is None:
        raise Misused("--target is required")
    if baseline is not None and baseline.header.suiteHash != suite.suiteHash:
        print(
            "warning: the baseline is of another version of the suite; cases that differ are left out", file=sys.stderr
        )
    for needed, role in ((needs_judge(suite), "judge"), (needs_embedder(suite), "embedder")):
        if needed and models[role] is None:
            print(f"warning: without --{role} some checks of the suite give no score", file=sys.stderr)
    order = Order(
        suite=suite,
        target=target,
        judge=models["judge"] if needs_judge(suite) else None,
        embedder=models["embedder"] if needs_embedder(suite) else None,
        baseline=baseline,
        revision=arguments.revision,
        repeats=arguments.repeats,
        concurrency=arguments.concurrency,
        most_dollars=arguments.max_cost,
        most_tokens=arguments.max_tokens,
        answer_tokens=arguments.answer_tokens,
        prices=prices_of(arguments.prices),
        context=context_of(arguments),
    )
    if order.most_dollars is not None and (unknown := order.unpriced()):
        raise Misused(f"--max-cost needs a price of {', '.join(unknown)} in --prices: nobody knows what it costs")
    return order


def _check_numbers(arguments: argparse.Namespace) -> None:
    bounds: Mapping[str, tuple[float | None, float, float]] = {
        "--repeats": (arguments.repeats, 1, MOST_REPEATS),
        "--concurrency": (arguments.concurrency, 1, MOST_CONCURRENCY),
        "--min-score": (arguments.min_score, 0, 1),
        "--max-errors": (arguments.max_errors, 0, 1),
        "--max-cost": (arguments.max_cost, 0, 1e9),
        "--max-tokens": (arguments.max_tokens, 0, 1e15),
        "--answer-tokens": (arguments.answer_tokens, 1, 1e9),
    }
    for flag, (value, low, high) in bounds.items():
        if value is not None and not low <= value <= high:
            raise Misused(f"{flag} must be from {low:g} to {high:g}")


async def _conduct(order: Order, writer: RunWriter, arguments: argparse.Namespace) -> Ending:
    """Run with a bar, and end at a signal: the first one waits for what is under way, the next one does not."""
    stop, loop, task = Stop(), asyncio.get_running_loop(), asyncio.current_task()
    log = writer.log
    done = len(log.results)
    if done:
        print(f"going on with {done} of {log.expected} results", file=sys.stderr)

    def interrupt() -> None:
        if stop.ending is Ending.STOPPED and task is not None:
            task.cancel()
        stop.set()
        print("\nwaiting for what was asked; again to leave at once", file=sys.stderr)

    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, interrupt)
    progress = None
    if not arguments.quiet:
        progress = Progress(
            sys.stderr, log.expected, done, now=time.monotonic, width=lambda: shutil.get_terminal_size().columns
        )

    def on_result(result: Result) -> None:
        if progress is not None:
            progress.result(failed=bool(result.answer.error))

    try:
        return await conduct(order, writer, stop=stop, on_result=on_result)
    except asyncio.CancelledError:
        return Ending.STOPPED
    finally:
        if progress is not None:
            progress.close()


def _verdict(arguments: argparse.Namespace, suite: Suite, baseline: Run | None, finished: Run) -> Verdict | None:
    if baseline is None:
        return None
    # NB: scipy takes a second to load, which a run without a baseline need not wait for.
    from capstan_operator.cli.eval_verdict import decide_verdict, informing_of

    informing = informing_of(suite, finished, arguments.judge_check)
    return decide_verdict(baseline, finished, margin=suite.margin, alpha=suite.alpha, informing=informing)


def _unfinished(ending: Ending, path: Path, done: int, expected: int) -> int:
    reasons = {
        Ending.STOPPED: ("interrupted", INTERRUPTED),
        Ending.SPENT: ("the bound on spend leaves nothing for the next ask; raise it to go on", INCONCLUSIVE),
        Ending.FAILED: (f"the target gave no answer {MOST_FAILURES} times in a row", TARGET_FAILED),
    }
    reason, code = reasons[ending]
    print(f"{reason}: {done} of {expected} results are in {path}; the same command goes on", file=sys.stderr)
    return code
