"""Who has which name: the one in the live config, then the older one; what is reserved, and what is allowed."""

from dataclasses import replace

import pytest

from capstan_contract.config import ModelEntry
from capstan_contract.reading import join_config
from capstan_contract.sharding import split_config
from capstan_operator.api.kinds import Model
from capstan_operator.desired import compile
from capstan_operator.desired.compile import Compiler, compile_gateway
from capstan_operator.desired.live import LiveConfig, reserved_by_status
from capstan_operator.desired.name_rules import ONE_TENANT, NameRules
from capstan_operator.desired.types import CompiledGateway
from capstan_operator.resources.resource import ObjectKey
from support.plainmodels import as_deleting, make_model

OLD, YOUNG = "2025-01-01T00:00:00Z", "2026-02-01T00:00:00Z"
A, B = ObjectKey("a", "one"), ObjectKey("b", "two")


def _one(created: str = YOUNG, **model: object) -> Model:
    return make_model("one", namespace="a", created=created, model=model)


def _two(created: str = YOUNG, **model: object) -> Model:
    return make_model("two", namespace="b", created=created, model=model)


def _live(*models: Model, **fields: object) -> LiveConfig:
    compiled = compile_gateway(models, **fields)  # type: ignore[arg-type]
    return LiveConfig.of(compiled.config, compiled.reserved)


def _entry(compiled: CompiledGateway, key: ObjectKey) -> ModelEntry:
    return next(entry for entry in compiled.config.models if entry.id == str(key))


@pytest.mark.parametrize("claim", [{"aliases": ["gpt"]}, {"servedName": "gpt"}])
def test_an_older_model_takes_no_name_from_the_one_that_has_it(claim: dict[str, object]) -> None:
    """Whoever is live keeps its name, whatever the creation timestamps say."""
    mine = _one(servedName="gpt")
    compiled = compile_gateway([mine, _two(OLD, **claim)], live=_live(mine))
    assert _entry(compiled, A).servedName == "gpt"
    assert "belongs to the LLMModel 'a/one'" in compiled.verdicts[B].message


def test_a_restored_backup_changes_no_owner() -> None:
    """New uids and creation times of everything, in whatever order, leave the names where they are."""
    mine, other = _one(servedName="gpt"), _two(OLD, aliases=["gpt"])
    live = _live(mine)
    restored = [replace(mine, uid="new", created="2026-09-02T00:00:00Z"), replace(other, uid="new too")]
    assert _entry(compile_gateway(restored, live=live), A).servedName == "gpt"


def test_only_the_losing_alias_is_dropped() -> None:
    """A model that loses an alias or the name of an adapter serves without it, and says whose the name is."""
    mine = _one(OLD, aliases=["x", "y"])
    other = make_model(
        "two",
        namespace="b",
        created=YOUNG,
        model={"aliases": ["x", "z"]},
        adapters=[{"name": "l", "source": "hf://a/l", "servedName": "y"}, {"name": "m", "source": "hf://a/m"}],
    )
    compiled = compile_gateway([mine, other])
    entry, verdict = _entry(compiled, B), compiled.verdicts[B]
    assert (entry.aliases, [one.servedName for one in entry.adapters]) == (("z",), ["two:m"])
    assert verdict.accepted
    assert [(one.field, one.name, one.reason) for one in verdict.lost_names] == [
        ("spec.model.aliases", "x", "Conflicted"),
        ("spec.adapters", "y", "Conflicted"),
    ]
    assert verdict.message == (
        "served by the gateway's config, with less than it names: the name 'x' belongs to the LLMModel 'a/one';"
        " the name 'y' belongs to the LLMModel 'a/one'"
    )


def test_a_model_without_its_served_name_claims_nothing() -> None:
    """What a loser names besides goes to the next one, whatever their ages."""
    loser = _two(OLD, servedName="gpt", aliases=["free"])
    young = make_model("c", namespace="c", created="2026-03-01T00:00:00Z", model={"servedName": "free"})
    compiled = compile_gateway([_one(servedName="gpt"), loser, young], live=_live(_one(servedName="gpt")))
    assert {entry.id for entry in compiled.config.models} == {"a/one", "c/c"}
    assert compiled.verdicts[B].reason == "Conflicted"


