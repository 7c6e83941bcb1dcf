"""Writing what one model owns: what is applied, in which order, and what is left to others."""

from dataclasses import replace
from typing import Any

import pytest

from capstan_contract.names import API_VERSION, APPLIED_HASH_ANNOTATION
from capstan_operator.desired.diff import with_applied_hash
from capstan_operator.desired.replicas import FROM_MODEL, REPLICAS_ANNOTATION
from capstan_operator.desired.types import Action, DesiredModel, Wanted
from capstan_operator.kube.errors import Conflict, Forbidden, Invalid, Unavailable
from capstan_operator.models.writer import ChildWriter, Written
from capstan_operator.names import FIELD_MANAGER, SCALE_MANAGER
from capstan_operator.resources.resource import Fault, Manifest
from fakes.apply_kube import ApplyKube
from support.plainmodels import make_model

MODEL = make_model("llama", namespace="ns")
SCALED = make_model("llama", namespace="ns", scaling={"min": 0, "max": 4})
OURS = {"apiVersion": API_VERSION, "kind": "LLMModel", "name": "llama", "uid": MODEL.uid}


def child(name: str, kind: str = "Service", *, owner: Manifest = OURS, **spec: Any) -> Manifest:
    """Give an object as the model wants it."""
    apis = {
        "Service": "v1",
        "Deployment": "apps/v1",
        "ConfigMap": "v1",
        "HorizontalPodAutoscaler": "autoscaling/v2",
        "ScaledObject": "keda.sh/v1alpha1",
        "TriggerAuthentication": "keda.sh/v1alpha1",
    }
    metadata = {"name": name, "namespace": "ns", "ownerReferences": [owner]}
    return with_applied_hash({"apiVersion": apis[kind], "kind": kind, "metadata": metadata, "spec": spec})


def desired(*objects: Manifest, **fields: Any) -> DesiredModel:
    """Give a model that wants these applied."""
    wanted = tuple(Wanted(manifest) for manifest in objects)
    return DesiredModel(key=MODEL.key, wanted=wanted, **fields)


def applied(kube: ApplyKube) -> list[str]:
    """Give the names of what was applied, in order."""
    return [name for verb, _, name in kube.calls if verb == "apply"]


def reasons(written: Written) -> list[str]:
    """Give the reasons of the problems."""
    return [problem.reason for problem in written.problems]


async def test_objects_are_applied_in_the_order_in_which_they_are_wanted() -> None:
    """A Deployment comes after the ConfigMap that it mounts; what was written is what is live."""
    kube = ApplyKube()
    written = await ChildWriter(kube).write(MODEL, desired(child("b"), child("a"), child("c")), ())
    assert applied(kube) == ["b", "a", "c"]
    assert {name: item["metadata"]["uid"] for (_, name), item in written.live.items()} == {
        name: (kube.find("Service", name) or {})["metadata"]["uid"] for name in "abc"
    }
    assert (written.problems, written.notices) == ([], [])


async def test_at_rest_nothing_is_written() -> None:
    """What is as it should be is left alone; what somebody changed is written again, and only that."""
    kube = ApplyKube()
    writer = ChildWriter(kube)
    want = desired(child("a", port=1), child("b", port=1))
    first = await writer.write(MODEL, want, ())
    kube.calls.clear()
    await writer.write(MODEL, want, first.live.values())
    assert kube.calls == []
    kube.put({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "b", "namespace": "ns"}, "spec": {"port": 2}})
    present = [kube.find("Service", name) or {} for name in "ab"]
    await writer.write(MODEL, want, present)
    assert kube.calls == [("apply", "Service", "b")]
    assert (kube.find("Service", "b") or {})["spec"] == {"port": 1}


