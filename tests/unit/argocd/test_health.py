"""The health checks for Argo CD, run by a real Lua 5.1."""

from collections.abc import Callable
from typing import Any

import lupa.lua51 as lua
import pytest
import yaml

from support.needs import ROOT

FOLDER = ROOT / "helm" / "argocd"
POLICIES = ("GuardPolicy", "RateLimitPolicy", "CachePolicy")
CASES = yaml.safe_load((ROOT / "tests" / "unit" / "argocd" / "testdata" / "health.yaml").read_text())


def _scripts() -> dict[str, str]:
    data = yaml.safe_load((FOLDER / "argocd-cm.yaml").read_text())["data"]
    prefix = "resource.customizations.health.capstan.dev_"
    return {key.removeprefix(prefix): script for key, script in data.items()}


def _health(kind: str, resource: dict[str, Any]) -> tuple[str, str]:
    runtime = lua.LuaRuntime(unpack_returned_tuples=True)
    check: Callable[[object], Any] = runtime.execute(f"return function(obj)\n{_scripts()[kind]}\nend")
    result = check(_table(runtime, resource))
    return str(result["status"]), str(result["message"])


def _table(runtime: lua.LuaRuntime, value: object) -> object:
    if isinstance(value, dict):
        return runtime.table_from({key: _table(runtime, item) for key, item in value.items()})
    if isinstance(value, list):
        return runtime.table_from([_table(runtime, item) for item in value])
    return value


def test_covers_the_four_kinds() -> None:
    """There is a check for each of Capstan's kinds and for nothing else."""
    assert set(_scripts()) == {"LLMModel", *POLICIES}


@pytest.mark.parametrize("case", CASES["LLMModel"], ids=lambda case: case["name"])
def test_health_of_a_model(case: dict[str, Any]) -> None:
    """A model is Healthy, Progressing or Degraded for the reason that its conditions give."""
    assert _health("LLMModel", case["resource"]) == (case["health"], case["message"])


@pytest.mark.parametrize("kind", POLICIES)
@pytest.mark.parametrize("case", CASES["policies"], ids=lambda case: case["name"])
def test_health_of_a_policy(kind: str, case: dict[str, Any]) -> None:
    """A policy is Healthy only when every target of its newest generation is programmed."""
    assert _health(kind, case["resource"]) == (case["health"], case["message"])


def test_examples_keep_the_user_in_charge() -> None:
    """The example Applications apply server-side and put models apart from the chart."""
    chart, models = (
        yaml.safe_load((FOLDER / f"application-{name}.yaml").read_text()) for name in ("capstan", "models")
    )
    for application in (chart, models):
        assert "ServerSideApply=true" in application["spec"]["syncPolicy"]["syncOptions"]
    assert chart["spec"]["source"]["path"] == "helm/capstan"
    assert chart["spec"]["destination"]["namespace"] != models["spec"]["destination"]["namespace"]
