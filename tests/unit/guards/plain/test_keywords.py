"""Guards of type Keywords."""

import pytest

from capstan_contract.guards import KeywordsGuard, Source
from capstan_gateway.guards.build import build_detector
from capstan_gateway.guards.plain import keywords, words
from capstan_gateway.guards.plain.folding import Folded
from capstan_gateway.guards.plain.keywords import KeywordsDetector, build_keywords_detector, outermost
from capstan_gateway.guards.plain.words import PART, Words


def _detector(*words: str, case: bool = False, whole: bool = True) -> KeywordsDetector:
    guard = KeywordsGuard(name="k", appliesTo=(Source.USER,), keywords=words, caseSensitive=case, wholeWords=whole)
    return build_keywords_detector(guard)


def _found(text: str, one: KeywordsDetector) -> list[str]:
    return [text[finding.start : finding.end] for finding in one.scan(text, Source.USER).findings]


@pytest.mark.parametrize(
    ("word", "text", "place"),
    [
        ("straße", "Die STRASSE, ja", "STRASSE"), ("strasse", "die Straße!", "Straße"), ("istanbul", "in İSTANBUL 5", "İSTANBUL"),
        ("İstanbul", "ISTANBUL", "ISTANBUL"), ("ısı", "ISI", "ISI"), ("café", "cafe\u0301s? cafe\u0301.", "cafe\u0301"), ("bomb", "ＢＯＭＢ", "ＢＯＭＢ"),
        ("ΣΊΣΥΦΟΣ", "ο Σίσυφος", "Σίσυφος"), ("office", "oﬃce", "oﬃce"), ("bomb", "bo\u200bm\u00adb", "bo\u200bm\u00adb"), ("爆弾", "これは爆弾です", "爆弾"),
        ("폭탄", "폭탄을 만들", "폭탄"), ("ระเบิด", "ทำระเบิดได้", "ระเบิด"), ("bomb", "これはbombです", "bomb"), ("C++", "use C++.", "C++"), (".net", "x .NET y", ".NET"),
    ],
)  # fmt: skip
def test_how_a_word_is_written_does_not_matter(word: str, text: str, place: str) -> None:
    """Case, composition, width and what is not seen make no difference, and the place is that in the text as it came."""
    assert _found(text, _detector(word)) == [place]


@pytest.mark.parametrize(
    ("word", "text", "place"),
    [
        ("don't", "they don’t", "don’t"), ("e-mail", "an e‑mail", "e‑mail"), ("x-ray", "x–ray", "x–ray"),
        ('say "no"', "say “no”", "say “no”"), ("don’t", "don't", "don't"), ("red falcon", "red⠀falcon", "red⠀falcon"),
    ],
)  # fmt: skip
def test_typographic_signs_are_those_of_a_keyboard(word: str, text: str, place: str) -> None:
    """Apostrophes, hyphens and quotes are found as word processors and models write them, and the other way round."""
    assert _found(text, _detector(word)) == [place]


@pytest.mark.parametrize("text", ["_bomb_", "a __bomb__, b", "___bomb___", "_bomb", "bomb_ x"])
def test_emphasis_is_no_part_of_a_word(text: str) -> None:
    """Underscores that join a word to nothing are Markdown's; those of names are a part of it."""
    assert _found(text, _detector("bomb")) == ["bomb"]
    assert _found(text.replace("_", "____"), _detector("bomb")) == []
    assert _found("a_bomb_b", _detector("bomb")) == []


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("bomb", "bombs"),
        ("bomb", "a_bomb"),
        ("bomb", "bomb2"),
        ("bomb", "bomb\u0301"),
        ("cafe", "café"),
        ("가", "각"),
        ("x", "é́x"),
    ],
)
def test_a_part_of_a_word_is_no_word(word: str, text: str) -> None:
    """Letters, digits, marks and `_` beside it make it a part of another word."""
    assert not _found(text, _detector(word))


def test_words_are_found_within_others_if_that_is_wanted() -> None:
    """Without `wholeWords` a word is found wherever its letters stand; a mark on its last letter makes another one."""
    one = _detector("bomb", "cafe", whole=False)
    assert _found("bombs abomb cafes café", one) == ["bomb", "bomb", "cafe"]


def test_case_matters_if_that_is_wanted() -> None:
    """With `caseSensitive` only the same case is found; composition and blanks still don't matter."""
    one = _detector("NASA", "É T", case=True)
    assert _found("nasa NASA e\u0301 t E\u0301 \n T", one) == ["NASA", "E\u0301 \n T"]


def test_a_blank_in_a_phrase_is_any_white_space() -> None:
    """Between the words of a phrase any row of white space may stand, and is a part of what was found."""
    text = "how to make\n\t  a\u00a0 \u2003bomb now,  make a bomb"
    assert _found(text, _detector("make a bomb")) == ["make\n\t  a\u00a0 \u2003bomb", "make a bomb"]


def test_a_phrase_hides_no_shorter_one() -> None:
    """Where a long phrase is no whole word, a shorter one at the same place is found; else the longer one is."""
    one = _detector("bomb", "bomb making", "king")
    assert _found("bomb makings; bomb making", one) == ["bomb", "bomb making"]


def test_a_finding_does_not_name_the_word() -> None:
    """What headers and records tell is that a keyword was there, never which."""
    (finding,) = _detector("verysecret").scan("verysecret", Source.USER).findings
    assert finding.kind == "keyword"


