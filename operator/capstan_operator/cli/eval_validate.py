"""`capstan eval validate`: say all that is wrong with suites, before a model is asked."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from capstan_evaluation.errors import SuiteInvalid
from capstan_evaluation.scorers.build import find_faults, needs_embedder, needs_judge
from capstan_evaluation.suites.load import load_mounted_suite, load_suite
from capstan_evaluation.suites.suite import Suite
from capstan_operator.cli.tables import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("suites", nargs="+", type=Path, metavar="SUITE", help="files with suites")
    parser.add_argument(
        "--as-configmap",
        action="store_true",
        help="read it as a cluster would: data has to be in files beside the suite, which are keys of its ConfigMap",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print what each suite is, or all its faults; 1 when one has some."""
    wrong = 0
    for path in arguments.suites:
        try:
            suite = load_mounted_suite(path.parent, path.name) if arguments.as_configmap else load_suite(path)
            if faults := find_faults(suite):
                raise SuiteInvalid([replace(fault, file=str(path)) for fault in faults])
        except SuiteInvalid as error:
            print("\n".join(printable(line) for line in str(error).split("\n")), file=sys.stderr)
            wrong += 1
        else:
            print(line_of(path, suite))
    return 1 if wrong else 0


def line_of(path: Path, suite: Suite) -> str:
    """Say what a suite is in one line."""
    asked = sum(case.repeats * len(case.turns) for case in suite.cases)
    needs = [
        *(["a judge"] if needs_judge(suite) else []),
        *(["a model of embeddings"] if needs_embedder(suite) else []),
    ]
    scorers = ", ".join(map(printable, suite.scorers)) or "nothing that scores"
    return (
        f"{path}: {printable(suite.name)}: {len(suite.cases)} cases, {asked} requests; {scorers}"
        f"{'; needs ' + ' and '.join(needs) if needs else ''}; margin {suite.margin:g}; {suite.suiteHash[:12]}"
    )
