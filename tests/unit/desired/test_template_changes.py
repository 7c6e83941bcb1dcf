"""Which template is in force: a change of the spec rolls, and what the operator would do otherwise waits."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from capstan_contract.names import POD_HASH_LABEL
from capstan_operator.api.kinds import Model
from capstan_operator.desired import template_changes
from capstan_operator.desired.faults import find_faults
from capstan_operator.desired.model import build_model, is_template_changing
from capstan_operator.desired.pod import build_template
from capstan_operator.desired.pods import template_hash
from capstan_operator.desired.revisions import KEPT
from capstan_operator.desired.snapshot import Snapshot
from capstan_operator.desired.template_changes import (
    CAUSE_ANNOTATION,
    PROFILE_ANNOTATION,
    SETTINGS_ANNOTATION,
    SPEC_ANNOTATION,
    hash_of_settings,
    hash_of_spec,
)
from capstan_operator.desired.types import Action, DesiredModel, Pending
from capstan_operator.resources.resource import Manifest
from capstan_operator.settings import BuildSettings
from support.plainmodels import SETTINGS, as_deleting, deployment_of, make_model, snapshot_of
from support.profiles import profiled

UPGRADED = replace(SETTINGS, worker_image="ghcr.io/capstan/worker:0.2.0")
KEY = make_model().key


def _model(generation: int = 1, *, observed: int | None = None, **spec: Any) -> Model:
    seen = {} if observed is None else {"observedGeneration": observed}
    return make_model(generation=generation, status=seen, **spec)


def _build(model: Model, live: Manifest, settings: BuildSettings = SETTINGS, **options: Any) -> DesiredModel:
    snapshot = snapshot_of(model, live, revisions={KEY: options.pop("revisions", ())})
    return build_model(model, snapshot, settings, **options)


def _template(desired: DesiredModel) -> Manifest:
    found: Manifest = next(item for item in desired.objects if item["kind"] == "Deployment")["spec"]["template"]
    return found


def _revision(desired: DesiredModel) -> Manifest:
    return next(item for item in desired.objects if item["kind"] == "ControllerRevision")


def _of_first_release(model: Model, **change: Any) -> Manifest:
    """Give the Deployment as the first release would have made it: no annotation says where its template is from."""
    live = deployment_of(model)
    template = {**live["spec"]["template"], **change}
    labels = {**template["metadata"]["labels"], POD_HASH_LABEL: "0123456789abcdef"}
    template["metadata"] = {"labels": labels, "creationTimestamp": None}
    return {**live, "metadata": {**live["metadata"], "annotations": {}}, "spec": {**live["spec"], "template": template}}


def test_change_of_the_spec_rolls_at_once() -> None:
    """It is the user's wish for other pods."""
    live = deployment_of(_model())
    desired = _build(changed := _model(2, engine={"args": ["--new"]}), live)
    assert template_hash({"spec": {"template": _template(desired)}}) == desired.pod_hash != template_hash(live)
    assert desired.pending is None
    assert is_template_changing(changed, snapshot_of(changed, live), SETTINGS)


def test_change_of_settings_waits_for_its_turn() -> None:
    """Another worker image leaves the template as it is until this model may take it up."""
    live = deployment_of(_model())
    waits = _build(_model(), live, UPGRADED)
    assert (_template(waits), waits.pending) == (live["spec"]["template"], Pending.ADOPTION)
    assert waits.pod_hash == template_hash(live)
    turn = _build(_model(), live, UPGRADED, adopt=True)
    assert (template_hash({"spec": {"template": _template(turn)}}), turn.pending) == (turn.pod_hash, None)
    assert turn.pod_hash != template_hash(live)
    never = _build(_model(), live, replace(UPGRADED, adopt_template_changes="OnSpecChange"))
    assert (_template(never), never.pending) == (live["spec"]["template"], Pending.NEXT_CHANGE)


@pytest.mark.parametrize("change", [{"replicas": 3}, {"model": {"servedName": "other"}}, {"scaling": {"max": 3}}])
def test_change_that_concerns_no_pod_is_no_wish_for_others(change: dict[str, Any]) -> None:
    """Who scales or renames a model after an upgrade does not restart it by that."""
    live = deployment_of(_model())
    assert _build(_model(2, **change), live, UPGRADED).pending is Pending.ADOPTION


