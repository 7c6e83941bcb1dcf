"""Where nobody is asked how many tokens a prompt has, it would have changed nothing."""

from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.limits.port import Bucket, Charge, Slots, Standing
from capstan_gateway.pipeline.limits.doubts import FAR, fits, is_far, is_open
from capstan_gateway.tokens.ratios import LEAST_TOKENS, PromptRatios

amounts = st.integers(0, 1000)
counters = st.lists(st.tuples(amounts, st.integers(0, 3), st.integers(-50, 3000)), min_size=1, max_size=4)
"""Of each what it takes beside tokens, how much for a token, and what there is."""


@given(counters, amounts, amounts, st.data())
def test_a_decision_that_is_not_open_is_the_same_for_all(
    counted: list[tuple[int, int, int]], one: int, other: int, data: st.DataObject
) -> None:
    """Whichever number of tokens of those that are possible it is."""
    least, most = sorted((one, other))
    really = data.draw(st.integers(least, most))
    room = [left for _, _, left in counted]

    def missing(tokens: int) -> list[int]:
        return [fixed + each * tokens for fixed, each, _ in counted]

    decisions = {fits(missing(tokens), room) for tokens in (least, really, most)}
    assert is_open(missing, room, least, most) or len(decisions) == 1


@given(st.lists(st.tuples(st.integers(64, 5000), st.integers(1, 20_000)), max_size=30), st.integers(1, 5000))
def test_what_is_reserved_is_within_the_range(seen: list[tuple[int, int]], estimate: int) -> None:
    """By whatever prompts the ratio was learnt, and before; and so is what the template puts around a short one."""
    ratios = PromptRatios()
    for said, told in seen:
        ratios.observe("m", estimate=said, told=told)
    least, most = ratios.range_of("m", estimate)
    assert 0 <= least <= ratios.corrected("m", estimate) <= most
    assert most >= LEAST_TOKENS


@given(st.integers(7, 100_000), st.integers(0, 1000), st.integers(0, 10_000_000))
def test_far_from_the_limit_nothing_is_reckoned(estimate: int, output: int, left: int) -> None:
    """Because the most tokens that a prompt may have would fit as well, before anything is known of the model."""
    charge = Charge(Bucket("g", "k", Slots(1)), estimate + output)
    _, most = PromptRatios().range_of("m", estimate)
    if is_far([charge], [Standing(left, 0)], (0,)):
        assert most - estimate <= left
        assert FAR * charge.amount <= left
