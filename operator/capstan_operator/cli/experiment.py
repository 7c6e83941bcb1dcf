"""`capstan experiment`: how the members of a weighted router compare, as all gateways have counted."""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Final

from capstan_contract.tracks import (
    EXPERIMENTS_PATH,
    Experiment,
    ExperimentsReport,
    TracksError,
    merge_experiments,
    read_experiments,
)
from capstan_operator.cli.admin_source import Question, Told, add_where, fetch_each
from capstan_operator.cli.experiment_report import as_json, report_on, written
from capstan_operator.cli.experiment_scores import ask_scores
from capstan_operator.errors import OperatorError

_EPILOG: Final = """\
All gateways are asked, and what they have counted since they began is added up: those of the cluster which the
kubeconfig names, the one of `capstan up` with --state-dir, or the admin port at --url, which is one replica. Look as
often as you like: the intervals hold all the same. Exit code: 0 there is a report, 1 there is none."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    commands = parser.add_subparsers(dest="what", metavar="report", required=True)
    report = commands.add_parser("report", help="compare the members of a weighted router", epilog=_EPILOG)
    report.add_argument("router", metavar="ROUTER", help="its name, or NAMESPACE/NAME")
    report.add_argument(
        "--control", metavar="MEMBER", help="NAMESPACE/NAME with which the others are compared (default: the first)"
    )
    report.add_argument(
        "--scores", metavar="FILE|URL", help="the scorer's page, or its address (default: the cluster's scorer)"
    )
    report.add_argument("--json", action="store_true", help="print it as JSON")
    add_where(report)


def run(arguments: argparse.Namespace) -> int:
    """Ask, and print the report; 1 when there is none."""
    try:
        told = fetch_each(arguments, Question(EXPERIMENTS_PATH))
        reports, silent = read_all(told)
        experiment = find(merge_experiments(reports.values()), arguments.router)
        report = report_on(experiment, control=arguments.control)
    except (OSError, ValueError, OperatorError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    judged = ask_scores(arguments)
    for one in silent:
        print(f"warning: nothing is known of what went through {one}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(as_json(report, replicas=list(reports), silent=silent, judged=judged), indent=2))
    else:
        print(written(report, replicas=len(reports), judged=judged), end="")
    return 0


def read_all(told: Sequence[Told]) -> tuple[dict[str, ExperimentsReport], list[str]]:
    """Read what each replica says, and which ones say nothing; ValueError where none does."""
    found: dict[str, ExperimentsReport] = {}
    silent: list[str] = []
    why = "there is no gateway"
    for one in told:
        if one.refused is not None:
            why = one.refused.told
        elif one.silence:
            why = one.silence
        else:
            try:
                found[one.replica] = read_experiments(one.body)
                continue
            except TracksError as error:
                why = f"{one.replica}: {error}"
        silent.append(one.replica)
    if not found:
        raise ValueError(why)
    return found, silent


def find(experiments: Sequence[Experiment], router: str) -> Experiment:
    """Give the newest experiment of a router, by its name or its id; ValueError where there is none."""
    named = [one for one in experiments if router in (one.router, one.name) or one.router.endswith(f"/{router}")]
    if len({one.router for one in named}) > 1:
        raise ValueError(f"several routers are called {router}: {', '.join(sorted({one.router for one in named}))}")
    current = [one for one in named if one.current]
    if current or named:
        return (current or named)[0]
    there = sorted({one.name or one.router for one in experiments if one.current})
    raise ValueError(
        f"no gateway has a weighted router {router}: members are compared of routers of `strategy: Weighted` with two"
        f" members or more that have a weight; there {'are ' + ', '.join(there) if there else 'is none'}"
    )
