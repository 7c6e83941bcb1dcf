from dataclasses import replace
from typing import Any

import pytest

from capstan_contract.names import MODEL_LABEL, POD_HASH_LABEL, TRACK_LABEL
from capstan_operator.api.kinds import Model
from capstan_operator.desired.autoscaler import ScalerSays, Use
from capstan_operator.desired.model import build_model
from capstan_operator.desired.naming import child_labels
from capstan_operator.desired.pod import build_template
from capstan_operator.desired.snapshot import Snapshot
from capstan_operator.desired.types import Action, Rollout, RolloutMode, Wanted
from capstan_operator.resources.resource import Fault, Manifest, ObjectKey
from capstan_operator.settings import BuildSettings
from capstan_worker.drain import Drain
from support.plainmodels import (
    SETTINGS,
    as_deleting,
    deployment_of,
    gpu_pod,
    hash_of,
    make_model,
    snapshot_of,
)


def _kinds(model: Model, settings: BuildSettings = SETTINGS) -> list[str]:
    return [manifest["kind"] for manifest in build_model(model, snapshot_of(model), settings).objects]


def _pod_spec(model: Model) -> dict[str, Any]:
    spec: dict[str, Any] = deployment_of(model)["spec"]["template"]["spec"]
    return spec


def test_smallest_model_has_a_service_and_a_deployment() -> None:
    """A source is enough for everything that serves it."""
    assert _kinds(make_model()) == ["Service", "Deployment"]


def test_children_come_with_what_asks_for_them() -> None:
    """A claim comes with cache.size, a ConfigMap with prefixes, a budget with replicas, a policy with the setting."""
    model = make_model(replicas=2, cache={"size": "1Gi"}, prefixes=[{"name": "a", "system": "x"}])
    kinds = _kinds(model, BuildSettings(network_policies=True))
    assert kinds == [
        "ConfigMap",
        "PersistentVolumeClaim",
        "Service",
        "NetworkPolicy",
        "Deployment",
        "PodDisruptionBudget",
    ]


@pytest.mark.parametrize(("scaling", "expected"), [({"max": 1}, False), ({"min": 0, "max": 2}, True)])
def test_budget_does_not_come_and_go_with_an_autoscaler(scaling: dict[str, int], expected: bool) -> None:
    """Under an autoscaler the budget depends on the most replicas, not on those of the moment."""
    assert ("PodDisruptionBudget" in _kinds(make_model(scaling=scaling))) == expected


CHILD = {"kind": "Service", "metadata": {"name": "llama-model"}}
REVISION = {"kind": "ControllerRevision", "metadata": {"name": "llama-0123456789abcdef"}}


def _with_both(model: Model) -> Snapshot:
    return snapshot_of(model, CHILD, revisions={model.key: (REVISION,)})


def test_external_model_owns_nothing_and_is_pruned() -> None:
    """A hosted API has no objects, and what the model had before goes."""
    model = make_model(external={"url": "https://api.example.com/v1"})
    desired = build_model(model, _with_both(model), SETTINGS)
    assert desired.wanted == (Wanted(CHILD, Action.PRUNE), Wanted(REVISION, Action.PRUNE))
    assert desired.faults == ()


def test_faulty_model_keeps_what_it_has() -> None:
    """A faulty spec says what is wrong, and takes nothing away."""
    model = make_model(replicas=-1)
    desired = build_model(model, _with_both(model), SETTINGS)
    assert desired.wanted == (Wanted(CHILD, Action.HOLD), Wanted(REVISION, Action.HOLD))
    assert desired.faults == model.faults != ()


def test_fault_in_the_pod_patch_is_told_by_its_path() -> None:
    """A pod patch without meaning is a fault of its field, not an exception."""
    model = make_model(template={"spec": {"containers": [{"image": "x"}]}})
    desired = build_model(model, snapshot_of(model), SETTINGS)
    where = "spec.template.spec.containers[0].name"
    assert desired.faults == (Fault(where, "is required: it says which item is meant"),)


def test_model_that_is_being_deleted_writes_nothing() -> None:
    """While the garbage collector takes the children away, none is made again."""
    model = as_deleting(make_model())
    desired = build_model(model, _with_both(model), SETTINGS)
    assert desired.wanted == (Wanted(CHILD, Action.HOLD), Wanted(REVISION, Action.HOLD))


