"""docs/operator.md and docs/install.md name the settings, metrics and alerts that the operator and the chart have."""

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

from capstan_operator.metrics import Metrics
from capstan_operator.settings import PREFIX, BuildSettings, Settings
from support.grep import grep
from support.needs import ROOT

PAGE = (ROOT / "docs" / "operator.md").read_text()
ELSEWHERE = {"CAPSTAN_POD_NAME": ""}
"""Read beside the settings, because it has no default that could stand in a dataclass."""


def rows(page: str, title: str) -> Iterator[list[str]]:
    """Give the rows of the tables under a heading, cell by cell, but for the heads."""
    section = page.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]
    lines = section.splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("| ") and not line.startswith("| ---") and not following.startswith("| ---"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def settings() -> dict[str, Any]:
    """Give the default of each variable of the operator."""
    fields = [*dataclasses.fields(Settings), *dataclasses.fields(BuildSettings)]
    known = [(field, field.metadata.get("capstan.setting")) for field in fields]
    own = {about.variable or PREFIX + field.name.upper(): field.default for field, about in known if about is not None}
    return {**own, **ELSEWHERE}


def test_every_setting() -> None:
    """The table of settings has each variable once, and no other; a default that it writes as code is the real one."""
    known = settings()
    documented = dict[str, str]()
    for variables, defaults, *_ in rows(PAGE, "Settings"):
        names = re.findall(r"`([A-Z0-9_]+)`", variables)
        values = [one.strip() for one in defaults.split(",")] if len(names) > 1 else [defaults]
        for name, value in zip(names, values if len(values) == len(names) else [""] * len(names), strict=True):
            assert name not in documented, name
            documented[name] = value
    assert set(documented) == set(known)
    shown = {name: value.strip("`") for name, value in documented.items() if value.startswith("`")}
    assert len(shown) > 20
    assert shown == {name: _shown(known[name]) for name in shown}


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return str(int(default)) if isinstance(default, float) else str(default)


def test_every_metric() -> None:
    """The table of metrics has each family of the operator, and no other."""
    documented = set()
    for cell, *_ in rows(PAGE, "Health and metrics"):
        for name in re.findall(r"`(\w+)`", cell):
            documented.add(f"capstan_operator{name}" if name.startswith("_") else name)
    families = Metrics().registry.collect()
    own = [family for family in families if family.name.startswith("capstan_operator_")]
    assert documented == {family.name + ("_total" if family.type == "counter" else "") for family in own}


def test_every_event() -> None:
    """Each reason of an Event that the code writes out stands on the page, beside those of conditions."""
    said = grep(r'"(Normal|Warning)", "[A-Z][A-Za-z]+"', "operator")
    reasons = {word.strip('",') for word in said} - {"Normal", "Warning"}
    assert len(reasons) > 10
    section = PAGE.split("\n## Events\n", 1)[1].split("\n## ", 1)[0]
    assert {reason for reason in reasons if f"`{reason}`" not in section} == set()


def test_every_alert() -> None:
    """The table of alerts in docs/install.md has each alert of the chart with its severity, and no other."""
    rules = (ROOT / "helm" / "capstan" / "templates" / "monitoring" / "rules.yaml").read_text()
    alerts = dict(re.findall(r"- alert: (\w+)\n(?:.*\n)*?\s+labels: {severity: (\w+)}", rules))
    assert len(alerts) > 15
    page = (ROOT / "docs" / "install.md").read_text()
    assert {name.strip("`"): severity for name, severity, *_ in rows(page, "Metrics")} == alerts
