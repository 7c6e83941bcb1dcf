"""values.yaml, its schema, and what is made from them."""

import json
import subprocess
import sys
from typing import Any

import yaml

from support.needs import ROOT

CHART = ROOT / "helm" / "capstan"


def _values() -> dict[str, Any]:
    return dict(yaml.safe_load((CHART / "values.yaml").read_text()))


def _schema() -> dict[str, Any]:
    return dict(json.loads((CHART / "values.schema.json").read_text()))


def _paths(value: object, schema: dict[str, Any], path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    if isinstance(value, dict) and "properties" in schema:
        return {
            found
            for key, item in value.items()
            for found in _paths(item, schema["properties"].get(key, {}), (*path, key))
        }
    return {path}


def _schema_paths(schema: dict[str, Any], path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    if "properties" not in schema:
        return {path}
    return {found for key, item in schema["properties"].items() for found in _schema_paths(item, (*path, key))}


def test_schema_and_values_name_the_same() -> None:
    """Every value has a place in the schema, and the schema knows no value that values.yaml does not show."""
    known = _schema_paths(_schema()) - {("global",)}
    assert _paths(_values(), _schema()) == known


def test_schema_is_closed() -> None:
    """No object of the schema lets unknown keys through, but for maps whose keys are the user's."""

    def check(schema: dict[str, Any], path: str) -> None:
        if "properties" in schema:
            assert schema.get("additionalProperties") is False, path
            for key, item in schema["properties"].items():
                check(item, f"{path}.{key}")

    check(_schema(), "")


def test_every_value_is_described() -> None:
    """Each value of values.yaml has a comment, so the table in docs/install.md has all of them."""
    page = (ROOT / "docs" / "install.md").read_text()
    paths = {path[:-1] if "resources" in path else path for path in _paths(_values(), _schema())}
    missing = [".".join(path) for path in paths if f"| `{'.'.join(path)}` |" not in page]
    assert not missing


def test_nothing_made_from_elsewhere_is_stale() -> None:
    """The chart's CRDs are those of crds/, and the table in docs/install.md is that of values.yaml."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "sync_chart.py"), "--check"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_versions_agree() -> None:
    """The chart installs the release that it comes with."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert f'version = "{chart["appVersion"]}"' in (ROOT / "pyproject.toml").read_text()
