"""Personal data is found in a text that comes in pieces as it is in the whole one."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from capstan_contract.guards import PiiKind, Source
from capstan_gateway.guards.pii.detector import PiiDetector
from support.pii import VALUES
from support.pii_texts import ALL, GLUE, LENGTHY, NEVER, PART, SHORT, TEXT

LONG = st.lists(
    st.one_of(
        PART,
        st.builds(
            lambda unit, count: unit * count,
            st.sampled_from(["lorem ", "12 34 ", "x@y.zz ", "1-"]),
            st.integers(20, 200),
        ),
    ),
    max_size=16,
).map("".join)


WORDY = st.lists(
    st.one_of(
        st.sampled_from((
            "the", "of", "a", "I", "do", "Dr", "AT", "FR", "XX", "NO", "GB", "CHE", "jane", "river", "bridge.", "(see",
            "e-mail,", "Note:", "**bold**", "don’t", "straße", "слово", "said", '"well', 'so"', "`x`", "[a", "{at", "(at)",
            "[dot]", "- item", "\n", "# head", "in May", "twelve-year-olds", "responsibility,", "aa-bb", "dead.beef.cafe",
            "xoxb-abcdefghijkl", "face:beef", "fe:ed", "AKIA" + "ABCDEFGHIJKLMNOP", "password", "is", "bic", "passport", "born",
            "on", "phone", "+", "(", "@", "@x.org", "at", "--", "-----BEGIN", "RSA", "PRIVATE", "KEY-----", "://", "u:p@h",
        )),
        st.sampled_from([value for values in VALUES.values() for value in values]),
        st.sampled_from(GLUE),
        st.integers(0, 10**9).map(str),
    ),
    max_size=60,
)  # fmt: skip
PROSE = st.builds(lambda words, blanks: "".join(word + blank for word, blank in zip(words, blanks, strict=False)), WORDY,
                  st.lists(st.sampled_from(" " * 6 + "\n-"), min_size=60, max_size=60))  # fmt: skip

QUIET_AT_FIRST = (
    "FR AA 399859412", "AT U13585627", "ES A13585625", "jane.doe (at) example (dot) com", "jane.doe [ at ] example [dot] com",
    '"jane mary anne doe"@example.com', "dead.beef.cafe", "xoxb-abcdefghijkl", "AB 12 34 56 C", "+ 49 30 901820",
    "(030) 901820 12", "born on May 5, 1980", "aa-bb-cc-dd-ee-ff", "AKIAABCDEFGHIJKLMNOP", "GB82 WEST 1234 5698 7654 32",
    "driving licence: AB CD EF GH 12345678",
)  # fmt: skip
"""Values that begin with what stands in any prose."""

Found = list[tuple[str, int, int, float]]


def found(detector: PiiDetector, text: str, *, first: int = 0, before: int | None = None) -> Found:
    """Give what is found that begins between two places."""
    return [
        (finding.kind, finding.start, finding.end, finding.score)
        for finding in detector.scan(text, Source.USER).findings
        if first <= finding.start < (len(text) if before is None else before)
    ]


def check_beginning(detector: PiiDetector, text: str, cut: int) -> None:
    """What is found in front of the safe end of a beginning is what is found there in the whole."""
    begun = text[:cut]
    place = detector.safe_end(begun)
    assert max(0, len(begun) - detector.reach) <= place <= len(begun)
    assert found(detector, begun, before=place) == found(detector, text, before=place)
    assert detector.decide(begun, Source.USER) == (detector.scan(begun, Source.USER), place)


@given(text=TEXT, share=st.floats(0, 1))
@settings(max_examples=400)
@example(text=LENGTHY[0], share=0.9)
@example(text=LENGTHY[1], share=0.5)
@example(text=LENGTHY[1], share=0.95)
@example(text="\x80" + LENGTHY[1], share=0.5)
@example(text="\u200b\u200b4111111111111111" + "lorem ipsum " * 20, share=0.5)
@example(text=LENGTHY[2], share=0.6)
@example(text=LENGTHY[3], share=0.6)
@example(text=LENGTHY[4], share=0.9)
@example(text=LENGTHY[5], share=0.6)
@example(text="my number is 541-714-1388x12 office", share=0.7)
def test_the_beginning_of_a_text_is_decided_as_the_whole_is(text: str, share: float) -> None:
    """Whatever comes behind the safe end, what is in front of it is found or not as it was."""
    for detector in (ALL, SHORT, NEVER):
        check_beginning(detector, text, round(share * len(text)))


@given(text=st.one_of(LONG, PROSE), share=st.floats(0, 1), more=st.integers(1, 300))
@settings(max_examples=300)
def test_a_place_that_was_decided_is_as_the_beginning_of_a_text(text: str, share: float, more: int) -> None:
    """What is further behind such a place than the front is found, and decided, as with all that is before it."""
    for detector in (ALL, SHORT, NEVER):
        cut = round(share * len(text))
        place = detector.safe_end(text[:cut])
        if place <= cut - detector.reach:
            continue
        first = place + detector.front
        begun = text[: cut + more]
        whole = found(detector, begun, first=first)
        behind = found(detector, begun[place:], first=first - place)
        assert [(kind, start + place, end + place, score) for kind, start, end, score in behind] == whole
        decided, end = detector.safe_end(begun), place + detector.safe_end(begun[place:])
        assert end == decided or max(end, decided) <= max(first, len(begun) - detector.reach)


@given(text=PROSE, share=st.floats(0, 1))
@settings(max_examples=600)
def test_prose_is_decided_up_to_its_last_words_if_nothing_can_begin_there(text: str, share: float) -> None:
    """Words, marks and values in any order: what is let go is what stands in the whole text, wherever that is cut."""
    for detector in (ALL, NEVER):
        check_beginning(detector, text, round(share * len(text)))


@given(
    before=st.lists(st.sampled_from(["because", "bridges", "FR", "password is", "call"]), max_size=3),
    value=st.one_of(
        st.sampled_from([value for values in VALUES.values() for value in values]),
        st.sampled_from(QUIET_AT_FIRST),
    ),
    behind=st.sampled_from(["", " is my phone", " x", ".", "1", "a"]),
    glue=st.sampled_from(" \n"),
)  # fmt: skip
@settings(max_examples=150)
def test_of_no_value_is_the_beginning_let_go(before: list[str], value: str, behind: str, glue: str) -> None:
    """Wherever a text is cut amid a value, or near it, what is let go holds nothing of that."""
    front = "".join(word + glue for word in ["because", *before])
    text = front + value + behind
    for cut in range(max(0, len(front) - 3), len(text)):
        check_beginning(ALL, text, cut)


def test_what_begins_as_prose_does_is_held_as_well() -> None:
    """There are values whose first words are like any others: none of them is let go before the rest is there."""
    for value in QUIET_AT_FIRST:
        text = f"because {value} and"
        (finding,) = ALL.scan(text, Source.USER).findings
        assert text.startswith(value, 8)
        for cut in range(8, finding.end):
            assert ALL.safe_end(text[:cut]) <= finding.start, text[:cut]


def test_of_prose_little_is_held_back() -> None:
    """Without a sign of anything, no more waits than the last words."""
    text = (
        "Of course! **First**, the old bridge was closed (as you said), so the river-side path is the “better” way; "
        "my friend calls it `the long way round`. Don’t worry: it’s not far - it takes as long as the other one. "
    )
    held = [end - ALL.safe_end(text[:end]) for end in range(1, len(text) + 1)]
    assert max(held) <= 32
    assert sum(held) / len(held) <= 16


@given(text=LONG, share=st.floats(0, 1), rest=st.integers(0, 400))
@settings(max_examples=150)
def test_what_is_further_back_than_the_reach_need_not_be_given_again(text: str, share: float, rest: int) -> None:
    """From the reach on, a text is read the same from its middle as from its beginning."""
    for detector in (SHORT, NEVER):
        offset = round(share * max(0, len(text) - detector.reach - rest))
        first = offset + detector.reach if offset else 0
        whole = found(detector, text, first=first)
        from_middle = found(detector, text[offset:], first=first - offset)
        assert [(kind, start + offset, end + offset, score) for kind, start, end, score in from_middle] == whole


@given(text=TEXT, share=st.floats(0, 1))
@settings(max_examples=200)
def test_the_safe_end_is_inside_of_nothing_that_is_found(text: str, share: float) -> None:
    """What is let go up to there is never a part of what will be found."""
    begun = text[: round(share * len(text))]
    place = ALL.safe_end(begun)
    inside = [finding for finding in found(ALL, text, before=place) if finding[2] > place]
    assert not inside or place == len(begun) - ALL.reach


@given(text=st.text())
def test_any_text_is_read(text: str) -> None:
    """No text makes the detector fail, and findings lie in it, in order."""
    findings = ALL.scan(text, Source.USER).findings
    assert all(0 <= finding.start < finding.end <= len(text) for finding in findings)
    assert [finding.start for finding in findings] == sorted(finding.start for finding in findings)
    assert {PiiKind(finding.kind) for finding in findings} <= set(ALL.thresholds)