@pytest.mark.parametrize("gone", [(), (as_deleting(_one(servedName="gpt")),), (_one(servedName="other"),)])
def test_a_name_that_is_given_up_is_free(gone: tuple[Model, ...]) -> None:
    """A model that is gone, going, or has another name now holds nothing back."""
    compiled = compile_gateway([*gone, _two(aliases=["gpt"])], live=_live(_one(servedName="gpt")))
    assert _entry(compiled, B).aliases == ("gpt",)


def test_a_virtual_model_keeps_its_name_while_its_members_are_away() -> None:
    """Its name is reserved although no entry is live: an older model does not get it meanwhile."""
    router = make_model("r", namespace="a", created=YOUNG, router={"members": [{"name": "gone"}]})
    live = _live(router)
    assert live.holders == {"r": router.key}
    compiled = compile_gateway([router, _two(OLD, aliases=["r"])], live=live)
    assert _entry(compiled, B).aliases == ()


def test_auto_is_reserved() -> None:
    """No model is served as `auto`, and none has it as an alias, not even one that had it in the live config."""
    named, aliased = make_model("auto", namespace="a"), _two(aliases=["auto", "x"])
    compiled = compile_gateway([named, aliased])
    assert (compiled.verdicts[named.key].accepted, compiled.verdicts[named.key].reason) == (False, "NameReserved")
    assert _entry(compiled, B).aliases == ("x",)
    assert [one.reason for one in compiled.verdicts[B].lost_names] == ["NameReserved"]
    assert compiled.config.hash == compile_gateway([aliased]).config.hash


RULES = NameRules(allowed={"a": ("team-a-*", "one"), "*": ("two", "*-shared")})


def test_names_of_a_namespace_are_bound_by_patterns() -> None:
    """A namespace claims what its patterns allow; those that are not listed, what "*" allows."""
    mine, other = _one(aliases=["team-a-x", "team-b-x"]), _two(aliases=["y-shared", "team-a-y"])
    compiled = compile_gateway([mine, other], rules=RULES)
    assert _entry(compiled, A).aliases == ("team-a-x",)
    assert _entry(compiled, B).aliases == ("y-shared",)
    assert [one.message for one in compiled.verdicts[A].lost_names] == [
        "the name 'team-b-x' is not allowed in the namespace 'a' (allowed: 'team-a-*', 'one')"
    ]
    foreign = make_model("three", namespace="c")
    assert compile_gateway([foreign], rules=RULES).verdicts[foreign.key].reason == "NameNotAllowed"
    assert compile_gateway([foreign], rules=NameRules(allowed={"a": ()})).verdicts[foreign.key].accepted


def _with_fallbacks(*names: str) -> Model:
    return make_model("one", namespace="a", serving={"fallbacks": list(names)})


def test_fallbacks_stay_within_the_namespace_and_the_install_namespace() -> None:
    """A model of another namespace that has the name of a fallback gets no prompts."""
    models = [
        _with_fallbacks("mine", "shared", "theirs", "nobodys"),
        make_model("mine", namespace="a"),
        make_model("shared", namespace="system"),
        make_model("theirs", namespace="b"),
    ]
    compiled = compile_gateway(models, rules=NameRules(shared_namespace="system"))
    assert _entry(compiled, A).fallbacks == ("mine", "shared")
    lost = compiled.verdicts[A].lost_fallbacks
    assert [(one.name, one.needs_person) for one in lost] == [("theirs", True), ("nobodys", False)]
    assert compiled.verdicts[A].accepted
    across = compile_gateway(models, rules=ONE_TENANT)
    assert _entry(across, A).fallbacks == ("mine", "shared", "theirs")


