"""docs/compatibility.md says what the marks of tests say, no more and no less."""

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from support.compatibility import Row, checked, read
from support.needs import ROOT

SAID: dict[str, Any] = {"table": "engines", "row": "Index 0 twice", "does": "numbers anew"}
AGENT: dict[str, Any] = {"table": "agents", "row": "Codex", "does": "shell", "package": "npm:@openai/codex"}


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """The script as a module, which collects the tests once."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        found = importlib.import_module("compatibility")
        rows = found.collect()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(found, "collect", lambda: rows)
            yield found
    finally:
        sys.path.pop(0)


def test_the_page_is_fresh(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """The page is what scripts/compatibility.py makes of the tests, each of which can be collected."""
    assert script.main(["--check"]) == 0
    assert capsys.readouterr().err == ""


def test_each_shape_has_a_source() -> None:
    """What engines and clients are said to send can be looked up, or says where it was recorded."""
    tables = (ROOT / "docs" / "compatibility.md").read_text().partition("## What engines")[2]
    rows = [line.split(" | ") for line in tables.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows if not row[-1].strip(" |")] == []


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({**SAID, "source_of": "x"}, "no source_of"),
        ({**SAID, "fails": "x"}, "no fails"),
        ({"table": "engines", "row": "x"}, "needs does"),
        ({**SAID, "row": ""}, "needs row"),
        ({**SAID, "table": "motors"}, "table='motors' is none of engines, requests, agents, clients"),
        ({**SAID, "on": "models"}, "on='models' is none of chat, messages, responses"),
        ({**AGENT, "does": "dance"}, "does='dance' is none of plain answer, shell"),
        ({**AGENT, "package": "codex"}, "neither npm:NAME nor pypi:NAME"),
    ],
)
def test_a_wrong_mark_is_refused_with_its_test(said: dict[str, Any], complaint: str) -> None:
    """What a mark may not say is said with the test that bears it."""
    with pytest.raises(ValueError) as refused:
        checked(said, test="tests/test_x.py::test_x")
    assert str(refused.value).startswith("tests/test_x.py::test_x: ")
    assert complaint in str(refused.value)


INSIDE = """
import pytest
from support import compatibility

def mark(does):
    return pytest.mark.compatibility(table="engines", row="a shape", does=does)

@mark("passes")
def test_passes(): pass

@mark("fails")
def test_fails(): assert False

@mark("is skipped")
@pytest.mark.skip
def test_skipped(): pass

@mark("is to come")
@pytest.mark.xfail(strict=True, reason="nobody has built it")
def test_to_come(): assert False

@mark("has come")
@pytest.mark.xfail(strict=True, reason="nobody has built it")
def test_has_come(): pass

@mark("cannot begin")
def test_cannot_begin(nothing_gives_this): pass
"""


@pytest.mark.parametrize("processes", [[], ["-n", "2"]], ids=["one process", "two processes"])
def test_only_what_passed_is_written_down(tmp_path: Path, processes: list[str]) -> None:
    """All rows are collected; of those only what passed, or failed as foretold, counts as held."""
    (tmp_path / "test_inside.py").write_text(INSIDE)
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (tmp_path / "pytest.ini").write_text(
        f"[pytest]\naddopts = --import-mode=importlib\nasyncio_mode = auto\npythonpath = {ROOT / 'tests'}\n"
        "markers =\n    compatibility: a row\n"
    )
    collected, passed = tmp_path / "collected.json", tmp_path / "passed.json"
    options = [f"--compatibility-collected={collected}", f"--compatibility-passed={passed}"]
    subprocess.run([sys.executable, "-m", "pytest", "-q", *options, *processes], cwd=tmp_path, check=False)
    assert {row.does for row in read(passed)} == {"passes", "is to come"}
    if not processes:
        assert [row.does for row in read(collected)] == [
            "passes", "fails", "is skipped", "is to come", "has come", "cannot begin",
        ]  # fmt: skip
        assert read(collected)[3].fails == "nobody has built it"


def test_a_row_whose_test_did_not_pass_is_named(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The comparison with a run names each row of the page that the run does not hold, and fails."""
    nothing = tmp_path / "passed.json"
    nothing.write_text("[]\n")
    assert script.main(["--passed", str(nothing)]) == 1
    said = capsys.readouterr().err
    assert "no test of these rows has passed" in said
    assert "clients: openai (Python), chat: stream" in said


def test_a_version_is_never_said_while_a_file_that_pins_is_lost(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A list of versions that is not there is an error that names it, also where another one has the package."""
    pins = tmp_path / "constraints.txt"
    pins.write_text("openai==3.57.0\n")
    monkeypatch.setattr(script, "ROOT", tmp_path)
    monkeypatch.setattr(script, "PINS", {"pypi": (pins,)})
    assert script.pinned("pypi:openai") == "3.57.0"
    with pytest.raises(SystemExit, match=r"pypi:aider-chat is pinned in none of constraints\.txt"):
        script.pinned("pypi:aider-chat")
    monkeypatch.setattr(script, "PINS", {"pypi": (pins, tmp_path / "lost.txt")})
    with pytest.raises(SystemExit, match=r"lost\.txt.*pypi:openai"):
        script.pinned("pypi:openai")


def test_each_list_of_versions_is_there(script: ModuleType) -> None:
    """The lists that the page's versions are read from exist."""
    assert [path for paths in script.PINS.values() for path in paths if not path.exists()] == []


def test_a_row_that_is_not_on_the_page_is_named(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A test whose mark comes from elsewhere, in a file that does not name it, is found by the run that passed it."""
    passed = tmp_path / "passed.json"
    passed.write_text(json.dumps([asdict(Row(**SAID, test="tests/test_elsewhere.py::test_it"))]))
    assert script.main(["--passed", str(passed)]) == 1
    assert "tests/test_elsewhere.py::test_it: its file does not say 'compatibility'" in capsys.readouterr().err


def test_rows_are_grouped_and_what_is_to_come_is_said(script: ModuleType) -> None:
    """A row that several tests hold stands once; one that does not hold says so with its reason."""
    issue = "https://github.com/ollama/ollama/issues/15457"
    page = script.render(
        [
            Row(**SAID, on="chat", sends="Ollama", source=issue),
            Row(**SAID, on="messages", sends="Dynamo"),
            Row(table="engines", row="No id", does="makes one | up", fails="to come"),
        ]
    )
    assert f"| Index 0 twice | Ollama, Dynamo | chat, Messages: numbers anew | [ollama/ollama#15457]({issue}) |" in page
    assert "| No id |  | makes one \\| up (*not yet*: to come) |  |" in page
