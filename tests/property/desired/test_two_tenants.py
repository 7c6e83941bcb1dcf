"""No manifest of one namespace changes what the names of another one reach."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.config import GatewayConfig, ModelEntry, referenced_models
from capstan_contract.reading import join_config
from capstan_contract.sharding import split_config
from capstan_operator.api.kinds import Model, Policy
from capstan_operator.desired.compile import Compiler, compile_gateway
from capstan_operator.desired.hold import decide_hold
from capstan_operator.desired.live import LiveConfig, names_of
from capstan_operator.desired.name_rules import NameRules
from capstan_operator.desired.types import CompiledGateway
from support.plainmodels import as_deleting, make_model
from support.plainpolicies import make_policy, named

RULES = NameRules(shared_namespace="system", auto_namespaces=("system", "mine"))
NAMES = st.sampled_from(["a", "b", "c", "d", "e", "f", "m0", "m1", "m2", "m0:x", "auto"])
TIMES = st.sampled_from(["2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"])
MEMBERS = st.lists(st.sampled_from(["m0", "m1", "m2", "m3"]), min_size=2, max_size=3, unique=True)


@st.composite
def _model(draw: st.DrawFn, namespace: str, number: int) -> Model:
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    spec: dict[str, Any] = {
        "model": {"aliases": names[1:3]} | ({"servedName": names[0]} if draw(st.booleans()) else {}),
    }
    own = {f"m{number}", *names}
    spec["serving"] = {
        "fallbacks": [name for name in draw(st.lists(NAMES, max_size=3, unique=True)) if name not in own]
    }
    members = [name for name in draw(MEMBERS) if name != f"m{number}"]
    match draw(st.sampled_from(["engine", "engine", "hosted", "hosted", "router", "cascade"])):
        case "hosted":
            spec["external"] = {"provider": "OpenAI", "url": f"https://{namespace}.example/v1"}
        case "router":
            spec["router"] = {"members": [{"name": name} for name in members]}
        case "cascade" if len(members) > 1:
            spec["cascade"] = {"members": [{"name": name} for name in members]}
        case _:
            spec["adapters"] = [{"name": "x", "source": "hf://a/x"} | ({"servedName": n}) for n in names[3:]]
    model = make_model(f"m{number}", namespace=namespace, created=draw(TIMES), **spec)
    return as_deleting(model) if draw(st.integers(0, 9)) == 9 else model


@st.composite
def _models(draw: st.DrawFn, namespace: str) -> list[Model]:
    """Models of one namespace that fight over few names, with one another and with those of others."""
    return [draw(_model(namespace, number)) for number in range(draw(st.integers(0, 4)))]


def _live(*models: Model, before: LiveConfig | None = None) -> LiveConfig:
    return _restart(compile_gateway(models, live=before, rules=RULES).config)


def _restart(config: GatewayConfig) -> LiveConfig:
    """Give what an operator that has just begun reads back, of one document or of several."""
    return LiveConfig.of(join_config(split_config(config, shard_bytes=4096)))


def _reached(entry: ModelEntry, config: GatewayConfig) -> Iterator[ModelEntry]:
    """Give every model that a request to an entry may come to: itself, its members, its fallbacks, and theirs."""
    by_id = {one.id: one for one in config.models}
    owners = {name: one for one in config.models for name in names_of(one)}
    seen: dict[str, ModelEntry] = {}
    waiting = [entry]
    while waiting:
        one = waiting.pop()
        if one.id not in seen:
            seen[one.id] = one
            waiting += [by_id[member] for member in referenced_models(one.backend)]
            waiting += [owners[name] for name in one.fallbacks if name in owners]
    yield from seen.values()


def _reach(config: GatewayConfig, namespace: str) -> dict[str, dict[str, ModelEntry]]:
    """Give what each name of a namespace reaches, and what `auto` does."""
    mine = [entry for entry in config.models if entry.id.startswith(f"{namespace}/")]
    chosen = [entry for entry in config.models if entry.auto and not referenced_models(entry.backend)]
    auto = {one.id: _timeless(one) for entry in chosen for one in _reached(entry, config)}
    return {"auto": auto} | {
        name: {one.id: _timeless(one) for one in _reached(entry, config)} for entry in mine for name in names_of(entry)
    }


def _timeless(entry: ModelEntry) -> ModelEntry:
    return entry.model_copy(update={"created": 0, "uid": ""})


def _restored(models: list[Model], times: list[str]) -> list[Model]:
    """Give models as a backup brings them back: another uid, another creation time, no status."""
    return [
        replace(model, uid=f"new-{model.uid}", created=times[number % len(times)], status={}, judged=None)
        for number, model in enumerate(models)
    ]


@given(_models("mine"), _models("theirs"), _models("theirs"))
def test_whoever_comes_later_changes_nothing(mine: list[Model], theirs: list[Model], then: list[Model]) -> None:
    """What my names reach stays when somebody else makes models, changes them all, and deletes them."""
    live = _live(*mine)
    before = _reach(GatewayConfig.build(tuple(live.entries.values())), "mine")
    for others in (theirs, then, []):
        compiled = compile_gateway([*mine, *others], live=live, rules=RULES)
        assert _reach(compiled.config, "mine") == before
        live = _restart(compiled.config)


@given(_models("mine"), _models("theirs"), st.lists(TIMES, min_size=1, max_size=8), st.booleans())
def test_a_restore_changes_nothing(mine: list[Model], theirs: list[Model], times: list[str], first: bool) -> None:
    """What everybody's names reach stays when everything comes back from a backup, in whatever order it was made."""
    live = _live(*mine, *theirs, before=_live(*(mine if first else theirs)))
    config = GatewayConfig.build(tuple(live.entries.values()))
    compiled = compile_gateway(_restored([*mine, *theirs], times), live=live, rules=RULES)
    for namespace in ("mine", "theirs"):
        assert _reach(compiled.config, namespace) == _reach(config, namespace)