def test_a_faulty_edit_keeps_the_last_accepted_entry() -> None:
    """A running model that is edited into a fault stays as it was accepted, with its names, and is said to be kept."""
    before = _one(OLD, servedName="gpt", aliases=["x"])
    live = _live(before)
    faulty = replace(make_model("one", namespace="a", generation=2, replicas=-1), uid=before.uid, status=_accepted())
    compiled = compile_gateway([faulty, _two("2024-01-01T00:00:00Z", aliases=["x"])], live=live)
    kept = _entry(compiled, A)
    assert (kept.servedName, kept.aliases, _entry(compiled, B).aliases) == ("gpt", ("x",), ())
    verdict = compiled.verdicts[A]
    assert (verdict.accepted, verdict.reason, verdict.kept, verdict.served) == (False, "Invalid", True, True)


def _accepted() -> dict[str, object]:
    return {"conditions": [{"type": "Accepted", "status": "True"}]}


def test_another_object_of_the_name_keeps_nothing() -> None:
    """A faulty model that was made anew does not get what the deleted one of its name had."""
    live = LiveConfig({"a/one": compile_gateway([_one()]).config.models[0].model_copy(update={"uid": "former"})})
    faulty = make_model("one", namespace="a", replicas=-1, status=_accepted())
    compiled = compile_gateway([faulty], live=live)
    assert compiled.config.models == ()
    assert not compiled.verdicts[A].kept


def test_a_virtual_model_goes_on_with_a_kept_member_and_when_it_is_kept_itself() -> None:
    """A faulty edit of a member or a router takes neither out; a kept router does without members that are gone."""
    router = make_model("r", router={"members": [{"name": "m"}, {"name": "n"}]})
    m, n = make_model("m"), make_model("n")
    live = _live(router, m, n)
    faulty = make_model("m", replicas=-1, status=_accepted())
    compiled = compile_gateway([router, faulty, n], live=live)
    assert {entry.id for entry in compiled.config.models} == {"team/m", "team/n", "team/r"}
    assert compiled.verdicts[router.key].left_out == ()
    broken = replace(make_model("r", router={"members": []}), status=_accepted())
    compiled = compile_gateway([broken, m], live=live)
    kept = _entry(compiled, router.key)
    assert [one.model for one in kept.backend.members] == ["team/m"]  # type: ignore[union-attr]
    assert compiled.verdicts[router.key].kept_backend == "Router"
    compiled = compile_gateway([broken], live=live)
    assert (compiled.config.models, compiled.verdicts[router.key].kept) == ((), False)


def test_a_kept_hosted_model_keeps_its_credential() -> None:
    """Where the key came from cannot be known any more, so the file stays as it is."""
    external = {"provider": "OpenAI", "url": "https://x.example/v1", "secretRef": {"name": "s", "key": "k"}}
    hosted = make_model("one", namespace="a", external=external)
    faulty = make_model("one", namespace="a", external={**external, "provider": "Newer"}, status=_accepted())
    compiled = compile_gateway([faulty], live=_live(hosted))
    (endpoint,) = _entry(compiled, hosted.key).backend.endpoints  # type: ignore[union-attr]
    assert (dict(compiled.credentials), compiled.kept_credentials) == ({}, {endpoint.credentialFile})
    assert compile_gateway([hosted]).credentials.keys() == compiled.kept_credentials


def test_what_is_live_of_a_namespace_that_cannot_be_read_stays() -> None:
    """Its entries, its names and its credentials, though nothing is known of its models; elsewhere an entry without a
    model goes."""
    external = {"provider": "OpenAI", "url": "https://x.example/v1", "secretRef": {"name": "s", "key": "k"}}
    away = make_model("one", namespace="away", external=external)
    virtual = make_model("r", namespace="away", router={"members": [{"name": "one"}]})
    gone = make_model("gone", namespace="here")
    rival = make_model("rival", namespace="here", model={"servedName": "one"}, created="2020-01-01T00:00:00Z")
    live = _live(away, virtual, gone)
    compiled = Compiler().compile([rival], live=live, unread=frozenset({"away"}))
    assert {(entry.id, entry.servedName) for entry in compiled.config.models} == {("away/one", "one"), ("away/r", "r")}
    assert (compiled.verdicts[rival.key].accepted, compiled.verdicts[rival.key].reason) == (False, "Conflicted")
    assert compiled.kept_credentials == compile_gateway([away]).credentials.keys()
    assert compile_gateway([rival], live=live).config.models[0].id == "here/rival"


