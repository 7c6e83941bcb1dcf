"""When it is said that no replica of a model comes up, and what clients are told of it."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from capstan_contract.config import ModelEntry
from capstan_operator.api.kinds import Model
from capstan_operator.desired.compile import compile_gateway
from capstan_operator.desired.live import LiveConfig
from capstan_operator.desired.model import build_model
from capstan_operator.resources.resource import Manifest, ObjectKey
from capstan_operator.status.compute import compute_status
from capstan_operator.status.scaling import Scaled
from capstan_operator.status.types import Acknowledgement, AckState, Problem, StatusResult
from support.plainmodels import (
    NOW,
    SETTINGS,
    deployment_of,
    hash_of,
    make_model,
    make_pod,
    snapshot_of,
    unschedulable_pod,
    waiting_pod,
)

RUNS = Acknowledgement(AckState.ACKNOWLEDGED, acknowledged=2, ready=2)
SCALED: dict[str, Any] = {"scaling": {"min": 0, "max": 2}}
NO_IMAGE = {"state": {"waiting": {"reason": "ErrImagePull", "message": "registry.internal says: no"}}}
CRASHED = {"lastState": {"terminated": {"exitCode": 1, "reason": "Error"}}}
NO_GPU = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
FAILED = {"reason": "ImagePullFailed", "since": "2026-05-04T11:50:00Z"}


def _made(pod: Manifest, seconds: float) -> Manifest:
    """Give a pod that has not been ready since so many seconds."""
    at = (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    pod["metadata"]["creationTimestamp"] = at
    for condition in pod["status"]["conditions"]:
        if condition["type"] in ("Ready", "PodScheduled"):
            condition["lastTransitionTime"] = at
    return pod


def _result(
    model: Model, *pods: Manifest, mounted: dict[ObjectKey, Manifest | None] | None = None, **deployment: Any
) -> StatusResult:
    live = deployment_of(model, **deployment)
    live["spec"]["replicas"] = 1
    snapshot = replace(snapshot_of(model, live, pods=pods), now=NOW, mounted=mounted or {})
    verdict = compile_gateway([model]).verdicts[model.key]
    return compute_status(model, build_model(model, snapshot, SETTINGS), snapshot, verdict, RUNS, NOW)


def _reason(result: StatusResult) -> str | None:
    failure = result.status.get("startFailure")
    return failure["reason"] if failure else None


@pytest.mark.parametrize(
    ("seconds", "told"), [(5, None), (119, None), (120, "ImagePullFailed"), (900, "ImagePullFailed")]
)
def test_what_may_pass_is_given_the_time_that_a_start_takes(seconds: int, told: str | None) -> None:
    """A pull that fails once is nobody's end; it is looked at again when the time is over."""
    model = make_model(**SCALED)
    result = _result(model, _made(waiting_pod("p", hash_of(model), **NO_IMAGE), seconds))
    assert _reason(result) == told
    assert (result.recheck_after == pytest.approx(120 - seconds)) if told is None else (result.recheck_after is None)


@pytest.mark.parametrize(
    ("cold_start", "seconds", "told"),
    [
        (None, 299, None), (None, 300, "InsufficientGPU"),
        (30, 29, None), (30, 30, "InsufficientGPU"),
        (900, 899, None), (900, 900, "InsufficientGPU"),
    ],
)  # fmt: skip
def test_nodes_may_be_on_their_way(cold_start: int | None, seconds: int, told: str | None) -> None:
    """A pod that no node takes waits for `coldStartSeconds`, or as long as before a person is called."""
    extra = {} if cold_start is None else {"coldStartSeconds": cold_start}
    model = make_model(resources={"gpus": 1}, scaling={"min": 0, "max": 2, **extra})
    pod = _made(unschedulable_pod("p", hash_of(model), NO_GPU), seconds)
    assert _reason(_result(model, pod)) == told


@pytest.mark.parametrize(("restarts", "told"), [(1, None), (2, None), (3, "CrashLoop")])
def test_one_crash_is_an_accident(restarts: int, told: str | None) -> None:
    """Only an engine that keeps ending is said not to come up."""
    model = make_model(**SCALED)
    pod = _made(waiting_pod("p", hash_of(model), restarts=restarts, **CRASHED), 900)
    assert _reason(_result(model, pod)) == told


