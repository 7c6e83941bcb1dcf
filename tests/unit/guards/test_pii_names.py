"""Names, addresses and organisations: what an engine that reads the language adds, and what is said without one."""

import itertools
import sys
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan_contract.guards import PiiEngine, PiiEntity, PiiGuard, PiiKind, Source
from capstan_gateway.guards.pii import named
from capstan_gateway.guards.pii.build import build_pii_detector
from capstan_gateway.guards.pii.detector import pii_detector
from capstan_gateway.guards.pii.errors import PiiNotAvailable
from capstan_gateway.guards.pii.named import WINDOW, BothDetector, NamedDetector, chosen, windows
from capstan_gateway.guards.port import Cost, Detector, Finding


def guard(*entities: str) -> PiiGuard:
    """Make a guard that wants names."""
    return PiiGuard(
        name="pii",
        appliesTo=(Source.USER,),
        engine=PiiEngine.PRESIDIO,
        entities=tuple(PiiEntity(type=entity) for entity in entities),
    )


class Knows:
    """A reader that knows some names."""

    def __init__(self, **names: str) -> None:
        self.names = names
        self.longest = 0

    def read(self, text: str) -> Iterable[tuple[str, int, int, float]]:
        self.longest = max(self.longest, len(text))
        for name, label in self.names.items():
            place = text.find(name)
            while place >= 0:
                yield label, place, place + len(name), 0.85
                place = text.find(name, place + 1)


EVERY = dict.fromkeys((PiiKind.PERSON, PiiKind.ADDRESS, PiiKind.ORGANIZATION), 0.5)


def names(detector: Detector, text: str) -> list[tuple[str, str]]:
    """Give what is found, with its text."""
    return [(finding.kind, text[finding.start : finding.end]) for finding in detector.scan(text, Source.USER).findings]


