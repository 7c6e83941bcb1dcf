"""What docs/compatibility.md says of clients and engines, and which tests say so.

    @pytest.mark.compatibility(
        table="engines",                      # engines, requests: one row a shape
        row="Every parallel call has index 0",
        sends="Ollama, Dynamo",
        does="numbers the calls anew",
        on="chat",                            # optional: chat, messages or responses; left out where it is all three
        source="https://github.com/ollama/ollama/issues/15457",
    )

    @pytest.mark.compatibility(
        table="agents",                       # agents, clients: one row a program, a column for what was run
        row="Codex, /v1/responses",
        package="npm:@openai/codex",          # its version is the one that is pinned: npm:NAME or pypi:NAME
        does="shell",
    )

A test may have several marks, a row several tests; a row holds when all of its tests pass. One that fails for now is
`xfail(strict=True, reason=...)`, and the page says the reason. The page is made from the marks by
scripts/compatibility.py, so that it is the same on each machine. Which of their tests have passed is said in the file
that `--compatibility-passed` names, and CI compares the page with that.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import pytest

MARK: Final = "compatibility"
LISTS: Final = ("engines", "requests")
"""Tables with a row for each shape."""
MATRICES: Final = {
    "agents": (
        "plain answer", "shell", "write", "read", "edit", "parallel calls", "image", "429", "cut stream",
        "prompt too long", "MCP",
    ),
    "clients": ("chat", "stream", "tools", "structured output", "images", "transcription", "errors", "counting"),
}  # fmt: skip
"""Tables with a row for each program, and their columns: what was run."""
ROUTES: Final = ("", "chat", "messages", "responses")


@dataclass(frozen=True)
class Row:
    """One promise of the page, held by one test."""

    table: str
    row: str
    does: str
    on: str = ""
    sends: str = ""
    source: str = ""
    package: str = ""
    test: str = ""
    """The test's node id."""
    fails: str = ""
    """Why the test is expected to fail; empty where it passes."""


def rows_of(item: pytest.Item) -> Iterator[Row]:
    """Give the rows that a test's marks name.

    Raises:
        ValueError: a mark says something else than what the module's docstring allows; its test is named.

    """
    for mark in item.iter_markers(MARK):
        if mark.args:
            raise ValueError(f"{item.nodeid}: the mark compatibility takes names only")
        yield checked(mark.kwargs, test=item.nodeid, fails=_expected_failure(item))


def checked(said: Mapping[str, Any], *, test: str, fails: str = "") -> Row:
    """Make a row of what a mark says, or say what is wrong with it."""
    if unknown := set(said) - {field.name for field in fields(Row)} | set(said) & {"test", "fails"}:
        raise ValueError(f"{test}: the mark compatibility has no {', '.join(sorted(unknown))}")
    if lacks := {"table", "row", "does"} - {key for key, value in said.items() if value}:
        raise ValueError(f"{test}: the mark compatibility needs {', '.join(sorted(lacks))}")
    row = Row(**said, test=test, fails=fails)
    if row.table in MATRICES:
        if row.does not in MATRICES[row.table]:
            raise ValueError(f"{test}: does={row.does!r} is none of {', '.join(MATRICES[row.table])}")
        if row.package.partition(":")[0] not in {"npm", "pypi"}:
            raise ValueError(f"{test}: package={row.package!r} is neither npm:NAME nor pypi:NAME")
    elif row.table not in LISTS:
        raise ValueError(f"{test}: table={row.table!r} is none of {', '.join((*LISTS, *MATRICES))}")
    if row.on not in ROUTES:
        raise ValueError(f"{test}: on={row.on!r} is none of {', '.join(ROUTES[1:])}")
    return row


def _expected_failure(item: pytest.Item) -> str:
    for mark in item.iter_markers("xfail"):
        return str(mark.kwargs.get("reason") or "does not hold yet")
    return ""


class Plugin:
    """Collects the rows of all tests, and which of them have passed."""

    def __init__(self, *, collected: Path | None, passed: Path | None) -> None:
        self._collected = collected
        self._passed = passed
        self._held: list[Row] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Refuse wrong marks at once, and hand the rows on to whoever hears of the test's end."""
        rows = []
        for item in items:
            found = list(rows_of(item))
            rows += found
            item.user_properties += [(MARK, asdict(row)) for row in found]
        if self._collected is not None:
            write(self._collected, rows)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the rows of a test that did what is expected of it."""
        if report.when == "call" and (report.passed or (report.skipped and hasattr(report, "wasxfail"))):
            self._held += [Row(**value) for key, value in report.user_properties if key == MARK]

    def pytest_sessionfinish(self) -> None:
        """Write down what held."""
        if self._passed is not None:
            write(self._passed, self._held)


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as JSON, in the order of their tests."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


def read(path: Path) -> list[Row]:
    """Read what `write` wrote."""
    return [Row(**entry) for entry in json.loads(path.read_text())]


def without_tests(rows: Iterable[Row]) -> set[Row]:
    """Give what is said, whoever says it."""
    return {replace(row, test="") for row in rows}
