"""A virtual model is as available as its members are."""

from typing import Any

import pytest

from capstan_operator.api.kinds import Model
from capstan_operator.desired.compile import compile_gateway
from capstan_operator.desired.members import find_dependents
from capstan_operator.desired.model import build_model
from capstan_operator.desired.snapshot import Snapshot
from capstan_operator.resources.resource import ObjectKey
from capstan_operator.status.compute import compute_status
from capstan_operator.status.standings import UNKNOWN, gather_members, standing_of
from capstan_operator.status.types import Acknowledgement, AckState, StatusResult
from support.plainmodels import NOW, SETTINGS, make_member, make_model

ROUTER = {"router": {"members": [{"name": "a"}, {"name": "b"}]}}
CASCADE = {"cascade": {"members": [{"name": "a"}, {"name": "b"}]}}
JUDGED = {"cascade": {**CASCADE["cascade"], "estimator": {"type": "Judge", "judge": {"name": "j"}}}}
ENSEMBLE = {"cascade": {**CASCADE["cascade"], "estimator": {"type": "Ensemble", "judge": {"name": "j"}}}}


def _status(model: Model, *members: Model) -> StatusResult:
    verdict = compile_gateway([model, *members]).verdicts[model.key]
    snapshot = Snapshot(models={one.key: one for one in (model, *members)})
    ack = Acknowledgement(AckState.ACKNOWLEDGED, acknowledged=1, ready=1)
    return compute_status(model, build_model(model, snapshot, SETTINGS), snapshot, verdict, ack, NOW)


def _told(result: StatusResult) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c["reason"]) for c in result.status["conditions"]}


def _message(result: StatusResult, kind: str) -> str:
    return next(str(c["message"]) for c in result.status["conditions"] if c["type"] == kind)


@pytest.mark.parametrize("spec", [ROUTER, CASCADE])
def test_no_member_takes_requests(spec: dict[str, Any]) -> None:
    """A model that nobody answers for is not ready, and says of each member why."""
    result = _status(
        make_model(**spec), make_member("a", "False", "Unschedulable"), make_member("b", "False", "Loading")
    )
    told = _told(result)
    assert told["Accepted"] == ("True", "Accepted")
    assert told["Available"] == told["Ready"] == ("False", "NoMemberAvailable")
    assert told["Degraded"] == ("False", "AsExpected")
    expected = "none of its members takes requests: 'a' (Unschedulable), 'b' (Loading)"
    assert _message(result, "Available") == _message(result, "Ready") == expected


@pytest.mark.parametrize("spec", [ROUTER, CASCADE])
def test_one_member_is_enough(spec: dict[str, Any]) -> None:
    """While one member takes requests the model answers, and the message names those that do not."""
    result = _status(make_model(**spec), make_member("a", "False", "CrashLoop", degraded=True), make_member("b"))
    told = _told(result)
    assert (told["Available"], told["Ready"]) == (("True", "Virtual"), ("True", "Serving"))
    assert told["Degraded"] == ("False", "AsExpected")
    assert _message(result, "Ready") == "some of its members answer, but not 'a' (CrashLoop)"


def test_a_member_that_was_never_looked_at_takes_no_requests() -> None:
    """Nothing is claimed of a member that says nothing of itself."""
    result = _status(make_model(**ROUTER), make_model("a"), make_model("b"))
    assert _told(result)["Ready"] == ("False", "NoMemberAvailable")
    assert "'a' (Unknown)" in _message(result, "Ready")


def test_a_member_that_is_not_in_the_config_does_not_count() -> None:
    """Pods that run do not help when the gateway does not offer their model."""
    loser = make_member("a", model={"servedName": "taken"})
    older = make_model("older", created="2025-01-01T00:00:00Z", model={"servedName": "taken"})
    told = _told(_status(make_model(**ROUTER), loser, older, make_member("b", "False", "Loading")))
    assert told["Available"] == told["Ready"] == ("False", "NoMemberAvailable")
    assert told["Degraded"] == ("True", "MembersMissing")


def test_a_person_is_called_when_no_member_comes_back_by_itself() -> None:
    """While any member is on its way nobody is called; an idle one is on no way."""
    broken = make_member("a", "False", "CrashLoop", degraded=True)
    coming = _status(make_model(**ROUTER), broken, make_member("b", "False", "Loading"))
    assert _told(coming)["Degraded"] == ("False", "AsExpected")
    for other in (make_member("b", "False", "PodsRefused", degraded=True), make_member("b", "False", "Idle")):
        assert _told(_status(make_model(**ROUTER), broken, other))["Degraded"] == ("True", "NoMemberAvailable")


@pytest.mark.parametrize("spec", [ROUTER, CASCADE])
def test_members_at_zero_by_design_are_as_it_should_be(spec: dict[str, Any]) -> None:
    """A model whose members are all at zero is at zero itself, and a broken one among them is not that."""
    idle = make_member("a", "False", "Idle")
    told = _told(_status(make_model(**spec), idle, make_member("b", "False", "Idle")))
    assert (told["Available"], told["Ready"]) == (("False", "Idle"), ("True", "Idle"))
    assert told["Degraded"] == ("False", "AsExpected")
    mixed = _told(_status(make_model(**spec), idle, make_member("b", "False", "Unschedulable")))
    assert mixed["Available"] == mixed["Ready"] == ("False", "NoMemberAvailable")


