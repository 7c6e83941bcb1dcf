"""Tests of client libraries are left out where those are not installed, and say so; in CI that is a failure."""

from pathlib import Path

import pytest

from support import clients


@pytest.mark.parametrize("ci", ["", "true"])
def test_what_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ci: str) -> None:
    """Neither is another version than the one that is pinned."""
    monkeypatch.setattr(clients, "VENVS", tmp_path)
    monkeypatch.setenv("CI", ci)
    outcome = pytest.fail.Exception if ci else pytest.skip.Exception
    with pytest.raises(outcome, match=r"openai3\.txt \(scripts/clients\.sh\)"):
        clients.python_of("openai3")
    (tmp_path / "openai3").mkdir()
    (tmp_path / "openai3" / "installed.txt").write_text("openai==3.0.0\n")
    with pytest.raises(outcome):
        clients.python_of("openai3")
    installed = (clients.PINS / "openai3.txt").read_text()
    (tmp_path / "openai3" / "installed.txt").write_text(installed)
    assert clients.python_of("openai3") == str(tmp_path / "openai3" / "bin" / "python")


def test_packages_of_node_are_those_that_are_pinned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One that is missing, or another version, is named."""
    monkeypatch.setenv("CI", "")
    monkeypatch.setattr(clients, "SCRIPTS", tmp_path)
    (tmp_path / "package.json").write_text('{"dependencies": {"ai": "7.0.173"}}')
    with pytest.raises(pytest.skip.Exception, match=r"ai 7\.0\.173"):
        clients.node()
    (tmp_path / "node_modules" / "ai").mkdir(parents=True)
    (tmp_path / "node_modules" / "ai" / "package.json").write_text('{"version": "6.0.0"}')
    with pytest.raises(pytest.skip.Exception, match=r"ai 7\.0\.173"):
        clients.node()
