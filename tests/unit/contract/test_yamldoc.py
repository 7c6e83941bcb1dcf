"""YAML as kubectl reads it."""

from typing import Any

import pytest

from capstan_contract.yamldoc import YamlFault, read_yaml


def data(text: str) -> Any:
    """The data of the only document."""
    (document,) = read_yaml(text)
    return document.data


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2024-01-01", "2024-01-01"),
        ("1:30", "1:30"),
        ("1:30.5", "1:30.5"),
        ("=", "="),
        ("yes", True),
        ("off", False),
        ("1.0", 1),
        ("1.5", 1.5),
        ("017", 15),
        ("0x1f", 31),
        ("-0b11", -3),
        ("1_000", 1000),
        ("'1'", "1"),
        ("~", None),
        ("[1, {a: null}]", [1, {"a": None}]),
        ("{1: a, true: b, null: c}", {"1": "a", "true": "b", "null": "c"}),
        ("{<<: {a: 1, b: 2}, b: 3}", {"a": 1, "b": 3}),
        ("{b: 3, <<: [{a: 1}, {a: 2, b: 2, c: 2}]}", {"a": 1, "b": 3, "c": 2}),
    ],
)
def test_values(text: str, value: Any) -> None:
    """Nothing but JSON comes out, and what looks like a date or a time of day stays text."""
    assert data(f"x: {text}") == {"x": value}


BOMB = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{after}: &{after} [{', '.join([f'*{before}'] * 10)}]\n" for before, after in zip("abcdef", "bcdefg", strict=True)
)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: 2\na: 3", 3, "has the key `a` twice in `the document`"),
        ("a:\n  b: 1\n  'b': 2", 3, "has the key `b` twice in `a`"),
        ("a: .nan", 1, "has a number that JSON has not"),
        ("a: 1\nb: .inf", 2, "has a number that JSON has not"),
        ("a: !!binary aGk=", 1, "has the tag !!binary, which JSON has not"),
        ("a: !mine b", 1, "has the tag !mine, which JSON has not"),
        ("? [1]\n: 2", 1, "has a key that is not a string"),
        ("a: &a {b: *a}", 1, "nests deeper than 100 levels"),
        ("[" * 100_000, 1, "is not YAML: while increasing flow level exceeded maximum nesting depth"),
        (BOMB, 1, "has more than 200000 values, with aliases written out"),
        ("a: {<<: 1}", 1, "`<<` must name a mapping"),
        ("a: 1\nb: \x01", 2, "is not YAML: a character is not allowed"),
        (f"a: {'9' * 5000}", 1, "has a number that is too long"),
    ],
)
def test_faults(text: str, line: int, message: str) -> None:
    """What is not a manifest's YAML is refused with its line, whatever its size."""
    with pytest.raises(YamlFault) as caught:
        list(read_yaml(text))
    assert (caught.value.line, caught.value.message) == (line, message)


def test_lines() -> None:
    """Every field knows its line."""
    (document,) = read_yaml("# first\na:\n  - b: 1\n    c:\n      d: 2\n  - e\n")
    assert document.lines == {"": 2, "a": 2, "a[0]": 3, "a[0].b": 3, "a[0].c": 4, "a[0].c.d": 5, "a[1]": 6}