@pytest.mark.parametrize("error", [Invalid("spec.port is wrong"), Forbidden("exceeded quota")])
async def test_an_object_that_is_refused_stops_no_other_one(error: Exception) -> None:
    """It becomes a Problem with what the API server says."""
    kube = ApplyKube()
    kube.answer("apply", error)  # type: ignore[arg-type]
    written = await ChildWriter(kube).write(MODEL, desired(child("a"), child("b")), ())
    assert applied(kube) == ["a", "b"]
    assert reasons(written) == ["ApplyRefused"]
    assert str(error) in written.problems[0].message
    assert ("Service", "a") not in written.live


async def test_what_may_pass_by_itself_ends_the_pass() -> None:
    """An API server that does not answer is no property of the object: the whole pass is tried again."""
    kube = ApplyKube()
    kube.answer("apply", Unavailable("no answer"))
    with pytest.raises(Unavailable):
        await ChildWriter(kube).write(MODEL, desired(child("a"), child("b")), ())
    assert applied(kube) == ["a"]


async def test_what_is_known_to_be_somebody_elses_is_not_written_to() -> None:
    """The others are; it is told whether a former model of that name still has it, or a stranger."""
    kube = ApplyKube()
    former = child("a", owner={**OURS, "uid": "former"})
    stranger = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "b", "namespace": "ns"}}
    written = await ChildWriter(kube).write(
        MODEL,
        desired(child("a"), child("b"), child("c")),
        (),
        taken={("Service", "a"): former, ("Service", "b"): stranger},
    )
    assert applied(kube) == ["c"]
    assert [problem.message for problem in written.problems] == [
        "the Service 'a' still belongs to an LLMModel that was deleted",
        "the Service 'b' exists already and was not made by Capstan",
    ]
    assert reasons(written) == ["NameTaken", "NameTaken"]


