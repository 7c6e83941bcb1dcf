"""What keeps pods from becoming ready: which of several things is told, and when a person is called."""

from datetime import timedelta
from typing import Any

import pytest

from capstan_operator.resources.resource import Manifest
from capstan_operator.status.pod_problems import find_pod_problem, find_refusal, seconds_to_judge
from capstan_operator.status.types import Problem
from support.plainmodels import NOW, make_pod, unschedulable_pod, waiting_pod

CRASHED = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 1}}}
UNPULLED = {"state": {"waiting": {"reason": "ErrImagePull"}}}
SHORT = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."


def at(seconds: float) -> str:
    """Give a time, in seconds from now."""
    return (NOW + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def problem_of(*pods: Manifest, gpus: int = 0, leaving: tuple[Manifest, ...] = ()) -> Problem | None:
    """Give what is told of these pods."""
    return find_pod_problem(pods, gpus=gpus, gpu_resource="nvidia.com/gpu", now=NOW, leaving=leaving)


def leaving(seconds: float) -> Manifest:
    """Give a pod that is being stopped, and has so many seconds left."""
    pod = make_pod("leaving", "old")
    pod["metadata"]["deletionTimestamp"] = at(seconds)
    return pod


def preparing(since: float, *, placed: str = "True", prepared: str = "False", **status: Any) -> Manifest:
    """Give a pod that its node has had for so long, and prepares."""
    conditions = [
        {"type": "PodScheduled", "status": placed, "lastTransitionTime": at(-since)},
        {"type": "PodReadyToStartContainers", "status": prepared},
    ]
    return make_pod("p", "h", conditions=conditions, **status)


def test_pods_without_trouble_have_no_problem() -> None:
    """Neither none at all, nor one that is starting."""
    assert problem_of() is None
    assert problem_of(waiting_pod("p", "h", state={"waiting": {"reason": "ContainerCreating"}})) is None


def test_what_is_certain_is_told_before_what_follows_from_it() -> None:
    """An image that cannot be pulled before a container that ended, and both before a pod that waits for a node."""
    crashed, unpulled = waiting_pod("a", "h", **CRASHED), waiting_pod("b", "h", **UNPULLED)
    lost = unschedulable_pod("c", "h", SHORT)
    slow = preparing(301)
    for pods, reason in (
        ([lost, crashed, unpulled], "ImagePullFailed"),
        ([lost, slow, crashed], "CrashLoop"),
        ([slow, lost], "Unschedulable"),
        ([slow], "PodNotPrepared"),
    ):
        for order in (pods, pods[::-1]):
            found = problem_of(*order)
            assert found is not None
            assert found.reason == reason


def test_of_several_the_one_that_needs_a_person_is_told() -> None:
    """Whatever the order of the pods and the names of the containers."""
    hopeless = waiting_pod("a", "h", restarts=3, **CRASHED)
    young = waiting_pod("b", "h", restarts=1, **CRASHED)
    young["status"]["containerStatuses"][0]["name"] = "zz-sidecar"
    for pods in ((hopeless, young), (young, hopeless)):
        found = problem_of(*pods)
        assert found is not None
        assert found.needs_person
        assert "'engine'" in found.message


@pytest.mark.parametrize(("restarts", "person"), [(2, False), (3, True)])
@pytest.mark.parametrize("reason", ["Error", "OOMKilled"])
def test_three_restarts_are_no_accident(reason: str, restarts: int, person: bool) -> None:
    """Then a person is called, not earlier."""
    state = {"state": {"terminated": {"exitCode": 137, "reason": reason}}}
    found = problem_of(waiting_pod("p", "h", restarts=restarts, **state))
    assert found is not None
    assert found.needs_person is person


def test_an_init_container_is_looked_at_like_any_other() -> None:
    """What it fails on keeps the pod from becoming ready too, and it is named with its image."""
    status = {"name": "fetch", "image": "fetcher:2", "ready": False, "restartCount": 0, **UNPULLED}
    found = problem_of(make_pod("p", "h", initContainerStatuses=[status]))
    assert found == Problem("ImagePullFailed", "the image 'fetcher:2' of container 'fetch' cannot be pulled")


def test_a_container_that_is_ready_has_no_past() -> None:
    """It ended once, badly, and works now."""
    for last in ({"exitCode": 1}, {"exitCode": 137, "reason": "OOMKilled"}):
        pod = waiting_pod("p", "h", state={"running": {}}, lastState={"terminated": last}, restarts=5)
        pod["status"]["containerStatuses"][0]["ready"] = True
        assert problem_of(pod) is None


def test_a_container_that_ended_well_is_no_crash() -> None:
    """An init container ends, and is done."""
    assert problem_of(waiting_pod("p", "h", state={"terminated": {"exitCode": 0}})) is None


def test_only_what_speaks_of_the_manifest_is_quoted() -> None:
    """Other messages name processes and identifiers, differently each time, and would be written each time."""
    said = {"CreateContainerConfigError": 'secret "x" not found', "RunContainerError": "id 17: no such device"}
    told = []
    for reason, message in said.items():
        found = problem_of(waiting_pod("p", "h", state={"waiting": {"reason": reason, "message": message}}))
        assert found is not None
        told.append(found.message)
    assert told == [
        "container 'engine' cannot be started: secret \"x\" not found; create it in the namespace of the model, and the"
        " replica goes on",
        "container 'engine' cannot be started",
    ]


def test_a_config_error_without_words_is_told_all_the_same() -> None:
    """A kubelet may leave the message out."""
    found = problem_of(waiting_pod("p", "h", state={"waiting": {"reason": "CreateContainerConfigError"}}))
    assert found is not None
    assert found.message == "container 'engine' cannot be started"


@pytest.mark.parametrize(("waited", "person", "again"), [(299, False, 1.0), (299.5, False, 0.5), (300, True, None)])
def test_a_pod_may_wait_five_minutes_for_a_node(waited: float, person: bool, again: float | None) -> None:
    """To the second; until then it is told when to look again."""
    pod = unschedulable_pod("p", "h", SHORT, since=(NOW - timedelta(seconds=waited)).isoformat())
    found = problem_of(pod, gpus=2)
    assert found is not None
    assert (found.reason, found.needs_person, found.recheck_after) == ("InsufficientGPU", person, again)


def test_a_wait_without_a_time_counts_from_the_pods_creation() -> None:
    """An old scheduler writes none."""
    pod = unschedulable_pod("p", "h", SHORT)
    del pod["status"]["conditions"][0]["lastTransitionTime"]
    pod["metadata"]["creationTimestamp"] = at(-100)
    found = problem_of(pod)
    assert found is not None
    assert found.recheck_after == 200.0


def test_a_wait_without_any_time_has_just_begun() -> None:
    """And one that says nothing is told without words."""
    pod = unschedulable_pod("p", "h", "")
    del pod["status"]["conditions"][0]["lastTransitionTime"]
    del pod["status"]["conditions"][0]["message"]
    found = problem_of(pod)
    assert found is not None
    assert (found.message, found.recheck_after) == ("no node takes a replica; the scheduler says: ", 300.0)


def test_nobody_is_called_before_pods_that_leave_are_gone() -> None:
    """The longest grace counts, and only as far as it is longer than the patience."""
    pod = unschedulable_pod("p", "h", SHORT, since=at(-290))
    for graces, again in (((30, 500), 500.0), ((5,), 10.0), ((-5,), 10.0)):
        found = problem_of(pod, leaving=tuple(leaving(seconds) for seconds in graces))
        assert found is not None
        assert (found.needs_person, found.recheck_after) == (False, again)


@pytest.mark.parametrize(
    ("pod", "left"),
    [
        (preparing(100), 200.0),
        (preparing(299.0), 1.0),
        (preparing(300), None),
        (preparing(100, placed="False"), None),
        (preparing(100, prepared="True"), None),
        (preparing(100, containerStatuses=[{"name": "e", "ready": True, "restartCount": 0}]), None),
        (preparing(100, containerStatuses=[{"name": "e", "ready": False, "restartCount": 1}]), None),
        (preparing(100, containerStatuses=[{"name": "e", "lastState": {"terminated": {"exitCode": 0}}}]), None),
        (preparing(100, containerStatuses=[{"name": "e", "ready": False}]), 200.0),
    ],
)
def test_a_node_may_prepare_a_pod_for_five_minutes(pod: Manifest, left: float | None) -> None:
    """One that was placed and of which nothing has run yet is looked at again when they are over."""
    assert seconds_to_judge([pod], NOW) == left


def test_the_first_pod_to_judge_says_when() -> None:
    """The one that has waited longest of those that are not judged yet."""
    assert seconds_to_judge([preparing(10), preparing(200), preparing(400)], NOW) == 100.0
    undated = preparing(10)
    del undated["status"]["conditions"][0]["lastTransitionTime"]
    assert seconds_to_judge([undated], NOW) is None


@pytest.mark.parametrize(
    ("says", "graces", "person", "again"),
    [
        ("exceeded quota: gpus", (), True, None),
        ("exceeded quota: gpus", (60,), False, 60.0),
        ("exceeded quota: gpus", (1,), False, 1.0),
        ("exceeded quota: gpus", (0,), True, None),
        ("violates PodSecurity", (60,), True, None),
    ],
)
def test_only_a_quota_may_pass_when_pods_have_left(
    says: str, graces: tuple[int, ...], person: bool, again: float | None
) -> None:
    """What a pod that leaves holds of it comes back; no other refusal passes by itself."""
    condition = {"type": "ReplicaFailure", "status": "True", "message": f'pods "x-1" is forbidden: {says}'}
    deployment = {"status": {"conditions": [condition]}}
    found = find_refusal(deployment, leaving=[leaving(seconds) for seconds in graces], now=NOW)
    assert found == Problem("PodsRefused", f"pods are refused: {says}", needs_person=person, recheck_after=again)


def test_no_refusal_where_there_is_none() -> None:
    """Without a Deployment, without the condition, and when it is over."""
    assert find_refusal(None, leaving=(), now=NOW) is None
    assert find_refusal({"status": {}}, leaving=(), now=NOW) is None
    over = {"status": {"conditions": [{"type": "ReplicaFailure", "status": "False"}]}}
    assert find_refusal(over, leaving=(), now=NOW) is None
    bare = {"status": {"conditions": [{"type": "ReplicaFailure", "status": "True"}]}}
    found = find_refusal(bare, leaving=(), now=NOW)
    assert found is not None
    assert found.message == "pods are refused: "


@pytest.mark.parametrize(
    ("scheduled", "age", "told"),
    [
        (None, 10, ("Unschedulable", False)),
        (None, 60, ("ResourceClaimNotFound", True)),
        ("True", 60, None),
        ("False", 60, ("Unschedulable", False)),
    ],
)
def test_claims_are_missing_only_where_no_scheduler_has_looked(
    scheduled: str | None, age: int, told: tuple[str, bool] | None
) -> None:
    """A pod that the scheduler has looked at has its claims, whatever else keeps it from running."""
    condition = {"type": "PodScheduled", "status": scheduled, "lastTransitionTime": at(-age)}
    reason = {"reason": "Unschedulable"} if scheduled == "False" else {}
    pod = make_pod("p", "h", conditions=[condition | reason] if scheduled else [])
    pod["metadata"]["creationTimestamp"] = at(-age)
    pod["spec"] = {**(pod.get("spec") or {}), "resourceClaims": [{"name": "g", "resourceClaimTemplateName": "gpus"}]}
    found = problem_of(pod)
    assert (found and (found.reason, found.needs_person)) == told
