"""`capstan usage`: who has used how much of which model, as a gateway has counted it."""

import argparse
import csv
import io
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

KEY_VARIABLE: Final = "CAPSTAN_ADMIN_KEY"
SECONDS: Final = 30
NAMES: Final = ("day", "tenant", "team", "user", "model")
FORMS: Final = ("table", "csv", "json")
MOST_ANSWER_BYTES: Final = 256 * 1024 * 1024
NANO: Final = 1_000_000_000
_NUMBERS: Final = ("requests", "input_tokens", "cached_tokens", "output_tokens", "dollars", "unpriced_requests")
_EPILOG: Final = """\
It is asked of the admin port of any gateway. In a cluster: kubectl -n capstan-system port-forward
deployment/capstan-gateway 9090, and --url http://127.0.0.1:9090. Days are in UTC. Requests with a call of a model
without a price are counted as unpriced; what such calls cost is not in `dollars`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--url", required=True, help="of a gateway's admin port, such as http://127.0.0.1:9090")
    parser.add_argument(
        "--key-file", type=Path, metavar="FILE", help=f"with the admin key (default: the variable {KEY_VARIABLE})"
    )
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
        told = ask(arguments.url, _query(arguments), key=_key(arguments.key_file))
    except (OSError, ValueError) as error:
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


def _key(file: Path | None) -> str:
    text = os.environ.get(KEY_VARIABLE, "") if file is None else file.read_text()
    return text.strip().partition("\n")[0].strip()


def ask(url: str, query: Mapping[str, str], *, key: str = "") -> dict[str, Any]:
    """Give what a gateway tells; ValueError, in one line, when it tells an error or something else."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"--url must be http:// or https://, not {url!r}")
    request = Request(  # noqa: S310 - checked above
        f"{url.rstrip('/')}/internal/usage?{urlencode(query)}", headers={"accept": "application/json"}
    )
    if key:
        request.add_unredirected_header("Authorization", f"Bearer {key}")
    try:
        with urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
            body = answer.read(MOST_ANSWER_BYTES)
    except HTTPError as error:
        raise ValueError(_refusal(error)) from None
    except URLError as error:
        raise ValueError(f"no answer from {parts.hostname}: {error.reason}") from None
    told = _object(body)
    if told is None or told.get("object") != "usage" or not isinstance(told.get("rows"), list):
        raise ValueError(f"{url} is no gateway's admin port: it answered something else")
    return told


def _refusal(error: HTTPError) -> str:
    found = (_object(error.read(65536)) or {}).get("error")
    message = found.get("message") if isinstance(found, dict) else None
    if error.code == 404:
        return "this gateway counts no usage (--usage-days is 0), or this is not its admin port"
    hint = f" (give the admin key with --key-file or {KEY_VARIABLE})" if error.code == 401 else ""
    return f"the gateway refused ({error.code}): {message or error.reason}{hint}"


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def written(told: Mapping[str, Any], form: str) -> str:
    """Write what was told: as a table with a sum, as CSV, or as the JSON that it is."""
    if form == "json":
        return json.dumps(told, indent=2) + "\n"
    names = [str(name) for name in told["by"]]
    rows = [[*(str(row[name]) for name in names), *_numbers(row)] for row in told["rows"]]
    head = [*names, *_NUMBERS]
    if form == "csv":
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([head, *rows])
        return text.getvalue()
    total = {name: sum(row[name] for row in told["rows"]) for name in (*_NUMBERS[:4], "nano_dollars", _NUMBERS[5])}
    return _table([head, *rows, ["total", *[""] * (len(names) - 1), *_numbers(total)]], left=len(names))


def _numbers(row: Mapping[str, int]) -> list[str]:
    dollars = f"{Decimal(row['nano_dollars']) / NANO:.9f}"
    return [dollars if name == "dollars" else str(row[name]) for name in _NUMBERS]


def _table(rows: Sequence[Sequence[str]], *, left: int) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join(f"{'  '.join(_cells(row, widths, left)).rstrip()}\n" for row in rows)


def _cells(row: Sequence[str], widths: Sequence[int], left: int) -> Iterable[str]:
    for place, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.ljust(width) if place < left else cell.rjust(width)
