"""docs/architecture.md shows the rooms that there are, and sends nobody to a file that is not there."""

import re
import tomllib

import pytest

from support.needs import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text()
PACKAGES = {"gateway": ROOT / "gateway" / "capstan_gateway", "operator": ROOT / "operator" / "capstan_operator"}


def section(title: str) -> str:
    """Give what stands below a heading, to the next one of its level or above."""
    level = title.split(" ", 1)[0]
    return re.split(rf"\n#{{1,{len(level)}}} ", PAGE.split(f"\n{title}\n", 1)[1], maxsplit=1)[0]


@pytest.mark.parametrize("process", ["gateway", "operator"])
def test_the_floors_are_those_that_import_linter_holds(process: str) -> None:
    """From the top, each floor with its rooms."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(one["layers"] for one in contracts if one.get("containers") == [f"capstan_{process}"])
    lines = [line[4:] for line in section(f"### The {process}'s floors").splitlines() if line.startswith("    ")]
    assert [re.split(r"\s{2,}", line)[0] for line in lines] == layers


@pytest.mark.parametrize("process", ["gateway", "operator"])
def test_every_file_that_a_line_may_go_to_is_there(process: str) -> None:
    """What the table names as `room/module.py` exists."""
    named = re.findall(r"`([\w/]+\.py)`", section(f"### In the {process}"))
    assert len(named) > 10
    assert [name for name in named if not (PACKAGES[process] / name).is_file()] == []


def test_every_room_that_the_questions_name_is_there() -> None:
    """What they name as `room/` is a room of the gateway or of the operator."""
    named = set(re.findall(r"`(\w+)/`", section("## Where does my line go")))
    assert len(named) > 10
    assert {name for name in named if not any((package / name).is_dir() for package in PACKAGES.values())} == set()
