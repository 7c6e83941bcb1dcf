from random import Random

from hypothesis import given
from hypothesis import strategies as st

from capstan_operator.status.standings import Member, Members, Standing, availability, degradation

STANDINGS = st.one_of(
    st.just(Standing(available=True, reason="ReplicasReady", degraded=False)),
    st.builds(
        Standing,
        available=st.just(False),
        reason=st.sampled_from(["Idle", "Loading", "Unschedulable"]),
        degraded=st.booleans(),
    ),
)
MEMBERS = st.lists(STANDINGS, min_size=1, max_size=8).map(
    lambda found: tuple(Member(f"m{number}", standing) for number, standing in enumerate(found))
)


@given(MEMBERS, st.randoms(use_true_random=False))
def test_order_decides_nothing(members: tuple[Member, ...], random: Random) -> None:
    """In whatever order members are named, the same is said of them, and it names exactly those that are silent."""
    shuffled = list(members)
    random.shuffle(shuffled)
    one, other = availability(Members(members)), availability(Members(tuple(shuffled)))
    assert (one.status, one.reason) == (other.status, other.reason)
    assert (one.status == "True") == any(member.standing.available for member in members)
    if one.reason != "Idle":
        named = {member.name for member in members if f"'{member.name}'" in one.message}
        assert named == {member.name for member in members if not member.standing.available}


@given(MEMBERS, STANDINGS)
def test_one_more_that_answers_is_never_worse(members: tuple[Member, ...], judge: Standing) -> None:
    """With a member that takes requests a model is available, and needs a person for its judge at most."""
    more = Members((*members, Member("new", Standing(True, "ReplicasReady", False))), Member("j", judge))
    assert availability(more).status == "True"
    assert (degradation(more) is None) == judge.available