@pytest.mark.parametrize(("seconds", "told"), [(119, None), (120, "ConfigMapNotFound")])
def test_a_file_that_is_not_there_is_given_the_time_that_a_start_takes(seconds: int, told: str | None) -> None:
    """It is known to be missing, so that nobody waits until it is said of the pod itself."""
    model = make_model(**SCALED)
    conditions = [
        *({"type": kind, "status": status} for kind, status in (("PodScheduled", "True"), ("Ready", "False"))),
        {"type": "PodReadyToStartContainers", "status": "False"},
    ]
    volumes = [{"name": "files", "configMap": {"name": "templates"}}]
    pod = make_pod("p", hash_of(model), spec={"volumes": volumes}, phase="Pending", conditions=conditions)
    mounted: dict[ObjectKey, Manifest | None] = {ObjectKey("team", "templates"): None}
    assert _reason(_result(model, _made(pod, seconds), mounted=mounted)) == told


def test_a_ready_replica_or_a_pod_that_gets_on_ends_it() -> None:
    """Nobody is told of a failure while somebody answers, nor while a pod is on its way."""
    model = make_model(**SCALED)
    bad = _made(waiting_pod("p", hash_of(model), **NO_IMAGE), 900)
    failed = replace(model, status={"startFailure": FAILED})
    assert _reason(_result(failed, bad, make_pod("q", hash_of(model), ready=True))) is None
    assert _reason(_result(failed, make_pod("p", hash_of(model)))) is None
    assert _reason(_result(failed)) is None


def test_the_first_of_the_replicas_counts() -> None:
    """More replicas, made later, do not begin the time anew."""
    model = make_model(**SCALED)
    pods = [_made(waiting_pod(f"p{age}", hash_of(model), **NO_IMAGE), age) for age in (10, 200)]
    assert _result(model, *pods).status["startFailure"]["since"] == "2026-05-04T11:56:40Z"


