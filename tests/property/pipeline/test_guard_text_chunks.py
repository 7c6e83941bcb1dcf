"""Chunks in which only more of a text comes take a shorter way through the guards of a stream; nobody sees which."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan_contract.guards import Action, Source
from capstan_gateway.guards.placeholders import Placeholders
from capstan_gateway.pipeline.guards import text_filter
from support.guarded import Answer, Document, Words, a_guard, call, delta, guarded

WORDS = ("aba", "bb€b")
PLACEHOLDERS = Placeholders({"[NAME_1]": "Ann", "[EMAIL_2]": "x@y.zz"})
SAID = st.one_of(
    st.text("ab€ ", max_size=12), st.just("x" * 70), st.sampled_from(["[NAME", "_1]", "[EMAIL_2]", ""]),
)  # fmt: skip
NOTHING = st.sampled_from([
    {}, {"role": None}, {"tool_calls": []}, {"refusal": ""}, {"function_call": {}}, {"reasoning_details": None},
    {"content": None}, {"content": ""},
])  # fmt: skip
SOMETHING = st.sampled_from([
    {"role": "assistant"}, {"refusal": "bb"}, {"annotations": [1]}, {"reasoning_details": [{"text": "ab"}]},
    {"thinking": "aba"}, {"content": [{"type": "text", "text": "ab"}]}, {"content": [{"thinking": "ab"}]},
    {"reasoning": {"text": "ba"}}, {"tool_calls": [{"index": 0, "id": "i", "function": {"name": "f"}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": '{"a": "aba'}}]}, {"function_call": {"name": "g"}},
])  # fmt: skip
TEXTS = st.one_of(
    st.builds(lambda said: {"content": said}, SAID),
    st.builds(lambda said: {"reasoning_content": said}, SAID),
    st.builds(
        lambda said, name: {"reasoning": said, name: said}, SAID, st.sampled_from(["reasoning", "reasoning_content"])
    ),
)
BESIDE = st.sampled_from([
    {}, {}, {"logprobs": {"content": [{"token": "ab", "logprob": -1}]}}, {"native_finish_reason": "aba"},
    {"content_filter_results": {}}, {"token_ids": [1]}, {"stop_reason": None}, {"text": "ab"},
])  # fmt: skip
HEADS = st.sampled_from([{}, {}, {"usage": None}, {"usage": {"total_tokens": 3}}, {"system_fingerprint": "fp"}])


def _made(index: int, parts: list[Any], beside: Document, head: Document, *, logprobs: bool) -> Document:
    chunk = delta(index, **{name: value for part in parts for name, value in part.items()})
    if not logprobs:
        del chunk["choices"][0]["logprobs"]
    chunk["choices"][0] |= beside
    return chunk | head


def _with_logprobs(said: str) -> Document:
    chunk = delta(content=said)
    chunk["choices"][0]["logprobs"] = {"content": [{"token": said, "logprob": -1, "bytes": list(said.encode())}]}
    return chunk


TEXT_ALONE = st.builds(_made, st.just(0), st.lists(TEXTS, min_size=1, max_size=1), st.just({}), HEADS,
                       logprobs=st.just(True))  # fmt: skip
TEXT_CHUNK = st.builds(_made, st.integers(0, 1), st.tuples(NOTHING, TEXTS).map(list), st.just({}), HEADS,
                       logprobs=st.booleans())  # fmt: skip
ODD_CHUNK = st.builds(_made, st.integers(0, 1), st.tuples(TEXTS, NOTHING, st.one_of(st.just({}), SOMETHING)).map(list),
                      BESIDE, HEADS, logprobs=st.booleans())  # fmt: skip
CHUNKS = st.one_of(
    st.lists(TEXT_ALONE, min_size=3, max_size=20),
    st.lists(st.one_of(TEXT_ALONE, st.builds(_with_logprobs, SAID)), max_size=20),
    st.lists(
        st.one_of(
            TEXT_CHUNK, ODD_CHUNK, st.builds(lambda: call('{"b": "bb€b"}', name="h")), st.just(delta(0, "stop")),
            st.none(),
        ),
        max_size=30,
    ),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    chunks=CHUNKS,
    action=st.sampled_from([Action.BLOCK, Action.REDACT, Action.WARN]),
    in_parts=st.booleans(),
    restores=st.booleans(),
    sources=st.sampled_from([(Source.TEXT,), (Source.REASONING,), tuple(Source)]),
)
def test_the_short_way_gives_what_the_long_one_gives(
    chunks: list[Document | None], action: Action, in_parts: bool, restores: bool, sources: tuple[Source, ...]
) -> None:
    """The same chunks, each with the same fields and at the same time, whatever stands beside the text in them."""
    answers: list[Answer] = []
    for long_way in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            if long_way:
                patch.setattr(text_filter, "only_text_of", lambda _: None)
            guard = a_guard(Words(WORDS), action=action, sources=sources)
            answers.append(guarded(
                [guard], chunks, placeholders=PLACEHOLDERS if restores else None, whole=False,
                dialect=object() if in_parts else None,
            ))  # fmt: skip
    assert answers[0] == answers[1]


def test_most_chunks_take_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a text between two looks no chunk is gone over: only its first one, and where a look is due."""
    gone_over: list[Document] = []
    long_way = text_filter.TextFilter._chunk

    def noted(one: text_filter.TextFilter, chunk: Document) -> Any:
        gone_over.append(chunk)
        return long_way(one, chunk)

    monkeypatch.setattr(text_filter.TextFilter, "_chunk", noted)
    guarded(
        [a_guard(Words(WORDS))], [delta(role="assistant", content=""), *(delta(content="word ") for _ in range(40))]
    )
    assert len(gone_over) == 6
