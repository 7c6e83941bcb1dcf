"""`make eval-statistics`: that what is promised is looked at, and that the page is of this script."""

import subprocess
import sys
from types import ModuleType

import pytest

from support.needs import ROOT

SCRIPT = ROOT / "scripts" / "eval_statistics.py"
PAGE = ROOT / "docs" / "evaluation.md"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import eval_statistics

    return eval_statistics


def test_promises_hold_and_the_page_has_every_row() -> None:
    """A few trials of each row keep what is promised, as far as so few can say, and docs/evaluation.md has all rows."""
    command = [sys.executable, str(SCRIPT), "--check", str(PAGE), "--trials", "6"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_page_of_another_script_is_told(script: ModuleType) -> None:
    """A row that the page has not is named."""
    page = PAGE.read_text(encoding="utf-8")
    assert script.missing_rows(page) == []
    [told] = script.missing_rows(page.replace("| the same with 80 cases |", "| gone |"))
    assert "'the same with 80 cases'" in told


def test_a_broken_promise_is_told(script: ModuleType) -> None:
    """More failures than chance makes of 5 %, and fewer than it makes of 80 %, break a promise; others do not."""
    most = script.Promise(script.Outcome.FAIL, most=0.05)
    least = script.Promise(script.Outcome.FAIL, least=0.8)
    assert [most.holds(seen, 200) for seen in (0, 10, 20, 30)] == [True, True, True, False]
    assert [least.holds(seen, 200) for seen in (200, 160, 145, 130)] == [True, True, True, False]
    assert (str(most), str(least)) == ("Fail: at most 5%", "Fail: at least 80%")