@pytest.mark.parametrize(("seconds", "told"), [(60, None), (400, "PodsRefused")])
def test_pods_that_are_refused(seconds: int, told: str | None) -> None:
    """A quota makes no pod at all: the Deployment says since when."""
    model = make_model(**SCALED)
    at = (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    refused = {
        "type": "ReplicaFailure", "status": "True", "lastTransitionTime": at,
        "message": 'pods "x" is forbidden: exceeded quota: gpus',
    }  # fmt: skip
    assert _reason(_result(model, conditions=[refused])) == told


def test_a_rollout_behind_its_deadline() -> None:
    """It has had its time: what the Deployment says counts at once."""
    model = make_model(**SCALED)
    late = {
        "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
        "lastTransitionTime": "2026-05-04T11:59:59Z",
    }  # fmt: skip
    assert _reason(_result(model, make_pod("p", hash_of(model)), conditions=[late])) == "RolloutDeadlineExceeded"


@pytest.mark.parametrize("reason", ["Unschedulable", "ImagePullFailed"])
def test_one_bad_pod_does_not_end_the_waiting_for_another(reason: str) -> None:
    """A replica of which nothing is known to be wrong may answer, however long the next one finds no node, or no
    image: also one of the template before."""
    model = make_model(resources={"gpus": 1}, **SCALED)
    bad = unschedulable_pod("p", hash_of(model), NO_GPU)
    if reason == "ImagePullFailed":
        bad = waiting_pod("p", hash_of(model), **NO_IMAGE)
    assert _reason(_result(model, _made(bad, 900), _made(make_pod("q", hash_of(model)), 400))) is None
    assert _reason(_result(model, _made(bad, 900), _made(make_pod("q", "before"), 400))) is None
    worse = _made(waiting_pod("q", hash_of(model), **NO_IMAGE), 400)
    assert _reason(_result(model, _made(bad, 900), worse)) == "ImagePullFailed"


def test_pods_that_are_there_do_not_wait_for_those_that_a_quota_refuses() -> None:
    """Two of three replicas load: that the third one is refused is no reason to wait for none of them."""
    model = make_model(**SCALED)
    refused = {
        "type": "ReplicaFailure", "status": "True", "lastTransitionTime": "2026-05-04T11:40:00Z",
        "message": 'pods "x" is forbidden: exceeded quota: gpus',
    }  # fmt: skip
    assert _reason(_result(model, _made(make_pod("p", hash_of(model)), 400), conditions=[refused])) is None


def test_each_kind_of_trouble_has_its_time() -> None:
    """As long as nodes may be on their way to one of the pods, whatever keeps the others says nothing."""
    model = make_model(resources={"gpus": 1}, **SCALED)
    image = _made(waiting_pod("p", hash_of(model), **NO_IMAGE), 200)
    gpu = _made(unschedulable_pod("q", hash_of(model), NO_GPU), 200)
    result = _result(model, image, gpu)
    assert (_reason(result), result.recheck_after) == (None, pytest.approx(100))


@pytest.mark.parametrize(("began", "told"), [(5000, None), (200, "CrashLoop")])
def test_an_engine_that_has_served_comes_back(began: int, told: str | None) -> None:
    """Crashes of weeks ago make no loop: the run that ended last was one that had become ready."""
    model = make_model(**SCALED)
    at = (NOW - timedelta(seconds=began)).strftime("%Y-%m-%dT%H:%M:%SZ")
    ended = {"lastState": {"terminated": {"exitCode": 1, "reason": "Error", "startedAt": at}}}
    assert _reason(_result(model, _made(waiting_pod("p", hash_of(model), restarts=7, **ended), 400))) == told


def test_a_deadline_of_another_template_is_not_this_one_s() -> None:
    """The controller of Deployments has not seen the new template yet: what it says is of the one before."""
    model = make_model(**SCALED)
    late = {
        "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
        "lastTransitionTime": "2026-05-04T11:59:59Z",
    }  # fmt: skip
    pod = make_pod("p", hash_of(model))
    assert _reason(_result(model, pod, conditions=[late], observedGeneration=0)) is None


REFUSED = Problem("ApplyRefused", "the API server refuses the Deployment: no")
DEGRADED = {"type": "Degraded", "status": "True", "lastTransitionTime": "2026-05-04T11:50:00Z"}


def _without_pods(model: Model, *problems: Problem, replicas: int | None, scaled: Scaled | None = None) -> StatusResult:
    """Give the status of a model without any pod, and with a Deployment of so many replicas, if any."""
    children = []
    if replicas is not None:
        children = [deployment_of(model)]
        children[0]["spec"]["replicas"] = replicas
    snapshot = replace(snapshot_of(model, *children), now=NOW)
    verdict, desired = compile_gateway([model]).verdicts[model.key], build_model(model, snapshot, SETTINGS)
    return compute_status(model, desired, snapshot, verdict, RUNS, NOW, problems=problems, scaled=scaled)


def test_what_the_operator_cannot_do_ends_the_waiting_too() -> None:
    """A Deployment that the API server refuses, also before there was any, makes no pod that could say so."""
    model = make_model(**SCALED, status={"conditions": [DEGRADED]})
    assert _reason(_without_pods(model, REFUSED, replicas=None)) == "ApplyRefused"
    assert _reason(_without_pods(model, REFUSED, replicas=1)) == "ApplyRefused"
    new = _without_pods(make_model(**SCALED), REFUSED, replicas=None)
    assert (_reason(new), new.recheck_after) == (None, pytest.approx(120))


def test_a_number_that_is_refused_keeps_nobody_waiting() -> None:
    """A model at zero is wanted as soon as its scaler has said so; the time counts from then on."""
    model = make_model(**SCALED, status={"conditions": [DEGRADED]})
    woken = Scaled(known=True, desired=1, changed_at=NOW - timedelta(seconds=60))
    assert _reason(_without_pods(model, REFUSED, replicas=0, scaled=woken)) is None
    long_ago = replace(woken, changed_at=NOW - timedelta(seconds=120))
    assert _reason(_without_pods(model, REFUSED, replicas=0, scaled=long_ago)) == "ApplyRefused"


@pytest.mark.parametrize(("seconds", "told"), [(299, None), (300, "Preempted")])
def test_who_may_have_no_replica_is_told_so(seconds: int, told: str | None) -> None:
    """GPUs go to models of a higher priority, for as long as nodes may be on their way: then nobody waits any more, and
    is told no name of another model."""
    since = NOW - timedelta(seconds=seconds)
    scaled = Scaled(known=True, desired=0, preempted_by="other/busy", denied_since=since)
    result = _without_pods(make_model(**SCALED), replicas=0, scaled=scaled)
    assert _reason(result) == told
    if told:
        failure = _entry(make_model(status=dict(result.status))).startFailure
        assert failure is not None
        assert failure.message == "the GPUs for a replica are needed for others"


def test_what_does_not_keep_replicas_from_coming_ends_nothing() -> None:
    """Nothing is wanted, or only a part of the model lacks something, or pods are there and say themselves how it
    stands."""
    model = make_model(**SCALED, status={"conditions": [DEGRADED]})
    assert _reason(_without_pods(model, REFUSED, replicas=0)) is None
    assert _reason(_without_pods(model, replace(REFUSED, partial=True), replicas=1)) is None
    live = deployment_of(model)
    snapshot = replace(snapshot_of(model, live, pods=(_made(make_pod("p", hash_of(model)), 400),)), now=NOW)
    verdict, desired = compile_gateway([model]).verdicts[model.key], build_model(model, snapshot, SETTINGS)
    assert _reason(compute_status(model, desired, snapshot, verdict, RUNS, NOW, problems=[REFUSED])) is None


def test_it_is_told_once() -> None:
    """An Event tells it when it begins, and is not repeated."""
    model = make_model(**SCALED)
    pod = _made(waiting_pod("p", hash_of(model), **NO_IMAGE), 900)
    first = _result(model, pod)
    assert "StartFailed" in [one.reason for one in first.transitions]
    again = _result(replace(model, status=first.status), pod)
    assert again.status["startFailure"] == first.status["startFailure"]
    assert not again.changed
    assert "StartFailed" not in [one.reason for one in again.transitions]


# --- in the gateway's config ------------------------------------------------------------------------------------------


def _entry(model: Model, live: LiveConfig | None = None) -> ModelEntry:
    (entry,) = compile_gateway([model], live=live).config.models
    return entry


def test_the_config_says_it_in_words_for_clients() -> None:
    """Clients get the reason and since when, and nothing that names an image, a node or a registry."""
    failure = _entry(make_model(status={"startFailure": FAILED})).startFailure
    assert failure is not None
    assert failure.model_dump() == {
        "reason": "ImagePullFailed", "message": "its image cannot be pulled", "since": 1777895400,
    }  # fmt: skip
    other = _entry(make_model(status={"startFailure": {**FAILED, "reason": "NewOne"}})).startFailure
    assert other is not None
    assert other.message == "no replica becomes ready"


@pytest.mark.parametrize(
    "said",
    [None, "odd", {}, {"reason": "X"}, {**FAILED, "since": "yesterday"}, {**FAILED, "reason": "no word"},
     {**FAILED, "reason": 7}, {**FAILED, "since": "1900-01-01T00:00:00Z"}],
)  # fmt: skip
def test_what_cannot_be_read_is_not_said(said: Any) -> None:
    """A status that somebody else has written costs no model its entry."""
    assert _entry(make_model(status={"startFailure": said})).startFailure is None


def test_an_entry_that_stays_says_what_is_so_now() -> None:
    """A faulty edit keeps the entry, and not the failure that it had: the status says that."""
    good = make_model(status={"startFailure": FAILED})
    live = LiveConfig({entry.id: entry for entry in compile_gateway([good]).config.models})
    faulty = make_model(generation=2, replicas=-1)
    assert _entry(faulty, live).startFailure is None
    assert _entry(replace(faulty, status={"startFailure": FAILED}), live).startFailure is not None


def test_without_a_failure_the_config_is_as_it_was() -> None:
    """Nothing is written where there is nothing to say, so that no release reloads for it."""
    assert b"startFailure" not in _entry(make_model()).text
    hosted = make_model(external={"provider": "OpenAI", "url": "https://x.example/v1"}, status={"startFailure": FAILED})
    assert _entry(hosted).startFailure is None
