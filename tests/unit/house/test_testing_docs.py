"""What docs/testing.md says about mutants follows from others."""

import subprocess
import sys

from support.needs import ROOT


def test_equivalent_mutants_are_listed_with_their_reasons() -> None:
    """docs/testing.md lists what tests/mutants/equivalent.toml says; `scripts/mutants.py --equivalent` writes it."""
    before = (ROOT / "docs" / "testing.md").read_text()
    command = [sys.executable, str(ROOT / "scripts" / "mutants.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (ROOT / "docs" / "testing.md").read_text() == before
