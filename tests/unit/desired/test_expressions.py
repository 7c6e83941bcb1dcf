"""What the operator takes for an expression is what a gateway takes for one."""

import pytest

from capstan_gateway.guards.plain import expressions, regex
from capstan_gateway.guards.plain.syntax import Unreadable
from capstan_operator.desired.expressions import MOST_PROGRAM, MOST_STEPS, MOST_TOGETHER, expression_fault
from capstan_operator.desired.policy_kinds import find_policy_faults
from support.plainpolicies import make_guards

PATTERNS = [
    *("a", "a+", r"\bINT-[0-9]{8}\b", "(?i)secret", "[^a-z]x", r"\pL{3}", "ä|ö", "^a$", "x.*y", r"\d{3}-\d{2}"),
    *("a*", "", "^", "$", r"\b", r"\B", "(a|)", "a{0,3}", "(?:)", "^$", "a?b?", r"(\b|x)"),
    *("(", "[z-a]", "a(?=b)", r"(a)\1", "*", "a{1001}", "(?P<n>a)(?P<n>b)", "\ud800"),
    *("(a{100}){10}", "(abcdefghij){90}", "(abcdefghij){120}", r"\pL{900}", "[a-z]{999}", "(x{500}y){4}"),
]


def gateway_takes(pattern: str, *, whole: bool) -> bool:
    """Whether a gateway can use it."""
    try:
        expressions.compile_expression(pattern, whole=whole)
    except Unreadable:
        return False
    return True


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_operator_takes_what_a_gateway_takes(pattern: str, whole: bool) -> None:
    """What a gateway would refuse is a fault of the policy, so that what was accepted last goes on; nothing else is."""
    assert (expression_fault(pattern, whole=whole) is None) == gateway_takes(pattern, whole=whole)


def test_the_bounds_are_those_of_the_gateway() -> None:
    """Neither side is stricter than the other."""
    assert (MOST_PROGRAM, MOST_STEPS) == (expressions.MOST_PROGRAM, expressions.MOST_STEPS)
    assert MOST_TOGETHER == regex.MOST_STEPS


def test_many_large_ones_are_a_fault_together() -> None:
    """What each alone may be, all of a guard together may not."""
    patterns = [{"name": f"p{number}", "pattern": f"(abcdefgh{number}){{90}}"} for number in range(8)]
    (fault,) = find_policy_faults(make_guards(input=[{"type": "Regex", "patterns": patterns}]))
    assert fault.field == "spec.input[0].patterns"
    assert find_policy_faults(make_guards(input=[{"type": "Regex", "patterns": patterns[:4]}])) == ()