def test_every_object_belongs_to_its_model_and_has_only_our_labels() -> None:
    """Every child has the owner and the allow-listed labels."""
    model = make_model(replicas=2, cache={"size": "1Gi"})
    for manifest in build_model(model, snapshot_of(model), SETTINGS).objects:
        (owner,) = manifest["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == (model.uid, True, True)
        assert "finalizers" not in manifest["metadata"]
        assert manifest["metadata"]["labels"][MODEL_LABEL] == "llama"
        tracked = manifest["kind"] in ("Deployment", "Service", "PodDisruptionBudget")
        assert manifest["metadata"]["labels"].get(TRACK_LABEL) == ("stable" if tracked else None)
        assert len(manifest["metadata"]["labels"]) == (5 if tracked else 4)


def test_model_without_a_uid_owns_without_reference() -> None:
    """Rendered from a file, objects name no owner that does not exist."""
    model = replace(make_model(), uid="")
    for manifest in build_model(model, snapshot_of(model), SETTINGS).objects:
        assert "ownerReferences" not in manifest["metadata"]


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"servedName": "other", "aliases": ["a"]}},
        {"replicas": 7},
        {"scaling": {"max": 3}},
        {"serving": {"price": {"inputPerMillion": "1"}, "weight": 5, "fallbacks": ["other"]}},
    ],
)
def test_what_does_not_concern_the_engine_restarts_nothing(change: dict[str, Any]) -> None:
    """Names, replicas and prices change without another pod template."""
    assert hash_of(make_model(**change)) == hash_of(make_model())


@pytest.mark.parametrize(
    "change",
    [
        {"resources": {"gpus": 1}},
        {"engine": {"args": ["--x"]}},
        {"prefixes": [{"name": "a", "system": "x"}]},
        {"template": {"spec": {"hostNetwork": True}}},
    ],
)
def test_what_concerns_the_engine_is_in_the_hash(change: dict[str, Any]) -> None:
    """Everything in the pod template changes its hash."""
    assert hash_of(make_model(**change)) != hash_of(make_model())


def test_changed_prefix_restarts_the_pods() -> None:
    """A pod is ready only with the prefixes of its generation, so another prefix makes other pods."""
    one, other = (make_model(prefixes=[{"name": "a", "system": text}]) for text in ("x", "y"))
    assert hash_of(one) != hash_of(other)


def test_gpus_are_request_limit_and_toleration() -> None:
    """The GPUs of a replica are its request, its limit, and a taint that it tolerates."""
    pod = _pod_spec(make_model(resources={"gpus": 2, "gpuResource": "amd.com/gpu", "memory": "1Gi", "cpu": "1"}))
    resources = pod["containers"][0]["resources"]
    assert resources["limits"] == {"memory": "1Gi", "amd.com/gpu": "2"}
    assert resources["requests"] == {"cpu": "1", "memory": "1Gi", "amd.com/gpu": "2"}
    assert pod["tolerations"] == [{"key": "amd.com/gpu", "operator": "Exists"}]


@pytest.mark.parametrize(
    ("engine", "sidecar"),
    [
        ({}, False),
        ({"type": "Simulator"}, False),
        ({"version": "v1"}, True),
        ({"type": "TGI"}, True),
        ({"type": "SGLang"}, True),
        ({"type": "OpenAICompatible", "image": "x:1"}, True),
    ],
)
def test_worker_is_in_the_engine_or_beside_it(engine: dict[str, str], sidecar: bool) -> None:
    """Every pod has a worker that its engine's probes and preStop hook reach."""
    pod = _pod_spec(make_model(engine=engine))
    (container,) = pod["containers"]
    assert [c["name"] for c in pod.get("initContainers", [])] == (["worker"] if sidecar else [])
    assert container["name"] == "engine"
    for probe in ("startupProbe", "readinessProbe"):
        assert container[probe]["httpGet"] == {"path": "/readyz", "port": 8001}
    assert container["lifecycle"]["preStop"]["httpGet"]["path"].partition("?")[0] == "/drain"
    assert "startupProbe" not in pod.get("initContainers", [{}])[0]


