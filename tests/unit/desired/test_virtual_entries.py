from typing import Any

import pytest

from capstan_contract.config import (
    Backend,
    CascadeBackend,
    CascadeEstimator,
    EstimatorType,
    ExternalBackend,
    ExternalEndpoint,
    ModelEntry,
    Provider,
    RouterBackend,
    RouterMember,
    StaticBackend,
    StickyBy,
    Strategy,
)
from capstan_operator.api.kinds import Model
from capstan_operator.desired.compile import compile_gateway
from capstan_operator.desired.members import find_left_out, virtual_backend
from capstan_operator.desired.model import build_model
from capstan_operator.desired.naming import credential_file, owner_of_credential
from capstan_operator.desired.types import CompiledGateway, Verdict
from capstan_operator.resources.resource import ObjectKey
from support.plainmodels import SETTINGS, as_deleting, make_model, snapshot_of

YOUNG = "2026-06-01T00:00:00Z"


def _router(name: str, *members: str, **fields: Any) -> Model:
    spec = {"members": [{"name": member} for member in members], **fields.pop("router", {})}
    return make_model(name, router=spec, **fields)


def _cascade(name: str, *members: str, **fields: Any) -> Model:
    spec = {"members": [{"name": member} for member in members], **fields.pop("cascade", {})}
    return make_model(name, cascade=spec, **fields)


def _compile(*models: Model) -> CompiledGateway:
    assert [model.faults for model in models] == [()] * len(models)
    return compile_gateway(models)


def _backend(compiled: CompiledGateway, name: str) -> Backend:
    return next(entry.backend for entry in compiled.config.models if entry.id == f"team/{name}")


def _entry(compiled: CompiledGateway, name: str) -> ModelEntry:
    return next(entry for entry in compiled.config.models if entry.id == f"team/{name}")


def _verdict(compiled: CompiledGateway, name: str) -> Verdict:
    return compiled.verdicts[ObjectKey("team", name)]


def test_router_names_its_members_by_id() -> None:
    """A router's entry has its strategy, and its members by id with weight and priority, sorted."""
    members = [{"name": "b", "weight": 10}, {"name": "a", "weight": 90, "priority": 3}]
    router = make_model("r", router={"strategy": "Weighted", "stickyBy": "Session", "members": members})
    compiled = _compile(router, make_model("a"), make_model("b"))
    assert _backend(compiled, "r") == RouterBackend(
        strategy=Strategy.WEIGHTED,
        stickyBy=StickyBy.SESSION,
        members=(
            RouterMember(model="team/a", weight=90, priority=3),
            RouterMember(model="team/b", weight=10, priority=0),
        ),
    )
    assert _verdict(compiled, "r").left_out == ()


def test_cascade_keeps_the_order_of_its_members() -> None:
    """A cascade's entry has its members in the order of the spec, its threshold, bound and judge."""
    estimator = {"type": "Ensemble", "judge": {"name": "j", "timeoutSeconds": 3}}
    cascade = _cascade("c", "z", "a", cascade={"threshold": "0.75", "maxCost": "0.02", "estimator": estimator})
    compiled = _compile(cascade, make_model("a"), make_model("z"), make_model("j"))
    assert _backend(compiled, "c") == CascadeBackend(
        members=("team/z", "team/a"),
        threshold=0.75,
        maxCost=0.02,
        estimator=CascadeEstimator(type=EstimatorType.ENSEMBLE, judge="team/j", judgeTimeoutSeconds=3),
    )


def test_defaults_of_a_cascade() -> None:
    """Without more words a cascade checks answers, wants a half, and has no bound."""
    compiled = _compile(_cascade("c", "a", "b"), make_model("a"), make_model("b"))
    assert _backend(compiled, "c") == CascadeBackend(members=("team/a", "team/b"))


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (None, "does not exist"),
        (as_deleting(make_model("b")), "is being deleted"),
        (make_model("b", replicas=-1), "has a faulty spec"),
        (_router("b", "a"), "is a router itself"),
        (make_model("b", model={"task": "embed"}), "has the task embed, not chat"),
        (make_model("b", created=YOUNG, model={"servedName": "a"}), "is not accepted (Conflicted)"),
        (make_model("b", namespace="other"), "does not exist"),
        (_cascade("b", "x", "y"), "is not accepted (MembersMissing)"),
    ],
)
def test_member_that_cannot_answer_is_left_out_and_named(other: Model | None, reason: str) -> None:
    """The rest of a router serves; its verdict says which field names whom, and what is wrong with it."""
    models = [_router("r", "a", "b"), make_model("a"), *([other] if other else [])]
    compiled = compile_gateway(models)
    assert _backend(compiled, "r") == RouterBackend(members=(RouterMember(model="team/a"),))
    verdict = _verdict(compiled, "r")
    assert verdict.accepted
    sentence = f"`spec.router.members[1].name` names the LLMModel 'b', which {reason}"
    assert [str(one) for one in verdict.left_out] == [sentence]
    assert verdict.message == f"served by the gateway's config, with less than it names: {sentence}"


