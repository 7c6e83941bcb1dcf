"""What docs/testing.md says of mutants and of variables follows from others."""

import re
import subprocess
import sys

from support.grep import grep
from support.needs import ROOT


def test_equivalent_mutants_are_listed_with_their_reasons() -> None:
    """docs/testing.md lists what tests/mutants/equivalent.toml says; `scripts/mutants.py --equivalent` writes it."""
    before = (ROOT / "docs" / "testing.md").read_text()
    command = [sys.executable, str(ROOT / "scripts" / "mutants.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (ROOT / "docs" / "testing.md").read_text() == before


def test_every_variable_is_listed() -> None:
    """The table of variables has each one that tests, benchmarks or scripts read, and no other."""
    page = (ROOT / "docs" / "testing.md").read_text()
    listed = set(re.findall(r"`((?:CAPSTAN|UPDATE|CI|KUBEBUILDER)[A-Z0-9_]*)", _cells(page)))
    folders = ("tests", "scripts", "bench")
    read = {found.split('"')[1] for found in grep(r'environ(\.get\(|\[)"CAPSTAN_[A-Z0-9_]+"', *folders)}
    read = {name for name in read if not name.startswith("CAPSTAN_GATEWAY_")}
    assert len(read) > 10
    assert read - listed == {"CAPSTAN_TORCH_INDEX_URL"}  # docs/worker.md has it, with vLLM's environment
    assert {name for name in listed if not grep(f'"{name}"', *folders)} == set()


def _cells(page: str) -> str:
    return "\n".join(line.split(" | ")[0] for line in page.splitlines() if line.startswith("| `"))
