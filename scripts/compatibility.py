#!/usr/bin/env python3
"""Writes docs/compatibility.md from the marks of the tests (tests/support/compatibility.py).

    scripts/compatibility.py                 write it
    scripts/compatibility.py --check         change nothing; fail when it is not what it would be
    scripts/compatibility.py --passed FILE   fail when a row has a test that did not pass in the run that wrote FILE

The tests are collected, not run, also those that need a program which is not here: the page is the same
on every machine. It takes some seconds.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from support.compatibility import MARK, MATRICES, Row, read  # noqa: E402

PAGE = ROOT / "docs" / "compatibility.md"
PINS = {
    "npm": (ROOT / "tests/agents/package.json", ROOT / "tests/clients/package.json"),
    "pypi": (
        ROOT / "constraints.txt", ROOT / "tests/agents/aider.txt", ROOT / "tests/clients/requirements/openai3.txt",
        ROOT / "tests/clients/requirements/openai2.txt", ROOT / "tests/clients/written.txt",
    ),
}  # fmt: skip
INTRODUCTION = """\
# What works with Capstan

Every row below is held by tests that run with every commit. This page is made from them (`scripts/compatibility.py`):
a row cannot be here without its test, nor a test's row be left out.
"""
HEADS = {
    "agents": """\
## Agents

The real programs, each with its default settings before a gateway whose engine follows a script; what they were told to
change had to be changed on disk. An empty cell was not run, or is nothing that the agent has a tool for.
""",
    "clients": """\
## Client libraries

What was run with the real library in the version that is named, before a gateway whose engine answers by rule; what
the library saw and what reached the engine had to be right. *tools* are two calls at once behind thoughts and words,
streamed where the library streams them, and their results; *transcription* is a sound as text; *errors* a busy engine
and a prompt that is too long, in the library's own classes; *counting* the usage of whole and streamed answers, and the
count of a prompt where the library asks for one. An empty cell was not run, or is nothing that the library does. Of
Open WebUI the requests were written down.
""",
    "engines": """\
## What engines and hosted APIs send

Shapes of answers that are found in the field, who sends them, and what a client of Capstan gets.
""",
    "requests": """\
## What clients send

Fields and shapes of requests beyond the plain ones, and what becomes of them.
""",
}
ROUTES = {"chat": "chat", "messages": "Messages", "responses": "Responses"}


def main(arguments: Sequence[str]) -> int:
    """Write or check the page; give the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--passed", type=Path)
    options = parser.parse_args(arguments)
    rows = collect()
    if options.passed:
        passed = read(options.passed)
        absent = complain("no test of these rows has passed", sorted(missing(rows, passed)))
        return (
            complain(f"its file does not say {MARK!r}, so that it is not on the page", left_out(rows, passed)) or absent
        )
    page = render(rows)
    if options.check:
        if PAGE.exists() and PAGE.read_text() == page:
            return 0
        return complain("not what scripts/compatibility.py makes of the tests", [str(PAGE.relative_to(ROOT))])
    PAGE.write_text(page)
    return 0


def complain(what: str, lines: Sequence[str]) -> int:
    """Say what is wrong with what, if anything is."""
    for line in lines:
        print(f"error: {line}: {what}", file=sys.stderr)
    return 1 if lines else 0


def missing(rows: Iterable[Row], passed: Iterable[Row]) -> list[str]:
    """Name the rows of which a test is not among those that passed."""
    return [f"{row.table}: {row.row}: {row.does} ({row.test})" for row in set(rows) - set(passed)]


def left_out(rows: Iterable[Row], passed: Iterable[Row]) -> list[str]:
    """Name the tests that bear rows and were not collected: their files do not have the mark's name."""
    return sorted({row.test for row in set(passed) - set(rows)})


def _test_files() -> Iterator[Path]:
    for folder, below, names in os.walk(ROOT / "tests"):
        # NB: npm may be writing there.
        below[:] = [name for name in below if name != "node_modules"]
        yield from (Path(folder, name) for name in names if name.startswith("test_") and name.endswith(".py"))


