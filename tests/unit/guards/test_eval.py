"""How guards are measured: intervals, overlaps, and tables between their marks."""

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from capstan_contract.guards import PiiKind, Source
from support.needs import ROOT


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Give scripts/eval_guards.py as a module."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "scripts"), *sys.path])
    yield importlib.import_module("eval_guards")
    for name in ("eval_guards", "guard_sets", "guard_own"):
        sys.modules.pop(name, None)


def test_intervals_are_those_of_wilson(script: ModuleType) -> None:
    """By Newcombe (1998), table I: 81 of 263 and 15 of 148; all of ten is not certain."""
    assert [round(end, 4) for end in script.wilson(81, 263)] == [0.2553, 0.3662]
    assert [round(end, 4) for end in script.wilson(15, 148)] == [0.0624, 0.1605]
    low, high = script.wilson(10, 10)
    assert low < 0.75
    assert high == pytest.approx(1)
    assert script.told(0, 0) == "-"


def test_a_drawing_is_the_same_each_time(script: ModuleType) -> None:
    """So many of each class, chosen by the seed alone."""
    rows = [script.Row(str(number), number % 3 == 0, Source.USER) for number in range(90)]
    drawn = script.draw(rows, 20, "set")
    assert [row.attack for row in drawn].count(True) == 20
    assert len(drawn) == 40
    assert drawn == script.draw(rows, 20, "set")


def test_what_a_set_does_not_label_counts_neither_way(script: ModuleType) -> None:
    """A value is found by an overlapping finding of its kind; a finding of a kind that is labelled is right or wrong."""
    sets = sys.modules["guard_sets"]
    spans = (sets.Span(PiiKind.EMAIL, 0, 5), sets.Span(PiiKind.EMAIL, 10, 15), sets.Span(None, 20, 25))
    kinds = script.Kinds()
    found = [(PiiKind.EMAIL, 4, 6), (PiiKind.EMAIL, 20, 25), (PiiKind.PHONE, 10, 15)]
    kinds.judge(sets.Labelled("x" * 30, spans), found, {PiiKind.EMAIL})
    assert (kinds.recall[PiiKind.EMAIL].found, kinds.recall[PiiKind.EMAIL].of) == (1, 2)
    assert (kinds.precision[PiiKind.EMAIL].found, kinds.precision[PiiKind.EMAIL].of) == (1, 2)
    assert PiiKind.PHONE not in kinds.precision


def test_tables_are_written_between_their_marks(script: ModuleType) -> None:
    """What stands around them stays, a second time changes nothing, and a page without marks is refused."""
    page = "before\n<!-- a: begin -->\nold\n<!-- a: end -->\nafter\n"
    written = script.write_between_marks(page, {"a": "| new |"})
    assert written == "before\n<!-- a: begin -->\n| new |\n<!-- a: end -->\nafter\n"
    assert script.write_between_marks(written, {"a": "| new |"}) == written
    with pytest.raises(ValueError, match="no marks for b"):
        script.write_between_marks(page, {"b": ""})


def test_the_page_has_a_place_for_every_table() -> None:
    """Each table that the script makes has its marks in docs/guards.md."""
    page = (ROOT / "docs" / "guards.md").read_text(encoding="utf-8")
    for name in ("attacks", "harmless", "held-out", "own", "fingerprint", "pii", "values"):
        assert f"<!-- {name}: begin -->" in page


def test_the_tables_are_of_these_weights_and_patterns(script: ModuleType) -> None:
    """Who changes weights, thresholds, or what patterns say measures again (make eval-guards)."""
    assert script.check((ROOT / "docs" / "guards.md").read_text(encoding="utf-8")) is None


def test_tables_of_other_patterns_are_told(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """One weight of one pattern more, and the page is said to be old."""
    page = (ROOT / "docs" / "guards.md").read_text(encoding="utf-8")
    monkeypatch.setattr(script, "PATTERNS", script.PATTERNS[1:])
    assert "make eval-guards" in script.check(page)


def test_texts_written_for_looking_are_in_no_training(script: ModuleType) -> None:
    """Each is there once, of both classes there are many, and no template or list of thresholds has one."""
    own = sys.modules["guard_own"]
    texts = [one.text for one in own.load_own()]
    assert len(texts) == len(set(texts)) > 500
    unseen = {line for path in own.TEXTS.joinpath("unseen").glob("*.txt") for line in path.read_text().split("\n")}
    for folder in ("seeds", "thresholds"):
        for path in own.TEXTS.joinpath(folder).glob("*.txt"):
            same = unseen & set(path.read_text().split("\n")) - {"", "%%"}
            assert not same
