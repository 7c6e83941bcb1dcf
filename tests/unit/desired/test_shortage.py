"""When GPUs that old pods hold are what a new pod lacks, and whether one of them would mend it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from capstan_operator.desired.shortage import Shortage, asks_for_nodes, find_shortage, seconds_since
from capstan_operator.resources.resource import Manifest
from support.plainmodels import NOW, make_pod

GPU = "nvidia.com/gpu"
LACKS = f"0/1 nodes are available: 1 Insufficient {GPU}."
SINCE = "2026-05-04T11:50:00Z"


def _spec(node: str | None = "n", *, limits: dict[str, str] | None = None, **requests: str) -> dict[str, Any]:
    found = {GPU: "1"} | {name.replace("__", "/"): amount for name, amount in requests.items()}
    spec: dict[str, Any] = {"containers": [{"resources": {"requests": found, "limits": limits or {}}}]}
    return spec | ({"nodeName": node} if node else {})


def _refused(message: str | None, *, since: str | None = SINCE, **spec: Any) -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    said = {**condition, "lastTransitionTime": since}
    kept = {name: value for name, value in said.items() if value is not None}
    return {"phase": "Pending", "conditions": [kept], "spec": _spec(None, **spec)}


def _new(message: str | None = LACKS, **options: Any) -> Manifest:
    pod = make_pod("new", "new", **_refused(message, **options))
    pod["metadata"]["creationTimestamp"] = "2026-05-04T11:40:00Z"
    return pod


def _old(**options: Any) -> Manifest:
    status = {name: options.pop(name) for name in ("phase", "conditions") if name in options}
    return make_pod("old", "old", ready=True, spec=_spec(**options), **status)


def _live(message: str | None = None, status: str = "True", *, since: str = SINCE, **spec: Any) -> Manifest:
    condition = {"type": "ReplicaFailure", "status": status, "message": message, "lastTransitionTime": since}
    conditions = [] if message is None else [condition]
    return {"spec": {"template": {"spec": _spec(None, **spec)}}, "status": {"conditions": conditions}}


def _find(
    *pods: Manifest, live: Manifest | None = None, gpu: str = GPU, began: datetime | None = None
) -> Shortage | None:
    return find_shortage(live or _live(), pods, "new", gpu_resource=gpu, began=began)


def test_a_shortage_says_since_when_and_that_an_old_pod_would_mend_it() -> None:
    """By the condition of the new pod, or by its age where the condition does not say."""
    since = datetime(2026, 5, 4, 11, 50, tzinfo=UTC)
    assert _find(_old(), _new()) == Shortage(LACKS, since, True)
    older = datetime(2026, 5, 4, 11, 40, tzinfo=UTC)
    assert _find(_old(), _new(since=None)) == Shortage(LACKS, older, True)


def test_nobody_lacks_what_no_old_pod_holds() -> None:
    """One that is not on a node holds nothing, and neither does one that has finished."""
    assert _find(_new()) is None
    assert _find(_old(node=None), _new()) is None
    assert _find(_old(phase="Succeeded"), _new()) is None
    assert _find(make_pod("old", "old", spec={"nodeName": "n"}), _new()) is None
    for phase in ("Succeeded", "Failed"):
        assert _find(_old(), _old(phase=phase), _new()) is not None


def test_only_new_pods_say_what_is_lacking() -> None:
    """An old one that waits is given up anyway."""
    waits = make_pod("old", "old", **_refused(LACKS))
    assert _find(_old(), waits) is None


def test_the_name_of_a_resource_ends_where_the_sentence_does() -> None:
    """The full stop is none of it."""
    gpu = "example.com/AX"
    says = f"0/1 nodes are available: 1 Insufficient {gpu}."
    holder = make_pod("old", "old", spec={"nodeName": "n", **_with({gpu: "1"})})
    assert _find(holder, _new(says), gpu=gpu) is not None


def _with(requests: dict[str, str]) -> dict[str, Any]:
    return {"containers": [{"resources": {"requests": requests}}]}


def test_nodes_that_lack_nothing_but_resources_are_no_other_nodes() -> None:
    """However many resources are lacking: then pods that ask for nodes otherwise may still be for these."""
    says = f"0/3 nodes are available: 1 Insufficient cpu, 2 Insufficient {GPU}."
    holder = _old(cpu="4")
    new = _new(says, cpu="4")
    new["spec"]["nodeSelector"] = {"pool": "b"}
    found = _find(holder, new, live=_live(cpu="4"))
    assert found is not None
    assert (found.is_mended_by_an_old_pod, found.elsewhere) == (True, False)
    new["status"]["conditions"][0]["message"] = says.replace("1 Insufficient cpu", "1 node(s) had a taint")
    found = _find(holder, new, live=_live(cpu="4"))
    assert found is not None
    assert (found.is_mended_by_an_old_pod, found.elsewhere) == (False, True)


@pytest.mark.parametrize(
    ("says", "asks"),
    [
        (f"0/2 nodes: Insufficient {GPU}", True),
        (f"1 Insufficient {GPU}", False),
        (f"0/2 nodes are available: 1 Insufficient {GPU}, 1 node(s) had untolerated taint {{a: b}}.", True),
        (f"0/2 nodes are available: 1 Insufficient {GPU}, 1 node(s) didn't match node selector.", False),
        ("0/2 nodes are available: 2 node(s) were unschedulable.", False),
        (None, False),
    ],
)
def test_nodes_are_asked_where_the_scheduler_leaves_open_what_is_the_matter_with_them(
    says: str | None, asks: bool
) -> None:
    """Words that are not the scheduler's usual ones leave it open too; without a lack nothing depends on it."""
    assert asks_for_nodes([_old(), _new(says)]) is asks
    assert not asks_for_nodes([_new(says)])


