"""A CRD of another release is said, and is no obstacle."""

import asyncio
import contextlib
import json
import tomllib
from typing import Any

import pytest
import yaml

from capstan_operator.api.crd import build_crd
from capstan_operator.api.kinds import KINDS, LLMMODEL
from capstan_operator.kube.errors import Forbidden
from capstan_operator.kube.events import EventRecorder
from capstan_operator.metrics import Metrics
from capstan_operator.names import CRD_RELEASE_ANNOTATION, CRD_SCHEMA_ANNOTATION, RELEASE
from capstan_operator.releases import CrdRelease, ReleaseCheck, compare_releases
from capstan_operator.resources.api_resource import CRDS
from fakes.kube import FakeKube
from support.needs import ROOT
from support.wait import eventually

CRD = build_crd(LLMMODEL)
NAME = CRD["metadata"]["name"]


def _annotations(release: str, schema: str) -> dict[str, str]:
    return {CRD_RELEASE_ANNOTATION: release, CRD_SCHEMA_ANNOTATION: schema}


@pytest.mark.parametrize(
    ("live", "expected"),
    [
        (_annotations("1.9.0", "own"), CrdRelease.SAME),
        ({}, CrdRelease.OLDER),
        (_annotations("1.9.9", "other"), CrdRelease.OLDER),
        (_annotations("1.11.0", "other"), CrdRelease.NEWER),
        (_annotations("v2.0.0-rc1", "other"), CrdRelease.NEWER),
        (_annotations("1.10.0", "other"), CrdRelease.UNKNOWN),
        (_annotations("main", "other"), CrdRelease.UNKNOWN),
    ],
)
def test_releases_are_compared_by_schema_then_by_version(live: dict[str, str], expected: CrdRelease) -> None:
    """The same schema is the same release whatever it is called; one that says nothing is from before."""
    assert compare_releases(live, _annotations("1.10.0", "own")) is expected


def test_the_release_is_the_package_s_and_the_chart_s() -> None:
    """One version, wherever it is written."""
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == RELEASE
    assert yaml.safe_load((ROOT / "helm/capstan/Chart.yaml").read_text())["appVersion"] == RELEASE


def test_the_hash_is_of_the_schema() -> None:
    """It changes with the spec of the CRD, and is the same each time."""
    assert build_crd(LLMMODEL) == CRD
    assert len(CRD["metadata"]["annotations"][CRD_SCHEMA_ANNOTATION]) == 16


async def _after_a_look(kube: FakeKube, *, told: int = 0) -> tuple[Metrics, FakeKube]:
    metrics = Metrics()
    events = EventRecorder(kube, instance="operator-1")
    check = ReleaseCheck(kube, metrics=metrics, events=events, namespace="system", identity="operator-1")
    tasks = [asyncio.create_task(check.run()), asyncio.create_task(events.run())]
    await eventually(lambda: any(_states(metrics).values()), what="a look")
    if told:
        await eventually(lambda: len(_events(kube)) == told, what="the Events")
    assert not any(task.done() for task in tasks)
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    return metrics, kube


def _states(metrics: Metrics) -> dict[str, float]:
    return {
        state.value: metrics.registry.get_sample_value("capstan_operator_crd_release", {"state": state.value}) or 0.0
        for state in CrdRelease
    }


def _events(kube: FakeKube) -> list[tuple[str, str]]:
    found = [item for (plural, _, _), item in kube.objects.items() if plural == "events"]
    return [(item["reason"], item["regarding"]["name"]) for item in found]


async def test_an_older_crd_is_told_in_a_metric_and_an_event() -> None:
    """A CRD from before the annotation is older; the operator goes on."""
    kube = FakeKube(CRDS)
    older: dict[str, Any] = json.loads(json.dumps(CRD))
    del older["metadata"]["annotations"]
    for kind in KINDS:
        kube.put(json.loads(json.dumps(build_crd(kind))))
    kube.put(older)
    metrics, kube = await _after_a_look(kube, told=1)
    assert _states(metrics) == {"same": 0.0, "older": 1.0, "newer": 0.0, "unknown": 0.0, "missing": 0.0}
    assert _events(kube) == [("CrdOfAnotherRelease", "operator-1")]


async def test_a_crd_that_is_not_there_is_told_in_a_metric_and_an_event() -> None:
    """Every kind needs its own: one that is missing says more than any that differs; the operator goes on."""
    kube = FakeKube(CRDS)
    older: dict[str, Any] = json.loads(json.dumps(CRD))
    del older["metadata"]["annotations"]
    kube.put(older)
    metrics, kube = await _after_a_look(kube, told=len(KINDS))
    assert _states(metrics)["missing"] == 1.0
    assert sum(_states(metrics).values()) == 1.0
    missing = [("CrdMissing", "operator-1")] * (len(KINDS) - 1)
    assert sorted(_events(kube)) == [*missing, ("CrdOfAnotherRelease", "operator-1")]


async def test_its_own_crd_is_no_news() -> None:
    """The same release makes no Event."""
    kube = FakeKube(CRDS)
    for kind in KINDS:
        kube.put(json.loads(json.dumps(build_crd(kind))))
    metrics, kube = await _after_a_look(kube)
    assert _states(metrics)["same"] == 1.0
    assert _events(kube) == []


async def test_who_may_not_look_says_so_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """Without the right to read the CRD there is an INFO line, no warning and no Event."""
    kube = FakeKube(CRDS)
    kube.faults["get", "customresourcedefinitions", "", "*"] = Forbidden("no", status=403, reason="Forbidden")
    caplog.set_level("INFO")
    metrics, kube = await _after_a_look(kube)
    assert _states(metrics)["unknown"] == 1.0
    assert _events(kube) == []
    lines = [record for record in caplog.records if "may not read the CRD" in record.message]
    assert [line.levelname for line in lines] == ["INFO"] * len(KINDS)
