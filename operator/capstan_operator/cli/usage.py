"""`capstan usage`: who has used how much of which model, as a gateway has counted it."""

import argparse
import csv
import io
import json
import sys
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from capstan_operator.cli.admin_source import Question, Refused, add_where, fetch, object_of
from capstan_operator.cli.tables import as_table, printable
from capstan_operator.errors import OperatorError

NAMES: Final = ("day", "tenant", "team", "user", "model")
FORMS: Final = ("table", "csv", "json")
NANO: Final = 1_000_000_000
PATH: Final = "/internal/usage"
_FORMULA: Final = ("=", "+", "-", "@")
_NUMBERS: Final = ("requests", "input_tokens", "cached_tokens", "output_tokens", "dollars", "unpriced_requests")
_EPILOG: Final = """\
Any gateway is asked: that of the cluster which the kubeconfig names, by way of its API server (which needs the right to
`get` services/proxy, and the Secret with the admin key), the one of `capstan up` with --state-dir, or the admin port at
--url. Days are in UTC. Requests with a call of a model without a price are counted as unpriced; what such calls cost is
not in `dollars`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_where(parser)
    parser.add_argument("--from", dest="first", metavar="DAY", help="such as 2026-11-01 (default: the last day)")
    parser.add_argument("--to", dest="last", metavar="DAY", help="the last day (default: today)")
    parser.add_argument(
        "--by", default="tenant,model", metavar="NAMES", help=f"what is told apart, of {','.join(NAMES)} (tenant,model)"
    )
    for name in NAMES[1:]:
        parser.add_argument(f"--{name}", help=f"only this {name}")
    parser.add_argument("-o", "--output", choices=FORMS, default=FORMS[0], help="form (default: %(default)s)")
    parser.epilog = _EPILOG


def run(arguments: argparse.Namespace) -> int:
    """Ask, and print what is told; 1 when the gateway does not tell it."""
    try:
        told = read(fetch(arguments, Question(PATH, _query(arguments))))
    except Refused as error:
        print(f"error: {_refusal(error)}", file=sys.stderr)
        return 1
    except (OSError, ValueError, OperatorError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(written(told, arguments.output), end="")
    if told.get("source") == "memory":
        print("these are the counts of one gateway since it began: it has no Redis to keep them in", file=sys.stderr)
    return 0


def _query(arguments: argparse.Namespace) -> dict[str, str]:
    query = {"from": arguments.first, "to": arguments.last, "by": arguments.by}
    query |= {name: getattr(arguments, name) for name in NAMES[1:]}
    return {name: value for name, value in query.items() if value is not None}


def read(body: bytes) -> dict[str, Any]:
    """Read what a gateway tells; ValueError, in one line, when it is something else."""
    told = object_of(body)
    if told is None or told.get("object") != "usage" or not isinstance(told.get("rows"), list):
        raise ValueError("this is no gateway's admin port: it answered something else")
    return told


def _refusal(error: Refused) -> str:
    if error.status == 404:
        return "this gateway counts no usage (--usage-days is 0), or this is not its admin port"
    return error.told


def written(told: Mapping[str, Any], form: str) -> str:
    """Write what was told: as a table with a sum, as CSV, or as the JSON that it is."""
    if form == "json":
        return json.dumps(told, indent=2) + "\n"
    names = [str(name) for name in told["by"]]
    rows = [[*(str(row[name]) for name in names), *_numbers(row)] for row in told["rows"]]
    head = [*names, *_NUMBERS]
    if form == "csv":
        text = io.StringIO()
        safe = [[*map(_no_formula, map(printable, row[: len(names)])), *row[len(names) :]] for row in rows]
        csv.writer(text, lineterminator="\n").writerows([head, *safe])
        return text.getvalue()
    rows = [[*map(printable, row)] for row in rows]
    total = {name: sum(row[name] for row in told["rows"]) for name in (*_NUMBERS[:4], "nano_dollars", _NUMBERS[5])}
    return as_table([head, *rows, ["total", *[""] * (len(names) - 1), *_numbers(total)]], left=len(names))


def _no_formula(name: str) -> str:
    """Give a name as no spreadsheet takes it for a formula: issuers choose names. ("CSV Injection", OWASP.)"""
    return f"'{name}" if name.lstrip().startswith(_FORMULA) else name


def _numbers(row: Mapping[str, int]) -> list[str]:
    dollars = f"{Decimal(row['nano_dollars']) / NANO:.9f}"
    return [dollars if name == "dollars" else str(row[name]) for name in _NUMBERS]
