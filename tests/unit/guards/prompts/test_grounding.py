"""Sentences, and which of them are supported."""

import itertools
from typing import Any

import pytest

from capstan_gateway.guards.prompts.asked import Way
from capstan_gateway.guards.prompts.grounding import (
    MOST_CONTEXT_CHARS,
    MOST_PAIRS,
    judge_question,
    read_judged,
    read_scores,
    score_questions,
    supported,
)
from capstan_gateway.guards.prompts.sentences import sentences_of
from capstan_gateway.guards.prompts.similar import cosine, questions, read_vectors
from capstan_gateway.guards.prompts.unreadable import Unreadable


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Dr. Smith paid 3.50 dollars. He left.", ["Dr. Smith paid 3.50 dollars.", "He left."]),
        ("- first\n- second\n", ["- first", "- second"]),
        ('He said "no." Then he went.', ['He said "no."', "Then he went."]),
        ("東京は首都です。人口は多い。", ["東京は首都です。", "人口は多い。"]),
        ("1. Paris\n2. Rome", ["1. Paris", "2. Rome"]),
        ("...\n\n!!", []), ("", []), ("no end", ["no end"]),
    ],
)  # fmt: skip
def test_sentences(text: str, said: list[str]) -> None:
    """Marks of several scripts end one; dots of abbreviations, numbers and lists do not."""
    assert [text[start:end] for start, end in sentences_of(text)] == said


def verdict(text: str) -> dict[str, Any]:
    """Give a judge's answer."""
    return {"choices": [{"message": {"content": text}}]}


def test_a_judge_names_every_sentence_once() -> None:
    """One call for all of them, with their numbers."""
    question = judge_question(["Paris is the capital."], "Which?", ["Paris is.", "It is large."])
    assert '"2":"It is large."' in question.document["messages"][1]["content"]
    assert '{"supported": [NUMBERS], "unsupported": [NUMBERS]}' in question.document["messages"][0]["content"]
    assert read_judged(verdict('{"supported": [1], "unsupported": [2]}'), 2) == [True, False]


@pytest.mark.parametrize(
    "text",
    [
        '{"supported": [1, 2]}', '{"supported": [1], "unsupported": []}', '{"supported": [1, 2], "unsupported": [2]}',
        '{"supported": [1, 2, 3], "unsupported": []}', '{"supported": ["1", "2"], "unsupported": []}', "all supported",
        '{"supported": [true, 2], "unsupported": []}', "{}", "[]",
    ],
)  # fmt: skip
def test_a_judge_that_leaves_one_out_is_unreadable(text: str) -> None:
    """What it does not say is not supported, and not unsupported either."""
    with pytest.raises(Unreadable):
        read_judged(verdict(text), 2)


def test_more_than_a_judge_can_be_shown_is_unreadable() -> None:
    """A part of the context would not do: what is supported might stand in the other one."""
    with pytest.raises(Unreadable):
        judge_question(["x" * (MOST_CONTEXT_CHARS + 1)], "", ["a"])
    with pytest.raises(Unreadable):
        score_questions(["x"] * (MOST_PAIRS + 1), ["a"], way=Way.SCORE)


def test_a_sentence_is_supported_by_the_part_that_supports_it_most() -> None:
    """Each is scored with every part of the context."""
    asked = score_questions(["p1", "p2"], ["s1", "s2"], way=Way.SCORE)
    assert asked[0].document == {"text_1": ["p1", "p2", "p1", "p2"], "text_2": ["s1", "s1", "s2", "s2"]}
    answer = {"data": [{"index": n, "object": "score", "score": score} for n, score in enumerate((0.1, 0.9, 0.2, 0.3))]}
    assert supported(read_scores(answer, 4, way=Way.SCORE), 2) == [True, False]


def test_classifiers_of_entailment() -> None:
    """By their labels; one that is not known says nothing."""

    def answer(label: str, *probs: float) -> dict[str, Any]:
        return {"data": [{"index": 0, "label": label, "probs": list(probs)}]}

    assert score_questions(["p"], ["s"], way=Way.CLASSIFY)[0].document == {"input": ["p\n\ns"]}
    assert read_scores(answer("ENTAILMENT", 0.9, 0.1), 1, way=Way.CLASSIFY) == [0.9]
    assert read_scores(answer("neutral", 0.4, 0.6), 1, way=Way.CLASSIFY)[0] < 0.5
    for wrong in (
        answer("spam", 0.9),
        answer("entailment"),
        {"data": [{"index": 0, "label": "entailment", "probs": [7]}]},
    ):
        with pytest.raises(Unreadable):
            read_scores(wrong, 1, way=Way.CLASSIFY)
    with pytest.raises(Unreadable):
        read_scores({"data": [{"score": 12.5}]}, 1, way=Way.SCORE)


def test_embeddings() -> None:
    """Of any length; what is no vector is unreadable, and so is a comparison of two models'."""
    one, other = read_vectors({"data": [{"index": 1, "embedding": [0, 3]}, {"index": 0, "embedding": [2, 0]}]}, 2)
    assert (one, other, cosine(one, other), cosine(one, one)) == ((1.0, 0.0), (0.0, 1.0), 0.0, 1.0)
    assert list(itertools.chain.from_iterable(q.numbers for q in questions(["x"] * 70))) == list(range(70))
    for wrong in ([], [0.0, 0.0], "abc", [1, "x"], [True], [1e400, 1.0], None):
        with pytest.raises(Unreadable):
            read_vectors({"data": [{"index": 0, "embedding": wrong}]}, 1)
    with pytest.raises(Unreadable):
        cosine((1.0,), (1.0, 0.0))
