"""Patterns of names against what they mean, told by a regular expression."""

import re

from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.identity.names import allowed, matches

NAMES = st.text("ab-", max_size=8)
PATTERNS = st.text("ab-*", max_size=8)


@given(PATTERNS, NAMES)
def test_a_star_is_any_run_of_characters(pattern: str, name: str) -> None:
    """And nothing else in a pattern is anything but itself."""
    wanted = ".*".join(map(re.escape, pattern.split("*")))
    assert matches(pattern, name) == (re.fullmatch(wanted, name, re.DOTALL) is not None)


@given(st.lists(PATTERNS, max_size=4), st.sets(NAMES, max_size=8))
def test_names_that_one_of_the_patterns_allows(patterns: list[str], names: set[str]) -> None:
    """A list allows what one of its patterns does."""
    assert set(allowed(patterns, names)) == {name for name in names if any(matches(one, name) for one in patterns)}


def test_a_pattern_with_many_stars_is_no_trap() -> None:
    """What makes a regular expression go back and forth for years is told at once."""
    assert not matches("*a" * 200 + "*b", "a" * 250)