def test_a_worker_of_the_first_release_drains_too() -> None:
    """A pinned older worker beside an engine is told the word that the hook says; in process it drains by SIGTERM."""
    pod = _pod_spec(make_model(engine={"type": "TGI"}))
    word = {"name": "CAPSTAN_DRAIN_TOKEN", "value": "drain"}
    assert pod["initContainers"][0]["env"] == [word]
    assert pod["containers"][0]["lifecycle"]["preStop"]["httpGet"]["path"] == "/drain?token=drain"


def test_nothing_in_a_template_follows_from_a_uid() -> None:
    """The same manifest gives the same template wherever it is applied, so that `render` shows what will be."""
    one, other = make_model(), make_model()
    assert _pod_spec(replace(one, uid="a")) == _pod_spec(replace(other, uid="b"))


def test_pod_lives_as_long_as_its_longest_stream() -> None:
    """The grace period covers the longest request and a margin."""
    assert _pod_spec(make_model(serving={"timeouts": {"totalSeconds": 900}}))["terminationGracePeriodSeconds"] == 930


def test_users_variable_wins() -> None:
    """A variable that the user sets is there once, with the user's value."""
    env = _pod_spec(make_model(engine={"env": [{"name": "HF_HOME", "value": "/elsewhere"}]}))["containers"][0]["env"]
    assert [variable for variable in env if variable["name"] == "HF_HOME"] == [
        {"name": "HF_HOME", "value": "/elsewhere"}
    ]


def test_patch_cannot_make_pods_nobodys() -> None:
    """The labels by which pods are found survive the pod patch, one that takes all labels away included."""
    patch = {"metadata": {"labels": {"$patch": "replace", "mine": "1"}}}
    deployment = deployment_of(make_model(template=patch))
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels["mine"] == "1"
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_simulator_mounts_no_weights() -> None:
    """The simulator runs any manifest without the claim that its source names."""
    pod = _pod_spec(make_model(engine={"type": "Simulator"}, model={"source": "pvc://absent/x"}))
    assert "persistentVolumeClaim" not in str(pod)


def test_claim_never_shrinks() -> None:
    """A claim that has grown is not asked for less, which the API server would refuse."""
    model = make_model(cache={"size": "10Gi"})
    live = {
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "llama-weights"},
        "spec": {"resources": {"requests": {"storage": "20Gi"}}},
    }
    objects = build_model(model, snapshot_of(model, live), SETTINGS).objects
    assert objects[0]["spec"]["resources"]["requests"]["storage"] == "20Gi"


CLAIM = ("PersistentVolumeClaim", "llama-weights")


def _claim_of(model: Model) -> Manifest:
    objects = build_model(model, snapshot_of(model), SETTINGS).objects
    return next(manifest for manifest in objects if manifest["kind"] == CLAIM[0])


@pytest.mark.parametrize(("retain", "held"), [(None, True), (True, True), (False, False)])
@pytest.mark.parametrize("now", [{}, {"cache": {"claimName": "other"}}])
def test_a_claim_outlives_the_edit_that_removes_its_cache(
    retain: bool | None, held: bool, now: dict[str, object]
) -> None:
    """Weights are thrown away with `cache` only when the manifest said so before."""
    live = _claim_of(make_model(cache={"size": "1Gi"} if retain is None else {"size": "1Gi", "retain": retain}))
    edited = make_model(**now)
    desired = build_model(edited, snapshot_of(edited, live), SETTINGS)
    assert desired.left == (frozenset({CLAIM}) if held else frozenset())
    assert CLAIM[0] not in {manifest["kind"] for manifest in desired.objects}


def test_a_claim_that_is_wanted_is_applied_and_not_held() -> None:
    """While the manifest has the `cache`, its claim is an object like any other; without one there is none to hold."""
    model = make_model(cache={"size": "1Gi"})
    assert build_model(model, snapshot_of(model, _claim_of(model)), SETTINGS).left == frozenset()
    assert build_model(make_model(), snapshot_of(make_model()), SETTINGS).left == frozenset()


@pytest.mark.parametrize(("cache", "owned"), [({}, True), ({"retain": False}, True), ({"retain": True}, False)])
def test_only_a_retained_claim_has_no_owner(cache: dict[str, bool], owned: bool) -> None:
    """What has no owner is not collected with the model; everything else of the model goes with it."""
    model = make_model(cache={"size": "1Gi", **cache})
    objects = build_model(model, snapshot_of(model), SETTINGS).objects
    without = [manifest["kind"] for manifest in objects if "ownerReferences" not in manifest["metadata"]]
    assert without == ([] if owned else [CLAIM[0]])


