"""What is kept of a model whose edit is faulty: whose entry it is, under which names, with which members."""

from dataclasses import replace
from typing import Any

import pytest

from capstan_contract.config import CascadeBackend, ModelEntry, RouterBackend, StaticBackend
from capstan_operator.api.kinds import Model
from capstan_operator.desired import candidates
from capstan_operator.desired.candidates import NOWHERE, Drafts
from capstan_operator.desired.compile import Compiler, compile_gateway
from capstan_operator.desired.live import LiveConfig
from capstan_operator.desired.name_rules import NameRules
from capstan_operator.desired.types import CompiledGateway
from support.plainmodels import make_model

BACKEND = StaticBackend(urls=("http://127.0.0.1:1",))
CREATED = "2026-01-01T00:00:00Z"


def _faulty(name: str = "llama", **options: Any) -> Model:
    return make_model(name, generation=2, replicas=-1, **options)


def _former(**update: Any) -> LiveConfig:
    """Give a live config of an earlier release, which wrote no uid."""
    entry = compile_gateway([make_model()]).config.models[0].model_copy(update={"uid": "", **update})
    return LiveConfig({entry.id: entry})


def test_a_draft_is_remembered_while_nothing_of_it_has_changed() -> None:
    """Another object, generation or time of creation, another spec and another backend make another one."""
    drafts, model = Drafts(), make_model()
    first = drafts.draft(model, BACKEND, auto=True)
    assert drafts.draft(replace(model, status={"any": "thing"}), BACKEND, auto=True) is first
    assert drafts.draft(replace(model, uid="other"), BACKEND, auto=True).uid == "other"
    assert drafts.draft(replace(model, created="2026-02-01T00:00:00Z"), BACKEND, auto=True).created > first.created
    assert drafts.draft(make_model(serving={"weight": 7}), BACKEND, auto=True).weight == 7
    assert drafts.draft(make_model(), NOWHERE, auto=True).backend == NOWHERE
    assert not drafts.draft(make_model(), NOWHERE, auto=False).auto
    assert drafts.draft(make_model(), NOWHERE, auto=True).auto


def test_drafts_of_models_that_are_gone_are_forgotten() -> None:
    """What is remembered has the bounds of what there is."""
    drafts, one, other = Drafts(), make_model("a"), make_model("b")
    kept = drafts.draft(one, BACKEND, auto=True)
    drafts.draft(other, BACKEND, auto=True)
    drafts.keep_only([one.key])
    assert list(drafts.known) == [one.key]
    assert drafts.draft(one, BACKEND, auto=True) is kept


@pytest.mark.parametrize(
    ("created", "model_created", "conditions", "keeps"),
    [
        (1767225600, CREATED, [], True),
        (1767225600, "2026-01-01T00:00:01Z", [], False),
        (0, "", [], False),
        (0, CREATED, [{"type": "Accepted", "status": "True"}], True),
        (0, CREATED, [{"type": "Ready"}, "odd", {"type": "Accepted", "status": "True"}], True),
        (0, CREATED, [{"type": "Accepted", "status": "False"}, {"type": "Ready", "status": "True"}], False),
        (0, CREATED, [{"type": "Ready", "status": "True"}], False),
        (0, CREATED, [{"status": "True"}, {"type": "Accepted"}], False),
        (0, CREATED, "odd", False),
        (0, CREATED, None, False),
    ],
)
def test_an_entry_without_a_uid_is_of_whoever_was_made_then_or_was_accepted(
    created: int, model_created: str, conditions: Any, keeps: bool
) -> None:
    """A time that neither of them knows is the same for nobody, and only the condition Accepted counts."""
    model = replace(_faulty(status={"conditions": conditions}), created=model_created)
    compiled = compile_gateway([model], live=_former(created=created))
    assert [entry.id for entry in compiled.config.models] == (["team/llama"] if keeps else [])


def test_a_kept_entry_of_an_earlier_release_says_from_now_on_whose_it_is() -> None:
    """And nothing of a generation, which the config of this release does not depend on."""
    (entry,) = compile_gateway([_faulty()], live=_former(generation=3)).config.models
    assert (entry.uid, entry.generation) == (make_model().uid, 0)


