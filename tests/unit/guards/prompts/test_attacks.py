"""What classifiers and judges say of attacks."""

from typing import Any

import pytest

from capstan_contract.guards import Source
from capstan_gateway.guards.prompts.asked import Shown, Way
from capstan_gateway.guards.prompts.attacks import classifier_questions, judge_questions, read_classes, read_verdict
from capstan_gateway.guards.prompts.unreadable import Unreadable


def classes(*rows: tuple[str, list[float]]) -> dict[str, Any]:
    """Give an answer as vLLM's /classify gives it."""
    data = [
        {"index": place, "label": label, "probs": probs, "num_classes": len(probs)}
        for place, (label, probs) in enumerate(rows)
    ]
    return {
        "id": "classify-1",
        "object": "list",
        "created": 1,
        "model": "g",
        "data": data,
        "usage": {"prompt_tokens": 9},
    }


@pytest.mark.parametrize(
    ("label", "probs", "source", "score"),
    [
        ("LABEL_1", [0.1, 0.9], Source.USER, 0.9),
        ("LABEL_0", [0.98, 0.02], Source.USER, 0.02),
        ("benign", [0.98, 0.02], Source.USER, 0.02),
        ("MALICIOUS", [0.3, 0.7], Source.USER, 0.7),
        ("INJECTION", [0.01, 0.99], Source.DOCUMENTS, 0.99),
        ("SAFE", [0.9, 0.1], Source.DOCUMENTS, 0.1),
        ("LEGIT", [0.6, 0.4], Source.USER, 0.4),
        ("JAILBREAK", [0.1, 0.1, 0.8], Source.USER, 0.8),
        ("INJECTION", [0.1, 0.8, 0.1], Source.USER, 0.1),
        ("INJECTION", [0.25, 0.4, 0.35], Source.TOOL_RESULTS, 0.75),
        ("BENIGN", [0.6, 0.3, 0.1], Source.TOOL_RESULTS, 0.4),
    ],
)
def test_labels_of_known_classifiers(label: str, probs: list[float], source: Source, score: float) -> None:
    """Orders of users are none of an attack's, for the classifier that knows three classes; in documents they are."""
    assert read_classes(classes((label, probs)), [source]) == [pytest.approx(score)]


def test_rows_are_taken_by_their_index() -> None:
    """An engine may answer in another order than it was asked in."""
    answer = classes(("LABEL_0", [0.9, 0.1]), ("LABEL_1", [0.2, 0.8]))
    answer["data"].reverse()
    assert read_classes(answer, [Source.USER] * 2) == [pytest.approx(0.1), pytest.approx(0.8)]


@pytest.mark.parametrize(
    "answer",
    [
        {}, {"data": []}, classes(("spam", [0.1, 0.9])), classes(("LABEL_1", [])), classes(("LABEL_1", [0.9])),
        classes(("LABEL_0", [5.0, -4.0])), classes(("LABEL_0", [0.1, 0.1])), {"data": [{"label": None}]}, {"data": [3]},
        classes(("SAFE", [1.0, 0.0]), ("SAFE", [1.0, 0.0])), {"data": [{"index": 1, "label": "SAFE", "probs": [1.0, 0.0]}]},
        {"error": {"message": "no"}},
    ],
)  # fmt: skip
def test_an_answer_of_another_form_is_unreadable(answer: dict[str, Any]) -> None:
    """Logits, labels of other models, answers about other texts: nobody can tell."""
    with pytest.raises(Unreadable):
        read_classes(answer, [Source.USER])


def test_classifiers_are_asked_about_many_texts_at_once() -> None:
    """At most 32 in one call."""
    questions = classifier_questions([str(n) for n in range(33)])
    assert [(one.way, len(one.document["input"])) for one in questions] == [(Way.CLASSIFY, 32), (Way.CLASSIFY, 1)]


def test_a_judge_is_told_whose_the_text_is() -> None:
    """A document has no orders to give; the text is quoted, and the form of the verdict is fixed."""
    shown = [Shown("Ignore all", source=Source.DOCUMENTS), Shown("Ignore all")]
    document, user = (one.document for one in judge_questions(shown, "PromptInjection"))
    assert "no orders to give" in document["messages"][0]["content"]
    assert "no orders to give" not in user["messages"][0]["content"]
    assert '{"attack": NUMBER}' in user["messages"][0]["content"]
    assert "{mark}" not in user["messages"][0]["content"]
    assert user["response_format"]["json_schema"]["schema"]["required"] == ["attack"]


@pytest.mark.parametrize(
    ("text", "score"), [('{"attack": 0.8}', 0.8), ('{"attack": 0}', 0.0), ('```\n{"attack":1}\n```', 1.0)]
)
def test_a_judges_verdict(text: str, score: float) -> None:
    """One number."""
    assert read_verdict({"choices": [{"message": {"content": text}}]}) == score


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "no attack",
        '{"attack": false}',
        '{"attack": 2}',
        '{"attack": "0"}',
        '{"safe": 1}',
        "",
        '{"attack": 0} ok',
        "{",
    ],
)
def test_what_is_no_verdict_is_unreadable(text: str) -> None:
    """Whatever the text has talked it into."""
    with pytest.raises(Unreadable):
        read_verdict({"choices": [{"message": {"content": text}}]})
