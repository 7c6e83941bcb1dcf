"""Escapes of JSON: guards see what is read there, and what they find is found in the source."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.guards import KeywordsGuard, PiiGuard, RegexGuard, RegexPattern, Source
from capstan_gateway.guards.escapes import Unescaping, scan_source, unescaped
from capstan_gateway.guards.pii.build import build_pii_detector
from capstan_gateway.guards.plain.keywords import build_keywords_detector
from capstan_gateway.guards.plain.regex import build_regex_detector
from capstan_gateway.guards.port import Cost, Detector, Scan

ARGUMENTS = (Source.TOOL_ARGUMENTS,)
KEYWORDS = build_keywords_detector(KeywordsGuard(name="k", appliesTo=ARGUMENTS, keywords=("bomb", "project falcon")))
REGEX = build_regex_detector(
    RegexGuard(name="r", appliesTo=ARGUMENTS, patterns=(RegexPattern(name="p", pattern="bomb|project falcon"),))
)
PII = build_pii_detector(PiiGuard(name="p", appliesTo=ARGUMENTS))
characters = st.sampled_from(["b", "é", '"', "\\", "\n", "😀", "\ud83d", "u", "6", "/", "\x08", "d83d", "\\ud83d"])


def written(text: str, choices: Sequence[int]) -> str:
    """Write a text as a string of JSON, some of its characters as escapes."""
    parts = []
    for number, character in enumerate(text):
        if choices and choices[number % len(choices)]:
            units = character.encode("utf-16-be", "surrogatepass")
            parts.append("".join(f"\\u{units[at]:02x}{units[at + 1]:02X}" for at in range(0, len(units), 2)))
        else:
            parts.append(json.dumps(character, ensure_ascii=0xD800 <= ord(character) < 0xE000)[1:-1])
    return "".join(parts)


@given(
    text=st.text(st.one_of(characters, st.characters()).filter(lambda one: len(one) == 1), max_size=20),
    choices=st.lists(st.integers(0, 1), max_size=5),
)
def test_what_is_read_is_what_the_source_says(text: str, choices: list[int]) -> None:
    """Any string of JSON, however it is escaped, is read as a parser reads it; halves of pairs are no characters."""
    source = written(text, choices)
    read = json.loads(f'"{source}"').encode("utf-16-be", "surrogatepass").decode("utf-16-be", "replace")
    assert unescaped(source).text.count("\ufffd") == read.count("\ufffd")
    assert unescaped(source).text == read


@given(
    source=st.lists(characters).map("".join),
    cuts=st.lists(st.integers(0, 9), max_size=30),
    takes=st.lists(st.integers(0, 5)),
)
def test_in_pieces_it_is_read_as_in_the_whole(source: str, cuts: list[int], takes: list[int]) -> None:
    """However a source is cut, the same is read, and the source of what goes on is the source."""
    source = source.encode("utf-8", "replace").decode()
    reading, text, left, given_back = Unescaping(), "", source, ""
    for size in [*cuts, len(source)]:
        text += reading.feed(left[:size])
        left = left[size:]
        assert text == unescaped(source).text[: len(text)]
    text += reading.end()
    assert text == unescaped(source).text
    at = 0
    for size in [*takes, len(text)]:
        given_back += reading.take(text[at : at + size])
        at += size
    assert (given_back, reading.held) == (source, 0)


@pytest.mark.parametrize("detector", [KEYWORDS, REGEX])
@pytest.mark.parametrize("source", [r'{"a":"b\u006fmb!"}', r'{"a":"x\n\u0062omb"}', r'{"a":"project\u0020falcon"}'])
def test_words_behind_escapes_are_found_in_the_source(detector: Detector, source: str) -> None:
    """A word that is written with escapes is found, and what replaces it leaves JSON."""
    (found,) = scan_source(detector, source, Source.TOOL_ARGUMENTS, as_written=False).findings
    replaced = json.loads(f"{source[: found.start]}[X]{source[found.end :]}")
    assert replaced["a"].strip("x\n!") == "[X]"


def test_personal_data_behind_escapes_is_found() -> None:
    """Blanks of a number may be escapes."""
    source = r'{"a":"4111\u00201111\u0020\u0031111 1111"}'
    (found,) = scan_source(PII, source, Source.TOOL_ARGUMENTS, as_written=False).findings
    assert source[found.start : found.end] == source[6:-2]


def test_what_is_written_is_seen_as_well_where_a_model_is_shown_it() -> None:
    """In a request the source counts too, and no finding cuts an escape."""
    source = r'{"a":"\bomb \nproject"}'
    detector = build_keywords_detector(
        KeywordsGuard(name="k", appliesTo=ARGUMENTS, keywords=("bomb", "nproject"), wholeWords=False)
    )
    assert not scan_source(detector, source, Source.TOOL_ARGUMENTS, as_written=False).findings
    found = scan_source(detector, source, Source.TOOL_ARGUMENTS, as_written=True).findings
    assert [source[one.start : one.end] for one in found] == [r"\bomb", r"\nproject"]


@dataclass
class Notes:
    """Notes what it is shown, and doubts what it is told to."""

    doubts: Sequence[float | None]
    seen: list[tuple[str, Source]] = field(default_factory=list)

    @property
    def cost(self) -> Cost:
        return Cost.CHEAP

    def scan(self, text: str, source: Source) -> Scan:
        self.seen.append((text, source))
        return Scan(doubt=self.doubts[len(self.seen) - 1], message=f"look {len(self.seen)}")


def test_both_looks_are_told_whose_text_it_is() -> None:
    """What is read and what is written are of one source; the greater doubt is the doubt, whichever look has it."""
    for doubts in ((0.2, 0.7), (0.7, 0.2), (None, 0.7), (0.7, None)):
        detector = Notes(doubts)
        scan = scan_source(detector, r"b\u006fmb", Source.TOOL_ARGUMENTS, as_written=True)
        assert detector.seen == [("bomb", Source.TOOL_ARGUMENTS), (r"b\u006fmb", Source.TOOL_ARGUMENTS)]
        assert (scan.doubt, scan.message) == (0.7, "look 1")