# --- replicas -------------------------------------------------------------------------------------------------------


def test_what_a_scaler_decides_is_for_the_scale_manager() -> None:
    """It is no part of the manifest, and is what decides how many may be replaced in place."""
    model = make_model(scaling={"min": 0, "max": 5})
    desired = build_model(model, snapshot_of(model, _live(1)), SETTINGS, scaler=ScalerSays(replicas=4))
    deployment = next(manifest for manifest in desired.objects if manifest["kind"] == "Deployment")
    assert ("replicas" in deployment["spec"], desired.replicas) == (False, 4)


def test_what_a_node_has_taken_meanwhile_stays() -> None:
    """The scaler said it by the pods of a moment before: what serves by now is not taken away."""
    model = make_model(scaling={"min": 0, "max": 5})
    pods = tuple(gpu_pod(f"p{number}", hash_of(model)) for number in range(3))
    snapshot = replace(snapshot_of(model, _live(4), pods=pods), autoscalers=True)
    says = ScalerSays(replicas=1, most=1, keeps_placed=True, hpa=Use.APPLY)
    desired = build_model(model, snapshot, SETTINGS, scaler=says)
    (hpa,) = [one for one in desired.objects if one["kind"] == "HorizontalPodAutoscaler"]
    assert (desired.replicas, hpa["spec"]["maxReplicas"]) == (3, 3)
    put_to_zero = build_model(model, snapshot, SETTINGS, scaler=ScalerSays(replicas=0))
    assert put_to_zero.replicas == 0


@pytest.mark.parametrize(("live", "decided", "number"), [(0, 2, 2), (3, 0, 0), (2, 2, None), (2, None, None)])
def test_a_faulty_edit_does_not_keep_a_model_at_its_number(live: int, decided: int | None, number: int | None) -> None:
    """What serves is that of before, and is scaled as before; nothing else of it is touched."""
    faulty = make_model(scaling={"min": 0, "max": -1})
    says = ScalerSays(replicas=decided)
    desired = build_model(faulty, snapshot_of(faulty, _live(live)), SETTINGS, scaler=says)
    assert (bool(desired.faults), desired.objects, desired.replicas) == (True, (), number)
    unscaled = build_model(faulty, snapshot_of(faulty, _live(live, scaled=False)), SETTINGS, scaler=says)
    assert unscaled.replicas is None


def _scaled(live: Manifest | None, **scaling: int) -> tuple[object, int | None]:
    model = make_model(scaling=scaling)
    desired = build_model(model, snapshot_of(model, *([live] if live else [])), SETTINGS)
    deployment = next(manifest for manifest in desired.objects if manifest["kind"] == "Deployment")
    return deployment["spec"].get("replicas"), desired.replicas


def _live(replicas: int, *, scaled: bool = True) -> Manifest:
    model = make_model(scaling={"max": 9}) if scaled else make_model()
    deployment = deployment_of(model)
    return {**deployment, "spec": {**deployment["spec"], "replicas": replicas}}


def test_model_says_replicas_without_scaling() -> None:
    """Without `scaling` the manifest has the replicas and nothing is handed over."""
    model = make_model(replicas=3)
    desired = build_model(model, snapshot_of(model), SETTINGS)
    assert desired.objects[1]["spec"]["replicas"] == 3
    assert desired.replicas is None


@pytest.mark.parametrize(
    ("present", "bounds", "handed"),
    [
        (None, {"min": 0, "max": 4}, 0),
        (None, {"min": 2, "max": 4}, 2),
        (0, {"min": 0, "max": 4}, None),
        (3, {"min": 1, "max": 4}, None),
        (0, {"min": 1, "max": 4}, 1),
        (9, {"min": 1, "max": 4}, 4),
    ],
)
def test_autoscaler_is_left_alone_within_bounds(
    present: int | None, bounds: dict[str, int], handed: int | None
) -> None:
    """With `scaling` the manifest has no replicas, and only a number out of bounds is put right."""
    assert _scaled(None if present is None else _live(present), **bounds) == (None, handed)


