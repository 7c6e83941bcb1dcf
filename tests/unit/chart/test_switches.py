"""Every value of the chart does something: switches.yaml says of each, in a line, what and where that is found."""

import copy
from pathlib import Path
from typing import Any

import pytest

from support.helm import CHART, PROMETHEUS, render
from support.switches import KINDS, POD_SWITCHES, has, place
from support.yamls import load

HERE = Path(__file__).parent
GROUPS: list[dict[str, Any]] = load((HERE / "switches.yaml").read_text())
ELSEWHERE = {
    "fullnameOverride": "test_render.py",
    "operator.watchNamespaces": "test_render.py",
    "operator.readNamespaces": "test_render.py",
    "operator.readSecrets": "test_render.py",
    "operator.readCrds": "test_render.py",
    "redis.enabled": "test_redis.py",
    "redis.externalUrl": "test_render.py",
    "redis.externalUrlSecret": "test_render.py",
    "redis.sentinelAuth": "test_render.py",
    "redis.image.digest": "test_render.py",
    "queue.workerUrl": "test_render.py",
    "extraObjects": "test_pods.py",
    "operator.strategy": "test_pods.py",
    "operator.terminationGracePeriodSeconds": "test_pods.py",
    "gateway.strategy": "test_pods.py",
    "scorer.strategy": "test_pods.py",
    "scorer.terminationGracePeriodSeconds": "test_pods.py",
    "redis.updateStrategy": "test_pods.py",
    "redis.terminationGracePeriodSeconds": "test_pods.py",
    **{f"{component}.podDisruptionBudget": "test_pods.py" for component in KINDS},
    "caBundle": "test_models.py",
    "models.env": "test_models.py",
    "models.podLabels": "test_models.py",
    "models.podAnnotations": "test_models.py",
    "models.podSecurityContext": "test_models.py",
    "models.containerSecurityContext": "test_models.py",
    "models.inferencePools": "test_exposure.py",
    "gateway.ingress": "test_exposure.py",
    "gateway.httpRoute": "test_exposure.py",
    "profiles": "test_profiles.py",
    "aggregatedRoles": "test_rights.py",
    "operator.admissionPolicy": "test_rights.py",
}
"""Values, or all below one, that need more than a line: the file of this folder that has the tests of them."""


def nested(values: dict[str, Any], path: str, value: Any) -> None:
    """Set one value, as `--set` does."""
    *parents, last = path.split(".")
    for key in parents:
        values = values.setdefault(key, {})
    values[last] = value


def found_at(objects: list[dict[str, Any]], where: str) -> Any:
    """Give what is at a place of a line of switches.yaml; `gone` where its object is not there."""
    first, _, path = where.partition(":")
    variable = path if first in KINDS else None
    kind, name = (KINDS[first], f"capstan-{first}") if variable else first.split("/")
    items = [item for item in objects if item["kind"] == kind and item["metadata"]["name"] == name]
    if not items:
        return "gone"
    if variable is None:
        return place(items[0], path) if path else "there"
    for item in place(items[0], "container.env") or ():
        if item["name"] == variable:
            return item["value"] if "value" in item else item["valueFrom"]["secretKeyRef"]
    return None


@pytest.mark.parametrize("group", GROUPS, ids=[group["group"] for group in GROUPS])
def test_each_value_is_found_where_its_line_says(group: dict[str, Any]) -> None:
    """With all values of a group set, each has its effect; without them, none of these is there."""
    values: dict[str, Any] = copy.deepcopy(group["with"])
    without = render(values, apis=(PROMETHEUS,))
    for path, value, _, _ in group["lines"]:
        nested(values, path, value)
    given = render(values, apis=(PROMETHEUS,))
    lines = group["lines"]
    assert [
        (path, found_at(given, where)) for path, _, where, wanted in lines if not has(found_at(given, where), wanted)
    ] == []
    assert [path for path, _, where, wanted in lines if has(found_at(without, where), wanted)] == [], "so without them"


def _paths(schema: dict[str, Any], value: Any, path: str = "") -> set[str]:
    if isinstance(value, dict) and "properties" in schema:
        return {
            found
            for key, item in value.items()
            for found in _paths(schema["properties"][key], item, f"{path}.{key}".lstrip("."))
        }
    return {path}


def test_every_value_has_a_line() -> None:
    """A value of values.yaml is in switches.yaml, is one that all components have, or has tests of its own."""
    schema = load((CHART / "values.schema.json").read_text())
    values = load((CHART / "values.yaml").read_text())
    known = {line[0] for group in GROUPS for line in group["lines"]}
    known |= {f"{component}.{name}" for component in KINDS for name in POD_SWITCHES}
    without = {
        path
        for path in _paths(schema, values)
        if path not in known
        and not any(path == other or path.startswith(f"{other}.") for other in ELSEWHERE)
        and not any(path.startswith(f"{component}.resources") for component in KINDS)
    }
    assert not without, "write a line of each into tests/unit/chart/switches.yaml"


def test_what_is_tested_elsewhere_is_named_there() -> None:
    """The file that is said to have the tests of a value names it."""
    for path, file in ELSEWHERE.items():
        assert path.rsplit(".", 1)[-1] in (HERE / file).read_text(), f"{file} says nothing of {path}"
