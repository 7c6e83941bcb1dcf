"""Who gets what several want: one answer for every order, the same when asked again, and nothing lost to newcomers."""

from hypothesis import given
from hypothesis import strategies as st

from capstan_operator.desired.claims import Awards, Claimant, award
from capstan_operator.resources.resource import ObjectKey

THINGS = st.sampled_from("abcde")


@st.composite
def _claimants(draw: st.DrawFn) -> list[Claimant]:
    return [
        Claimant(
            ObjectKey("ns", f"m{number}"),
            draw(st.sampled_from(["1", "2", "3"])),
            tuple(draw(st.lists(THINGS, min_size=1, max_size=2, unique=True))),
            tuple(draw(st.lists(THINGS, max_size=3, unique=True))),
        )
        for number in range(draw(st.integers(0, 7)))
    ]


KEYS = st.integers(0, 7).map(lambda number: ObjectKey("ns", f"m{number}"))
INCUMBENTS = st.dictionaries(THINGS, KEYS)


def _things(claimant: Claimant) -> set[str]:
    return {*claimant.essential, *claimant.others}


@given(_claimants(), INCUMBENTS, st.randoms(use_true_random=False))
def test_order_does_not_matter(claimants: list[Claimant], incumbents: dict[str, ObjectKey], random: object) -> None:
    """The same claimants in another order get the same."""
    shuffled = list(claimants)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert award(claimants, incumbents) == award(shuffled, incumbents)


def _check(claimants: list[Claimant], awards: Awards) -> None:
    for claimant in claimants:
        is_out = claimant.key in awards.out
        owns = {thing for thing, owner in awards.owners.items() if owner == claimant.key}
        assert owns <= (set() if is_out else _things(claimant))
        assert is_out or owns >= set(claimant.essential)
        if is_out:
            assert awards.owners[awards.out[claimant.key]] != claimant.key
        else:
            assert _things(claimant) <= awards.owners.keys()


@given(_claimants(), INCUMBENTS)
def test_a_loser_takes_nothing_and_everybody_else_has_what_is_essential(
    claimants: list[Claimant], incumbents: dict[str, ObjectKey]
) -> None:
    """Who is out owns nothing and names who has what it lacks; nothing that somebody who is in wants is left over."""
    _check(claimants, award(claimants, incumbents))


@given(_claimants(), INCUMBENTS)
def test_the_answer_stays_when_it_is_asked_again(claimants: list[Claimant], incumbents: dict[str, ObjectKey]) -> None:
    """With those that have got something as the incumbents, nothing changes any more."""
    first = award(claimants, incumbents)
    again = award(claimants, first.owners)
    assert (again.owners, again.out.keys()) == (first.owners, first.out.keys())


@given(_claimants(), INCUMBENTS)
def test_a_loser_makes_no_difference(claimants: list[Claimant], incumbents: dict[str, ObjectKey]) -> None:
    """Without those that are out, everybody else has the same."""
    first = award(claimants, incumbents)
    rest = [claimant for claimant in claimants if claimant.key not in first.out]
    assert award(rest, first.owners).owners == first.owners


@given(_claimants(), INCUMBENTS, _claimants())
def test_newcomers_take_nothing_from_those_that_have_it(
    claimants: list[Claimant], incumbents: dict[str, ObjectKey], newcomers: list[Claimant]
) -> None:
    """Whoever has something and still wants it keeps it, whoever comes, and however old that one is."""
    before = award(claimants, incumbents)
    others = [
        Claimant(ObjectKey("other", one.key.name), "0", one.essential, one.others)  # older than everybody
        for one in newcomers
    ]
    after = award([*claimants, *others], before.owners)
    assert {thing: after.owners[thing] for thing in before.owners} == dict(before.owners)


def _key(name: str) -> ObjectKey:
    return ObjectKey("ns", name)


