"""Attaching policies to models: one for each model and mode, whatever the order, and never across namespaces."""

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.entries import LabelRequirement, PolicyTargets
from capstan_operator.desired.attach import Attachable, Attachments, Level, Present, attach, selects
from capstan_operator.resources.resource import ObjectKey

SPACES = st.sampled_from(["mine", "theirs"])
NAMES = st.sampled_from(["a", "b", "c"])
LABELS = st.dictionaries(st.sampled_from(["x", "y"]), st.sampled_from(["1", "2"]), max_size=2)
TIMES = st.sampled_from(["", "2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z"])
MODELS = st.dictionaries(st.builds(ObjectKey, SPACES, NAMES), LABELS, max_size=6)


@st.composite
def _targets(draw: st.DrawFn) -> PolicyTargets:
    match draw(st.integers(0, 3)):
        case 0:
            return PolicyTargets(everywhere=True)
        case 1:
            return PolicyTargets(names=tuple(draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))))
        case _:
            return PolicyTargets(labels=draw(LABELS))


@st.composite
def _policies(draw: st.DrawFn) -> list[Attachable]:
    keys = draw(st.lists(st.tuples(SPACES, st.integers(0, 4)), max_size=8, unique=True))
    return [
        Attachable(
            id=f"Limit/{space}/p{number}",
            kind="Limit",
            key=ObjectKey(space, f"p{number}"),
            created=draw(TIMES),
            mode=draw(st.sampled_from(["Enforce", "Shadow"])),
            targets=draw(_targets()),
        )
        for space, number in keys
    ]


def _present(attached: Attachments, policies: list[Attachable]) -> Present:
    return Present(attached.on, {one.id: one.mode for one in policies})


@given(_policies(), MODELS, st.randoms())
def test_the_order_never_matters(policies: list[Attachable], models: dict[ObjectKey, Any], random: Any) -> None:
    """The same policies and models in another order come to the same."""
    mixed, order = list(policies), list(models)
    random.shuffle(mixed)
    random.shuffle(order)
    assert attach(mixed, {key: models[key] for key in order}) == attach(policies, models)


@given(_policies(), MODELS)
def test_no_model_gets_two(policies: list[Attachable], models: dict[ObjectKey, Any]) -> None:
    """Of one kind and mode at most one policy is in force on a model, and one is where any is for it."""
    modes = {one.id: one.mode for one in policies}
    for key, labels in models.items():
        on = attach(policies, models).on.get(key, ())
        assert max(Counter(modes[id_] for id_ in on).values(), default=0) <= 1
        assert {modes[id_] for id_ in on} == {one.mode for one in policies if _is_for(one, key, labels)}


def _is_for(policy: Attachable, model: ObjectKey, labels: dict[str, str]) -> bool:
    targets = policy.targets
    if targets.everywhere:
        return True
    if policy.key.namespace != model.namespace:
        return False
    return model.name in targets.names if targets.names else selects(targets, labels)


@given(_policies(), MODELS)
def test_no_policy_reaches_another_namespace(policies: list[Attachable], models: dict[ObjectKey, Any]) -> None:
    """What is in force on a model is of its namespace, or of the whole installation."""
    by_id = {one.id: one for one in policies}
    for model, ids in attach(policies, models).on.items():
        for id_ in ids:
            assert by_id[id_].key.namespace == model.namespace or by_id[id_].targets.everywhere


@given(_policies(), _policies(), MODELS)
def test_what_is_in_force_stays(first: list[Attachable], then: list[Attachable], models: dict[ObjectKey, Any]) -> None:
    """Whoever comes later, older or not, takes nothing from a policy as it was, unless it is nearer to the model."""
    before = attach(first, models)
    taken = {one.id for one in first}
    policies = [*first, *(one for one in then if one.id not in taken)]
    by_id = {one.id: one for one in policies}
    after = attach(policies, models, present=_present(before, first))
    for model, ids in before.on.items():
        for id_ in ids:
            if id_ not in after.on[model]:
                rival = next(by_id[new] for new in after.on[model] if by_id[new].mode == by_id[id_].mode)
                assert (rival.level, by_id[id_].level) == (Level.MODEL, Level.INSTALL)


@given(_policies(), MODELS)
def test_attached_again_nothing_changes(policies: list[Attachable], models: dict[ObjectKey, Any]) -> None:
    """With what came out as what is in force, the same comes out."""
    first = attach(policies, models)
    assert attach(policies, models, present=_present(first, policies)) == first


@given(_policies(), _policies(), MODELS)
def test_others_change_nothing_of_mine(
    mine: list[Attachable], theirs: list[Attachable], models: dict[ObjectKey, Any]
) -> None:
    """What is in force on my models is the same whatever policies another namespace has that are its own."""
    kept = [one for one in mine if one.key.namespace == "mine"]
    others = [one for one in theirs if one.key.namespace == "theirs" and not one.targets.everywhere]
    alone, together = attach(kept, models).on, attach([*kept, *others], models).on
    own = [key for key in models if key.namespace == "mine"]
    assert {key: together.get(key) for key in own} == {key: alone.get(key) for key in own}


@given(_policies(), MODELS)
def test_every_loss_names_who_has_it(policies: list[Attachable], models: dict[ObjectKey, Any]) -> None:
    """Each policy that is for a model is in force on it, or its loss names the one that is."""
    attached = attach(policies, models)
    for one in policies:
        mine = [key for key, labels in models.items() if _is_for(one, key, labels)]
        losses = {loss.model: loss for loss in attached.losses.get(one.id, ())}
        assert attached.counts.get(one.id, 0) + len(losses) == len(mine)
        for key in mine:
            assert (one.id in attached.on[key]) != (key in losses)
            assert key not in losses or losses[key].winner in attached.on[key]


@given(_policies(), MODELS)
def test_a_floor_of_the_installation_stays(policies: list[Attachable], models: dict[ObjectKey, Any]) -> None:
    """Of a kind that is a floor, one of the installation is in force beside the model's own."""
    floors = [Attachable(**{**one.__dict__, "is_floor": True}) for one in policies]
    everywhere = {one.mode for one in floors if one.targets.everywhere}
    by_id = {one.id: one for one in floors}
    attached = attach(floors, models)
    for model in models:
        found = {by_id[id_].mode for id_ in attached.on.get(model, ()) if by_id[id_].targets.everywhere}
        assert found == everywhere


def test_a_selector_is_as_in_kubernetes() -> None:
    """NotIn holds where there is no such label, In and Exists do not; nothing asked is all."""

    def asks(operator: Any, *values: str) -> PolicyTargets:
        return PolicyTargets(expressions=(LabelRequirement(key="x", operator=operator, values=values),))

    cases = [
        ("In", ("1",), [{"x": "1"}]),
        ("NotIn", ("1",), [{}, {"x": "2"}]),
        ("Exists", (), [{"x": "1"}, {"x": "2"}]),
    ]
    every: list[dict[str, str]] = [{}, {"x": "1"}, {"x": "2"}]
    for operator, values, expected in [*cases, ("DoesNotExist", (), [{}])]:
        assert [labels for labels in every if selects(asks(operator, *values), labels)] == expected
    assert all(selects(PolicyTargets(), labels) for labels in every)
