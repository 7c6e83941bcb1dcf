"""What `capstan eval run` and `compare` write, and by which code they end."""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from capstan_evaluation.records import Outcome, Run, Verdict
from capstan_evaluation.reports.documents import render_json
from capstan_evaluation.reports.html.page import render_html
from capstan_evaluation.reports.junit import render_junit
from capstan_evaluation.reports.summary import RunFigures, summarise
from capstan_evaluation.reports.table import printable, render_table

PASS: Final = 0
REGRESSION: Final = 1
USAGE: Final = 2
INCONCLUSIVE: Final = 3
TARGET_FAILED: Final = 4
CODES: Final = {Outcome.PASS: PASS, Outcome.FAIL: REGRESSION, Outcome.INCONCLUSIVE: INCONCLUSIVE}
FORMS: Final = {"json": render_json, "junit": render_junit, "html": render_html}
DEFAULT_ERRORS: Final = 0.05


def add_reports(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that say what is written."""
    reports = parser.add_argument_group("reports")
    reports.add_argument("--json", type=Path, metavar="FILE", help="write figures and verdict as JSON")
    reports.add_argument("--junit", type=Path, metavar="FILE", help="write JUnit XML")
    reports.add_argument("--html", type=Path, metavar="FILE", help="write a page to read, with plots")
    reports.add_argument("--quiet", action="store_true", help="print no table and no progress")


def write_reports(arguments: argparse.Namespace, run: Run, baseline: Run | None, verdict: Verdict | None) -> None:
    """Print the table, and write what was asked for, each file at once or not at all. Raises OSError."""
    if not arguments.quiet:
        print(render_table(run, baseline, verdict, width=shutil.get_terminal_size().columns), end="")
    for name, render in FORMS.items():
        if (path := getattr(arguments, name)) is not None:
            write_whole(path, render(run, baseline, verdict))


def write_whole(path: Path, text: str) -> None:
    """Write a file so that who reads it sees all of it or what was there before. Raises OSError."""
    if path.exists() and not path.is_file():  # a pipe, or /dev/stdout
        path.write_text(text, encoding="utf-8")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    file, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(file, "w", encoding="utf-8") as out:
            out.write(text)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def decide_code(run: Run, verdict: Verdict | None, *, most_errors: float, least_score: float | None) -> int:
    """Give the exit code of a run that is over. Pure.

    4 where a larger share of the asks than `most_errors` has no answer, whatever the verdict; then that of the verdict.
    Without one, 1 where the mean of a scorer that no judge gives is below `least_score`, or nothing was scored; else 0.
    """
    figures = summarise(run)
    if figures.error_share > most_errors:
        return TARGET_FAILED
    if verdict is not None:
        return CODES[verdict.outcome]
    return REGRESSION if least_score is not None and falls_short(figures, least_score) else PASS


def falls_short(figures: RunFigures, least_score: float) -> bool:
    """Whether a scorer that no judge gives has a mean below this, or there is none that has one."""
    means = [one.mean for one in figures.scorers if not one.judged]
    return not means or any(mean is None or mean < least_score for mean in means)


def complain(error: object) -> int:
    """Say what is wrong with a command line, a suite or a file; and give the code of that."""
    print("\n".join(map(printable, f"error: {error}".split("\n"))), file=sys.stderr)
    return USAGE
