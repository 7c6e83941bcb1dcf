"""Guards of type Regex."""

import pytest

from capstan_contract.guards import RegexGuard, RegexPattern, Source
from capstan_contract.re2_syntax import Unreadable
from capstan_gateway.guards.build import build_detector
from capstan_gateway.guards.plain import expressions, regex
from capstan_gateway.guards.plain.expressions import MOST_LENGTH, compile_expression
from capstan_gateway.guards.plain.regex import RegexDetector, build_regex_detector
from capstan_gateway.guards.port import Cost


def _detector(*patterns: str) -> RegexDetector:
    named = tuple(RegexPattern(name=f"p{number}", pattern=pattern) for number, pattern in enumerate(patterns))
    return build_regex_detector(RegexGuard(name="regex", appliesTo=(Source.USER,), patterns=named))


def _found(text: str, *patterns: str) -> list[tuple[str, str]]:
    findings = _detector(*patterns).scan(text, Source.USER).findings
    return [(finding.kind, text[finding.start : finding.end]) for finding in findings]


def test_each_pattern_says_where_it_matches() -> None:
    """All patterns are looked for at once, and every match of each is named by its pattern, by where it begins."""
    assert _found("b12 a3 zz a45", r"a\d+", r"\d+", r"q") == [
        ("p1", "12"), ("p0", "a3"), ("p1", "3"), ("p0", "a45"), ("p1", "45"),
    ]  # fmt: skip


def test_offsets_are_those_of_characters() -> None:
    """Where characters have several bytes, and where a surrogate stands alone, the places are still those of the text."""
    assert _found("ü😀\ud800 straße 😀x", "(?i)STRA[^s]e", "😀x") == [("p0", "straße"), ("p1", "😀x")]


