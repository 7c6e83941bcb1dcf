"""What a text has at least in which an expression matches."""

import re

import pytest

from capstan_gateway.guards.attacks.keys import required, spaced
from capstan_gateway.guards.attacks.pattern import Pattern
from capstan_gateway.guards.attacks.patterns import LOOSE_PATTERNS, PATTERNS
from capstan_gateway.guards.text.fold import fold


@pytest.mark.parametrize(
    ("expression", "keys"),
    [
        (rb"\bignor(?:e|ing)\W+all", {b" ignor"}),
        (rb"\b(?:forget|disregard)\b", {b" forget", b" disregard"}),
        (rb"(?:x|y)?abc", {b"abc"}),
        (rb"the\W+(?:quokka|wombat)s", {b" quokka", b" wombat"}),
        (rb"<\|im_start\|>", {b"  im_start  "}),
        (rb"(?:secret){2,3}", {b"secret"}),
    ],
)
def test_the_rarest_part_is_taken(expression: bytes, keys: set[bytes]) -> None:
    """Of the parts that every match has, the one that ordinary text has least."""
    assert required(expression)[0] == keys


@pytest.mark.parametrize("expression", [rb"\W+", rb"[a-z]+\d", rb"(?:a|\d)", rb"(?:abc)*", rb"---"])
def test_an_expression_may_need_nothing(expression: bytes) -> None:
    """What can match without a letter that is known needs nothing."""
    assert required(expression) == []


def test_a_place_in_a_spaced_text_is_the_same_place() -> None:
    """Signs become blanks, one each; letters of other alphabets stay."""
    text = "Don't <|stop|>, für_x!".encode()
    assert spaced(text) == "Don t   stop    für_x ".encode()


@pytest.mark.parametrize("pattern", [*PATTERNS, *LOOSE_PATTERNS], ids=lambda pattern: pattern.kind)
def test_every_pattern_needs_something(pattern: Pattern) -> None:
    """No pattern is tried on texts in which it cannot be."""
    expression = re.sub(r"[^\x00-\x7f]+", lambda run: fold(run[0]), pattern.expression)
    assert pattern.needs or required(expression.encode())
