"""Choosing among models, for any models and requests."""

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.config import Capability, Strategy
from capstan_gateway.selection.filters import Member, narrow
from capstan_gateway.selection.needs import Needs
from capstan_gateway.selection.order import estimated_cost, order, sticky_key
from capstan_gateway.selection.route_memory import EXPLORE_EVERY, RouteMemory
from support.selection import REQUIREMENTS, PlainModel, load_of, members

WEIGHTS = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 20), min_size=1, max_size=6)
NOTHING = Needs()


def weighted(weights: dict[str, int]) -> list[Member[PlainModel]]:
    """Members with these weights."""
    return [Member(PlainModel(name), weight=weight) for name, weight in weights.items()]


def ask(
    given: list[Member[PlainModel]],
    strategy: Strategy,
    memory: RouteMemory,
    needs: Needs = NOTHING,
    sticky: bytes | None = None,
) -> list[str]:
    """Give the names in the order in which they are asked."""
    ordered = order(given, strategy, needs, route="r", memory=memory, load=load_of, sticky=sticky)
    return [member.model.id for member in ordered]


@given(members(), REQUIREMENTS, st.sampled_from(list(Capability)))
def test_filters_are_monotone(given: list[Member[PlainModel]], needs: Needs, more: Capability) -> None:
    """A request that needs more has fewer models, never others."""
    harder = replace(needs, capabilities=needs.capabilities | {more}, text_bytes=needs.text_bytes + 800)
    some = narrow(given, needs, serves="serve chat").members
    fewer = narrow(given, harder, serves="serve chat").members
    assert set(fewer) <= set(some) <= set(given)


@given(members(), REQUIREMENTS)
def test_the_last_condition_named_is_the_one_that_left_none(given: list[Member[PlainModel]], needs: Needs) -> None:
    """The explanation counts down, and ends at zero exactly when nothing is left."""
    narrowed = narrow(given, needs, serves="serve chat")
    counts = [count for count, _ in narrowed.steps]
    assert counts == sorted(counts, reverse=True)
    assert (counts[-1] == 0) == (not narrowed.members)


@given(members(), REQUIREMENTS, st.sampled_from(list(Strategy)), st.none() | st.binary(min_size=16, max_size=16))
def test_the_order_of_members_does_not_matter(
    given: list[Member[PlainModel]], needs: Needs, strategy: Strategy, sticky: bytes | None
) -> None:
    """The same members in any order are asked in the same order; nobody is asked twice."""
    one = ask(given, strategy, RouteMemory(), needs, sticky)
    assert ask(given[::-1], strategy, RouteMemory(), needs, sticky) == one
    assert len(set(one)) == len(one)
    wanted = {member.model.id for member in given if strategy is not Strategy.WEIGHTED or member.weight}
    assert set(one) == wanted


@given(WEIGHTS, st.integers(1, 3))
def test_weights_are_exact(weights: dict[str, int], rounds: int) -> None:
    """Over as many requests as the weights add up to, each member gets exactly its weight."""
    memory, given = RouteMemory(), weighted(weights)
    total = sum(weights.values()) * rounds
    counted = Counter(ask(given, Strategy.WEIGHTED, memory)[0] for _ in range(total))
    assert counted == {name: weight * rounds for name, weight in weights.items()}


@given(WEIGHTS, st.text(min_size=1))
def test_a_user_keeps_a_member(weights: dict[str, int], user: str) -> None:
    """The same user gets the same member every time; when it goes, only its own users move."""
    key, given = sticky_key("user", user), weighted(weights)
    first = ask(given, Strategy.WEIGHTED, RouteMemory(), sticky=key)
    assert ask(given, Strategy.WEIGHTED, RouteMemory(), sticky=key) == first
    without_last = [member for member in given if member.model.id != first[-1] or len(given) == 1]
    assert ask(without_last, Strategy.WEIGHTED, RouteMemory(), sticky=key)[0] == first[0]


@given(WEIGHTS, st.integers(1, 50), st.text(min_size=1))
def test_a_larger_weight_takes_no_user_away(weights: dict[str, int], more: int, user: str) -> None:
    """Who is with a canary stays with it when its weight is raised."""
    key = sticky_key("user", user)
    canary = ask(weighted(weights), Strategy.WEIGHTED, RouteMemory(), sticky=key)[0]
    raised = weighted({**weights, canary: weights[canary] + more})
    assert ask(raised, Strategy.WEIGHTED, RouteMemory(), sticky=key)[0] == canary


def test_sticky_users_come_to_the_shares() -> None:
    """Of many users each member has about its share."""
    given = weighted({"old": 90, "new": 10})
    users = [sticky_key("user", f"user-{number}") for number in range(3000)]
    counted = Counter(ask(given, Strategy.WEIGHTED, RouteMemory(), sticky=user)[0] for user in users)
    assert 0.08 < counted["new"] / len(users) < 0.12


@given(members(least=1), REQUIREMENTS)
def test_the_cheapest_comes_first(given: list[Member[PlainModel]], needs: Needs) -> None:
    """Among models that fit equally well nobody cheaper comes later, and unknown prices come last."""
    names = ask(given, Strategy.CHEAPEST, RouteMemory(), needs)
    models = {member.model.id: member.model for member in given}
    roomy = [
        models[name]
        for name in names
        if (window := models[name].context_window) is None or needs.prompt_tokens + (needs.max_tokens or 1) <= window
    ]
    costs = [estimated_cost(model.price, needs) for model in roomy]
    known = [cost for cost in costs if cost is not None]
    assert costs == [*sorted(known), *[None] * (len(costs) - len(known))]


@given(members(least=1))
def test_priorities_are_kept(given: list[Member[PlainModel]]) -> None:
    """A lower priority comes first, the less loaded of equals before the other."""
    by_name = {member.model.id: member for member in given}
    needs = Needs(text_bytes=0)
    keys = [
        (by_name[name].priority, by_name[name].model.in_flight)
        for name in ask(given, Strategy.PRIORITY, RouteMemory(), needs)
    ]
    assert keys == sorted(keys)


def test_the_fastest_answers_and_the_others_are_looked_at() -> None:
    """The lowest measured time wins; every tenth request goes to whom nobody has looked at for longest."""
    memory, given = RouteMemory(), weighted({"quick": 1, "slow": 1, "unknown": 1})
    memory.observe("slow", 0.5, stream=False)
    memory.observe("quick", 0.1, stream=False)
    firsts = []
    for _ in range(2 * EXPLORE_EVERY):
        first = ask(given, Strategy.FASTEST, memory)[0]
        firsts.append(first)
        memory.observe(first, {"quick": 0.1, "slow": 0.5, "unknown": 0.9}[first], stream=False)
    assert [name for name in firsts if name != "quick"] == ["unknown", "slow"]
    assert memory.speed("quick", stream=True) is None


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 10)), max_size=20), st.sets(st.sampled_from("abcd")))
def test_memory_is_bounded_by_the_config(seen: list[tuple[str, float]], kept: set[str]) -> None:
    """What is known of models that are gone is forgotten, of the others kept."""
    memory = RouteMemory()
    for name, seconds in seen:
        memory.observe(name, seconds, stream=True)
        memory.next_turn(name, [("a", 1), ("b", 1)])
    before = {name: memory.speed(name, stream=True) for name in kept}
    memory.retain(kept)
    for name in "abcd":
        assert memory.speed(name, stream=True) == before.get(name)
