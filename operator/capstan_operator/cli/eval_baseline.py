"""`capstan eval baseline`: runs with a name, with which others are compared."""

import argparse
import sys
from pathlib import Path

from capstan_evaluation.runs.baselines import DIRECTORY, Baseline, list_baselines, set_baseline
from capstan_evaluation.runs.files import BadRun
from capstan_operator.cli.tables import as_table, printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    commands = parser.add_subparsers(
        dest="what", metavar="COMMAND", required=True, parser_class=argparse.ArgumentParser
    )
    setting = commands.add_parser("set", help="give a run a name, in place of the one that has it")
    setting.add_argument("name", metavar="NAME", help="name of the baseline")
    setting.add_argument("run", type=Path, metavar="FILE", help="file of a run that is over")
    listing = commands.add_parser("list", help="tell which baselines there are")
    for one in (setting, listing):
        one.add_argument(
            "--dir", type=Path, default=DIRECTORY, help="directory of the baselines (default: %(default)s)"
        )


def run(arguments: argparse.Namespace) -> int:
    """Set or list; 2 when it cannot be done."""
    try:
        if arguments.what == "list":
            print(written(list_baselines(arguments.dir)), end="")
        else:
            print(set_baseline(arguments.dir, arguments.name, arguments.run))
    except (BadRun, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def written(baselines: list[Baseline]) -> str:
    """Write a table of them."""
    rows = [("NAME", "SUITE", "TARGET", "BEGAN", "CASES")]
    for one in baselines:
        if one.header is None:
            rows.append((one.name, printable(one.fault), "", "", ""))
        else:
            head = one.header
            rows.append((one.name, printable(head.suite), printable(head.target), head.began, str(head.cases)))
    return as_table(rows, left=4)
