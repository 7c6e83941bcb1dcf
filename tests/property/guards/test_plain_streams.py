"""Words and expressions in texts that come in pieces, and in any text at all."""

import re

from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.guards import KeywordsGuard, RegexGuard, RegexPattern, Source
from capstan_contract.re2_syntax import longest, read_pattern
from capstan_gateway.guards.plain.keywords import build_keywords_detector
from capstan_gateway.guards.plain.regex import build_regex_detector
from capstan_gateway.guards.port import Finding, StreamDetector

_ATOMS = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", "é", "\\w", "(?i:A)"])


def _larger(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    times = st.sampled_from(["+", "*", "?", "{2}", "{1,3}", "*?", "+?", "{0,2}"])
    return st.one_of(
        st.lists(parts, min_size=2, max_size=3).map("".join),
        st.lists(parts, min_size=2, max_size=3).map(lambda ways: f"(?:{'|'.join(ways)})"),
        st.tuples(parts, times).map(lambda pair: f"(?:{pair[0]}){pair[1]}"),
        parts.map(lambda part: f"\\b{part}"),
        parts.map(lambda part: f"{part}$"),
    )


PATTERNS = st.recursive(_ATOMS, _larger, max_leaves=6).map(lambda inner: f"a{inner}")
BOUNDED = PATTERNS.filter(lambda pattern: (longest(read_pattern(pattern)) or 99) <= 32)
TEXTS = st.text(st.sampled_from("abé \n_A"), max_size=60)
WORDS = st.lists(
    st.text(st.sampled_from("abcßéİ爆"), min_size=1, max_size=4)
    | st.sampled_from(["a b", "b  c a", "c c", "ss a", "e\u0301"]),
    min_size=1, max_size=5,
)  # fmt: skip
WORD_TEXTS = st.text(st.sampled_from("abcABC ßSsé\u0301eEiİ爆\u200b\n\t._’"), max_size=60)


def _regex(*patterns: str) -> StreamDetector:
    named = tuple(RegexPattern(name=f"p{number}", pattern=pattern) for number, pattern in enumerate(patterns))
    return build_regex_detector(RegexGuard(name="r", appliesTo=(Source.TEXT,), patterns=named))


def _words(words: list[str], *, whole: bool, case: bool) -> StreamDetector:
    return build_keywords_detector(
        KeywordsGuard(name="k", appliesTo=(Source.TEXT,), keywords=tuple(words), wholeWords=whole, caseSensitive=case)
    )


def _found(one: StreamDetector, text: str) -> list[Finding]:
    return list(one.scan(text, Source.TEXT).findings)


def _is_the_same_in_pieces(one: StreamDetector, text: str, cut: int) -> None:
    beginning = text[: min(cut, len(text))]
    end = one.safe_end(beginning)
    assert len(beginning) - one.reach <= end <= len(beginning)
    whole = _found(one, text)
    assert [f for f in _found(one, beginning) if f.start < end] == [f for f in whole if f.start < end]
    assert not any(f.start < end < f.end for f in whole), "a place that is given out up to is inside of no finding"


@given(st.lists(BOUNDED, min_size=1, max_size=3), TEXTS, st.integers(0, 60))
def test_expressions_find_the_same_however_a_text_is_cut(patterns: list[str], text: str, cut: int) -> None:
    """What is in front of `safe_end` of a beginning is what the whole has there, and nothing is cut there."""
    _is_the_same_in_pieces(_regex(*patterns), text, cut)


@given(BOUNDED, TEXTS, TEXTS, st.integers(0, 60))
def test_expressions_need_no_more_than_their_reach(pattern: str, front: str, text: str, cut: int) -> None:
    """From a place that is given out up to, the same is found whether all in front of it is there or the reach alone."""
    one = _regex(pattern)
    text = "." * one.reach + front + text
    end = one.safe_end(text[: one.reach + cut])
    begin = max(0, end - one.reach)
    behind = [Finding(f.kind, f.start + begin, f.end + begin) for f in _found(one, text[begin:])]
    assert [f for f in behind if f.start >= end] == [f for f in _found(one, text) if f.start >= end]


@given(PATTERNS, TEXTS, st.integers(0, 60))
def test_nothing_is_given_out_that_becomes_a_match(pattern: str, text: str, cut: int) -> None:
    """Also of expressions without a longest match: what begins in front of `safe_end` had been seen by then."""
    one = _regex(pattern)
    beginning = text[:cut]
    end = one.safe_end(beginning)
    for finding in _found(one, text):
        assert finding.start >= end or finding.end <= len(beginning)


@given(PATTERNS, TEXTS)
def test_places_are_those_of_pythons_own_expressions(pattern: str, text: str) -> None:
    """In ASCII both find the same first match, at the same characters."""
    text = text.replace("é", "b")
    wanted = re.search(pattern.replace("é", "b"), text, re.ASCII | re.MULTILINE)
    findings = _found(_regex(pattern.replace("é", "b")), text)
    assert [(f.start, f.end) for f in findings[:1]] == ([wanted.span()] if wanted else [])


@given(PATTERNS)
def test_no_match_is_longer_than_was_reckoned(pattern: str) -> None:
    """What matches the longest width plus one must be without an end."""
    width = longest(read_pattern(pattern))
    for finding in _found(_regex(pattern), "abab aaaabbbb" * 8):
        assert width is None or finding.end - finding.start <= width


@given(WORDS, WORD_TEXTS, st.integers(0, 60), st.booleans(), st.booleans())
def test_words_are_the_same_however_a_text_is_cut(
    words: list[str], text: str, cut: int, whole: bool, case: bool
) -> None:  # fmt: skip
    """What is in front of `safe_end` of a beginning is what the whole has there, and nothing is cut there."""
    _is_the_same_in_pieces(_words(words, whole=whole, case=case), text, cut)


@given(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=4), st.text(max_size=40), st.text(max_size=20))
def test_any_word_is_found_in_any_text(words: list[str], front: str, back: str) -> None:
    """Whatever is a word of the policy is found where it stands by itself, and its place is in the text."""
    usable = [word for word in words if word.strip() and any(c.isalnum() for c in word) and word[0].isalnum()]
    if not usable:
        return
    text = f"{front}. {usable[0]} .{back}"
    findings = _found(_words(usable, whole=False, case=False), text)
    at = len(front) + 2
    assert any(f.start <= at and f.end >= at + len(usable[0].rstrip()) - 1 for f in findings)
    assert all(0 <= f.start < f.end <= len(text) for f in findings)


@given(st.text(max_size=200))
def test_any_text_can_be_looked_at(text: str) -> None:
    """No text makes an expression fail, and what it finds is where it says."""
    for finding in _found(_regex("[aeiou]\\w", "(?i)\\pL{2}\\d?"), text):
        assert len(text[finding.start : finding.end]) in (2, 3)
