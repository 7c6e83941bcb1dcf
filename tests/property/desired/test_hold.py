"""The brake: it holds what takes many models away that nobody has changed, and nothing else."""

from dataclasses import replace
from types import MappingProxyType

from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.config import GatewayConfig
from capstan_operator.api.kinds import Model
from capstan_operator.desired.compile import compile_gateway
from capstan_operator.desired.hold import Hold, decide_hold, vanished, with_hold
from capstan_operator.desired.live import LiveConfig
from capstan_operator.desired.types import CompiledGateway, Verdict
from support.plainmodels import as_deleting, make_model

FATES = st.sampled_from(["stays", "stays", "dropped", "dropped", "edited", "deleting", "gone", "new status"])
REFUSED = Verdict(accepted=False, reason="NameNotAllowed", message="no")


def _case(fates: list[str]) -> tuple[LiveConfig, list[Model], CompiledGateway]:
    """Live models, what became of each, and a compile that keeps only those that stay."""
    before = [make_model(f"m{number}", status={"observedGeneration": 1}) for number in range(len(fates))]
    compiled = compile_gateway(before)
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
    stays = {str(model.key) for model, fate in zip(before, fates, strict=True) if fate == "stays"}
    verdicts = {model.key: compiled.verdicts[model.key] if str(model.key) in stays else REFUSED for model in models}
    config = GatewayConfig.build(tuple(entry for entry in compiled.config.models if entry.id in stays))
    return LiveConfig.of(compiled.config), models, replace(compiled, config=config, verdicts=MappingProxyType(verdicts))


@given(st.lists(FATES, max_size=12), st.integers(1, 100))
def test_only_what_nobody_touched_counts(fates: list[str], percent: int) -> None:
    """Held exactly when more than a few, and more than the share, would go that exist, stay and have not changed."""
    live, models, compiled = _case(fates)
    hold = decide_hold(live, models, compiled, percent=percent)
    dropped = [model.key for model, fate in _present(models, fates) if fate == "dropped"]
    if len(dropped) > 2 and len(dropped) / len(fates) > percent / 100:
        assert hold is not None
        assert sorted(hold.dropped) == sorted(dropped)
        assert decide_hold(live, models, compiled, percent=percent, released=hold.token) is None
        assert decide_hold(live, models, compiled, percent=percent, released="another") == hold
        verdicts = with_hold(compiled, hold, "config")
        assert {key for key, verdict in verdicts.items() if verdict.held} == set(dropped)
        assert all(verdicts[key].served for key in dropped)
    else:
        assert hold is None


def _present(models: list[Model], fates: list[str]) -> list[tuple[Model, str]]:
    return [(model, fates[int(model.key.name[1:])]) for model in models]


@given(st.lists(FATES, max_size=12))
def test_a_hundred_percent_turns_it_off(fates: list[str]) -> None:
    """Whoever wants no brake has none."""
    live, models, compiled = _case(fates)
    assert decide_hold(live, models, compiled, percent=100) is None


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
