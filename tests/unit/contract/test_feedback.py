"""Pages of feedback, as readers take them."""

import json

import pytest

from capstan_contract.feedback import (
    ArmName,
    Feedback,
    FeedbackError,
    FeedbackPage,
    Label,
    Source,
    label_of,
    read_feedback_page,
)

SAID = Feedback(
    at=5, id="chatcmpl-1", requestId="r", model="a", asked="ab", tenant="red", score=0.25, label=Label.BAD,
    comment="no", source=Source.ANNOTATOR, arms=(ArmName(key="n/r", epoch="e", member="n/a", bucket=3),),
)  # fmt: skip


def test_a_page_is_read_as_it_was_written() -> None:
    """What was said comes back from JSON."""
    page = read_feedback_page(FeedbackPage(source="redis", data=(SAID,), next=9).model_dump_json())
    assert page == ((SAID,), 9, "redis", 0)


def test_what_cannot_be_read_is_counted() -> None:
    """An entry of another form is left out, and those around it are not; fields of a newer release change nothing."""
    document = json.loads(FeedbackPage(data=(SAID,)).model_dump_json())
    document["data"][0]["also"] = 1
    document["data"] += [{"id": "x"}, 7]
    page = read_feedback_page(json.dumps(document))
    assert (page.data, page.next, page.unreadable) == ((SAID,), None, 2)


@pytest.mark.parametrize(
    "text", ["<html>", "[]", '{"object":"usage"}', '{"object":"feedback.list","data":[],"next":-1}']
)
def test_what_is_no_page_is_refused(text: str) -> None:
    """Another answer is no page of feedback."""
    with pytest.raises(FeedbackError):
        read_feedback_page(text)


@pytest.mark.parametrize(
    ("millis", "label"), [(0, Label.BAD), (499, Label.BAD), (500, Label.NEUTRAL), (501, Label.GOOD), (1000, Label.GOOD)]
)
def test_a_score_comes_to_a_label(millis: int, label: Label) -> None:
    """Above the middle is good, below is bad."""
    assert label_of(millis) is label
