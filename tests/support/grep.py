"""What stands in the files of the project: those that git knows, or knows nothing against."""

import subprocess

import pytest

from support.needs import ROOT


def grep(pattern: str, *paths: str) -> set[str]:
    """Give what an extended regular expression finds in them, each match once; skip the test without a checkout."""
    command = ["git", "grep", "--untracked", "-I", "-o", "-h", "-E", pattern, "--", *paths]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode > 1:
        pytest.skip("left out: needs a git checkout")
    return set(listed.stdout.split())