def test_an_entry_that_has_not_changed_is_the_same_object() -> None:
    """The second compile makes anew only what has changed."""
    compiler, models = Compiler(), [make_model(name) for name in ("a", "b")]
    first = compiler.compile(models)
    changed = make_model("b", generation=2, serving={"weight": 3})
    second = compiler.compile([models[0], changed])
    assert second.config.models[0] is first.config.models[0]
    assert second.config.models[1].weight == 3


def test_the_entry_of_a_virtual_model_is_the_same_object_while_its_members_are() -> None:
    """It is made from theirs each time, and nobody who has looked at it has to look again."""
    compiler = Compiler()
    router, member = make_model("r", router={"members": [{"name": "m"}]}), make_model("m")
    first = _entry(compiler.compile([router, member]), router.key)
    assert _entry(compiler.compile([router, member]), router.key) is first
    other = make_model("m", generation=2, serving={"contextWindow": 9})
    wider = _entry(compiler.compile([router, other]), router.key)
    assert (wider.contextWindow, first.contextWindow) == (9, None)


def test_a_status_reserves_a_name_only_for_what_the_model_is_now() -> None:
    """What was said of an older generation, or while another model has the name, says nothing about it."""
    lacking = {"observedGeneration": 1, "conditions": [{"type": "Accepted", "status": "False"}]}
    lacking["conditions"][0]["reason"] = "MembersMissing"  # type: ignore[index]
    router = make_model("r", model={"aliases": ["x"]}, router={"members": [{"name": "gone"}]}, status=lacking)
    assert reserved_by_status([router]) == {"r": router.key, "x": router.key}
    assert reserved_by_status([replace(router, generation=2)]) == {}
    assert reserved_by_status([as_deleting(router)]) == {}
    live = LiveConfig.of(compile_gateway([_two(servedName="r")]).config, reserved_by_status([router]))
    assert live.holders["r"] == B


ROUTED = {"model": {"aliases": ["x"]}, "router": {"members": [{"name": "m"}]}}


def test_names_of_a_router_without_members_are_in_the_config() -> None:
    """All of them, for whoever reads the config next: nobody older gets one, and they are there when members are."""
    router, member = make_model("r", namespace="a", created=YOUNG, **ROUTED), make_model("m", namespace="a")
    alone = compile_gateway([router], live=_live(router, member))
    assert alone.config.reserved == {"r": "a/r", "x": "a/r"}
    live = LiveConfig.of(join_config(split_config(alone.config)))
    thief = _two(OLD, aliases=["x", "r", "y"])
    compiled = compile_gateway([router, thief], live=live)
    assert _entry(compiled, B).aliases == ("y",)
    back = compile_gateway([router, thief, member], live=LiveConfig.of(compiled.config))
    assert _entry(back, router.key).aliases == ("x",)
    assert back.config.reserved == {}
    assert compile_gateway([thief], live=live).config.reserved == {}, "one that is deleted reserves nothing"


def test_a_faulty_router_without_members_keeps_its_names() -> None:
    """Whatever is wrong with it: nobody takes a name for that, however often it is compiled."""
    router, member = make_model("r", namespace="a", created=YOUNG, **ROUTED), make_model("m", namespace="a")
    live = _live(router, member)
    broken = make_model("r", namespace="a", created=YOUNG, generation=2, router={"members": []})
    for _ in range(3):
        compiled = compile_gateway([broken, _two(OLD, aliases=["x", "r"])], live=live)
        assert _entry(compiled, B).aliases == ()
        assert compiled.config.reserved == {"r": "a/r", "x": "a/r"}
        live = LiveConfig.of(compiled.config)


