"""Lanes: who is next of those that wait, so that nobody waits for a lane that hangs."""

from capstan_operator.kube.lanes import SLOW_FOR, Lanes


def lanes(*lanes: str, places: int = 4, most: int = 100) -> Lanes[str]:
    """Give lanes in which these wait, one thing each time that one is named."""
    made: Lanes[str] = Lanes(places=places, most=most)
    for number, lane in enumerate(lanes):
        assert made.add(lane, f"{lane}{number}") is None
    return made


def taken(made: Lanes[str], now: float = 0.0) -> list[str]:
    """Take as much as may be begun."""
    found = []
    while (one := made.take(now)) is not None:
        found.append(one[1])
    return found


def test_a_lane_has_one_thing_in_work_and_keeps_its_order() -> None:
    """The next of a lane begins when the one before is through."""
    made = lanes("a", "a", "b")
    assert taken(made) == ["a0", "b2"]
    made.done("a", 0, hung=False)
    assert taken(made) == ["a1"]
    assert len(made) == 0


def test_lanes_take_turns() -> None:
    """A lane that was served stands behind the others, however much waits in it."""
    made, order = lanes("a", "a", "a", "b", "c", places=1), []
    while (one := made.take(0)) is not None:
        order.append(one[1])
        made.done(one[0], 0, hung=False)
    assert order == ["a0", "b3", "c4", "a1", "a2"]


def test_no_more_is_begun_than_there_are_places() -> None:
    """However many lanes wait."""
    assert taken(lanes(*"abcdef")) == ["a0", "b1", "c2", "d3"]


def test_lanes_that_hung_have_half_of_the_places() -> None:
    """The other half is for those that did not, until some time has passed or something was through in time."""
    made = lanes(*"abcdef")
    assert len(taken(made)) == 4
    for lane in "abcd":
        made.done(lane, 10.0, hung=True)
        made.add(lane, lane)
    assert taken(made, 10.0) == ["e4", "f5", "a", "b"]
    for lane in "ef":
        made.done(lane, 11.0, hung=False)
    assert taken(made, 11.0) == []
    made.add("e", "e")
    assert taken(made, 11.0) == ["e"]
    made.done("a", 12.0, hung=False)
    assert taken(made, 12.0) == ["c"]
    made.add("a", "a again")
    made.done("e", 12.0, hung=False)
    assert taken(made, 12.0) == ["a again"]
    made.done("a", 13.0, hung=False)
    assert taken(made, 10.0 + SLOW_FOR) == ["d"]


def test_the_newest_of_the_longest_lane_goes_when_there_is_no_room() -> None:
    """Whoever has most waiting loses it, not whoever comes last."""
    made = lanes("a", "a", "a", most=3)
    assert made.add("a", "more") == "more"
    assert made.add("b", "b") == "a2"
    assert made.add("b", "b again") == "b again"
    assert len(made) == 3
    assert taken(made) == ["a0", "b"]


def test_the_longest_lane_gives_way_whatever_it_is_called() -> None:
    """Neither the last by name nor the first that came."""
    made = lanes("z", "a", "a", most=3)
    assert made.add("b", "b") == "a2"
    assert taken(made) == ["z0", "a1", "b"]


def test_of_an_odd_number_of_places_the_smaller_half_is_for_lanes_that_hung() -> None:
    """And one at least: otherwise they would never be served again."""
    for places, served in ((3, 1), (1, 1), (5, 2)):
        made = lanes(*"abc", places=places)
        while (one := made.take(0.0)) is not None:
            made.done(one[0], 0.0, hung=True)
        for lane in "abc":
            made.add(lane, lane)
        assert len(taken(made)) == served
