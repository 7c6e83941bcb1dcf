"""Lanes of which some hang for good: whatever comes in whatever order, the others are served, and nothing is lost."""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from capstan_operator.kube.lanes import Lanes

LANES = "abcdefgh"


@given(st.lists(st.sampled_from(LANES), max_size=40), st.sets(st.sampled_from(LANES)), st.integers(1, 6))
def test_whoever_does_not_hang_is_served_in_its_order(came: list[str], hang: set[str], places: int) -> None:
    """Each lane has one thing in work, no more is in work than there are places, and every lane that does not hang
    gets through all of its own, in the order in which it came; what hangs ends at its deadline, which is later."""
    lanes: Lanes[int] = Lanes(places=places, most=100)
    served: defaultdict[str, list[int]] = defaultdict(list)
    for number, lane in enumerate(came):
        assert lanes.add(lane, number) is None
    running: list[tuple[str, int]] = []
    now, deadlines = 0.0, 0
    while len(lanes) or running:
        while (one := lanes.take(now)) is not None:
            running.append(one)
        names = [lane for lane, _ in running]
        assert len(set(names)) == len(names) <= places
        assert names, "somebody waits and nobody is served"
        ended = next((one for one in running if one[0] not in hang), running[0])
        if ended[0] in hang:
            now, deadlines = now + 10, deadlines + 1
        running.remove(ended)
        lanes.done(ended[0], now, hung=ended[0] in hang)
        served[ended[0]].append(ended[1])
        if any(lane not in hang and lane not in served for lane in came):
            # However many hang, the places are theirs until the first deadlines at most.
            assert deadlines <= max(places, len(hang)), "a lane waits for others that hang"
    assert {lane: sorted(items) for lane, items in served.items()} == dict(served)
    assert sum(map(len, served.values())) == len(came)