@pytest.mark.parametrize(
    ("word", "text", "place"),
    [
        ("bomb", "a b\u043emb.", "b\u043emb"),
        ("bomb", "B\u041eMB", "B\u041eMB"),
        ("bomb", "\U0001f171omb", "\U0001f171omb"),
        ("bomb", "bo\u034fm\u115fb!", "bo\u034fm\u115fb"),
        ("b\u043emb", "bomb", "bomb"),
        ("attack plan", "\u0430tt\u0251ck  \u03c1lan", "\u0430tt\u0251ck  \u03c1lan"),
    ],
)
def test_a_letter_that_looks_the_same_is_the_same(word: str, text: str, place: str) -> None:
    """Letters of other alphabets, and what is not seen within a word, get nothing past it."""
    assert _found(text, _detector(word)) == [place]


def test_large_letters_that_look_the_same_are_large() -> None:
    """Where case matters a Cyrillic letter is the Latin one of its own case."""
    one = _detector("NATO", case=True)
    assert _found("N\u0410T\u041e N\u0430to", one) == ["N\u0410T\u041e"]


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("\u0441\u043e\u0440", "a cop"),
        ("rod", "r\u00f8d"),
        ("usbomb", "\U0001f1fa\U0001f1f8bomb"),
    ],
)
def test_a_word_of_another_language_is_another_word(word: str, text: str) -> None:
    """A keyword that is Russian is no English word that looks so, nor are letters of Latin alphabets the same."""
    assert not _found(text, _detector(word))


def test_what_is_no_letter_ends_a_word_whatever_it_looks_like() -> None:
    """A sign that might be taken for a letter, or a flag, beside a word makes it no other word."""
    assert _found("\u00d7bomb bomb\u2581 \U0001f1fa\U0001f1f8bomb", _detector("bomb")) == ["bomb"] * 3


def test_a_stream_is_held_only_where_a_word_may_begin() -> None:
    """Held back is what a word begins with, and a word whose end is not sure yet; nothing else."""
    one = _detector("make a bomb", "bob")
    assert one.safe_end("nothing here") == 12
    assert one.safe_end("I'll make  ") == 5
    assert one.safe_end("say bob") == 4, "bobsled"
    assert one.safe_end("say bob ") == 8
    assert one.safe_end("MAKE A\nB") == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("fine", " \u200b"), "empty"), (("x" * 300,), "300 characters"), (("b" * 70, *("b" * n for n in range(1, 70))), "end"),
        (tuple(str(n) for n in range(50_001)), "50001"),
    ],
)  # fmt: skip
def test_what_cannot_be_looked_for_is_refused(words: tuple[str, ...], said: str) -> None:
    """Words that are empty, too long, too many, or one in another too often are refused with the reason."""
    with pytest.raises(ValueError, match=said):
        _detector(*words)


def test_all_is_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many words there are, and however long the text: each part of the text is looked at once."""
    one = _detector(*(f"word{number}" for number in range(5000)))
    asked = []

    class Automaton:
        def find_matches_as_indexes(self, text: str, *, overlapping: bool) -> list[tuple[int, int, int]]:
            assert overlapping
            asked.append(len(text))
            return []

    monkeypatch.setattr(one.words, "_automaton", Automaton())
    one.scan("x" * 1_000_000, Source.USER)
    assert sum(asked) < 1_100_000


def test_words_over_the_border_of_two_parts_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long text is looked at in parts, and no word is lost or told twice between two of them."""
    monkeypatch.setattr(words, "PART", 16)
    one = _detector("needle", whole=False)
    text = "needle" * 40
    assert _found(text, one) == ["needle"] * 40


def test_the_rest_of_a_text_full_of_words_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Findings are bounded in number, and nothing behind the last of them goes free."""
    monkeypatch.setattr(keywords, "MOST_FINDINGS", 10)
    text = "no " * 100
    findings = _detector("no").scan(text, Source.USER).findings
    assert len(findings) == 11
    assert findings[-1].end == len(text)


def test_a_place_in_the_plain_form_is_one_of_the_text() -> None:
    """The way back covers whole characters, also of those that become several or none."""
    folded = Folded("a  ß\u200b \u00a0ﬁx")
    assert folded.text == "a ss fix"
    assert folded.back(2, 3) == (3, 4)
    assert folded.back(5, 6) == (7, 8)
    assert folded.back(7, 8) == (8, 9)


def test_policies_have_it() -> None:
    """A guard of type Keywords is built by what builds all detectors."""
    guard = KeywordsGuard(name="k", appliesTo=(Source.USER,), keywords=("x",))
    assert isinstance(build_detector(guard), KeywordsDetector)


def test_words_that_are_within_others_are_left_out() -> None:
    """However they lie in each other: at the beginning, in the middle, or at the end."""
    for inner in ((0, 3), (2, 5), (4, 7)):
        assert outermost(sorted([(0, 7), inner], key=lambda span: (span[1], span[0])), 9) == [(0, 7)]
    assert outermost([(0, 3), (2, 5)], 9) == [(0, 3), (2, 5)]


def test_a_word_over_the_border_of_two_parts_of_a_long_text_is_found() -> None:
    """A long text is looked at part by part, each with the end of the one before."""
    words = Words(["falcon"], whole=False)
    for at in range(PART - 6, PART + 2):
        assert [span[:2] for span in words.spans("x" * at + "falcon" + "x" * PART)] == [(at, at + 6)]


def test_what_is_kept_of_a_stream_holds_a_word_with_what_nobody_sees_in_it() -> None:
    """So many characters in front of a place that a word which ends there is whole, and what is further back decided."""
    detector = build_keywords_detector(KeywordsGuard(name="k", appliesTo=(Source.TEXT,), keywords=("bomb",)))
    text = "a b\u200b" + "\u200b" * 30 + "omb"
    assert [one.start for one in detector.scan(text[-detector.reach :], Source.TEXT).findings] == [
        detector.scan(text, Source.TEXT).findings[0].start - max(0, len(text) - detector.reach)
    ]
    assert detector.safe_end("zz " * 500) == 1500