@given(_models("mine"), _models("theirs"), _models("theirs"))
def test_names_stay_where_they_are_when_others_were_first(
    mine: list[Model], theirs: list[Model], then: list[Model]
) -> None:
    """When others came first, the names that I got stay mine whatever they change, and reach what they reached."""
    live = _live(*mine, *theirs, before=_live(*theirs))
    compiled = compile_gateway([*mine, *then], live=live, rules=RULES)
    holders = _restart(compiled.config).holders
    for name, key in live.holders.items():
        if key.namespace == "mine":
            assert holders[name] == key
    before, after = _reach(GatewayConfig.build(tuple(live.entries.values())), "mine"), _reach(compiled.config, "mine")
    for name, reached in before.items():
        assert reached.keys() <= after[name].keys()


@given(_models("mine"), _models("theirs"), _models("system"), st.booleans())
def test_prompts_stay_in_the_namespace(mine: list[Model], theirs: list[Model], shared: list[Model], live: bool) -> None:
    """A request to a name of mine, or to `auto`, comes to no model of anybody else, but for those of the install
    namespace."""
    before = _live(*theirs, *shared) if live else None
    compiled = compile_gateway([*mine, *theirs, *shared], live=before, rules=RULES)
    for reached in _reach(compiled.config, "mine").values():
        assert {id_.split("/")[0] for id_ in reached} <= {"mine", "system"}


@given(_models("mine"), _models("theirs"))
def test_the_live_config_compiles_to_itself(mine: list[Model], theirs: list[Model]) -> None:
    """Compiled again with what was written as the live config, the same models give the same bytes and verdicts."""
    first = compile_gateway([*mine, *theirs], rules=RULES)
    again = compile_gateway([*mine, *theirs], live=_restart(first.config), rules=RULES)
    assert (again.config.hash, dict(again.verdicts)) == (first.config.hash, dict(first.verdicts))


@given(_models("mine"), _models("mine"), _models("theirs"), _models("theirs"))
def test_a_hold_of_others_stops_nothing_of_mine(
    mine: list[Model], then: list[Model], theirs: list[Model], more: list[Model]
) -> None:
    """Whatever is held of another tenant: what I write takes effect as if they had no brake and kept what they have."""
    live, rules = _live(*mine, *theirs), replace(RULES, allowed={"theirs": ()})
    edited = [replace(model, generation=2) for model in then]
    models = [*edited, *theirs, *(model for model in more if model.key not in {one.key for one in theirs})]
    free = compile_gateway(models, live=live, rules=rules)
    seen = {model.key: (model.uid, model.generation) for model in theirs}
    hold = decide_hold(live, models, free, percent=1, seen=seen)
    if hold is None:
        return
    held = Compiler().compile(models, live=live, rules=rules, held=hold.verdicts(free, "config"))
    unbound = compile_gateway([*edited, *theirs], live=live, rules=RULES)
    after, expected = _reach(held.config, "mine"), _reach(unbound.config, "mine")
    assert after.keys() >= expected.keys()
    assert {name: after[name] for name in expected} == expected
    entries = {entry.id: entry for entry in held.config.models}
    for key in hold.dropped:
        if held.verdicts[key].held:
            assert set(names_of(entries[str(key)])) == set(names_of(live.entries[str(key)]))


@st.composite
def _policies(draw: st.DrawFn, namespace: str) -> list[Policy]:
    """Policies of one namespace: for models by name or by label, for everybody if they may, or with a fault."""
    numbers = draw(st.lists(st.integers(0, 3), max_size=3, unique=True))
    targets = st.sampled_from([{}, {"targetSelector": {}}, *({"targetRefs": named(name)} for name in ("m0", "m1"))])
    return [
        make_policy(
            f"p{number}",
            namespace=namespace,
            created=draw(TIMES),
            mode=draw(st.sampled_from(["Enforce", "Shadow", "Faulty"])),
            **draw(targets),
        )
        for number in numbers
    ]


def _limits(compiled: CompiledGateway, namespace: str) -> dict[str, tuple[str, ...]]:
    return {one.id: one.policies for one in compiled.config.models if one.id.startswith(f"{namespace}/")}


@given(_models("mine"), _policies("mine"), _models("theirs"), _policies("theirs"), _policies("system"))
def test_limits_stay_in_the_namespace(
    mine: list[Model], limits: list[Policy], theirs: list[Model], others: list[Policy], shared: list[Policy]
) -> None:
    """What is in force on my models is mine, or of the installation, and the same whatever anybody else has written."""
    together = compile_gateway([*mine, *theirs], policies=[*limits, *others, *shared], rules=RULES)
    for policies in _limits(together, "mine").values():
        assert {id_.split("/")[1] for id_ in policies} <= {"mine", "system"}
    live = _restart(compile_gateway(mine, policies=[*limits, *shared], rules=RULES).config)
    alone = compile_gateway(mine, policies=[*limits, *shared], live=live, rules=RULES)
    after = compile_gateway([*mine, *theirs], policies=[*limits, *others, *shared], live=live, rules=RULES)
    assert _limits(after, "mine") == _limits(alone, "mine")
    # One of the installation that is in force on nothing of mine may lose to its rivals on models of others.
    matters = {id_ for policies in _limits(alone, "mine").values() for id_ in policies}
    matters |= {policy.id for policy in alone.config.policies if policy.id.split("/")[1] == "mine"}
    assert {policy.id for policy in after.config.policies} >= matters
