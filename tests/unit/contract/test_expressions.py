"""Which expressions of guards can be used: what the gateway cannot bound is a fault before it gets there."""

import pytest

from capstan_contract.expressions import MOST_PROGRAM, MOST_STATES, check_expression, expression_fault
from capstan_contract.guards import RegexGuard, RegexPattern, Source
from capstan_contract.re2_syntax import MOST_DEPTH, MOST_PATTERN
from capstan_gateway.guards.plain.expressions import compile_expression
from capstan_gateway.guards.plain.regex import build_regex_detector
from capstan_operator.desired.policy_kinds import find_policy_faults
from support.plainpolicies import make_guards

GOOD = [
    *("a", "a+", r"\bINT-[0-9]{8}\b", "(?i)secret", "[^a-z]x", r"\pL{3}", "ä|ö", "^a$", "x.*y", r"\d{3}-\d{2}"),
    *("(a{100}){9}", "(abcdefghij){90}", r"\pL{9}", "[a-z]{900}"),
]
EMPTY = ["a*", "", "^", "$", r"\b", r"\B", "(a|)", "a{0,3}", "(?:)", "^$", "a?b?", r"(\b|x)"]
"""Those that match the empty text: good for whole ones."""
PLACES = [r"\Aa", r"a\z"]
"""Places of whole texts."""
BAD = [
    *("(", "[z-a]", "a(?=b)", r"(a)\1", "*", "a{1001}", "\ud800", r"a\C"),
    *("(a{100}){11}", "(abcdefghij){120}", "(x{500}y){4}", "(" * (MOST_DEPTH + 1) + "a" + ")" * (MOST_DEPTH + 1)),
]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("pattern", [*GOOD, *EMPTY, *PLACES, *BAD])
def test_what_can_be_used(pattern: str, whole: bool) -> None:
    """An expression of RE2 that is bounded; and, where it is looked for, is never empty and knows no whole text. The
    gateway compiles what has no fault."""
    usable = pattern in GOOD or (whole and pattern not in BAD)
    assert (expression_fault(pattern, whole=whole) is None) == usable
    if usable:
        compile_expression(pattern, whole=whole)


def test_the_words_show_nothing_of_the_expression() -> None:
    """What RE2 has read stays where it is: a status is read by more people than a policy."""
    said = expression_fault("(swordfish")
    assert said
    assert "swordfish" not in said


def test_an_expression_is_bounded_in_length_and_size() -> None:
    """By its characters, its program, and what it may have to do for one character."""
    assert expression_fault("a" * MOST_PATTERN + "b") is not None
    checked = check_expression(r"\pL{9}")
    assert checked.states < MOST_STATES < checked.compiled.programsize < MOST_PROGRAM


@pytest.mark.parametrize(("pattern", "taken"), [(r"\Aa", False), (GOOD[0], True), (BAD[-1], False)])
def test_the_operator_asks_before_a_gateway_does(pattern: str, taken: bool) -> None:
    """A policy that no gateway would take has a fault, so that what was accepted last goes on."""
    patterns = [{"name": "p", "pattern": pattern}]
    faults = find_policy_faults(make_guards(input=[{"type": "Regex", "patterns": patterns}]))
    assert [one.field for one in faults] == ([] if taken else ["spec.input[0].patterns[0].pattern"])


def test_many_large_ones_are_a_fault_together() -> None:
    """What each alone may be, all of a guard together may not; neither side is stricter than the other."""
    patterns = [{"name": f"p{number}", "pattern": f"(abcdefgh{number}){{90}}"} for number in range(8)]
    (fault,) = find_policy_faults(make_guards(input=[{"type": "Regex", "patterns": patterns}]))
    assert fault.field == "spec.input[0].patterns"
    for some, taken in ((patterns, False), (patterns[:4], True)):
        named = tuple(RegexPattern(**one) for one in some)
        guard = RegexGuard(name="r", appliesTo=(Source.USER,), patterns=named)
        assert (find_policy_faults(make_guards(input=[{"type": "Regex", "patterns": some}])) == ()) is taken
        if taken:
            build_regex_detector(guard)
        else:
            with pytest.raises(ValueError, match="states together"):
                build_regex_detector(guard)
