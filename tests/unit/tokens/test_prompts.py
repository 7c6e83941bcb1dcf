"""The estimate of prompts, form by form."""

from collections.abc import Callable
from typing import Any

import pytest

from capstan_gateway.tokens.prompt import IMAGE_TOKENS, SMALL_IMAGE_TOKENS, prompt_tokens


def _image(**more: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000, **more}}


@pytest.mark.parametrize(
    ("document", "tokens"),
    [
        ({"messages": [{"role": "user", "content": "x" * 400}]}, 106),
        ({"messages": [{"role": "user", "content": "漢" * 100}]}, 106),
        ({"messages": [{"role": "user", "content": [_image()]}]}, IMAGE_TOKENS + 6),
        ({"messages": [{"role": "user", "content": [_image(detail="low")]}]}, SMALL_IMAGE_TOKENS + 6),
        ({"prompt": "x" * 40}, 10),
        ({"prompt": ["x" * 40, "y" * 40]}, 20),
        ({"prompt": [1, 2, 3]}, 3),
        ({"input": [[1, 2, 3], [4, 5]]}, 5),
        ({"input": "x" * 40}, 10),
        ({"system": "x" * 40, "messages": []}, 13),
        ({"query": "x" * 4, "documents": ["y" * 4, {"text": "z" * 4}]}, 4),
        ({"messages": [{"role": "assistant", "tool_calls": [
            {"id": "c", "function": {"name": "aaaa", "arguments": "x" * 36}}]}]}, 16),
        ({}, 0),
    ],
)  # fmt: skip
def test_prompts(document: dict[str, Any], tokens: int) -> None:
    """Text by its bytes, pictures by their detail and not by theirs, tokens as they are."""
    assert prompt_tokens(document) == tokens


def test_tools_are_part_of_the_prompt() -> None:
    """Templates write tools into the prompt, with their schemas."""
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "description": "x" * 400}}}
    assert prompt_tokens({"messages": [], "tools": [tool]}) > 100


Q, D = "q" * 400, "d" * 40
"""Of 100 tokens, and of 10."""


@pytest.mark.parametrize(
    ("document", "tokens"),
    [
        ({"text_1": Q, "text_2": D}, 110),
        ({"text_1": Q, "text_2": [D] * 5}, 550),
        ({"text_1": [Q] * 5, "text_2": [D] * 5}, 550),
        ({"data_1": Q, "data_2": [D] * 5}, 550),
        ({"queries": Q, "documents": [D] * 5}, 550),
        ({"queries": [Q], "items": [D] * 5}, 550),
        ({"query": Q, "items": [D] * 5}, 550),
        ({"query": Q, "documents": [{"text": D}] * 5}, 550),
        ({"query": {"content": [{"text": Q}]}, "documents": {"content": [{"text": D}] * 5}}, 550),
        ({"query": [1] * 100, "items": [[1] * 10] * 5}, 550),
        ({"query": Q, "documents": [D] * 5, "instruction": "i" * 40}, 600),
    ],
)  # fmt: skip
def test_a_query_is_read_with_each_text_that_it_is_compared_with(document: dict[str, Any], tokens: int) -> None:
    """A cross encoder reads pairs: under whatever names the two sides come, one that is alone counts once a pair."""
    assert prompt_tokens(document) == tokens


def test_who_makes_vectors_reads_a_query_once() -> None:
    """The two sides of a comparison of vectors are read apart."""
    assert prompt_tokens({"query": Q, "documents": [D] * 5}, pairs=False) == 150


@pytest.mark.parametrize("field", ["prompt", "input", "query", "items", "texts", "chat_template", "a_name_of_tomorrow"])
@pytest.mark.parametrize("shaped", [lambda text: text, lambda text: [text], lambda text: [{"text": text}]])
def test_no_name_of_a_field_makes_a_text_free(field: str, shaped: Callable[[str], Any]) -> None:
    """A text counts wherever it stands, unless the field is known to be no part of a prompt."""
    assert prompt_tokens({"model": "m", field: shaped(Q)}) == 100


@pytest.mark.parametrize(
    "part",
    [
        {"type": "custom_tool_call", "call_id": "c", "name": "", "input": Q},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": Q}]},
        {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": Q}]},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": Q}},
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": Q}]}},
        {"type": "search_result", "source": "", "title": "", "content": [{"type": "text", "text": Q}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": Q}]},
        {"type": "file", "file": {"filename": "", "file_data": "x" * 3196}},
        {"role": Q, "content": ""},
        {"role": "user", "content": "", "title_of_a_template": Q},
    ],
)
def test_every_part_of_a_conversation_counts(part: dict[str, Any]) -> None:
    """What a part holds counts, whatever it is called: templates write any field, a role too."""
    assert prompt_tokens({"messages": [part]}) == 106
    assert prompt_tokens({"input": [part]}) == 100


def test_documents_of_a_chat_are_part_of_its_prompt() -> None:
    """Templates write documents with the names of their fields."""
    assert prompt_tokens({"messages": [], "documents": [{"title": Q, "text": Q}]}) > 200


def test_what_is_known_to_be_no_prompt_does_not_count() -> None:
    """Schemas, ends and names are not read by the model."""
    settings = {"guided_json": {"a": Q}, "stop": [Q], "metadata": {"a": Q}, "user": Q, "logit_bias": {"1": 1}}
    assert prompt_tokens({"messages": [{"role": "user", "content": Q}], **settings}) == 106


def test_tokens_and_texts_in_one_list_all_count() -> None:
    """A number at the beginning of a list hides no text behind it."""
    assert prompt_tokens({"prompt": [1, Q]}) == 101
