"""`capstan eval gate`: what the Job of a rollout runs. The operator reads its summary as the termination message."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from capstan_contract.gates import GateSummary, SuiteSummary, write_gate_summary
from capstan_evaluation.errors import EvaluationError, SuiteInvalid
from capstan_evaluation.gating.gate import CannotTell, Gate, run_gate
from capstan_evaluation.judges.check import read_check
from capstan_evaluation.runs.client import BadUrl, Server, read_url
from capstan_evaluation.runs.conduct import DEFAULT_CONCURRENCY, Asked
from capstan_operator.cli.eval_where import MOST_CONCURRENCY, Misused

SUMMARY: Final = Path("/dev/termination-log")
ROLES: Final = ("candidate", "stable", "judge", "embedder")
MOST_SECONDS: Final = 7 * 86_400


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments; `capstan_contract.gates.GateOrder` writes them."""
    for role in ROLES:
        parser.add_argument(f"--{role}", metavar="MODEL", required=role == "candidate", help=f"name of the {role}")
        parser.add_argument(f"--{role}-url", metavar="URL", required=role == "candidate", help="where it is asked")
    parser.add_argument(
        "--suite", action="append", default=[], metavar="NAME=FILE", help="the candidate must not be worse by it"
    )
    parser.add_argument(
        "--safety", action="append", default=[], metavar="NAME=FILE",
        help="checks of type Refusal: its margin is the share that may go wrong",
    )  # fmt: skip
    parser.add_argument("--judge-check", type=Path, metavar="FILE", help="of `judge-check --output`")
    parser.add_argument("--concurrency", type=int, default=DEFAULT_CONCURRENCY, metavar="N", help="asks at once")
    parser.add_argument("--seconds", type=int, default=3600, metavar="N", help="after which nothing can be told")
    parser.add_argument(
        "--summary", type=Path, default=SUMMARY, metavar="FILE", help="where the summary is written (%(default)s)"
    )
    parser.epilog = (
        "Exit codes: 0 the summary has an outcome, also where that is Fail; 1 nothing can be said of the candidate, and"
        " the summary says why; 2 wrong command line."
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the suites, write the summary in any case, and give the exit code."""
    try:
        gate = read_gate(arguments)
    except (EvaluationError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        _write(arguments.summary, GateSummary(error=str(error), reason="Misused"))
        return 2
    summary = _summary(gate, arguments.seconds)
    _write(arguments.summary, summary)
    print(f"{summary.outcome.value}" if summary.outcome else f"{summary.reason}: {summary.error}")
    return 0 if summary.outcome is not None else 1


def read_gate(arguments: argparse.Namespace) -> Gate:
    """Read the command line. Raises Misused, CheckInvalid, and OSError."""
    if not 1 <= arguments.concurrency <= MOST_CONCURRENCY:
        raise Misused(f"--concurrency must be from 1 to {MOST_CONCURRENCY}")
    if not 1 <= arguments.seconds <= MOST_SECONDS:
        raise Misused(f"--seconds must be from 1 to {MOST_SECONDS}")
    if not arguments.suite and not arguments.safety:
        raise Misused("there must be a --suite or a --safety")
    if arguments.suite and not arguments.stable:
        raise Misused("--suite needs --stable")
    asked = {role: _asked(role, arguments) for role in ROLES}
    candidate, file = asked["candidate"], arguments.judge_check
    if candidate is None:
        raise Misused("--candidate is required")
    return Gate(
        candidate=candidate,
        stable=asked["stable"],
        judge=asked["judge"],
        judge_check=None if file is None else read_check(file.read_text(encoding="utf-8"), str(file)),
        embedder=asked["embedder"],
        suites=_paths("--suite", arguments.suite),
        safety=_paths("--safety", arguments.safety),
        concurrency=arguments.concurrency,
    )


def _asked(role: str, arguments: argparse.Namespace) -> Asked | None:
    model, url = getattr(arguments, role), getattr(arguments, f"{role}_url")
    if not model and not url:
        return None
    if not model or not url:
        raise Misused(f"--{role} and --{role}-url belong together")
    try:
        return Asked(Server(read_url(url)), model)
    except BadUrl as error:
        raise Misused(f"--{role}-url {error}") from None


def _paths(flag: str, given: Sequence[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for one in given:
        name, _, path = one.partition("=")
        if not name or not path or name in found:
            raise Misused(f"{flag} must be NAME=FILE, each name once")
        found[name] = Path(path)
    return found


def _summary(gate: Gate, seconds: int) -> GateSummary:
    """Run the suites within their time; what keeps them from saying anything is said in their place."""
    try:
        return asyncio.run(_within(gate, seconds))
    except TimeoutError:
        return GateSummary(reason="DeadlineExceeded", error=f"the suites were not over after {seconds} s")
    except CannotTell as error:
        return GateSummary(reason=error.reason, error=str(error))
    except SuiteInvalid as error:
        return GateSummary(reason="SuiteInvalid", error=str(error))
    except (EvaluationError, OSError) as error:
        return GateSummary(reason="EvaluationFailed", error=str(error))


async def _within(gate: Gate, seconds: int) -> GateSummary:
    task = asyncio.current_task()

    def end() -> None:
        if task is not None:
            task.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
    try:
        async with asyncio.timeout(seconds):
            return await run_gate(gate, on_suite=_tell)
    except asyncio.CancelledError:
        raise CannotTell("Interrupted", "it was told to end") from None


def _tell(suite: SuiteSummary) -> None:
    print(f"{suite.name}: {suite.outcome.value}{f': {suite.reason}' if suite.reason else ''}", flush=True)


def _write(path: Path, summary: GateSummary) -> None:
    """Write the summary over what is there: a termination log is a mount, which nothing can be moved over."""
    try:
        path.write_bytes(write_gate_summary(summary))
    except OSError as error:
        print(f"error: the summary cannot be written: {error}", file=sys.stderr)