def test_a_caret_is_the_beginning_of_a_line() -> None:
    """A text in pieces has no beginning that could be known, so `^` and `$` are those of lines."""
    assert _found("say\nDAN now\nno DAN", "^DAN") == [("p0", "DAN")]
    assert _found("a\nb", "a$") == [("p0", "a")]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("a*", "the empty text"), (r"\b", "the empty text"), ("x|(y?)", "the empty text"), ("(", "RE2"),
        ("(?=x)y", "RE2"), (r"(a)\1", "RE2"), (r"\Ax", r"\\A"), (r"x\z", r"\\z"), (r"\C", r"\\C"),
        (r"\d{1,900}", "states"), ("[ab]{1000}", "RE2|states"), ("x" * 5000, "longer"), ("(" * 80 + "x" + ")" * 80, "nested"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_by_name(pattern: str, said: str) -> None:
    """A pattern that is broken, too large, or matches everywhere is refused with its name and the reason."""
    with pytest.raises(ValueError, match=rf"(?s)p1.*({said})"):
        _detector("fine", pattern)


def test_patterns_together_are_bounded() -> None:
    """What each may be does not add up to more than a guard may be."""
    with pytest.raises(ValueError, match="together"):
        _detector(*(rf"{letter}[ab]{{400}}c" for letter in "abcdefghijklmn"))
    with pytest.raises(ValueError, match="256 are allowed"):
        _detector(*["x"] * 257)


@pytest.mark.parametrize(
    ("pattern", "width"),
    [
        ("abc", 3), ("a{2,5}b?", 6), ("(ab|c)", 2), ("a+", None), ("(a|b{3,})", None), (r"[[:alpha:]\]x]{4}", 4), (r"\pL\p{Greek}\x{41}\x41\101", 5),
        (r"\Qa.+\E", 3), ("x{,3}", 5), ("a{x}", 4), (r"\bfoo\b$", 3), ("(?i)straße", 6), ("(?P<n>a)(?:b)(?s-i:.)", 3), ("(a{2,3}){4}", 12), ("é{3}", 3),
        (r"[^]a]b", 2), ("[]a]", 1), (r"[\]\\]c", 2),
    ],
)  # fmt: skip
def test_it_is_known_how_long_a_match_can_be(pattern: str, width: int | None) -> None:
    """The longest match of a pattern is reckoned from its syntax, in characters, as RE2 reads it."""
    assert compile_expression(pattern).width == width


def test_a_stream_is_held_only_where_a_match_may_begin() -> None:
    """What stands at the end is held back exactly if it can still become a match, or a longer one."""
    mail = _detector(r"\b[\w.]+@corp\.com")
    assert mail.safe_end("nothing here. ") == 14
    assert mail.safe_end("nothing here: joe.d") == 14
    assert mail.safe_end("joe@corp.com is, ") == 17
    assert mail.safe_end("joe@other ") == 10
    assert _detector("(?i)AB{2}c").safe_end("x aB") == 2
    assert _detector("ab$").safe_end("x ab") == 2, "what comes next decides"


def test_flags_hold_to_the_end_of_their_group() -> None:
    """A flag that is set within a group holds over `|`, and ends with the group: also for what is held back."""
    one = _detector("x(?:a(?i)b|c)d")
    assert one.safe_end("xC") == 0
    assert one.safe_end("xCD") == 3
    assert one.safe_end("xA") == 2


def test_no_finding_is_cut_in_a_text_full_of_them() -> None:
    """Where matches stand side by side for longer than the reach, a place is still never inside of one."""
    one = _detector("a{3}")
    text = "a" * 3000
    end = one.safe_end(text)
    assert len(text) - one.reach <= end < len(text)
    assert not any(finding.start < end < finding.end for finding in one.scan(text, Source.TEXT).findings)


def test_a_long_match_is_found_in_a_whole_text() -> None:
    """An expression without a longest match finds what is longer than what would be held back of a stream."""
    text = "BEGIN" + "x" * (3 * MOST_LENGTH) + "END"
    assert _found(text, "(?s)BEGIN.*END") == [("p0", text)]


def test_work_is_bounded_whatever_the_text_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a pattern that looks to the end behind each match, all that it looks at together grows as the text does."""
    looked = []
    original = expressions.search

    def counting(expression: object, data: bytes, start: int, end: int | None = None) -> object:
        looked.append((len(data) if end is None else end) - start)
        return original(expression, data, start, end)  # type: ignore[arg-type]

    monkeypatch.setattr(expressions, "search", counting)
    work = []
    for size in (100_000, 200_000, 400_000):
        looked.clear()
        scan = _detector("x[^y]*y|x").scan("x" * size, Source.USER)
        assert scan.findings[-1].end == size
        work.append(sum(looked))
    assert work[2] < 2.5 * work[1] < 6 * work[0]


def test_the_rest_of_a_text_full_of_matches_is_one() -> None:
    """Findings are bounded in number, and nothing behind the last of them goes free."""
    text = "1 " * 20_000
    findings = _detector(r"\d").scan(text, Source.USER).findings
    assert len(findings) == expressions.MOST_MATCHES
    assert findings[-1].end == len(text)


def test_what_could_take_long_is_done_beside_the_loop() -> None:
    """Patterns with few states are cheap; those with many are dear, whatever they usually take."""
    assert _detector(r"sk-[A-Za-z0-9]{20,40}").cost is Cost.CHEAP
    assert _detector("[ab]*a[ab]{300}c").cost is Cost.DEAR


def test_a_pattern_that_swells_finds_all_the_same() -> None:
    """Where an automaton would need more states than there is memory, what matches is still found."""
    text = "ab" * 5_000 + "a" + "b" * 300 + "c"
    assert _found(text, "a[ab]{300}c")[-1][1].endswith("c")
    assert _detector("a[ab]{300}c", "[ab]b[ab]{290}c").together.Match(text.encode()) == [0, 1]


def test_an_expression_of_a_whole_text_may_be_empty() -> None:
    """What a text as a whole must match may match the empty one, and name the ends of the text."""
    assert compile_expression(r"\A\d*\z", whole=True).width is None
    with pytest.raises(Unreadable, match="RE2"):
        compile_expression("[", whole=True)


def test_policies_have_it() -> None:
    """A guard of type Regex is built by what builds all detectors."""
    guard = RegexGuard(name="r", appliesTo=(Source.USER,), patterns=(RegexPattern(name="n", pattern="x"),))
    assert isinstance(build_detector(guard), regex.RegexDetector)