async def test_an_object_that_appears_at_the_same_moment_stays_somebody_elses() -> None:
    """Whether its fields are in conflict with ours or not: nothing of ours is left in it, and it is told."""
    for theirs in ({"port": 2}, {"other": 1}):
        kube = ApplyKube()
        metadata = {"name": "a", "namespace": "ns"}
        before = kube.put({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": theirs})
        written = await ChildWriter(kube).write(MODEL, desired(child("a", port=1), child("b")), ())
        assert [problem.message for problem in written.problems] == [
            "the Service 'a' exists already and was not made by Capstan"
        ]
        found = kube.find("Service", "a") or {}
        assert (found["spec"], found["metadata"]["uid"]) == (theirs, before["metadata"]["uid"])
        assert "ownerReferences" not in found["metadata"]
        assert kube.find("Service", "b") is not None


async def test_a_write_at_the_same_moment_is_looked_at_again() -> None:
    """A Conflict over an object that is ours ends the pass, so that the next one reads what is there."""
    kube = ApplyKube()
    live = kube.put(child("a", port=2), manager=FIELD_MANAGER)
    kube.answer("apply", Conflict("the uid does not match"))
    with pytest.raises(Conflict):
        await ChildWriter(kube).write(MODEL, desired(child("a", port=1)), (live,))


def forgetful(manifest: Manifest) -> Manifest:
    """Be an API server that does not know a field."""
    return {**manifest, "spec": {key: value for key, value in manifest["spec"].items() if key != "novel"}}


async def test_a_field_that_is_not_kept_is_told_once_and_not_applied_again() -> None:
    """It would never come to rest; a change of what is wanted, or by somebody else, is a reason to try again."""
    kube = ApplyKube()
    kube.admit = forgetful
    writer = ChildWriter(kube)
    want = desired(child("a", novel=1, port=1))
    first = await writer.write(MODEL, want, ())
    assert first.notices == ["the API server did not keep every field of the Service 'a'"]
    kube.calls.clear()
    second = await writer.write(MODEL, want, first.live.values())
    assert (kube.calls, second.notices) == ([], [])
    other = desired(child("a", novel=2, port=1))
    third = await writer.write(MODEL, other, second.live.values())
    assert (applied(kube), len(third.notices)) == (["a"], 1)
    kube.put({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "ns"}, "spec": {"port": 7}})
    kube.calls.clear()
    await writer.write(MODEL, other, [kube.find("Service", "a") or {}])
    assert applied(kube) == ["a"]


async def test_a_status_that_changes_is_no_reason_to_apply_again() -> None:
    """Only what is wanted of the object counts, which its generation tells."""
    kube = ApplyKube()
    kube.admit = forgetful
    writer = ChildWriter(kube)
    want = desired(child("a", novel=1))
    first = await writer.write(MODEL, want, ())
    (live,) = first.live.values()
    busy = {**live, "metadata": {**live["metadata"], "resourceVersion": "999"}, "status": {"x": 1}}
    kube.calls.clear()
    await writer.write(MODEL, want, [busy])
    assert kube.calls == []


async def test_an_object_without_a_generation_is_told_by_its_version() -> None:
    """A ConfigMap has no status: whatever changes it is a reason to look again."""
    kube = ApplyKube()
    kube.admit = forgetful
    writer = ChildWriter(kube)
    want = desired(child("a", "ConfigMap", novel=1))
    first = await writer.write(MODEL, want, ())
    (live,) = first.live.values()
    kube.calls.clear()
    await writer.write(MODEL, want, [live])
    assert kube.calls == []
    await writer.write(MODEL, want, [{**live, "metadata": {**live["metadata"], "resourceVersion": "999"}}])
    assert applied(kube) == ["a"]


async def test_what_is_remembered_as_not_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that was applied longest ago is forgotten first, and applied once more."""
    monkeypatch.setattr("capstan_operator.models.writer.MOST_UNKEPT", 2)
    kube = ApplyKube()
    kube.admit = forgetful
    writer = ChildWriter(kube)
    want = desired(*(child(name, novel=1) for name in "abc"))
    first = await writer.write(MODEL, want, ())
    kube.calls.clear()
    await writer.write(MODEL, desired(child("b", novel=1), child("c", novel=1)), first.live.values())
    assert kube.calls == []
    await writer.write(MODEL, desired(child("a", novel=1)), first.live.values())
    assert applied(kube) == ["a"]


async def test_a_scaled_deployment_is_made_with_its_number_which_is_then_handed_over() -> None:
    """Nobody starts one replica for a moment, and nobody but the number's own manager owns it in the end."""
    kube = ApplyKube()
    deployment = child("a", "Deployment", image="x")
    seen: list[Any] = []
    kube.before = lambda *_: seen.append((kube.find("Deployment", "a") or {"spec": {}})["spec"].get("replicas"))
    written = await ChildWriter(kube).write(SCALED, desired(deployment, replicas=3), ())
    assert seen == [None, 3, 3]  # never there without the number
    found = kube.find("Deployment", "a") or {}
    assert found["spec"] == {"image": "x", "replicas": 3}
    assert REPLICAS_ANNOTATION not in found["metadata"]["annotations"]
    assert {entry["manager"] for entry in found["metadata"]["managedFields"]} == {FIELD_MANAGER, SCALE_MANAGER}
    assert written.live["Deployment", "a"] == found
    # Its manager alone has it: applied without it, it stays.
    assert (await kube.apply(deployment))["spec"]["replicas"] == 3


async def test_a_deployment_that_was_made_halfway_says_whose_its_number_is() -> None:
    """The next pass can tell that the number came from the model, and hands it over."""
    kube = ApplyKube()
    kube.answer("apply", None, Unavailable("no answer"))
    with pytest.raises(Unavailable):
        await ChildWriter(kube).write(SCALED, desired(child("a", "Deployment"), replicas=0), ())
    found = kube.find("Deployment", "a") or {}
    assert found["spec"]["replicas"] == 0
    assert found["metadata"]["annotations"].keys() == {REPLICAS_ANNOTATION, APPLIED_HASH_ANNOTATION}
    assert found["metadata"]["annotations"][REPLICAS_ANNOTATION] == FROM_MODEL


async def test_the_number_is_applied_although_nothing_else_differs() -> None:
    """Only that, under its own manager, and only to a Deployment of a model that scales."""
    kube = ApplyKube()
    writer = ChildWriter(kube)
    deployment, service = child("a", "Deployment", image="x"), child("b")
    first = await writer.write(SCALED, desired(deployment, service, replicas=1), ())
    kube.calls.clear()
    second = await writer.write(SCALED, desired(deployment, service, replicas=2), first.live.values())
    assert kube.calls == [("apply", "Deployment", "a")]
    assert second.live["Deployment", "a"]["spec"]["replicas"] == 2
    kube.calls.clear()
    await writer.write(SCALED, desired(deployment, service, replicas=None), second.live.values())
    await writer.write(MODEL, desired(deployment, service, replicas=5), second.live.values())
    assert kube.calls == []


async def test_the_number_is_set_before_the_rest_of_a_deployment_that_is_there() -> None:
    """It would fall back to one for a moment when the operator stopped saying it."""
    kube = ApplyKube()
    writer = ChildWriter(kube)
    old = child("a", "Deployment", image="x")
    owned = {**old, "spec": {**old["spec"], "replicas": 4}}
    live = kube.put(owned, manager=FIELD_MANAGER)
    seen: list[Any] = []
    kube.before = lambda *_: seen.append((kube.find("Deployment", "a") or {"spec": {}})["spec"].get("replicas"))
    await writer.write(SCALED, desired(child("a", "Deployment", image="y"), replicas=4), [live])
    assert seen == [4, 4]
    assert (kube.find("Deployment", "a") or {})["spec"] == {"image": "y", "replicas": 4}


async def test_an_object_that_was_replaced_meanwhile_is_not_pruned() -> None:
    """The one that was to go has gone: another one has its name, and is no object of ours to delete."""
    kube = ApplyKube()
    gone = {**child("a"), "metadata": {**child("a")["metadata"], "uid": "gone"}}
    kube.put(child("a"))
    goes = DesiredModel(key=MODEL.key, wanted=(Wanted(gone, Action.PRUNE),))
    await ChildWriter(kube).write(MODEL, goes, (gone,))
    assert kube.find("Service", "a") is not None


async def test_refused_objects_do_not_keep_others_from_going() -> None:
    """What is applied and what is pruned are separate questions."""
    kube = ApplyKube()
    old = kube.put(child("old"))
    kube.answer("apply", Invalid("no"))
    both = replace(desired(child("a")), wanted=(Wanted(child("a")), Wanted(old, Action.PRUNE)))
    written = await ChildWriter(kube).write(MODEL, both, (old,))
    assert (reasons(written), kube.find("Service", "old")) == (["ApplyRefused"], None)


async def test_a_number_of_none_is_a_number() -> None:
    """An autoscaler's lower bound of 0 is applied as 0, to a Deployment that is there and to one that is not."""
    kube = ApplyKube()
    deployment = child("a", "Deployment", image="x")
    first = await ChildWriter(kube).write(SCALED, desired(deployment, replicas=0), ())
    assert first.live["Deployment", "a"]["spec"]["replicas"] == 0
    await ChildWriter(kube).write(SCALED, desired(deployment, replicas=3), first.live.values())
    second = await ChildWriter(kube).write(SCALED, desired(deployment, replicas=0), first.live.values())
    assert second.live["Deployment", "a"]["spec"]["replicas"] == 0


async def test_what_cannot_go_keeps_no_other_one() -> None:
    """One that is not ours, one that was replaced, and one that nobody listed: the rest goes all the same."""
    kube = ApplyKube()
    anothers = kube.put(child("anothers", owner={**OURS, "uid": "other"}))
    replaced = {**child("replaced"), "metadata": {**child("replaced")["metadata"], "uid": "gone"}}
    kube.put(child("replaced"))
    own, unlisted = kube.put(child("own")), kube.put(child("unlisted"))
    going = tuple(Wanted(one, Action.PRUNE) for one in (anothers, replaced, unlisted, own))
    await ChildWriter(kube).write(MODEL, DesiredModel(key=MODEL.key, wanted=going), (anothers, replaced, own))
    left = [name for name in ("anothers", "replaced", "own", "unlisted") if kube.find("Service", name)]
    assert left == ["anothers", "replaced"]


async def test_an_hpa_goes_before_the_deployment_says_that_there_is_none() -> None:
    """By the Deployment a later pass knows to look for one: where the delete fails, that one has it to do again."""
    kube = ApplyKube()
    writer = ChildWriter(kube)
    before, after = child("a", "Deployment", of="Scaler"), child("a", "Deployment", of="LLMModel")
    await writer.write(MODEL, desired(before), ())
    kube.put(child("a", "HorizontalPodAutoscaler"), manager=FIELD_MANAGER)
    scaler = kube.find("HorizontalPodAutoscaler", "a") or {}
    want = replace(desired(after), wanted=(Wanted(after), Wanted(scaler, Action.PRUNE)))
    kube.calls.clear()
    kube.answer("delete", Unavailable("no answer"))
    for left in (True, False):
        present = [kube.find("Deployment", "a") or {}, scaler]
        if left:
            with pytest.raises(Unavailable):
                await writer.write(MODEL, want, present)
        else:
            await writer.write(MODEL, want, present)
        assert (kube.find("HorizontalPodAutoscaler", "a") is not None) == left
        assert (kube.find("Deployment", "a") or {})["spec"]["of"] == ("Scaler" if left else "LLMModel")
    assert kube.calls == [
        ("delete", "HorizontalPodAutoscaler", "a"),
        ("delete", "HorizontalPodAutoscaler", "a"),
        ("apply", "Deployment", "a"),
    ]


async def test_a_scaled_object_goes_before_what_it_needs() -> None:
    """KEDA asks the operator until it has let go: with certificates that it trusts."""
    kube = ApplyKube()
    kinds = ("TriggerAuthentication", "ScaledObject", "ConfigMap")
    for kind in kinds:
        kube.put(child("a", kind), manager=FIELD_MANAGER)
    there = [kube.find(kind, "a") or {} for kind in kinds]
    going = tuple(Wanted(one, Action.PRUNE) for one in there)
    await ChildWriter(kube).write(MODEL, DesiredModel(key=MODEL.key, wanted=going), there)
    deleted = [kind for verb, kind, _ in kube.calls if verb == "delete"]
    assert deleted == ["ScaledObject", "TriggerAuthentication", "ConfigMap"]


async def test_of_a_faulty_model_only_the_number_is_written() -> None:
    """Under the manager of the number; a refusal of it is told as any other. Nobody else's Deployment is touched."""
    kube, faults = ApplyKube(), (Fault("spec.replicas", "must be a number"),)
    live, service = child("llama-model", "Deployment", replicas=0), child("llama-model")
    kube.put(live)
    held = tuple(Wanted(one, Action.HOLD) for one in (live, service))
    model = DesiredModel(key=MODEL.key, wanted=held, replicas=2, faults=faults)
    written = await ChildWriter(kube).write(replace(MODEL, spec=None, faults=faults), model, (live, service))
    assert (applied(kube), written.problems) == (["llama-model"], [])
    found = kube.find("Deployment", "llama-model")
    assert found is not None
    assert found["spec"]["replicas"] == 2
    kube.answer("apply", Forbidden("exceeded quota"))
    written = await ChildWriter(kube).write(replace(MODEL, spec=None, faults=faults), model, (live, service))
    assert reasons(written) == ["ApplyRefused"]
    theirs = child("llama-model", "Deployment", owner={**OURS, "uid": "other"}, replicas=0)
    kube.calls.clear()
    held = (Wanted(theirs, Action.HOLD),)
    await ChildWriter(kube).write(MODEL, replace(model, wanted=held), (theirs,))
    assert not kube.calls
