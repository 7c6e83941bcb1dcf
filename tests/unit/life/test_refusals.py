"""Objects that a job failed over."""

import logging

import pytest

from capstan_gateway.life.refusals import MOST_KNOWN, MOST_NAMED, Refusals


def test_what_is_refused_is_named_until_it_is_taken_or_gone() -> None:
    """By where it came from, one sentence for each; objects of the same name elsewhere are others."""
    refusals = Refusals()
    assert refusals.notes == ()
    refusals.accept("models", "a")
    for source, name in (("models", "a"), ("models", "b"), ("slices", "a"), ("slices", "c")):
        refusals.refuse(source, name, KeyError("x"))
    assert refusals.notes == ("2 of models refused: a, b", "2 of slices refused: a, c")
    refusals.accept("models", "a")
    refusals.accept("models", "never seen")
    assert refusals.notes == ("1 of models refused: b", "2 of slices refused: a, c")
    refusals.retain("slices", {"c", "b"})
    assert refusals.notes == ("1 of models refused: b", "1 of slices refused: c")
    refusals.retain("models", set())
    assert refusals.notes == ("1 of slices refused: c",)


def test_every_refusal_is_counted_and_each_kind_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """An object that fails in the same way with each look must not fill the log; what is new about it is told."""
    counted: list[str] = []
    refusals = Refusals(counted.append)
    with caplog.at_level(logging.ERROR):
        for error in (KeyError("1"), KeyError("2"), ValueError("3"), ValueError("4")):
            refusals.refuse("models", "a", error)
        refusals.accept("models", "a")
        refusals.refuse("models", "a", ValueError("5"))
        refusals.refuse("models", "b", ValueError("6"))
    assert counted == ["models"] * 6
    logged = [(record.__dict__["object"], record.__dict__["reason"]) for record in caplog.records]
    assert logged == [("a", "KeyError"), ("a", "ValueError"), ("a", "ValueError"), ("b", "ValueError")]


def test_what_is_known_is_bounded() -> None:
    """Of too many the one is forgotten that was refused longest ago; of a source only the first few are named."""
    refusals = Refusals()
    for number in range(MOST_KNOWN):
        refusals.refuse("models", f"m{number}", KeyError())
    refusals.refuse("models", "m0", KeyError())
    names = [f"m{number}" for number in range(1, MOST_NAMED + 1)]
    assert refusals.notes == (f"{MOST_KNOWN} of models refused: {', '.join(names)}",)
    refusals.refuse("slices", "a", KeyError())
    names = [f"m{number}" for number in range(2, MOST_NAMED + 2)]
    assert refusals.notes == (
        f"{MOST_KNOWN - 1} of models refused: {', '.join(names)}", "1 of slices refused: a",
    )  # fmt: skip