def test_a_kept_name_is_judged_by_the_rules_of_its_own_namespace() -> None:
    """Not by those of the namespaces that are not listed."""
    live = LiveConfig.of(compile_gateway([make_model()]).config)
    own, others = NameRules(allowed={"team": ("llama",), "*": ()}), NameRules(allowed={"team": (), "*": ("llama",)})
    assert compile_gateway([_faulty()], live=live, rules=own).config.models
    assert not compile_gateway([_faulty()], live=live, rules=others).config.models


def test_what_a_release_begins_to_refuse_serves_on() -> None:
    """A manifest that was accepted, and that nobody has changed, keeps its entry; its condition says the fault."""
    cache = {"isolation": "Tenant"}
    live = LiveConfig.of(compile_gateway([make_model(engine={"image": "own:v0.8.5", "kvCache": cache})]).config)
    model = make_model(engine={"image": "vllm/vllm-openai:v0.8.5", "kvCache": cache})
    compiled = compile_gateway([model], live=live)
    assert [entry.id for entry in compiled.config.models] == ["team/llama"]
    assert not compiled.verdicts[model.key].accepted
    assert "spec.engine.kvCache.isolation" in compiled.verdicts[model.key].message


def test_what_the_contract_refuses_is_said_of_the_spec() -> None:
    """Where in the entry, and what is wrong with it."""
    model = make_model()
    compiled = compile_gateway([model], backend_of=lambda _: StaticBackend(urls=("http://h:99999",)))
    assert compiled.verdicts[model.key].message.startswith("`spec` cannot be served by a gateway: ")


MEMBERS = tuple(make_model(name) for name in "abj")
JUDGE = {"type": "Judge", "judge": {"name": "j"}}
ENSEMBLE = {"type": "Ensemble", "judge": {"name": "j"}}
STATUS = {"conditions": [{"type": "Accepted", "status": "True"}]}


def _virtual(kind: str, *members: str, **spec: Any) -> Model:
    return make_model("v", **{kind: {"members": [{"name": name} for name in members], **spec}})


def _after(model: Model, *there: Model, before: tuple[Model, ...] = MEMBERS) -> CompiledGateway:
    """Compile a virtual model that is edited into a fault, with the models that are there now."""
    live = LiveConfig.of(compile_gateway([model, *before]).config)
    kind = "router" if model.spec and model.spec.router else "cascade"
    broken = make_model("v", generation=2, status=STATUS, **{kind: {"members": []}})
    return compile_gateway([broken, *there], live=live)


def _kept(compiled: CompiledGateway) -> ModelEntry | None:
    return next((entry for entry in compiled.config.models if entry.id == "team/v"), None)


def _asked(compiled: CompiledGateway) -> list[str] | None:
    entry = _kept(compiled)
    if entry is None:
        return None
    assert isinstance(entry.backend, RouterBackend | CascadeBackend)
    return [one if isinstance(one, str) else one.model for one in entry.backend.members]


A, B, J = MEMBERS


@pytest.mark.parametrize(
    ("estimator", "there", "asked"),
    [
        (JUDGE, (A, B, J), ["team/a", "team/b"]),
        (JUDGE, (B, J), ["team/b"]),
        (JUDGE, (J,), None),
        (JUDGE, (A, B), None),
        (ENSEMBLE, (A, J), ["team/a"]),
        ({"type": "LogProbability"}, (A, B), ["team/a", "team/b"]),
        ({"type": "LogProbability"}, (A,), ["team/a"]),
        ({"type": "LogProbability"}, (), None),
    ],
)
def test_a_kept_cascade_asks_the_members_that_are_left(
    estimator: dict[str, Any], there: tuple[Model, ...], asked: list[str] | None
) -> None:
    """Without any, or without its judge, there is nothing left of it to keep."""
    compiled = _after(_virtual("cascade", "a", "b", estimator=estimator), *there)
    assert _asked(compiled) == asked
    verdict = compiled.verdicts[make_model("v").key]
    assert (verdict.kept, verdict.kept_backend) == ((True, "Cascade") if asked else (False, ""))