def test_replicas_are_handed_over_when_scaling_begins() -> None:
    """The number that the model said until now is taken over, so that it never falls back to 1."""
    assert _scaled(_live(3, scaled=False), min=1, max=4) == (None, 3)


# --- rollout --------------------------------------------------------------------------------------------------------

GPUS = {"resources": {"gpus": 2}}
OLD, NEW = make_model(**GPUS), make_model(**GPUS, engine={"args": ["--new"]})


def test_claim_of_one_node_is_no_reason_to_give_a_pod_away() -> None:
    """A ReadWriteOnce claim is shared by the pods of a node, so a rollout begins with a surge as any other."""
    own = make_model(cache={"size": "1Gi"})
    assert build_model(own, snapshot_of(own), SETTINGS).rollout == Rollout(RolloutMode.SURGE)
    named = make_model(cache={"claimName": "weights"})
    claims = {ObjectKey("team", "weights"): {"spec": {"accessModes": ["ReadWriteOnce"]}}}
    assert build_model(named, snapshot_of(named, claims=claims), SETTINGS).rollout == Rollout(RolloutMode.SURGE)


def test_deadlines_are_fields_whose_defaults_change_no_template() -> None:
    """How long a start and a rollout may take is said in the manifest; saying the defaults makes no other pods."""
    assert hash_of(make_model(rollout={"startupSeconds": 3600, "strategy": "InPlace"})) == hash_of(make_model())
    model = make_model(rollout={"startupSeconds": 61, "progressDeadlineSeconds": 90})
    deployment = deployment_of(model)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["startupProbe"]["failureThreshold"] * container["startupProbe"]["periodSeconds"] == 62
    assert deployment["spec"]["progressDeadlineSeconds"] == 90
    assert deployment_of(make_model())["spec"]["progressDeadlineSeconds"] == 3600


def test_template_hash_is_on_the_pods() -> None:
    """Pods carry the hash of their template, which is how those that are out of date are found."""
    labels = deployment_of(NEW)["spec"]["template"]["metadata"]["labels"]
    assert labels[POD_HASH_LABEL] == hash_of(NEW)


@pytest.mark.parametrize("total", [1, 30, 600, 86400])
@pytest.mark.parametrize("engine", [{"type": "vLLM"}, {"type": "vLLM", "version": "v0.11.0"}, {"type": "TGI"}])
def test_a_drain_waits_for_the_longest_answer(engine: dict[str, str], total: int) -> None:
    """A worker gives up draining only after the longest answer that a model allows, and before its pod is killed."""
    spec = _pod_spec(make_model(engine=engine, serving={"timeouts": {"totalSeconds": total}}))
    containers = [*spec["containers"], *spec.get("initContainers", ())]
    told = [
        args[args.index("--grace-seconds") + 1]
        for args in (item["args"] for item in containers)
        if "--grace-seconds" in args
    ]
    assert len(told) == 1
    limit = Drain(grace=float(told[0]), settle=2.0).limit
    assert total < limit < spec["terminationGracePeriodSeconds"]


def test_a_budget_never_holds_pods_that_are_not_ready() -> None:
    """A drain of a node may evict broken pods: only those that serve count for the budget."""
    model = make_model(replicas=2)
    objects = build_model(model, snapshot_of(model), SETTINGS).objects
    budget = next(manifest for manifest in objects if manifest["kind"] == "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1
    assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


@pytest.mark.parametrize("spec", [{}, {"replicas": -1}, {"external": {"url": "https://api.example.com/v1"}}])
def test_what_is_wanted_says_of_which_model_it_is(spec: dict[str, Any]) -> None:
    """Also when nothing is."""
    model = make_model(**spec)
    assert build_model(model, snapshot_of(model), SETTINGS).key == model.key


def test_a_template_whose_metadata_somebody_replaces_has_our_labels_all_the_same() -> None:
    """Without them its pods would be nobody's."""
    model = make_model(template={"metadata": {"$patch": "replace"}})
    assert model.spec
    template, pod_hash = build_template(model, model.spec, SETTINGS)
    labels = {**child_labels("llama", "stable"), "capstan.dev/pod-hash": pod_hash}
    assert template["metadata"] == {"labels": labels}