@pytest.mark.parametrize(
    ("spec", "degraded"), [(JUDGED, ("True", "JudgeNotAvailable")), (ENSEMBLE, ("False", "AsExpected"))]
)
def test_a_judge_that_does_not_answer(spec: dict[str, Any], degraded: tuple[str, str]) -> None:
    """A cascade answers without its judge; somebody should look when it has nothing but the judge to go by."""
    judge = make_member("j", "False", "Unschedulable")
    result = _status(make_model(**spec), make_member("a"), make_member("b", "False", "Loading"), judge)
    told = _told(result)
    assert (told["Available"], told["Ready"]) == (("True", "Virtual"), ("True", "Serving"))
    assert told["Degraded"] == degraded
    assert "'j'" not in _message(result, "Ready")


def test_a_judge_alone_does_not_answer() -> None:
    """The judge is no member: a cascade without one that answers is not available."""
    told = _told(
        _status(
            make_model(**JUDGED),
            make_member("a", "False", "Loading"),
            make_member("b", "False", "Loading"),
            make_member("j"),
        )
    )
    assert told["Available"] == told["Ready"] == ("False", "NoMemberAvailable")


def test_a_member_without_weight_does_not_answer() -> None:
    """Whoever gets no share of the requests answers none, though it could; by other strategies it does."""
    members = [{"name": "a", "weight": 0}, {"name": "b", "weight": 1}]
    ready, loading = make_member("a"), make_member("b", "False", "Loading")
    weighted = make_model(router={"strategy": "Weighted", "members": members})
    result = _status(weighted, ready, loading)
    assert _told(result)["Ready"] == ("False", "NoMemberAvailable")
    assert _message(result, "Ready") == "none of its members takes requests: 'b' (Loading)"
    assert _message(_status(weighted, ready), "Available").endswith("each that is left has the weight 0")
    assert _told(_status(make_model(router={"members": members}), ready, loading))["Ready"] == ("True", "Serving")


def test_a_router_follows_a_cascade() -> None:
    """What a cascade says of itself is what a router that names it goes by."""
    front = make_model("front", router={"members": [{"name": "pair"}]})
    members = (make_member("a", "False", "Loading"), make_member("b", "False", "Loading"))
    silent = make_member("pair", "False", "NoMemberAvailable", **CASCADE)
    assert _told(_status(front, silent, *members))["Ready"] == ("False", "NoMemberAvailable")
    speaking = make_member("pair", "True", "Virtual", **CASCADE)
    assert _told(_status(front, speaking, *members))["Ready"] == ("True", "Serving")


def test_who_is_told_of_whom() -> None:
    """Whoever names a model depends on it, its judge included, in its own namespace only."""
    models = [make_model("front", **ROUTER), make_model("pair", **JUDGED), make_model("a", namespace="elsewhere")]
    both = frozenset({ObjectKey("team", "front"), ObjectKey("team", "pair")})
    assert find_dependents(models) == {
        ObjectKey("team", "a"): both,
        ObjectKey("team", "b"): both,
        ObjectKey("team", "j"): frozenset({ObjectKey("team", "pair")}),
    }


def test_what_dependents_are_told_is_what_decides() -> None:
    """Counters in a member's message, and conditions that say nothing of answering, change no standing."""
    one = {"type": "Available", "status": "False", "reason": "Loading", "message": "0 of 2 replicas ready"}
    other = {**one, "message": "1 of 3 replicas ready", "observedGeneration": 7}
    progress = {"type": "Progressing", "status": "True", "reason": "Loading"}
    assert standing_of({"conditions": [one]}) == standing_of({"conditions": [other, progress]})
    assert standing_of({"conditions": [one]}) != standing_of({"conditions": [{**one, "reason": "CrashLoop"}]})


@pytest.mark.parametrize("spec", [ROUTER, CASCADE])
def test_a_member_that_the_gateway_does_not_run_yet_makes_nothing_ready(spec: dict[str, Any]) -> None:
    """The gateway's word on the virtual model's generation is older than a member that came later."""
    new = make_member("b", "True", "External", ready="GatewayPending")
    result = _status(make_model(**spec), make_member("a", "False", "Loading"), new)
    assert _told(result)["Ready"] == ("False", "GatewayPending")
    assert _message(result, "Ready") == "the gateway does not run its members yet: 'b' (External)"
    assert _told(result)["Available"] == ("True", "Virtual")
    assert not standing_of(result.status).reached, "a router over this model waits as well"
    known = make_member("b", "True", "External", ready="Serving")
    assert _told(_status(make_model(**spec), make_member("a", "False", "Loading"), known))["Ready"][0] == "True"


def test_one_member_that_the_gateway_runs_is_enough() -> None:
    """A second member that the gateway has yet to take up does not make the first one unreachable."""
    new = make_member("b", "True", "External", ready="GatewayPending")
    assert _told(_status(make_model(**ROUTER), make_member("a"), new))["Ready"] == ("True", "Serving")


@pytest.mark.parametrize(("generation", "status"), [(1, "True"), (0, "False")])
def test_what_is_ready_stays_so_while_a_member_changes(generation: int, status: str) -> None:
    """A change of its only member does not make a router unready for a moment, unless the router changed as well."""
    present = {"type": "Ready", "status": "True", "reason": "Serving", "observedGeneration": generation}
    router = make_model(status={"conditions": [present]}, **ROUTER)
    assert router.generation == 1
    changed = make_member("a", ready="GatewayPending")
    assert _told(_status(router, changed, make_member("b", "False", "Loading")))["Ready"][0] == status


def test_of_a_member_that_is_gone_by_now_nothing_is_known() -> None:
    """The verdict may be older than the snapshot."""
    model, a = make_model("router", **ROUTER), make_member("a")
    verdict = compile_gateway([model, a, make_member("b")]).verdicts[model.key]
    members = gather_members(model, verdict, Snapshot(models={one.key: one for one in (model, a)}))
    assert [member.standing for member in members.all] == [standing_of(a.status), UNKNOWN]