QUOTA = "exceeded quota: q, requested: requests.nvidia.com/gpu=1, used: requests.nvidia.com/gpu=8, limited: 8"


def test_a_quota_speaks_of_pods_that_are_to_come() -> None:
    """Not while a new pod is still starting, not when the condition is over, and not without the words."""
    up, starting = make_pod("new", "new", ready=True), make_pod("new", "new")
    since = datetime(2026, 5, 4, 11, 50, tzinfo=UTC)
    assert _find(_old(), live=_live(f"forbidden: {QUOTA}")) == Shortage(QUOTA, since, True)
    assert _find(_old(), up, live=_live(QUOTA)) == Shortage(QUOTA, since, True)
    assert _find(_old(), up, starting, live=_live(QUOTA)) is None
    assert _find(_old(), live=_live(QUOTA, "False")) is None
    assert _find(_old(), live=_live("forbidden: requested: requests.nvidia.com/gpu=1, used: x")) is None


def test_all_the_words_of_a_quota_are_told() -> None:
    """From the first of several on."""
    found = _find(_old(), live=_live(f"pods forbidden: {QUOTA}; {QUOTA}"))
    assert found is not None
    assert found.says == f"{QUOTA}; {QUOTA}"


def test_a_quota_that_refused_at_the_very_moment_of_the_template_refused_it() -> None:
    """What was said before speaks of another one."""
    since = datetime(2026, 5, 4, 11, 50, tzinfo=UTC)
    live = _live(QUOTA)
    assert _find(_old(), live=live, began=since) is not None
    assert _find(_old(), live=live, began=since - timedelta(seconds=1)) is not None
    assert _find(_old(), live=live, began=since + timedelta(seconds=1)) is None


@pytest.mark.parametrize(
    ("requested", "old", "new", "mended"),
    [
        ("pods=1", {}, {}, True),
        ("count/pods=1", {}, {}, True),
        ("requests.cpu=4", {"cpu": "4"}, {"cpu": "4"}, True),
        ("requests.cpu=4", {"cpu": "2"}, {"cpu": "4"}, False),
        ("cpu=4", {"cpu": "4"}, {"cpu": "4"}, True),
        ("cpu=4", {"cpu": "2"}, {"cpu": "4"}, False),
        ("limits.memory=2", {"limits": {"memory": "2"}}, {"limits": {"memory": "2"}}, True),
        ("limits.memory=2", {"limits": {"memory": "1"}, "memory": "2"}, {"limits": {"memory": "2"}}, False),
        ("limits.memory=2", {"limits": {"memory": "2"}, "memory": "1"}, {"limits": {"memory": "2"}}, True),
        ("vendor.example/chip=1", {"vendor.example__chip": "1"}, {"vendor.example__chip": "1"}, True),
        ("services=1", {}, {}, False),
    ],
)
def test_an_old_pod_has_to_give_back_all_that_a_quota_asks(
    requested: str, old: dict[str, Any], new: dict[str, Any], mended: bool
) -> None:
    """Each by the name that quotas have for it, in whatever order they stand."""
    for amounts in (f"{requested},requests.{GPU}=1", f"requests.{GPU}=1,{requested}"):
        says = f"exceeded quota: q, requested: {amounts}, used: x"
        found = _find(_old(**old), live=_live(says, **new))
        assert found is not None
        assert found.is_mended_by_an_old_pod is mended


def test_without_a_clock_nothing_has_lasted() -> None:
    """And neither has what began nobody knows when."""
    assert seconds_since(NOW - timedelta(seconds=9), NOW) == 9.0
    assert (seconds_since(None, NOW), seconds_since(NOW, None)) == (0.0, 0.0)
