from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from capstan_operator.api.kinds import Model
from capstan_operator.desired.compile import compile_gateway
from support.plainmodels import as_deleting, make_model

NAMES = st.sampled_from(["a", "b", "c", "d", "e:x"])


@st.composite
def _models(draw: st.DrawFn) -> list[Model]:
    """Models that fight over few names; some are faulty, some are going."""
    models = []
    for number in range(draw(st.integers(0, 6))):
        names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
        model = make_model(
            f"m{number}",
            namespace=draw(st.sampled_from(["one", "two"])),
            created=draw(st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"])),
            model={"servedName": names[0], "aliases": names[1:3]},
            adapters=[{"name": "x", "source": "hf://example/x", "servedName": name} for name in names[3:]],
            replicas=draw(st.sampled_from([1, 1, 1, -1])),
        )
        models.append(as_deleting(model) if draw(st.integers(0, 5)) == 0 else model)
    return models


def _owners(models: list[Model]) -> dict[str, str]:
    owners = {}
    for entry in compile_gateway(models).config.models:
        for name in (entry.servedName, *entry.aliases, *(adapter.servedName for adapter in entry.adapters)):
            assert owners.setdefault(name, entry.id) == entry.id
    return owners


@given(_models(), st.randoms(use_true_random=False))
def test_order_of_models_does_not_matter(models: list[Model], random: object) -> None:
    """The same models in another order give the same bytes, verdicts and credentials."""
    shuffled = list(models)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = compile_gateway(models), compile_gateway(shuffled)
    assert one.config.model_dump_json() == other.config.model_dump_json()
    assert (dict(one.verdicts), dict(one.credentials)) == (dict(other.verdicts), dict(other.credentials))


@given(_models())
def test_every_name_has_one_owner_and_every_model_a_verdict(models: list[Model]) -> None:
    """A claimed name belongs to one model; accepted models are exactly those in the config."""
    compiled = compile_gateway(models)
    _owners(models)
    assert set(compiled.verdicts) == {model.key for model in models}
    accepted = {str(key) for key, verdict in compiled.verdicts.items() if verdict.accepted}
    assert accepted == {entry.id for entry in compiled.config.models}


@given(_models())
def test_loser_makes_no_difference(models: list[Model]) -> None:
    """Taking away a model that lost changes nothing in the config."""
    compiled = compile_gateway(models)
    for model in models:
        if not compiled.verdicts[model.key].accepted:
            rest = [other for other in models if other.key != model.key]
            assert compile_gateway(rest).config == compiled.config


@given(_models())
def test_winner_is_never_younger_than_a_loser(models: list[Model]) -> None:
    """Where nothing is live, who loses a name loses it to an older model, or to one as old that comes first."""
    compiled = compile_gateway(models)
    owners = _owners(models)
    by_id = {str(model.key): model for model in models}
    for key, verdict in compiled.verdicts.items():
        lost = [verdict.message] if verdict.reason == "Conflicted" else []
        for message in (*lost, *(one.message for one in verdict.lost_names)):
            winner = by_id[owners[message.split("'")[1]]]
            assert f"'{winner.key}'" in message
            assert (winner.created, winner.key) < (by_id[str(key)].created, key)


def test_any_order_of_three_gives_one_hash() -> None:
    """The hash depends on the models alone."""
    models = [make_model(name) for name in ("a", "b", "c")]
    assert len({compile_gateway(order).config.hash for order in permutations(models)}) == 1


def test_a_thousand_models_are_all_served() -> None:
    """A large set compiles to one config that has every model."""
    models = [make_model(f"model-{number}") for number in range(1000)]
    compiled = compile_gateway(models)
    assert len(compiled.config.models) == 1000
    assert all(verdict.accepted for verdict in compiled.verdicts.values())
