"""Personal data is found in a text that comes in pieces as it is in the whole one."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from capstan_contract.guards import PiiKind, Source
from capstan_gateway.guards.pii.detector import PiiDetector
from support.pii_texts import ALL, LENGTHY, NEVER, PART, SHORT, TEXT

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