def test_without_the_packages_a_policy_cannot_be_enforced(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said what is missing, and nothing passes as if it were there."""
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    with pytest.raises(
        PiiNotAvailable, match=r"`engine: Presidio` is not in this gateway: it needs capstan\[presidio\]"
    ):
        build_pii_detector(guard())


def test_the_best_model_of_each_language_is_used() -> None:
    """Of several of one language only the largest reads."""
    installed = ["en_core_web_sm", "de_core_news_md", "en_core_web_lg", "de_core_news_sm", "xx_ent_wiki_sm", "fr_own"]
    assert chosen(installed) == ["de_core_news_md", "en_core_web_lg", "fr_own", "xx_ent_wiki_sm"]
    assert chosen([]) == []


def test_names_are_kinds_of_ours() -> None:
    """Persons, places and organisations are found; other words of the engine's are not."""
    reader = Knows(Maria="PERSON", Munich="LOCATION", Siemens="ORGANIZATION", Monday="DATE_TIME")
    detector = NamedDetector((reader,), EVERY, frozenset({"siemens"}))
    assert names(detector, "Maria of Siemens, Munich, on Monday") == [("Person", "Maria"), ("Address", "Munich")]
    assert names(NamedDetector((reader,), {PiiKind.PERSON: 0.9}), "Maria") == []
    assert detector.cost is Cost.DEAR


def test_a_long_text_is_read_in_parts() -> None:
    """A part ends behind a line or a blank, so that no name is cut, and offsets are those of the whole."""
    text = "lorem ipsum " * 4000 + "Maria\n" + "x" * 50_000 + " Maria"
    reader = Knows(Maria="PERSON")
    found = NamedDetector((reader,), EVERY).scan(text, Source.USER).findings
    assert [text[finding.start : finding.end] for finding in found] == ["Maria", "Maria"]
    assert reader.longest <= WINDOW
    cut = list(windows(text))
    assert (cut[0][0], cut[-1][1]) == (0, len(text))
    assert all(text[end - 1].isspace() or end - start == WINDOW for start, end in cut[:-1])


@settings(max_examples=30)
@given(st.integers(WINDOW - 300, WINDOW + 300), st.sampled_from(["x", "x ", "lorem ipsum "]))
def test_a_name_over_the_end_of_a_part_is_found(at: int, filler: str) -> None:
    """Parts overlap by more than a name is long, wherever they are cut."""
    before = (filler * WINDOW)[: at - 1] + " "
    text = before + "Maria of Aragon" + (filler * WINDOW)[: 2 * WINDOW]
    detector = NamedDetector((Knows(**{"Maria of Aragon": "PERSON"}),), EVERY)
    assert names(detector, text) == [("Person", "Maria of Aragon")]
    cut = list(windows(text))
    assert all(start < end_before for (_, end_before), (start, _) in itertools.pairwise(cut))
    assert all(end - start <= WINDOW for start, end in cut)


def test_a_name_is_none_where_something_with_a_form_is() -> None:
    """An address of a mail is no person, however the engine reads it."""
    by_name = NamedDetector((Knows(maria="PERSON", Maria="PERSON"),), EVERY)
    both = BothDetector(pii_detector({PiiKind.EMAIL: None}), by_name)
    assert names(both, "Maria: maria@example.com") == [("Person", "Maria"), ("Email", "maria@example.com")]
    assert both.parts == (both.by_form, both.by_name)
    assert both.cost is Cost.DEAR
    assert both.scan("nothing", Source.USER).findings == ()


def need_presidio() -> Any:
    """Give spaCy. In CI too these tests are left out, and named: the packages and a model are 300 MB, for one engine."""
    pytest.importorskip("presidio_analyzer", reason="left out: needs capstan[presidio]")
    return pytest.importorskip("spacy", reason="left out: needs capstan[presidio]")


def test_a_model_that_is_installed_finds_names() -> None:
    """With a real model of English: who somebody is, where, and with whom, wherever it stands in a long text."""
    spacy = need_presidio()
    if not any(name.startswith("en_") for name in spacy.util.get_installed_models()):
        pytest.skip("left out: needs a spaCy model of English (docs/install.md#images)")
    detector = build_pii_detector(guard())
    said = "Maria Schneider of Siemens lives in Munich, mail maria@example.com"
    expected = [
        ("Person", "Maria Schneider"), ("Organization", "Siemens"), ("Address", "Munich"), ("Email", "maria@example.com"),
    ]  # fmt: skip
    assert names(detector, said) == expected
    assert names(detector, "The sky is blue today. " * 2000 + said) == expected
    assert names(detector, "How do I sort a list of numbers?") == []


def test_presidio_reads_with_a_model_and_without_its_patterns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real engine, with a model that knows a few words, finds these and takes no number for anything."""
    spacy = need_presidio()
    model = spacy.blank("en")
    model.add_pipe("entity_ruler").add_patterns(
        [{"label": "PERSON", "pattern": "Maria Schneider"}, {"label": "GPE", "pattern": "Munich"}]
    )
    monkeypatch.setattr(named, "_loaded", {})
    monkeypatch.setattr(spacy.util, "get_installed_models", lambda: ["en_small"])
    monkeypatch.setattr(spacy, "load", lambda *_, **__: model)
    found = build_pii_detector(guard()).scan("Maria Schneider, Munich, 10.20.30, joe@example.com", Source.USER).findings
    assert found == (Finding("Person", 0, 15, 0.85), Finding("Address", 17, 23, 0.85), Finding("Email", 35, 50, 0.99))
    only = build_pii_detector(guard("Person"))
    assert isinstance(only, NamedDetector)
    assert only.scan("Maria Schneider, joe@example.com", Source.USER).findings == (Finding("Person", 0, 15, 0.85),)
    monkeypatch.setattr(spacy.util, "get_installed_models", list)
    with pytest.raises(PiiNotAvailable, match="has no model: this gateway needs a spaCy model of a language"):
        build_pii_detector(guard())


def test_names_and_forms_are_found_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guard that wants both has one detector of both, which says which parts it has."""
    monkeypatch.setattr(named, "load_readers", lambda: (Knows(Joe="PERSON"),))
    made = build_pii_detector(guard("Email", "Person"))
    assert isinstance(made, BothDetector)
    assert names(made, "Joe, joe@example.com") == [("Person", "Joe"), ("Email", "joe@example.com")]
    assert [type(part).__name__ for part in made.parts] == ["PiiDetector", "NamedDetector"]
