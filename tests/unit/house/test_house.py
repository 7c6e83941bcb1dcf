"""The house is in order: what the layout must not have, and files that follow from others."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from capstan_operator.api.generate import stale_files
from support.needs import ROOT


def _tracked() -> list[Path]:
    """Give the files that belong to the project: those that git knows, or knows nothing against."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("left out: needs a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def _package(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower().replace("_", "-").replace(".", "-")


def _project() -> dict[str, list[str]]:
    content = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = {"base": content["project"]["dependencies"], **content["project"]["optional-dependencies"]}
    return {**groups, "dev": content["dependency-groups"]["dev"]}


def test_nothing_takes_the_place_of_the_standard_library() -> None:
    """`operator/` is no package and no test folder is called so: either would replace Python's own operator module."""
    assert not (ROOT / "operator" / "__init__.py").exists()
    tests = [path.relative_to(ROOT) for path in _tracked() if path.is_relative_to(ROOT / "tests")]
    assert tests
    assert [path for path in tests if "operator" in path.parent.parts] == []
    assert [path for path in tests if path.name == "__init__.py" and path.parent.name != "support"] == []


def test_generated_files_are_fresh() -> None:
    """crds/ and the field reference are what the models say; scripts/generate.sh writes them."""
    assert stale_files(ROOT) == []


def test_the_chart_is_fresh() -> None:
    """The chart's CRDs and the table of its values are what they are made from."""
    command = [sys.executable, str(ROOT / "scripts" / "sync_chart.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_merge_was_left_half_done() -> None:
    """No file has the marks that git leaves where two changes met."""
    marks = re.compile(rb"^(<{7} |>{7} |={7}$)", re.MULTILINE)
    assert [path for path in _tracked() if marks.search(path.read_bytes())] == []


def test_no_file_knows_where_it_was_written() -> None:
    """No file of the project names the folder in which this checkout lies, or its parent."""
    names = (f"{ROOT}/".encode(), f"{ROOT.parent}/".encode())
    found = [path for path in _tracked() if any(name in path.read_bytes() for name in names)]
    assert ROOT.parent == Path("/") or found == []


def test_no_code_waits_for_every_type_error_of_orjson() -> None:
    """`orjson.JSONEncodeError` is `TypeError` itself: who catches it catches the mistakes of all the code around it."""
    code = [path for path in _tracked() if path.suffix == ".py" and "tests" not in path.relative_to(ROOT).parts]
    assert [path.name for path in code if "JSONEncodeError" in path.read_text()] == []


def test_every_dependency_has_a_version_and_a_reason() -> None:
    """What pyproject.toml asks for is pinned in constraints.txt; what is needed at run time is explained in docs/."""
    pinned = {_package(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    project = _project()
    wanted = {_package(requirement) for group in project.values() for requirement in group} - {"capstan"}
    assert wanted - pinned == set()
    explained = (ROOT / "docs" / "dependencies.md").read_text()
    runtime = {_package(requirement) for name, group in project.items() if name != "dev" for requirement in group}
    assert {package for package in runtime if package not in explained} == set()


def test_pins_name_no_place() -> None:
    """constraints.txt works with whatever index pip is configured for."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line)] == []


def test_scripts_can_be_started() -> None:
    """What begins with `#!` is executable in a fresh clone, and all shell scripts do."""
    scripts = [path for path in _tracked() if path.suffix == ".sh" or path.read_bytes()[:2] == b"#!"]
    assert [path for path in scripts if path.read_bytes()[:2] != b"#!"] == []
    assert [path for path in scripts if not path.stat().st_mode & 0o100] == []
    assert ROOT / ".ci" / "run" in scripts


def test_the_makefile_explains_every_target() -> None:
    """`make help` shows all targets that a person may ask for."""
    text = (ROOT / "Makefile").read_text()
    phony = re.findall(r"[\w-]+", re.search(r"^\.PHONY:((?:.*\\\n)*.*)$", text, re.MULTILINE).group(1))  # type: ignore[union-attr]
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [target for target in phony if f"  make {target} " not in shown] == []