def test_a_kept_virtual_model_does_without_members_that_have_become_virtual_themselves() -> None:
    """A cascade without every virtual one, a router without routers: it goes on with a cascade."""
    router = make_model("b", router={"members": [{"name": "a"}]})
    cascade = make_model("b", cascade={"members": [{"name": "a"}, {"name": "j"}]})
    for kind, became, asked in (
        ("router", router, ["team/a"]),
        ("router", cascade, ["team/a", "team/b"]),
        ("cascade", router, ["team/a"]),
        ("cascade", cascade, ["team/a"]),
    ):
        assert _asked(_after(_virtual(kind, "a", "b"), A, became, J)) == asked


def test_a_member_that_stays_is_judged_by_what_it_is_and_not_by_its_faulty_edit() -> None:
    """A kept router is one still, and so is a kept cascade."""
    for kind in ("router", "cascade"):
        live = LiveConfig.of(compile_gateway([_virtual(kind, "a", "b"), *MEMBERS]).config)
        broken = make_model("v", generation=2, status=STATUS, **{kind: {"members": []}})
        outer = make_model("z", **{kind: {"members": [{"name": "a"}, {"name": "v"}]}})
        compiled = compile_gateway([broken, outer, *MEMBERS], live=live)
        assert compiled.verdicts[broken.key].kept
        (left_out,) = compiled.verdicts[outer.key].left_out
        assert left_out.reason == f"is a {kind} itself"


def test_a_kept_router_promises_what_it_promised() -> None:
    """Nobody has said that it may have a larger window, though the member whose window is not known has gone."""
    a, b = make_model("a", serving={"contextWindow": 10}), make_model("b")
    compiled = _after(_virtual("router", "a", "b"), a, before=(a, b))
    kept = _kept(compiled)
    assert kept is not None
    assert (_asked(compiled), kept.contextWindow) == (["team/a"], None)


def test_reserved_names_are_judged_by_the_rules_of_their_own_namespace() -> None:
    """Those of a router that is faulty and has no member left; not by those of the namespaces that are not listed."""
    live = LiveConfig.of(compile_gateway([_virtual("router", "gone")]).config)
    broken = make_model("v", generation=2, status=STATUS, router={"members": []})
    own, others = NameRules(allowed={"team": ("v",), "*": ()}), NameRules(allowed={"team": (), "*": ("v",)})
    assert compile_gateway([broken], live=live, rules=own).config.reserved == {"v": "team/v"}
    assert compile_gateway([broken], live=live, rules=others).config.reserved == {}


def test_members_are_judged_before_whoever_names_them() -> None:
    """Whatever they are called, and whether they are as their specs say or stay as they were."""
    plain = [make_model(name) for name in ("m", "z")]
    faulty = make_model("z", generation=2, replicas=-1)
    asked = {"members": [{"name": "m"}, {"name": "z"}]}
    cascades = {name: make_model(name, cascade=asked) for name in ("a", "b")}
    routers = {name: make_model(name, router={"members": [{"name": "m"}, {"name": "zz"}]}) for name in ("a", "b")}
    inner = make_model("zz", cascade=asked)
    live = LiveConfig.of(compile_gateway([*plain, inner, cascades["b"], routers["a"]]).config)
    assert len(live.entries) == 5

    def left_out(*models: Model) -> dict[str, int]:
        verdicts = compile_gateway(models, live=live).verdicts
        return {key.name: len(verdict.left_out) for key, verdict in verdicts.items() if verdict.left_out}

    assert left_out(*plain, inner, cascades["b"], routers["a"]) == {}
    assert left_out(plain[0], faulty, cascades["b"], inner, routers["a"]) == {}
    broken = make_model("zz", generation=2, cascade={"members": []})
    assert left_out(*plain, broken, routers["a"]) == {}
    first = make_model("b", generation=2, cascade={"members": []})
    compiled = compile_gateway([*plain, first], live=live)
    assert {entry.id for entry in compiled.config.models} == {"team/m", "team/z", "team/b"}


