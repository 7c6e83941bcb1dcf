"""docs/gateway.md names what the code has, and nothing else."""

import re
from collections.abc import Iterator
from dataclasses import fields

from capstan_contract.requirements import KNOWN
from capstan_gateway.errors import GatewayError
from capstan_gateway.inference.routes import ROUTES
from capstan_gateway.settings import EXPOSED_HEADERS, Settings
from capstan_gateway.telemetry.metrics import Metrics
from support.needs import ROOT

PAGE = (ROOT / "docs" / "gateway.md").read_text()


def rows(title: str) -> Iterator[list[str]]:
    """Give the rows of the tables under a heading, cell by cell."""
    section = PAGE.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]
    for line in section.splitlines():
        if line.startswith("| ") and not line.startswith("| ---"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def words(cell: str) -> set[str]:
    """Give what a cell shows as code, outside of parentheses."""
    return set(re.findall(r"`([^`]+)`", re.sub(r"\([^)]*\)", "", cell)))


def test_every_flag() -> None:
    """The table of flags has each setting of the process once, and no other."""
    documented = [flag for row in rows("Flags") for flag in words(row[0])]
    assert sorted(documented) == sorted("--" + field.name.replace("_", "-") for field in fields(Settings))


def test_defaults_of_flags() -> None:
    """A default that the table writes as code, or as a switch, is the one that the flag has."""
    known = {"--" + field.name.replace("_", "-"): field.default for field in fields(Settings)}
    shown = {}
    for cells in rows("Flags"):
        for flag in words(cells[0]):
            if re.fullmatch(r"`[^`]*`|on|off", cells[1]):
                shown[flag] = cells[1].strip("`")
    assert len(shown) > 60
    assert shown == {flag: _shown(known[flag]) for flag in shown}


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, tuple):
        return ",".join(default)
    return f"{default:g}" if isinstance(default, float) else str(default)


def test_every_header_of_answers_is_readable_in_browsers() -> None:
    """What the gateway says in headers of its answers pages of other origins may read, and the page names it."""
    out = PAGE.split("\n| out | |\n| --- | --- |\n", 1)[1].split("\n\n", 1)[0]
    cells = [line.split(" | ")[0] for line in out.splitlines()]
    told = {name for cell in cells if "ratelimit" not in cell and "connection" not in cell for name in words(cell)}
    assert len(told) > 20
    assert told - set(EXPOSED_HEADERS) == set()
    own = {name for name in EXPOSED_HEADERS if "ratelimit" not in name}
    assert own - told == {"request-id", "x-should-retry"}  # named beside others


def test_every_metric() -> None:
    """The table of metrics has each family with its labels, and no other."""
    documented = {name: words(row[1]) for row in rows("Metrics") for name in words(row[0])}
    assert documented == {family.name: set(family.labels) for family in Metrics().families}


def test_every_error_code() -> None:
    """The table of errors has the status and the code of each error class."""
    documented = {(row[0], code) for row in rows("Errors") for code in words(row[1])}
    classes = [GatewayError]
    for found in classes:
        classes.extend(one for one in found.__subclasses__() if one.__module__.startswith("capstan_gateway."))
    assert len(classes) > 10
    assert {(str(found.status), found.code) for found in classes if found.code} - documented == set()


def test_every_route() -> None:
    """The table of routes has each route of inference."""
    assert {f"POST {route.path}" for route in ROUTES} <= {name for row in rows("Routes") for name in words(row[0])}


def test_what_this_release_knows() -> None:
    """The page names each requirement that a config may have of this gateway, and no other."""
    sentence = PAGE.split("This release knows three kinds of policies", 1)[1].split(
        "`capstan_contract/requirements.py`"
    )[0]
    assert set(re.findall(r"`(\w+)`", sentence)) == KNOWN.requirements
    assert len(KNOWN.policy_kinds) == 3