def test_router_may_name_cascades() -> None:
    """A cascade is a member like any other of a router, whichever of the two is older."""
    models = [_router("r", "c"), _cascade("c", "a", "b", created=YOUNG), make_model("a"), make_model("b")]
    assert _backend(_compile(*models), "r") == RouterBackend(members=(RouterMember(model="team/c"),))


def test_cascade_asks_no_virtual_model() -> None:
    """A cascade in a cascade, and a router in one, are left out; one member is enough to go on."""
    models = [
        _cascade("c", "a", "other", "r"),
        _cascade("other", "a", "b"),
        _router("r", "a"),
        make_model("a"),
        make_model("b"),
    ]
    compiled = _compile(*models)
    assert _backend(compiled, "c") == CascadeBackend(members=("team/a",))
    assert [one.reason for one in _verdict(compiled, "c").left_out] == ["is a cascade itself", "is a router itself"]


def test_routers_that_name_each_other_have_no_members() -> None:
    """There are no cycles: a router in a router counts for nothing."""
    compiled = _compile(_router("r", "s"), _router("s", "r"))
    assert compiled.config.models == ()
    assert {verdict.reason for verdict in compiled.verdicts.values()} == {"MembersMissing"}


def test_virtual_model_without_members_is_not_accepted_and_keeps_its_name() -> None:
    """Nobody else answers under the name of a router while its members are away."""
    router = _router("r", "gone", model={"servedName": "chat"})
    young = make_model("a", created=YOUNG, model={"servedName": "chat"})
    compiled = _compile(router, young)
    assert compiled.config.models == ()
    verdict = _verdict(compiled, "r")
    assert (verdict.accepted, verdict.reason) == (False, "MembersMissing")
    assert verdict.message == (
        "none of its members can answer: `spec.router.members[0].name` names the LLMModel 'gone', which does not exist"
    )
    assert _verdict(compiled, "a").reason == "Conflicted"


@pytest.mark.parametrize(("type_", "accepted"), [("Judge", False), ("Ensemble", True)])
def test_judge_that_is_not_there(type_: str, accepted: bool) -> None:
    """Without its judge, a cascade of type Judge does not serve; an ensemble goes on without."""
    cascade = _cascade("c", "a", "b", cascade={"estimator": {"type": type_, "judge": {"name": "j"}}})
    compiled = _compile(cascade, make_model("a"), make_model("b"))
    verdict = _verdict(compiled, "c")
    assert (verdict.accepted, [one.field for one in verdict.left_out]) == (
        accepted,
        ["spec.cascade.estimator.judge.name"],
    )
    if accepted:
        backend = _backend(compiled, "c")
        assert isinstance(backend, CascadeBackend)
        assert backend.estimator == CascadeEstimator(type=EstimatorType.ENSEMBLE)
    else:
        assert verdict.message.startswith("its judge cannot answer: ")


def test_judge_of_completions_is_a_chat_model() -> None:
    """A judge is asked in a chat, whatever the task of the cascade is."""
    completion = {"task": "completion"}
    cascade = _cascade(
        "c", "a", "b", model=completion, cascade={"estimator": {"type": "Judge", "judge": {"name": "j"}}}
    )
    members = [make_model(name, model=completion) for name in ("a", "b")]
    assert _verdict(_compile(cascade, *members, make_model("j")), "c").accepted
    assert not _verdict(_compile(cascade, *members, make_model("j", model=completion)), "c").accepted


def test_virtual_model_can_do_what_its_members_can() -> None:
    """Capabilities are the union and limits the largest of the members', also through a cascade in a router."""
    models = [
        make_model("a", serving={"capabilities": ["Tools"], "contextWindow": 8, "maxOutputTokens": 4}),
        make_model("b", serving={"capabilities": ["Vision"], "contextWindow": 16, "maxOutputTokens": 2}),
        make_model("d", serving={"contextWindow": 4}),
        _cascade("c", "a", "b"),
        _router("r", "c", "d"),
    ]
    entry = _entry(_compile(*models), "r")
    assert (entry.capabilities, entry.contextWindow, entry.maxOutputTokens) == (("Tools", "Vision"), 16, None)
    assert entry.price is None


def test_virtual_model_says_itself_what_it_can_do() -> None:
    """What `serving` of a virtual model says beats what its members say."""
    serving = {"capabilities": ["Tools"], "contextWindow": 4, "maxOutputTokens": 2}
    member = make_model("a", serving={"capabilities": ["Vision"], "contextWindow": 8, "maxOutputTokens": 4})
    entry = _entry(_compile(_router("r", "a", serving=serving), member), "r")
    assert (entry.capabilities, entry.contextWindow, entry.maxOutputTokens) == (("Tools",), 4, 2)