def test_a_name_that_is_not_allowed_says_which_field_names_it() -> None:
    """That of an alias, or of an adapter."""
    adapters = [{"name": "x", "source": "hf://a/x", "servedName": "y"}]
    model = make_model(model={"aliases": ["x"]}, adapters=adapters)
    verdict = compile_gateway([model], rules=NameRules(allowed={"team": ("llama",)})).verdicts[model.key]
    assert [(one.field, one.name) for one in verdict.lost_names] == [
        ("spec.model.aliases", "x"),
        ("spec.adapters", "y"),
    ]


def test_a_model_without_a_spec_has_no_draft() -> None:
    """Whoever asks for one has not looked for faults."""
    with pytest.raises(ValueError, match="'team/llama' has no spec"):
        Drafts().draft(make_model(replicas=-1), BACKEND, auto=True)


def test_an_entry_that_is_too_large_costs_its_model_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not be the config that does not fit: what was accepted last stays, and what is wrong is said."""
    model, other = make_model("a"), make_model("b")
    live = LiveConfig.of(compile_gateway([model, other]).config)
    large = make_model("a", generation=2, model={"aliases": [f"{number}-{'x' * 50}" for number in range(16)]})
    monkeypatch.setattr(candidates, "MAX_ENTRY_BYTES", len(live.entries["team/b"].text) + 100)
    compiled = compile_gateway([large, other], live=live)
    verdict = compiled.verdicts[large.key]
    assert (verdict.reason, verdict.kept, compiled.verdicts[other.key].accepted) == ("Invalid", True, True)
    most = candidates.MAX_ENTRY_BYTES
    assert verdict.message == f"`spec` takes more than {most} bytes of a gateway's config"
    assert compiled.config.models[0].aliases == ()


def test_what_the_contract_refuses_keeps_what_was_accepted_last() -> None:
    """Like every other fault."""
    model = make_model()
    live = LiveConfig.of(compile_gateway([model]).config)
    compiled = compile_gateway([model], live=live, backend_of=lambda _: StaticBackend(urls=("http://h:99999",)))
    assert compiled.verdicts[model.key].kept
    assert [entry.id for entry in compiled.config.models] == ["team/llama"]


def test_what_is_kept_of_a_namespace_that_cannot_be_read_is_said_to_be_so() -> None:
    """It is of the object that it was of, and nothing of it is another one."""
    model = make_model()
    live = LiveConfig.of(compile_gateway([model]).config)
    compiled = Compiler().compile([], live=live, unread=frozenset({"team"}))
    assert {entry.id: entry for entry in compiled.config.models} == dict(live.entries)
    verdict = compiled.verdicts[model.key]
    assert (verdict.accepted, verdict.reason, verdict.message) == (False, "Unread", "its namespace cannot be read")
    assert (verdict.kept, verdict.kept_backend) == (True, "Service")


def test_what_is_live_of_a_model_whose_profile_cannot_be_read_stays() -> None:
    """All of it and nothing else: other models of its namespace are as they say, what was live of another object of its
    name goes, and one that was never served is not."""
    mine, plain, new = make_model("mine"), make_model("plain"), make_model("new")
    live = LiveConfig.of(compile_gateway([mine, plain]).config)
    renamed = make_model("plain", generation=2, model={"servedName": "other"})
    compiled = Compiler().compile([renamed], live=live, unread_models=[mine, new])
    entries = {entry.id: entry for entry in compiled.config.models}
    assert entries["team/mine"] == live.entries["team/mine"]
    assert entries["team/plain"].servedName == "other"
    assert entries.keys() == {"team/mine", "team/plain"}
    verdict = compiled.verdicts[mine.key]
    assert (verdict.accepted, verdict.kept, verdict.reason) == (False, True, "Unread")
    assert verdict.message == "its profile cannot be read"
    again = Compiler().compile([renamed], live=live, unread_models=[replace(mine, uid="another")])
    assert [entry.id for entry in again.config.models] == ["team/plain"]