def test_reserved_names_of_a_namespace_that_cannot_be_read_stay() -> None:
    """Nobody knows whether its router is there still."""
    router = make_model("r", namespace="a", **ROUTED)
    live = _live(router)
    compiled = Compiler().compile([_two(OLD, aliases=["x"])], live=live, unread=frozenset({"a"}))
    assert (_entry(compiled, B).aliases, compiled.config.reserved) == (
        (),
        live.reserved_for and {"r": "a/r", "x": "a/r"},
    )


def test_what_is_reserved_has_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tenant's names keep the config from fitting; those that are reserved go before new ones."""
    monkeypatch.setattr(compile, "MOST_RESERVED_BYTES", 20)
    first = make_model("z", namespace="a", router={"members": [{"name": "gone"}]})
    live = _live(first)
    many = [make_model(f"r{number}", namespace="b", router={"members": [{"name": "gone"}]}) for number in range(9)]
    reserved = compile_gateway([first, *many], live=live).config.reserved
    assert reserved == {"r0": "b/r0", "r1": "b/r1", "z": "a/z"}


def test_a_namespace_s_names_are_bound_although_a_manifest_is_faulty() -> None:
    """A rule does not end where an edit is faulty: a served name takes the entry out, another one goes from it."""
    before = [make_model("one", namespace="a", model={"servedName": "gpt"}), _two(aliases=["auto-x", "y-shared"])]
    live = _live(*before)
    faulty = [make_model("one", namespace="a", replicas=-1), make_model("two", namespace="b", replicas=-1)]
    compiled = compile_gateway(faulty, live=live, rules=RULES)
    assert (_entry(compiled, B).aliases, compiled.verdicts[A].served) == (("y-shared",), False)
    assert [one.name for one in compiled.verdicts[B].lost_names] == ["auto-x"]
    assert "'gpt' is not allowed" in compiled.verdicts[A].message
    unread = Compiler().compile([], live=live, rules=RULES, unread=frozenset("ab"))
    assert [(entry.id, entry.aliases) for entry in unread.config.models] == [("b/two", ("y-shared",))]


def test_auto_is_no_name_of_a_faulty_model() -> None:
    """Whoever has it from the first release gives it up, faulty or not."""
    entry = compile_gateway([_two()]).config.models[0].model_copy(update={"servedName": "auto"})
    faulty = make_model("two", namespace="b", replicas=-1)
    assert compile_gateway([faulty], live=LiveConfig({entry.id: entry})).config.models == ()


def test_an_entry_of_the_first_release_is_of_the_object_that_was_made_when_it_says() -> None:
    """It has no uid; no status is needed, so a failed first write drops nothing."""
    faulty = make_model("one", namespace="a", replicas=-1, created=YOUNG)
    entry = _live(_one()).entries["a/one"].model_copy(update={"uid": ""})
    compiled = compile_gateway([faulty], live=LiveConfig({"a/one": entry}))
    assert _entry(compiled, A).uid == faulty.uid
    later = replace(faulty, created="2026-05-01T00:00:00Z")
    assert compile_gateway([later], live=LiveConfig({"a/one": entry})).config.models == ()


def test_auto_may_choose_the_models_of_some_namespaces_alone() -> None:
    """Where an administrator says so, those of others are not among its choices, kept ones neither."""
    rules = NameRules(auto_namespaces=("system", "a*"))
    compiled = compile_gateway([_one(), _two()], rules=rules)
    assert {entry.id: entry.auto for entry in compiled.config.models} == {"a/one": True, "b/two": False}
    kept = compile_gateway([make_model("two", namespace="b", replicas=-1)], live=_live(_two()), rules=rules)
    assert not _entry(kept, B).auto
    compiler, models = Compiler(), [_two()]
    assert compiler.compile(models).config.models[0].auto
    assert not compiler.compile(models, rules=rules).config.models[0].auto
