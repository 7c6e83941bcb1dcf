"""Rendering the chart with the real Helm, for tests."""

import functools
import json
import subprocess
from typing import Any

from support.kubernetes import program
from support.needs import ROOT
from support.yamls import load_all

CHART = ROOT / "helm" / "capstan"
NAMESPACE = "capstan-system"
PROMETHEUS = "monitoring.coreos.com/v1"
REGISTRY = "registry.example.com/capstan"
"""Where the images are, in values that do not say it: the chart has no default."""
Values = dict[str, Any]


def run_helm(*arguments: str, values: Values | None = None) -> subprocess.CompletedProcess[str]:
    """Run helm with values as a file on standard input, whatever its exit code."""
    given = {**(values or {}), "image": {"registry": REGISTRY, **(values or {}).get("image", {})}}
    return _run_once(arguments, json.dumps(given))


@functools.lru_cache(maxsize=256)
def _run_once(arguments: tuple[str, ...], given: str) -> subprocess.CompletedProcess[str]:
    """Run helm: what it says follows from the values and the chart alone."""
    command = [program("helm"), *arguments, "--values", "-"]
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=False)


def render(values: Values | None = None, *, apis: tuple[str, ...] = (), release: str = "capstan") -> list[Values]:
    """Give the objects that the chart renders to. Raises AssertionError with Helm's words when it refuses."""
    done = try_render(values, apis=apis, release=release)
    assert done.returncode == 0, done.stderr
    return [document for document in load_all(done.stdout) if document]


def try_render(
    values: Values | None = None, *, apis: tuple[str, ...] = (), release: str = "capstan"
) -> subprocess.CompletedProcess[str]:
    """Render, and give what Helm says, accepted or not."""
    flags = [flag for api in apis for flag in ("--api-versions", api)]
    return run_helm(
        "template", release, str(CHART), "--namespace", NAMESPACE, "--kube-version", "1.34.0", *flags, values=values
    )


def one(objects: list[Values], kind: str, name: str) -> Values:
    """Give the one object of this kind and name."""
    found = [item for item in objects if item["kind"] == kind and item["metadata"]["name"] == name]
    assert len(found) == 1, f"{len(found)} objects are {kind}/{name}"
    return found[0]


def pod_specs(objects: list[Values]) -> dict[str, Values]:
    """Give the pod spec of every workload, by the workload's name."""
    return {
        item["metadata"]["name"]: item["spec"]["template"]["spec"]
        for item in objects
        if item["kind"] in ("Deployment", "StatefulSet")
    }