def collect() -> list[Row]:
    """Give the rows of all tests, in their order: of those in files that have the mark's name in them.

    Raises:
        SystemExit: the tests cannot be collected; pytest has said why.

    """
    files = [str(path.relative_to(ROOT)) for path in sorted(_test_files()) if MARK in path.read_text()]
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "rows.json"
        command = [sys.executable, "-m", "pytest", "--collect-only", "-qq", "-p", "no:cacheprovider", *files]
        ran = subprocess.run(
            [*command, "--compatibility-collected", str(found)], cwd=ROOT, capture_output=True, text=True, check=False
        )
        if ran.returncode != 0 or not found.exists():
            raise SystemExit(f"error: the tests cannot be collected\n{ran.stdout}{ran.stderr}")
        return read(found)


def render(rows: Sequence[Row]) -> str:
    """Give the page."""
    parts = [INTRODUCTION]
    for table, head in HEADS.items():
        if of_table := [row for row in rows if row.table == table]:
            parts.append(head)
            parts.append(matrix(table, of_table) if table in MATRICES else listing(of_table))
    return "\n".join(parts)


def matrix(table: str, rows: Sequence[Row]) -> str:
    """Give a table with a row for each program, and below it what does not hold yet."""
    columns = [column for column in MATRICES[table] if any(row.does == column for row in rows)]
    lines = [["", "version", *columns]]
    for name in dict.fromkeys(row.row for row in rows):
        own = [row for row in rows if row.row == name]
        versions = ", ".join(dict.fromkeys(pinned(row.package) for row in own))
        lines.append([name, versions, *(cell([row for row in own if row.does == column]) for column in columns)])
    text = table_of(lines)
    later = dict.fromkeys(f"- {row.row}, {row.does}: {row.fails}" for row in rows if row.fails)
    return text + ("\nNot yet:\n\n" + "\n".join(later) + "\n" if later else "")


def cell(rows: Sequence[Row]) -> str:
    """Say whether something holds."""
    if not rows:
        return ""
    return "*not yet*" if any(row.fails for row in rows) else "yes"


def listing(rows: Sequence[Row]) -> str:
    """Give a table with a row for each shape."""
    lines = [["shape", "sent by", "what Capstan does", "source"]]
    for name in dict.fromkeys(row.row for row in rows):
        own = [row for row in rows if row.row == name]
        sends = dict.fromkeys(row.sends for row in own if row.sends)
        source = dict.fromkeys(part.strip() for row in own for part in row.source.split(",") if part.strip())
        does: dict[str, list[str]] = {}
        for row in own:
            said = row.does + (f" (*not yet*: {row.fails})" if row.fails else "")
            if row.on not in does.setdefault(said, []):
                does[said].append(row.on)
        lines.append([
            name,
            ", ".join(sends),
            "; ".join(_said(said, routes) for said, routes in does.items()),
            ", ".join(link(part) for part in source),
        ])  # fmt: skip
    return table_of(lines)


def _said(said: str, routes: Sequence[str]) -> str:
    """Say what is done, behind the routes on which it is."""
    names = [name for on, name in ROUTES.items() if on in routes]
    return f"{', '.join(names)}: {said}" if names and "" not in routes else said


def link(source: str) -> str:
    """Make a link of an address; let words be."""
    if not source.startswith("https://"):
        return source
    short = source.removeprefix("https://").removeprefix("github.com/")
    return f"[{short.replace('/issues/', '#').replace('/pull/', '#').replace('/discussions/', '#')}]({source})"


def table_of(lines: Sequence[Sequence[str]]) -> str:
    """Give a table of Markdown; its first line is the head."""
    head, *rest = [[text.replace("|", "\\|").replace("\n", " ") for text in line] for line in lines]
    rows = [head, ["---"] * len(head), *rest]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def pinned(package: str) -> str:
    """Give the version of a package that the tests pin.

    Raises:
        SystemExit: no file pins it, or a file that could is not there.

    """
    kind, _, name = package.partition(":")
    if lost := [str(path.relative_to(ROOT)) for path in PINS[kind] if not path.exists()]:
        raise SystemExit(f"error: {', '.join(lost)}: to say the version of {package} it has to be there")
    for path in PINS[kind]:
        versions = _versions(path)
        if name in versions:
            return versions[name]
    raise SystemExit(
        f"error: {package} is pinned in none of {', '.join(str(path.relative_to(ROOT)) for path in PINS[kind])}"
    )


def _versions(path: Path) -> dict[str, str]:
    if path.suffix == ".json":
        return {str(name): str(version) for name, version in json.loads(path.read_text())["dependencies"].items()}
    lines = (line.partition(";")[0].strip().partition("==") for line in path.read_text().splitlines())
    return {name: version for name, equals, version in lines if equals}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