def test_local_mode_says_only_where_engines_are() -> None:
    """Whoever says where models are answered is not asked about virtual ones."""
    asked = []

    def where(model: Model) -> Backend:
        asked.append(model.key.name)
        return StaticBackend(urls=())

    compiled = compile_gateway([_router("r", "a"), make_model("a")], backend_of=where)
    assert asked == ["a"]
    assert isinstance(_backend(compiled, "r"), RouterBackend)


@pytest.mark.parametrize("model", [_router("r", "a"), _cascade("c", "a", "b")])
def test_virtual_model_owns_nothing(model: Model) -> None:
    """A virtual model has no objects, and what it had is pruned."""
    desired = build_model(model, snapshot_of(model), SETTINGS)
    assert (desired.wanted, desired.faults) == ((), ())


def test_endpoints_of_a_hosted_model() -> None:
    """Each endpoint has its place, share, region and credential; lower priorities come first, then names."""
    eu, eu_2 = (
        credential_file(
            ObjectKey("team", "gpt"),
            name,
            uid="uid-team-gpt",
            secret="keys",
            secret_key=key,
            url=f"https://{name}.example.com",
        )
        for name, key in (("eu", "a"), ("eu-2", "b"))
    )
    endpoints = [
        {"name": "us", "url": "https://us.example.com/v1", "priority": 1},
        {"name": "eu-2", "url": "https://eu-2.example.com/v1", "weight": 0, "secretRef": {"name": "keys", "key": "b"}},
        {
            "name": "eu",
            "url": "https://eu.example.com/v1",
            "region": "eu-central",
            "secretRef": {"name": "keys", "key": "a"},
        },
    ]
    compiled = _compile(make_model("gpt", external={"provider": "Anthropic", "endpoints": endpoints}))
    assert _backend(compiled, "gpt") == ExternalBackend(
        provider=Provider.ANTHROPIC,
        endpoints=(
            ExternalEndpoint(name="eu", url="https://eu.example.com/v1", region="eu-central", credentialFile=eu),
            ExternalEndpoint(name="eu-2", url="https://eu-2.example.com/v1", weight=0, credentialFile=eu_2),
            ExternalEndpoint(name="us", url="https://us.example.com/v1", priority=1),
        ),
    )
    assert compiled.credentials == {eu: ("team", "keys", "a"), eu_2: ("team", "keys", "b")}


@pytest.mark.parametrize("endpoint", [None, "eu"])
def test_credential_file_tells_whose_it_is(endpoint: str | None) -> None:
    """From the name of a credential's file follow the model and the endpoint."""
    key = ObjectKey("team", "gpt")
    assert owner_of_credential(credential_file(key, endpoint)) == (key, endpoint)


def test_a_virtual_model_without_members_tells_of_its_lost_names_too() -> None:
    """One look is enough to put both right."""
    router = _router("r", "gone", model={"aliases": ["a"]}, created=YOUNG)
    verdict = _verdict(_compile(router, make_model("a")), "r")
    assert verdict.reason == "MembersMissing"
    assert [one.name for one in verdict.lost_names] == ["a"]


def test_an_ensemble_without_its_judge_has_none_to_wait_for() -> None:
    """It goes on with what else it has."""
    estimator = {"type": "Ensemble", "judge": {"name": "gone", "timeoutSeconds": 3}}
    compiled = _compile(_cascade("c", "a", "b", cascade={"estimator": estimator}), make_model("a"), make_model("b"))
    backend = _backend(compiled, "c")
    assert isinstance(backend, CascadeBackend)
    assert backend.estimator == CascadeEstimator(type=EstimatorType.ENSEMBLE)


def test_a_router_may_write_as_much_as_the_member_that_may_write_most() -> None:
    """And nobody knows how much when that of one is not known."""
    a, b = make_model("a", serving={"maxOutputTokens": 5}), make_model("b", serving={"maxOutputTokens": 7})
    assert _entry(_compile(_router("r", "a", "b"), a, b), "r").maxOutputTokens == 7
    assert _entry(_compile(_router("r", "a", "b"), a, make_model("b")), "r").maxOutputTokens is None


def test_a_model_that_is_not_virtual_has_no_members() -> None:
    """Who asks for them has made a mistake, and so has who asks before a member is judged."""
    with pytest.raises(ValueError, match="'team/a' is not virtual"):
        virtual_backend(make_model("a"), ())
    member = make_model("a")
    with pytest.raises(ValueError, match="the verdict on 'team/a' is not given yet"):
        find_left_out(_router("r", "a"), {member.key: member}, {}, {})