@pytest.mark.parametrize(
    "change",
    [
        {"replicas": 7},
        {"scaling": {"max": 3}},
        {"model": {"servedName": "other", "aliases": ["a"]}},
        {"rollout": {"strategy": "InPlace", "patienceSeconds": 3, "progressDeadlineSeconds": 50}},
        {"serving": {"price": {"inputPerMillion": "1"}, "weight": 5, "fallbacks": ["b"], "maxOutputTokens": 5}},
        {"compatibility": {"systemMessages": "First"}},
        {"serving": {"timeouts": {"firstTokenSeconds": 5, "idleSeconds": 9}, "capabilities": ["Tools"]}},
    ],
)
def test_hash_of_the_spec_is_of_what_pods_follow_from(change: dict[str, Any]) -> None:
    """It is the same where the template is the same, whether a default is written down or not."""
    one, other = make_model(resources={"gpus": 0}), make_model(**change)
    assert one.spec
    assert other.spec
    assert hash_of_spec(one.spec) == hash_of_spec(other.spec)


def test_only_code_that_changed_waits_for_the_next_change() -> None:
    """A release of the operator whose images are pinned restarts nothing, not even in turn."""
    model = _model(3, observed=3)
    old = deployment_of(model)["spec"]["template"]["spec"]
    slower = {**old["containers"][0], "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8001}}}
    live = _of_first_release(model, spec={**old, "containers": [slower]})
    desired = _build(model, live, adopt=True)
    kept = {**live["spec"]["template"], "metadata": {"labels": live["spec"]["template"]["metadata"]["labels"]}}
    assert (_template(desired), desired.pending) == (kept, Pending.NEXT_CHANGE)
    assert desired.pod_hash == "0123456789abcdef"


@pytest.mark.parametrize(("observed", "pending"), [(3, Pending.ADOPTION), (2, None), (None, None)])
def test_deployment_of_a_release_without_revisions(observed: int | None, pending: Pending | None) -> None:
    """The first release wrote no cause: what it had not seen yet is a change of the spec, everything else is not."""
    model = _model(3, observed=observed)
    desired = _build(model, _of_first_release(model), UPGRADED)
    assert desired.pending is pending


def test_what_is_kept_outlives_the_operator() -> None:
    """The template in force comes from its revision, with the cause beside it, and a change by hand is put right."""
    live = deployment_of(_model())
    revision = _revision(_build(_model(), live))
    assert revision["data"]["template"] == live["spec"]["template"]
    assert revision["metadata"]["name"] == f"llama-{template_hash(live)}"
    template = {**live["spec"]["template"], "spec": {"containers": []}}
    tampered = {**live, "spec": {**live["spec"], "template": template}}
    desired = _build(_model(), tampered, UPGRADED, revisions=(revision,))
    assert _template(desired) == revision["data"]["template"]
    deployment = next(item for item in desired.objects if item["kind"] == "Deployment")
    kept = {key: live["metadata"]["annotations"][key] for key in (CAUSE_ANNOTATION, SPEC_ANNOTATION)}
    assert kept.items() <= deployment["metadata"]["annotations"].items()


def test_revisions_are_few_and_the_one_in_force_is_the_newest() -> None:
    """Each template gets the next number; one that comes back gets one again, and the oldest ones go."""
    live, present = deployment_of(_model()), ()
    names = []
    for number in (1, 2, 3, 4, 5):
        desired = _build(_model(number, engine={"args": [f"--v{number}"]}), live, revisions=present)
        made = _revision(desired)
        assert made["revision"] == number
        names.append(made["metadata"]["name"])
        live = deployment_of(_model(number, engine={"args": [f"--v{number}"]}))
        held = [w.manifest for w in desired.wanted if w.action is Action.HOLD and w.manifest["kind"] == made["kind"]]
        present = (*held, made)
    assert [item["metadata"]["name"] for item in present] == [names[3], names[2], names[4]]
    back = _build(_model(6, engine={"args": ["--v3"]}), live, revisions=present)
    again = _revision(back)
    assert (again["metadata"]["name"], again["revision"]) == (names[2], 6)
    at_rest = _build(_model(5, engine={"args": ["--v5"]}), live, revisions=present)
    assert not [item for item in at_rest.objects if item["kind"] == "ControllerRevision"]
    assert len([w for w in at_rest.wanted if w.action is Action.HOLD]) == KEPT


def test_where_revisions_cannot_be_listed_none_is_kept() -> None:
    """Without the right to them, everything else goes on."""
    model = _model()
    snapshot = Snapshot(models={KEY: model}, children={KEY: (deployment_of(model),)})
    assert {item["kind"] for item in build_model(model, snapshot, UPGRADED).objects} == {"Service", "Deployment"}


CASES = Path(__file__).parents[2] / "golden" / "desired" / "cases"


def _fields(spec: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Give the path of every field of a manifest's spec, maps and their fields alike."""
    for name, value in spec.items():
        yield (*path, name)
        if isinstance(value, dict):
            yield from _fields(value, (*path, name))


def _without(spec: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    rest = copy.deepcopy(spec)
    inner = rest
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return rest


@pytest.mark.parametrize("case", sorted(path.stem for path in CASES.glob("*.yaml")))
def test_whatever_changes_the_template_changes_the_hash_of_the_spec(case: str) -> None:
    """A change of the spec that makes other pods is never taken for one that the operator has made: tried by removing
    each field of representative manifests."""
    spec = yaml.safe_load((CASES / f"{case}.yaml").read_text())["spec"]
    whole = make_model(**spec)
    tried = 0
    for path in _fields(spec):
        other = make_model(**_without(spec, path))
        if other.spec is None or whole.spec is None or find_faults(other):
            continue
        tried += 1
        if build_template(other, other.spec, SETTINGS)[1] != build_template(whole, whole.spec, SETTINGS)[1]:
            assert hash_of_spec(other.spec) != hash_of_spec(whole.spec), path
    assert tried


@pytest.mark.parametrize("kind", ["containers", "initContainers"])
def test_container_of_the_user_is_no_setting(kind: str) -> None:
    """The API server fills in what it leaves out: a release that does something else in the pods restarts it not."""
    own = {"name": "own", "image": "own:1"}
    model = _model(1, observed=1, template={"spec": {kind: [own]}})
    live = _of_first_release(model)
    spec = copy.deepcopy(live["spec"]["template"]["spec"])
    for container in spec[kind]:
        container.setdefault("imagePullPolicy", "IfNotPresent")
    live["spec"]["template"]["spec"] = spec
    assert _build(model, live).pending is Pending.NEXT_CHANGE
    assert _build(model, live, UPGRADED).pending is Pending.ADOPTION


def test_pull_policy_that_is_not_said_is_no_setting() -> None:
    """A policy that the user has taken out of the engine's container is what the API server makes of it."""
    model = _model(1, observed=1, template={"spec": {"containers": [{"name": "engine", "imagePullPolicy": None}]}})
    live = _of_first_release(model)
    spec = copy.deepcopy(live["spec"]["template"]["spec"])
    for container in spec["containers"]:
        container["imagePullPolicy"] = "Always"
    live["spec"]["template"]["spec"] = spec
    assert _build(model, live).pending is Pending.NEXT_CHANGE


@pytest.mark.parametrize(
    ("engine", "changed"),
    [
        ("vLLM", replace(SETTINGS, worker_image="other:2")),
        ("TGI", replace(SETTINGS, worker_image="other:2")),
        ("TGI", replace(SETTINGS, tgi_image="other:2")),
        ("TGI", replace(SETTINGS, image_pull_policy="Always")),
        ("vLLM", replace(SETTINGS, image_pull_secrets=("another",))),
        ("vLLM", replace(SETTINGS, image_pull_secrets=())),
    ],
)
def test_images_and_how_they_are_pulled_are_settings(engine: str, changed: BuildSettings) -> None:
    """Of the engine and of the worker beside it; a secret that comes or goes as well."""
    before = replace(SETTINGS, image_pull_secrets=("registry",))
    changed = replace(changed, image_pull_secrets=changed.image_pull_secrets or ("registry",))
    model = make_model(engine={"type": engine})
    live = next(item for item in build_model(model, snapshot_of(model), before).objects if item["kind"] == "Deployment")
    assert _build(model, live, before).pending is None
    after = replace(changed, image_pull_secrets=()) if changed == before else changed
    assert _build(model, live, after).pending is Pending.ADOPTION


def test_only_a_model_with_a_deployment_and_pods_of_its_own_has_a_template_that_changes() -> None:
    """Of one that goes, is faulty, or is answered elsewhere, none would be built."""
    model = _model()
    live = deployment_of(_model(engine={"args": ["--other"]}))
    assert is_template_changing(model, snapshot_of(model, live), SETTINGS)
    assert not is_template_changing(model, snapshot_of(model, deployment_of(model)), SETTINGS)
    assert not is_template_changing(model, snapshot_of(model), SETTINGS)
    unpatchable = _model(template={"spec": {"$nothing": 1}})
    hosted = _model(external={"url": "https://api.example.com/v1"})
    for other in (as_deleting(model), _model(replicas=-1), unpatchable, hosted):
        assert not is_template_changing(other, snapshot_of(other, live), SETTINGS)


def test_a_deployment_whose_template_is_not_ours_gets_the_one_that_is_built() -> None:
    """Nobody knows what its pods are made from, so nothing of it is kept, whatever the settings are."""
    live = deployment_of(_model())
    template = {**live["spec"]["template"], "metadata": {"labels": {}}}
    live["spec"] = {**live["spec"], "template": template}
    desired = _build(_model(), live, UPGRADED)
    assert desired.pending is None
    assert template_hash({"spec": {"template": _template(desired)}}) == desired.pod_hash


def test_what_caused_the_template_is_said_as_long_as_it_is_in_force() -> None:
    """Also by an operator that begins anew: a change of settings is one until the next template."""
    model = _model(5)
    live = deployment_of(model)
    live["metadata"]["annotations"] |= {CAUSE_ANNOTATION: "Settings"}
    desired = _build(model, live)
    deployment = next(item for item in desired.objects if item["kind"] == "Deployment")
    assert deployment["metadata"]["annotations"][CAUSE_ANNOTATION] == "Settings"
    assert _revision(desired)["metadata"]["annotations"]["capstan.dev/generation"] == "5"


def _notes(desired: DesiredModel) -> tuple[str, str]:
    """Give what the Deployment says of its template: its cause, and the hash of the spec."""
    notes = next(item for item in desired.objects if item["kind"] == "Deployment")["metadata"]["annotations"]
    return notes[CAUSE_ANNOTATION], notes[SPEC_ANNOTATION]


def _spec_hash(model: Model) -> str:
    assert model.spec
    return hash_of_spec(model.spec)


def test_a_deployment_says_where_its_template_comes_from() -> None:
    """The cause and the spec of the template that is in force, and not of the one that waits."""
    model, live = _model(), deployment_of(_model())
    assert _notes(_build(model, live)) == ("Spec", _spec_hash(model))
    changed = _model(2, engine={"args": ["--new"]})
    assert _notes(_build(changed, live)) == ("Spec", _spec_hash(changed))
    assert _notes(_build(model, live, UPGRADED, adopt=True)) == ("Settings", _spec_hash(model))
    live["metadata"]["annotations"] |= {CAUSE_ANNOTATION: "Settings", SPEC_ANNOTATION: "former"}
    assert _notes(_build(model, live)) == ("Settings", _spec_hash(model))
    seen = _build(model, live, UPGRADED, revisions=(_revision(_build(model, live)),))
    assert (seen.pending, _notes(seen)) == (Pending.ADOPTION, ("Settings", "former"))


def test_a_deployment_that_says_nothing_is_of_its_spec() -> None:
    """The first release wrote neither; what the operator has seen is of this spec."""
    model = _model(3, observed=3)
    live = deployment_of(model)
    live["metadata"]["annotations"] = {}
    assert _notes(_build(model, live)) == ("Spec", _spec_hash(model))
    assert _notes(_build(model, live, UPGRADED)) == ("Spec", _spec_hash(model))


def test_a_release_that_reads_a_spec_otherwise_rolls_no_model_for_it() -> None:
    """The hash on the Deployment is of another reading, but its revision is of this very generation."""
    model = _model(4)
    live = deployment_of(model)
    revision = _revision(_build(model, live))
    live["metadata"]["annotations"] |= {SPEC_ANNOTATION: "as another release had it"}
    assert _build(model, live, UPGRADED, revisions=(revision,)).pending is Pending.ADOPTION
    assert _build(_model(5), live, UPGRADED, revisions=(revision,)).pending is None
    assert _build(model, live, UPGRADED).pending is None


@pytest.mark.parametrize(
    "changed",
    [
        {"model_env": '[{"name":"HF_ENDPOINT","value":"https://hub"}]'},
        {"model_pod_labels": '{"team":"ml"}'},
        {"model_pod_annotations": '{"note":"x"}'},
        {"model_pod_security": '{"runAsNonRoot":true}'},
        {"model_container_security": '{"privileged":false}'},
        {"ca_config_map": "company"},
        {"ca_secret": "company"},
    ],
)
def test_what_an_install_says_of_all_pods_is_taken_up_in_turn(changed: dict[str, str]) -> None:
    """Each of these settings, by a model whose spec nobody has changed; and taken back in turn as well."""
    model, live = _model(), deployment_of(_model())
    settings = replace(SETTINGS, **changed)
    assert _build(model, live, settings).pending is Pending.ADOPTION
    taken = _build(model, live, settings, adopt=True)
    assert taken.pending is None
    new = next(item for item in taken.objects if item["kind"] == "Deployment")
    assert _build(model, new, settings).pending is None
    assert _build(model, new, SETTINGS).pending is Pending.ADOPTION


QUEUED = replace(SETTINGS, queue_redis_url="redis://redis:6379/0")


def test_a_setting_that_all_pods_get_is_taken_up_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of POD_SETTINGS is told by a hash on the Deployment; one that is not among them is taken for other code."""
    model, live = _model(), deployment_of(_model())
    assert _build(model, live, QUEUED, adopt=True).pending is Pending.NEXT_CHANGE
    monkeypatch.setattr(template_changes, "POD_SETTINGS", frozenset({"queue_redis_url"}))
    assert _build(model, live, QUEUED).pending is Pending.ADOPTION
    taken = _build(model, live, QUEUED, adopt=True)
    notes = next(item for item in taken.objects if item["kind"] == "Deployment")["metadata"]["annotations"]
    assert (notes[CAUSE_ANNOTATION], notes[SETTINGS_ANNOTATION]) == ("Settings", hash_of_settings(QUEUED))
    kept = next(item for item in _build(model, live, QUEUED).objects if item["kind"] == "Deployment")
    assert SETTINGS_ANNOTATION not in kept["metadata"]["annotations"]


def test_an_upgrade_to_a_release_with_further_settings_restarts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Deployment without the hash is of the defaults; where they are in force, another template is other code."""
    monkeypatch.setattr(template_changes, "POD_SETTINGS", frozenset({"queue_redis_url"}))
    assert hash_of_settings(SETTINGS) == ""
    model = _model(1, observed=1)
    live = _of_first_release(model)
    live["spec"]["template"]["spec"] = {**live["spec"]["template"]["spec"], "terminationGracePeriodSeconds": 5}
    assert _build(model, live, adopt=True).pending is Pending.NEXT_CHANGE


L4 = {"nodeSelector": {"gpu": "l4"}}


def test_change_of_a_profile_waits_for_its_turn() -> None:
    """It concerns every model that names it; until its turn a model's pods, and what its Deployment says, stay."""
    model = profiled(_model(profile="l4"), L4)
    live = deployment_of(model)
    assert PROFILE_ANNOTATION in live["metadata"]["annotations"]
    changed = profiled(_model(profile="l4"), {"nodeSelector": {"gpu": "l4", "zone": "a"}})
    waits = _build(changed, live)
    assert (_template(waits), waits.pending) == (live["spec"]["template"], Pending.ADOPTION)
    kept = next(item for item in waits.objects if item["kind"] == "Deployment")["metadata"]["annotations"]
    assert kept[PROFILE_ANNOTATION] == live["metadata"]["annotations"][PROFILE_ANNOTATION]
    turn = _build(changed, live, adopt=True)
    assert (turn.pending, _notes(turn)[0]) == (None, "Profile")
    assert template_hash({"spec": {"template": _template(turn)}}) == turn.pod_hash != template_hash(live)


def test_naming_another_profile_is_a_change_of_the_spec() -> None:
    """It is the user's own wish, as every edit of the manifest: it rolls at once, and so does giving one up."""
    live = deployment_of(profiled(_model(profile="l4"), L4))
    for changed in (profiled(_model(2, profile="a100"), {"nodeSelector": {"gpu": "a100"}}), _model(2)):
        desired = _build(changed, live)
        assert (desired.pending, _notes(desired)[0]) == (None, "Spec")
        assert desired.pod_hash != template_hash(live)


@pytest.mark.parametrize(
    ("before", "now", "pending"),
    [
        ("vllm/vllm-openai", "docker.io/vllm/vllm-openai", Pending.NEXT_CHANGE),
        ("vllm-openai", "docker.io/library/vllm-openai", Pending.NEXT_CHANGE),
        ("vllm/vllm-openai", "registry.example.com/vllm/vllm-openai", Pending.ADOPTION),
        ("localhost/vllm-openai", "docker.io/localhost/vllm-openai", Pending.ADOPTION),
        ("registry:5000/vllm-openai", "docker.io/registry/vllm-openai", Pending.ADOPTION),
    ],
)
def test_an_image_by_its_full_name_is_no_other_one(before: str, now: str, pending: Pending) -> None:
    """A release that writes out the registry which runtimes put before a name restarts nothing for it."""
    model = _model(engine={"type": "vLLM", "version": "v0.18.0"}, model={"source": "hf://a/b"})
    of_before, of_now = replace(SETTINGS, vllm_image=before), replace(SETTINGS, vllm_image=now)
    built = build_model(model, snapshot_of(model), of_before)
    live = next(item for item in built.objects if item["kind"] == "Deployment")
    assert _build(model, live, of_now, adopt=pending is Pending.NEXT_CHANGE).pending is pending


def test_a_profile_and_a_setting_that_change_at_once_are_one_change() -> None:
    """Nothing moves before the model's turn, which then brings both; and neither is taken up a second time."""
    model, live = profiled(_model(profile="l4"), L4), deployment_of(profiled(_model(profile="l4"), L4))
    changed = profiled(_model(profile="l4"), {"nodeSelector": {"gpu": "l4", "zone": "a"}})
    settings = replace(SETTINGS, model_pod_labels='{"team":"ml"}', worker_image=UPGRADED.worker_image)
    waits = _build(changed, live, settings)
    assert (_template(waits), waits.pending) == (live["spec"]["template"], Pending.ADOPTION)
    taken = _build(changed, live, settings, adopt=True)
    new = next(item for item in taken.objects if item["kind"] == "Deployment")
    assert new["spec"]["template"]["metadata"]["labels"]["team"] == "ml"
    assert new["spec"]["template"]["spec"]["nodeSelector"] == {"gpu": "l4", "zone": "a"}
    assert _build(changed, new, settings).pending is None
    # Taken back one by one, each is seen.
    assert _build(model, new, settings).pending is Pending.ADOPTION
    assert _build(changed, new, replace(SETTINGS, worker_image=UPGRADED.worker_image)).pending is Pending.ADOPTION


def test_every_setting_by_which_templates_differ_is_told_of_apart() -> None:
    """Where authorities are read from, too: another key of the same ConfigMap is taken up in turn."""
    of_before = replace(SETTINGS, ca_config_map="company")
    taken = _build(_model(), deployment_of(_model()), of_before, adopt=True)
    live = next(item for item in taken.objects if item["kind"] == "Deployment")
    assert _build(_model(), live, replace(of_before, ca_key="other.pem")).pending is Pending.ADOPTION
