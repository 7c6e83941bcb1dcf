"""The brake: it holds what takes many models away that nobody has changed, and nothing else."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.config import ModelEntry, referenced_models
from capstan_operator.api.kinds import Model
from capstan_operator.desired.compile import Compiler, compile_gateway
from capstan_operator.desired.hold import Hold, decide_hold, vanished
from capstan_operator.desired.live import LiveConfig
from capstan_operator.desired.name_rules import NameRules
from capstan_operator.desired.types import CompiledGateway, Verdict
from support.plainmodels import as_deleting, make_model

FATES = st.sampled_from(["stays", "stays", "dropped", "dropped", "edited", "deleting", "gone", "new status"])
REFUSED = Verdict(accepted=False, reason="NameNotAllowed", message="no")
SEEN = {"observedGeneration": 1}


def _case(fates: list[str]) -> tuple[LiveConfig, list[Model], NameRules]:
    """Live models, what became of each, and a rule that refuses the names of all but those that stay."""
    before = [make_model(f"m{number}", status=SEEN) for number in range(len(fates))]
    models = []
    for model, fate in zip(before, fates, strict=True):
        match fate:
            case "edited":
                models.append(replace(model, generation=2))
            case "deleting":
                models.append(as_deleting(model))
            case "new status":
                models.append(replace(model, uid="restored", status={}))
            case "gone":
                pass
            case _:
                models.append(model)
    allowed = tuple(model.key.name for model, fate in zip(before, fates, strict=True) if fate == "stays")
    return LiveConfig.of(compile_gateway(before).config), models, NameRules(allowed={"team": allowed})


def _entries(compiled: CompiledGateway) -> dict[str, ModelEntry]:
    return {entry.id: entry for entry in compiled.config.models}


@given(st.lists(FATES, max_size=12), st.integers(1, 100), st.integers(0, 3))
def test_only_what_nobody_touched_is_held(fates: list[str], percent: int, others: int) -> None:
    """Held exactly when more than a few, and more than the share, would go that exist, stay and have not changed: what
    is held stays as it is, and nothing else is another one for it."""
    live, models, rules = _case(fates)
    models += [make_model(f"new{number}", namespace="other") for number in range(others)]
    free = compile_gateway(models, live=live, rules=rules)
    hold = decide_hold(live, models, free, percent=percent)
    dropped = sorted(model.key for model, fate in _present(models, fates) if fate == "dropped")
    if percent == 100 or len(dropped) <= 2 or len(dropped) / len(fates) <= percent / 100:
        assert hold is None
        return
    assert hold is not None
    assert list(hold.dropped) == dropped
    verdicts = hold.verdicts(free, "config")
    held = Compiler().compile(models, live=live, rules=rules, held=verdicts)
    assert {key for key, verdict in held.verdicts.items() if verdict.held} == set(dropped)
    assert all(held.verdicts[key].served for key in dropped)
    assert _entries(held) == _entries(free) | {str(key): live.entries[str(key)] for key in dropped}
    assert {key: held.verdicts[key] for key in held.verdicts.keys() - set(dropped)} == {
        key: free.verdicts[key] for key in free.verdicts.keys() - set(dropped)
    }
    again = decide_hold(LiveConfig.of(held.config), models, free, percent=percent, held=hold.dropped)
    assert again == hold, "written, it is the same hold, however many others there are by now"


def _present(models: list[Model], fates: list[str]) -> list[tuple[Model, str]]:
    return [(model, fates[int(model.key.name[1:])]) for model in models if model.key.namespace == "team"]


@given(st.lists(FATES, max_size=12))
def test_a_hundred_percent_turns_it_off(fates: list[str]) -> None:
    """Whoever wants no brake has none."""
    live, models, rules = _case(fates)
    compiled = compile_gateway(models, live=live, rules=rules)
    assert decide_hold(live, models, compiled, percent=100, held=[model.key for model in models]) is None


@given(st.lists(FATES, max_size=12), st.integers(1, 99))
def test_many_that_a_listing_does_not_have_are_looked_for(fates: list[str], percent: int) -> None:
    """An empty or short list of models is not believed without a look at some of those that it lacks."""
    live, models, _ = _case(fates)
    missing = fates.count("gone")
    expected = missing if missing > 2 and missing / len(fates) > percent / 100 else 0
    assert len(vanished(live, models, percent=percent)) == expected


def test_the_token_is_of_the_dropped_models_alone() -> None:
    """Other models may change while a person looks; what was looked at is what is let through."""
    one, other = make_model("a").key, make_model("b").key
    assert Hold((one, other)).token == Hold((one, other)).token != Hold((one,)).token
    assert Hold((one,)).token in Hold((one,)).message("config")


def test_virtual_models_go_with_the_members_that_a_person_deletes() -> None:
    """One deleted model may take many routers with it: that is what was meant."""
    member = make_model("m", status={"observedGeneration": 1})
    routers = [
        make_model(f"r{number}", status={"observedGeneration": 1}, router={"members": [{"name": "m"}]})
        for number in range(5)
    ]
    live = LiveConfig.of(compile_gateway([member, *routers]).config)
    assert decide_hold(live, routers, compile_gateway(routers), percent=20) is None


def test_virtual_models_count_with_members_that_nobody_took_away() -> None:
    """What drops a member for no reason drops its routers for none."""
    members = [make_model(f"m{number}", status={"observedGeneration": 1}) for number in range(2)]
    router = make_model("r", status={"observedGeneration": 1}, router={"members": [{"name": "m0"}, {"name": "m1"}]})
    live = LiveConfig.of(compile_gateway([*members, router]).config)
    compiled = compile_gateway([router])
    verdicts = {**compiled.verdicts, **{model.key: REFUSED for model in members}}
    hold = decide_hold(live, [*members, router], replace(compiled, verdicts=verdicts), percent=20)
    assert hold is not None
    assert set(hold.dropped) == {router.key, *(model.key for model in members)}


def test_a_router_of_cascades_counts_with_their_members() -> None:
    """Through however many models: what is at the bottom of it decides."""
    seen = {"observedGeneration": 1}
    members = [make_model(f"m{number}", status=seen) for number in range(2)]
    named = [{"name": "m0"}, {"name": "m1"}]
    virtual = [
        make_model("c", status=seen, cascade={"members": named}),
        make_model("r", status=seen, router={"members": [{"name": "c"}]}),
    ]
    live = LiveConfig.of(compile_gateway([*members, *virtual]).config)
    compiled = compile_gateway(virtual)
    verdicts = {**compiled.verdicts, **{model.key: REFUSED for model in members}}
    hold = decide_hold(live, [*members, *virtual], replace(compiled, verdicts=verdicts), percent=20)
    assert hold is not None
    assert set(hold.dropped) == {model.key for model in (*members, *virtual)}


def _held(live: LiveConfig, models: list[Model], **fields: object) -> Hold | None:
    return decide_hold(live, models, compile_gateway(models, live=live), percent=20, **fields)  # type: ignore[arg-type]


def test_kept_virtual_models_go_with_the_members_that_a_person_deletes() -> None:
    """A tenant that edits routers into a fault and deletes their member holds nothing: nothing of them could serve."""
    neighbours = [make_model(f"n{number}", namespace="other", status=SEEN) for number in range(10)]
    member = make_model("m", status=SEEN)
    routers = [make_model(f"r{number}", status=SEEN, router={"members": [{"name": "m"}]}) for number in range(5)]
    live = LiveConfig.of(compile_gateway([*neighbours, member, *routers]).config)
    two = {"observedGeneration": 2}
    faulty = [make_model(f"r{number}", generation=2, status=two, router={"members": []}) for number in range(5)]
    kept = compile_gateway([*neighbours, member, *faulty], live=live)
    assert all(kept.verdicts[model.key].kept for model in faulty)
    live, models = LiveConfig.of(kept.config), [*neighbours, *faulty]
    assert _held(live, models) is None
    compiled = compile_gateway(models, live=live)
    assert {entry.id for entry in compiled.config.models} == {str(model.key) for model in neighbours}
    assert set(compiled.reserved.values()) == {model.key for model in faulty}


def test_what_was_compiled_into_the_live_config_counts_and_not_what_a_status_says() -> None:
    """An edit whose write has failed is an edit, whatever was said of it since; without a status there is a brake."""
    before = [make_model(f"m{number}", model={"servedName": f"x{number}"}) for number in range(5)]
    live = LiveConfig.of(compile_gateway(before).config)
    rules = NameRules(allowed={"team": ("x*",)})
    told = [make_model(f"m{number}", generation=2, status={"observedGeneration": 2}) for number in range(5)]
    compiled = compile_gateway(told, live=live, rules=rules)
    assert decide_hold(live, told, compiled, percent=20, seen={one.key: (one.uid, 1) for one in told}) is None
    hold = decide_hold(live, told, compiled, percent=20, seen={one.key: (one.uid, 2) for one in told})
    assert hold is not None
    mute = [replace(one, status={}) for one in told]
    assert decide_hold(live, mute, compiled, percent=20, seen={one.key: (one.uid, 2) for one in mute}) == hold


def test_a_hold_does_not_end_by_what_others_make() -> None:
    """Many new models make the held ones a small share: they are held all the same."""
    live, models, rules = _case(["dropped"] * 3 + ["stays"] * 7)
    others = [make_model(f"o{number}", namespace="other", status=SEEN) for number in range(20)]
    hold = decide_hold(live, models, compile_gateway(models, live=live, rules=rules), percent=20)
    assert hold is not None
    compiled = compile_gateway([*models, *others], live=live, rules=rules)
    larger = LiveConfig.of(compile_gateway([*models, *others]).config)
    assert decide_hold(larger, [*models, *others], compiled, percent=20) is None
    assert decide_hold(larger, [*models, *others], compiled, percent=20, held=hold.dropped) == hold


def test_a_held_entry_keeps_its_names_from_everybody() -> None:
    """Somebody older who wants them does not get them, and a held router goes on with its held members."""
    member = make_model("m", status=SEEN, model={"aliases": ["x"]})
    other = make_model("n", status=SEEN)
    router = make_model("r", status=SEEN, router={"members": [{"name": "m"}]})
    live = LiveConfig.of(compile_gateway([member, other, router]).config)
    rules = NameRules(allowed={"team": ()})
    thief = make_model("t", namespace="other", created="2020-01-01T00:00:00Z", model={"aliases": ["x", "r", "y"]})
    models = [member, other, router, thief]
    free = compile_gateway(models, live=live, rules=rules)
    hold = decide_hold(live, models, free, percent=20)
    assert hold is not None
    held = Compiler().compile(models, live=live, rules=rules, held=hold.verdicts(free, "config"))
    assert {id_: one for id_, one in _entries(held).items() if id_ in live.entries} == dict(live.entries)
    assert _entries(held)["other/t"].aliases == ("y",)


def test_a_router_may_be_edited_while_its_members_are_held() -> None:
    """They answer, so it goes on with them, with what the edit says."""
    members = [make_model(f"m{number}", status=SEEN) for number in range(3)]
    router = make_model("x-r", status=SEEN, router={"members": [{"name": "m0"}]})
    live = LiveConfig.of(compile_gateway([*members, router]).config)
    rules = NameRules(allowed={"team": ("x-*",)})
    edited = make_model("x-r", generation=2, status=SEEN, router={"members": [{"name": "m0"}, {"name": "m1"}]})
    models = [*members, edited]
    free = compile_gateway(models, live=live, rules=rules)
    hold = decide_hold(live, models, free, percent=20)
    assert hold is not None
    held = Compiler().compile(models, live=live, rules=rules, held=hold.verdicts(free, "config"))
    assert held.verdicts[edited.key].accepted
    assert len(referenced_models(_entries(held)["team/x-r"].backend)) == 2


def _dropping(dropped: int, of: int, percent: int) -> Hold | None:
    live, models, rules = _case(["dropped"] * dropped + ["stays"] * (of - dropped))
    return decide_hold(live, models, compile_gateway(models, live=live, rules=rules), percent=percent)


def test_the_brake_begins_above_a_few_and_above_the_share() -> None:
    """As many as allowed may go; one more is held."""
    assert _dropping(2, 3, 20) is None
    assert _dropping(3, 4, 20) is not None
    assert _dropping(5, 10, 50) is None
    assert _dropping(5, 10, 49) is not None
    assert _dropping(6, 10, 50) is not None


def test_many_are_missed_above_a_few_and_above_the_share() -> None:
    """As many as allowed may be gone."""

    def missing(gone: int, of: int, percent: int) -> int:
        live, models, _ = _case(["gone"] * gone + ["stays"] * (of - gone))
        return len(vanished(live, models, percent=percent))

    assert (missing(2, 2, 1), missing(3, 3, 1), missing(3, 300, 20)) == (0, 3, 0)
    assert (missing(3, 5, 60), missing(3, 5, 59), missing(3, 5, 90)) == (0, 3, 0)


def test_a_model_that_cannot_be_read_was_moved_by_nobody() -> None:
    """What a rule would take from a namespace that cannot be read is held; what else is not known is not."""
    before = [make_model(f"m{number}") for number in range(5)]
    live = LiveConfig.of(compile_gateway(before).config)
    rules = NameRules(allowed={"team": ()})
    compiled = Compiler().compile([], live=live, rules=rules, unread=frozenset({"team"}))
    hold = decide_hold(live, [], compiled, percent=20)
    assert hold is not None
    assert hold.dropped == tuple(model.key for model in before)
    refused = replace(compiled, verdicts={model.key: REFUSED for model in before})
    assert decide_hold(live, [], refused, percent=20) is None


def test_whoever_is_held_is_told_what_to_do() -> None:
    """The ConfigMap, and the annotation that lets exactly these go."""
    model = make_model()
    hold = Hold((model.key,))
    assert hold.message("gateway-config") == (
        "the newest gateway config would drop this model, and others, although nobody has changed them: what the"
        " gateway has of them stays as it is; if that is meant, annotate the ConfigMap 'gateway-config' with"
        f" capstan.dev/release-held={hold.token}"
    )
    verdicts = hold.verdicts(compile_gateway([model]), "gateway-config")
    assert {key: verdict.held for key, verdict in verdicts.items()} == {model.key: hold.message("gateway-config")}
