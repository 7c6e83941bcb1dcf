"""`capstan feedback`: what clients said of answers, as lines of JSON."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TextIO

from capstan_contract.feedback import FEEDBACK_PATH, Feedback, Label, ReadFeedback, read_feedback_page
from capstan_operator.cli.admin_source import Question, Refused, add_where, fetch, fetch_each
from capstan_operator.errors import OperatorError

PAGE: Final = "1000"
REDIS: Final = "redis"
_EPILOG: Final = """\
Any gateway is asked where they share a Redis, else each of them for what it was told since it began: those of the
cluster which the kubeconfig names, the one of `capstan up` with --state-dir, or the admin port at --url, which is one
replica. Only the admin key reads feedback: comments are what clients wrote."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    commands = parser.add_subparsers(dest="what", metavar="export", required=True)
    export = commands.add_parser("export", help="print what clients said, one line of JSON each", epilog=_EPILOG)
    export.add_argument("--label", choices=[label.value for label in Label], help="only this label")
    export.add_argument("--model", metavar="NAME", help="only answers of this model, or asked for by this name")
    export.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="where they are written (default: standard output)"
    )
    add_where(export)


def run(arguments: argparse.Namespace) -> int:
    """Ask page by page, and write; 1 when a gateway does not tell it."""
    try:
        found = list(_chosen(arguments))
        if arguments.output is None:
            _write(found, sys.stdout)
        else:
            with arguments.output.open("w", encoding="utf-8") as file:
                _write(found, file)
            print(f"{len(found)} written to {arguments.output}", file=sys.stderr)
    except Refused as error:
        off = "no feedback is taken (--feedback-answers is 0), or this is not a gateway's admin port"
        print(f"error: {off if error.status == 404 else error.told}", file=sys.stderr)
        return 1
    except (OSError, ValueError, OperatorError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _write(found: list[Feedback], file: TextIO) -> None:
    for one in found:
        file.write(f"{one.model_dump_json()}\n")


def _chosen(arguments: argparse.Namespace) -> Iterator[Feedback]:
    for one in _everything(arguments):
        if arguments.label is not None and one.label != arguments.label:
            continue
        if arguments.model is not None and arguments.model not in (one.model, one.asked):
            continue
        yield one


def _everything(arguments: argparse.Namespace) -> Iterator[Feedback]:
    """Give all that was said, each opinion once, the oldest first."""
    after: int | None = 0
    first = read_feedback_page(fetch(arguments, _question(0)))
    if first.source == REDIS:
        while after is not None:
            page = first if after == 0 else read_feedback_page(fetch(arguments, _question(after)))
            _tell_unreadable(page)
            yield from page.data
            after = page.next
        return
    found: dict[tuple[str, str], Feedback] = {}
    while after is not None:
        pages = []
        for told in fetch_each(arguments, _question(after)):
            if told.refused is not None:
                raise told.refused
            if told.silence:
                raise ValueError(f"{told.replica}: {told.silence}")
            pages.append(read_feedback_page(told.body))
        for page in pages:
            _tell_unreadable(page)
            for one in page.data:
                known = found.get((one.tenant, one.id))
                if known is None or known.at <= one.at:
                    found[one.tenant, one.id] = one
        # Places are each replica's own: the nearest one that any goes on from has all behind it, some of them again.
        after = min((page.next for page in pages if page.next is not None), default=None)
    yield from sorted(found.values(), key=lambda one: (one.at, one.id))


def _tell_unreadable(page: ReadFeedback) -> None:
    if page.unreadable:
        print(f"warning: {page.unreadable} entries are of another release, and left out", file=sys.stderr)


def _question(after: int) -> Question:
    return Question(FEEDBACK_PATH, {"after": str(after), "limit": PAGE})