def test_of_a_circle_the_senior_one_gets_what_it_wants() -> None:
    """Each has what another one cannot do without: somebody has to begin, and the others follow from that."""
    a = Claimant(_key("a"), "2", ("x", "y"))
    b = Claimant(_key("b"), "1", ("y", "x"), ("z",))
    c = Claimant(_key("c"), "3", (), ("x", "y", "z"))
    awards = award([a, b, c], {"x": a.key, "y": b.key})
    assert dict(awards.owners) == {"x": b.key, "y": b.key, "z": b.key}
    assert dict(awards.out) == {a.key: "x"}
    elder = Claimant(a.key, "0", a.essential)
    awards = award([elder, b, c], {"x": a.key, "y": b.key})
    assert dict(awards.owners) == {"x": a.key, "y": a.key, "z": c.key}
    assert dict(awards.out) == {b.key: "y"}


def test_who_comes_next_when_somebody_is_out_keeps_what_it_has() -> None:
    """There is no circle in that, however late it turns out: an older one takes nothing from it."""
    out, heir, elder = _key("out"), _key("heir"), _key("elder")
    claimants = [
        Claimant(elder, "0", ("y",)),
        Claimant(out, "1", ("w", "x")),
        Claimant(heir, "2", ("x", "y")),
        Claimant(_key("last"), "9", ("w",)),
    ]
    awards = award(claimants, {"w": _key("last"), "x": out, "y": heir})
    assert dict(awards.owners) == {"w": _key("last"), "x": heir, "y": heir}
    assert dict(awards.out) == {out: "w", elder: "y"}


def test_who_is_in_already_is_not_put_out_by_a_circle() -> None:
    """And who is out already comes back for nobody."""
    a, b = Claimant(_key("a"), "2", ("x", "y")), Claimant(_key("b"), "3", ("y", "x"))
    first = Claimant(_key("first"), "4", ("w",), ("x",))
    out = Claimant(_key("out"), "1", ("w", "x", "y"))
    awards = award([a, b, first, out], {"w": first.key, "x": a.key, "y": b.key})
    assert dict(awards.owners) == {"w": first.key, "x": a.key, "y": a.key}
    assert dict(awards.out) == {b.key: "y", out.key: "w"}


@given(_claimants(), INCUMBENTS)
def test_it_is_what_deciding_one_after_the_other_gives(
    claimants: list[Claimant], incumbents: dict[str, ObjectKey]
) -> None:
    """The same as when each claimant is looked at again and again, until nobody can be decided any more."""
    awards = award(claimants, incumbents)
    owners, out = _plain(claimants, incumbents)
    assert (dict(awards.owners), set(awards.out)) == (owners, out)


def _plain(claimants: list[Claimant], incumbents: dict[str, ObjectKey]) -> tuple[dict[str, ObjectKey], set[ObjectKey]]:
    waiting = sorted(claimants, key=lambda one: one.seniority)
    lines = {
        thing: sorted(
            (one for one in waiting if thing in _things(one)),
            key=lambda one: (incumbents.get(thing) != one.key, one.seniority),
        )
        for thing in "abcde"
    }
    within: set[ObjectKey] = set()
    out: set[ObjectKey] = set()

    def before(one: Claimant, thing: str) -> list[ObjectKey]:
        keys = [other.key for other in lines[thing]]
        return keys[: keys.index(one.key)]

    while waiting:
        for one in waiting:
            lost = any(not within.isdisjoint(before(one, thing)) for thing in one.essential)
            if lost or all(set(before(one, thing)) <= out for thing in one.essential):
                (out if lost else within).add(one.key)
                waiting.remove(one)
                break
        else:
            for thing in waiting[0].essential:
                lines[thing].sort(key=lambda one: one is not waiting[0])
    owners = ((thing, next((one.key for one in line if one.key in within), None)) for thing, line in lines.items())
    return {thing: owner for thing, owner in owners if owner is not None}, out
