"""Whatever a model answers: nothing but Unreadable is raised, and nothing reads as harmless that does not say so."""

import itertools
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from capstan_contract.guards import Source
from capstan_gateway.guards.prompts.asked import Format, Question, Shown, Way
from capstan_gateway.guards.prompts.attacks import judge_questions, read_classes, read_verdict
from capstan_gateway.guards.prompts.grounding import judge_question, read_judged, read_scores
from capstan_gateway.guards.prompts.judge import Judge
from capstan_gateway.guards.prompts.llama_guard import LlamaGuard
from capstan_gateway.guards.prompts.openai import OpenAiModeration
from capstan_gateway.guards.prompts.packs import packed, windows
from capstan_gateway.guards.prompts.sentences import sentences_of
from capstan_gateway.guards.prompts.shield_gemma import ShieldGemma
from capstan_gateway.guards.prompts.similar import read_vectors
from capstan_gateway.guards.prompts.unreadable import Unreadable

WORDS = st.sampled_from(
    [
        "safe",
        "unsafe",
        "Yes",
        "No",
        "S1",
        "O9",
        "\n",
        " ",
        "{",
        "}",
        '"attack"',
        ": 0",
        "[1]",
        '"supported"',
        "```",
        "<think>",
    ]
)
TEXTS = st.lists(WORDS | st.text(max_size=8), max_size=8).map("".join)
LEAVES = st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | TEXTS
KEYS = st.sampled_from(
    ["choices", "message", "content", "text", "logprobs", "top_logprobs", "token", "logprob", "results", "flagged",
     "categories", "category_scores", "data", "index", "label", "probs", "score", "embedding", "hate", "scores"]
)  # fmt: skip
JSON: st.SearchStrategy[Any] = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)
ANSWERS = st.dictionaries(KEYS, JSON, max_size=4)
FORMATS: tuple[Format, ...] = (LlamaGuard("llama-guard-3"), ShieldGemma(), OpenAiModeration(), Judge())
READERS: tuple[Callable[[Any], object], ...] = (
    lambda answer: read_classes(answer, [Source.USER]),
    read_verdict,
    lambda answer: read_judged(answer, 2),
    lambda answer: read_scores(answer, 1, way=Way.SCORE),
    lambda answer: read_scores(answer, 1, way=Way.CLASSIFY),
    lambda answer: read_vectors(answer, 1),
)


def said(text: Any) -> dict[str, Any]:
    """Give a chat completion with this text."""
    return {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}


@settings(max_examples=300)
@given(ANSWERS | TEXTS.map(said))
def test_every_answer_is_read_or_unreadable(answer: dict[str, Any]) -> None:
    """Nothing else is raised, and every text gets a verdict."""
    for form in FORMATS:
        question = Question(Way.CHAT, {}, (0,), "harassment")
        try:
            assert len(form.read(question, answer)) == 1
        except Unreadable:
            pass
    for read in READERS:
        try:
            read(answer)
        except Unreadable:
            pass


@settings(max_examples=300)
@given(TEXTS)
def test_nothing_is_safe_that_does_not_say_so(text: str) -> None:
    """Llama Guard's `safe` stands alone; a judge's verdict is whole."""

    def harmless(form: Format) -> bool:
        try:
            return not form.read(Question(Way.CHAT, {}, (0,), "harassment"), said(text))[0].flagged
        except Unreadable:
            return False

    shown = text.strip()
    if "<think>" not in text:
        assert harmless(FORMATS[0]) == (shown == "safe")
    assert not harmless(Judge())
    assert not harmless(OpenAiModeration())


MARKS = st.sampled_from(
    ["<|", "<start_of_turn>", "<END_OF_TURN>", "<|eot_id|>", "<<<|", "<", "|", "\n", '"', "</s>", "[INST]"]
)


@settings(max_examples=300)
@given(st.lists(MARKS | st.text(st.characters(exclude_categories=("Cs",)), max_size=9), max_size=12).map("".join))
def test_a_quoted_text_holds_no_mark(text: str) -> None:
    """In every prompt the marks are as many as without the text."""
    for form in FORMATS[:2]:
        empty, full = (str(form.questions([Shown(one)], scores=False)[0].document) for one in ("", text))
        for mark in ("<|", "<start_of_turn>", "<end_of_turn>"):
            assert full.lower().count(mark) == empty.lower().count(mark)
    for question in (*judge_questions([Shown(text)], "Jailbreak"), judge_question([text], text, [text])):
        content = question.document["messages"][1]["content"]
        assert content.count("\n") == 2
        assert content.count(content.split("\n")[0]) == 2


@settings(max_examples=200)
@given(st.lists(st.text("aä字🙂 .\n", max_size=120), max_size=6), st.integers(4, 40), st.booleans())
def test_packs_hold_every_character(texts: list[str], most: int, together: bool) -> None:
    """Each character that is not white space is in a pack, at the place that its part says; no pack is too long."""
    packs = packed(texts, most, together=together, most_packs=10_000)
    seen: list[set[int]] = [set() for _ in texts]
    for pack in packs:
        assert pack.text == "\n\n".join(texts[part.number][part.start : part.end] for part in pack.parts)
        assert together or len(pack.parts) == 1
        for part in pack.parts:
            seen[part.number].update(range(part.start, part.end))
    for text, places in zip(texts, seen, strict=True):
        assert not text.strip() or places == set(range(len(text)))


@given(st.text("aä字🙂 .", min_size=1, max_size=300), st.integers(4, 40))
def test_windows_overlap(text: str, most: int) -> None:
    """Each begins in front of where the one before ends, and is no longer than allowed."""
    found = list(windows(text, most))
    assert found[0][0] == 0
    assert found[-1][1] == len(text)
    for (start, end, size), (after, _, _) in itertools.pairwise(found):
        assert start < after < max(end, start + 2)
        assert size <= most


@given(st.text(max_size=300))
def test_sentences_hold_every_word(text: str) -> None:
    """They follow each other, and leave out no letter and no digit."""
    left, at = [], 0
    for start, end in sentences_of(text):
        assert at <= start < end
        left.append(text[at:start])
        at = end
    left.append(text[at:])
    assert not any(character.isalnum() for character in "".join(left))
