"""values.yaml, its schema, and what is made from them."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from support.helm import PROMETHEUS, render
from support.needs import ROOT
from support.yamls import load

CHART = ROOT / "helm" / "capstan"


def _values() -> dict[str, Any]:
    return dict(load((CHART / "values.yaml").read_text()))


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
    assert _one_sided(_values(), _schema()) == set()


def test_a_value_that_only_one_of_them_names_is_found() -> None:
    """A value without an entry in the schema fails the test above, and so does an entry without a value."""
    values = _values()
    values["gateway"]["unheard"] = 1
    del values["redis"]["maxMemory"]
    assert _one_sided(values, _schema()) == {("gateway", "unheard"), ("redis", "maxMemory")}


def _one_sided(values: dict[str, Any], schema: dict[str, Any]) -> set[tuple[str, ...]]:
    return _paths(values, schema) ^ (_schema_paths(schema) - {("global",)})


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
    assert _undescribed((ROOT / "docs" / "install.md").read_text()) == []


def test_a_value_without_a_comment_is_found() -> None:
    """The table is made of comments: without that of a value its line is gone, and the test above fails."""
    text = (CHART / "values.yaml").read_text()
    comment = next(line for line in text.splitlines(keepends=True) if "# -- Memory for data" in line)
    page = _sync_chart().page_with_table((ROOT / "docs" / "install.md").read_text(), text.replace(comment, ""))
    assert _undescribed(page) == ["redis.maxMemory"]


def test_a_list_or_a_map_that_is_left_blank_is_an_empty_one() -> None:
    """`hosts:` with nothing behind it is null in YAML, which Helm takes for a key that is not there: whatever a user
    fills is rendered without it, all of them at once and with what reads them switched on."""
    on: dict[str, Any] = {
        "gateway": {"ingress": {"enabled": True, "controller": "nginx"}, "oidc": {}, "cors": {}, "images": {}},
        "operator": {"admissionPolicy": {"enabled": True}}, "networkPolicies": {"enabled": True},
        "scorer": {"enabled": True}, "redis": {"enabled": True},
        "monitoring": {"serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}},
    }  # fmt: skip
    blank = [path for path, value in _leaves(_values(), _schema()) if isinstance(value, dict | list)]
    assert len(blank) > 50
    for *parents, last in blank:
        place = on
        for key in parents:
            place = place.setdefault(key, {})
        place[last] = None
    assert render(on, apis=(PROMETHEUS,))


def _leaves(
    value: object, schema: dict[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], object]]:
    if isinstance(value, dict) and "properties" in schema:
        for key, item in value.items():
            yield from _leaves(item, schema["properties"][key], (*path, key))
    else:
        yield path, value


def _undescribed(page: str) -> list[str]:
    paths = {path[:-1] if "resources" in path else path for path in _paths(_values(), _schema())}
    return sorted(".".join(path) for path in paths if f"| `{'.'.join(path)}` |" not in page)


def _sync_chart() -> Any:
    spec = importlib.util.spec_from_file_location("sync_chart", ROOT / "scripts" / "sync_chart.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_nothing_made_from_elsewhere_is_stale() -> None:
    """The chart's CRDs are those of crds/, and the table in docs/install.md is that of values.yaml."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "sync_chart.py"), "--check"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
