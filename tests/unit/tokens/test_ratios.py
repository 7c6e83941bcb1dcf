"""Estimates of prompts come near to what engines tell, whatever they tell."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.tokens.ratios import EVERY, LEAST_PROMPTS, LEAST_TOKENS, MOST_RATIO, ONE, PromptRatios

TOKENS = st.integers(min_value=-(10**6), max_value=10**9)


def taught(told: Sequence[int], estimate: int = 1000) -> PromptRatios:
    """Give what has seen prompts of one estimate that had so many tokens."""
    ratios = PromptRatios()
    for one in told:
        ratios.observe("m", estimate=estimate, told=one)
    return ratios


@pytest.mark.parametrize("share", [0.5, 0.8, 1, 1.3, 2, 3.9])
def test_estimates_come_near_to_what_the_engine_tells(share: float) -> None:
    """Of a model whose tokenizer always differs by the same ratio they are off by a hundredth at most."""
    ratios = taught([int(1000 * share)] * 20)
    assert abs(ratios.corrected("m", 50_000) - 50_000 * share) <= 500 * share


def test_a_model_whose_prompts_differ_keeps_a_margin() -> None:
    """An estimate by the mean alone would be too low for one half of them."""
    ratios = taught([800, 1200] * 50)
    assert 1200 <= ratios.corrected("m", 1000) <= 1600


def test_nothing_is_corrected_before_enough_was_seen() -> None:
    """Nor for another model, nor by short prompts, nor by those of which nothing was told."""
    assert taught([3000] * (LEAST_PROMPTS - 1)).corrected("m", 1000) == 1000
    ratios = taught([3000] * LEAST_PROMPTS)
    assert ratios.corrected("m", 1000) > 2900
    assert ratios.corrected("other", 1000) == 1000
    assert taught([300] * 50, estimate=LEAST_TOKENS - 1).corrected("m", 1000) == 1000
    assert taught([0, -5] * 50).corrected("m", 1000) == 1000


def test_of_a_known_model_few_prompts_are_told() -> None:
    """All until enough was seen, then one in so many for each model by itself; short ones never."""
    ratios = PromptRatios()
    for _ in range(LEAST_PROMPTS):
        assert ratios.wants("m", 1000)
        ratios.observe("m", estimate=1000, told=1000)
    assert [ratios.wants("m", 1000) for _ in range(2 * EVERY)] == 2 * [*(EVERY - 1) * [False], True]
    assert ratios.wants("other", LEAST_TOKENS)
    assert not ratios.wants("other", LEAST_TOKENS - 1)


@given(seen=st.lists(st.tuples(TOKENS, TOKENS), max_size=60), estimate=st.integers(min_value=0, max_value=10**9))
def test_whatever_engines_tell_the_result_is_bounded(seen: list[tuple[int, int]], estimate: int) -> None:
    """Never negative, nothing only for nothing, and never further off than a tokenizer can be."""
    ratios = PromptRatios()
    for guessed, told in seen:
        ratios.observe("m", estimate=guessed, told=told)
    found = ratios.corrected("m", estimate)
    assert (found == 0) is (estimate == 0)
    assert 0 <= found <= estimate * MOST_RATIO // ONE
    assert estimate <= found * 5


@given(names=st.lists(st.integers(min_value=0, max_value=9).map(str), max_size=80))
def test_no_more_models_are_known_than_the_bound(names: list[str]) -> None:
    """The one that was told of first is forgotten with all that was made of it; so is who is no model any more."""
    ratios = PromptRatios(limit=3)
    for name in names:
        for _ in range(LEAST_PROMPTS):
            ratios.observe(name, estimate=1000, told=2000)
        assert len(ratios) <= 3
    known = [name for name in map(str, range(10)) if ratios.corrected(name, 1000) != 1000]
    assert len(known) == len(ratios)
    ratios.retain(known[:1])
    assert len(ratios) == len(known[:1])
    assert [name for name in known if ratios.corrected(name, 1000) != 1000] == known[:1]
