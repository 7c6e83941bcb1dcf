"""The estimate of prompts, form by form."""

from collections.abc import Callable
from typing import Any

import pytest

from capstan_gateway.tokens.prompt import IMAGE_TOKENS, SMALL_IMAGE_TOKENS, is_read_whole, prompt_tokens


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
            {"id": "cccc", "function": {"name": "aaaa", "arguments": "x" * 36}}]}]}, 17),
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
        {"type": "custom_tool_call", "call_id": "", "name": "", "input": Q},
        {"type": "function_call_output", "call_id": "", "output": [{"type": "input_text", "text": Q}]},
        {"type": "tool_result", "tool_use_id": "", "content": [{"type": "text", "text": Q}]},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": Q}},
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": Q}]}},
        {"type": "search_result", "source": "", "title": "", "content": [{"type": "text", "text": Q}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": Q}]},
        {"type": "file", "file": {"filename": "", "file_data": "x" * 3196}},
        {"role": Q, "content": ""},
        {"role": "tool", "tool_call_id": Q, "content": ""},
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


def nested(value: Any, levels: int) -> Any:
    """Give the value so many lists and objects deep."""
    for level in range(levels):
        value = {"a": value} if level % 2 else [value]
    return value


@pytest.mark.parametrize("levels", [10, 100, 300, 100_000])
@pytest.mark.parametrize(
    "field",
    ["tools", "functions", "response_format", "chat_template_kwargs", "documents", "prompt", "input", "tomorrow"],
)
def test_no_depth_makes_a_text_free(field: str, levels: int) -> None:
    """What stands in a value counts however deep it is, where it cannot be written too: engines read deeper ones."""
    assert prompt_tokens({"model": "m", "messages": [], field: nested(Q, levels)}) >= 103


@pytest.mark.parametrize("levels", [10, 20, 300, 100_000])
def test_no_depth_makes_a_part_of_a_conversation_free(levels: int) -> None:
    """Nor what a message holds, the arguments of its calls and its sound."""
    for part in (
        {"content": nested(Q, levels)},
        {"content": "", "tool_calls": [{"function": {"name": "", "arguments": nested(Q, levels)}}]},
        {"content": [{"type": "tool_use", "id": "", "name": "", "input": {"a": nested(Q, levels)}}]},
        {"content": [{"type": "input_audio", "input_audio": nested("A" * 102_400, levels)}]},
        {"content": [{"type": "file", "file": nested("A" * 3200, levels)}]},
    ):
        assert prompt_tokens({"messages": [{"role": "user", **part}]}) >= 106


@pytest.mark.parametrize("levels", [253, 254, 255, 256])
def test_what_cannot_be_written_counts_no_less_than_what_can(levels: int) -> None:
    """One level more never makes a prompt cheaper, names, numbers and what stands between them included."""
    values = {"name": Q, "numbers": [1, -20, 3.5, True, None], "none": {}, "text": "x" * 9}
    shallow = prompt_tokens({"messages": [], "tools": nested(values, levels - 1)})
    assert prompt_tokens({"messages": [], "tools": nested(values, levels)}) >= shallow


@pytest.mark.parametrize("content", ["", "x", "\u00e9"])
def test_a_role_that_is_no_known_one_counts_as_it_is(content: str) -> None:
    """Engines take any role, and templates write it: many of nothing but a role are not free."""
    role = "q-x:z7" * 10
    told = prompt_tokens({"messages": [{"role": role, "content": content}] * 100})
    assert told >= prompt_tokens({"messages": [{"role": "user", "content": content}] * 100}) + 100 * len(role) // 4


@pytest.mark.parametrize("role", ["system", "user", "assistant", "tool", "developer", "function"])
def test_a_known_role_is_in_what_is_around_a_message(role: str) -> None:
    """Three tokens for a message, and three for the answer."""
    assert prompt_tokens({"messages": [{"role": role, "content": ""}]}) == 6


@pytest.mark.parametrize("role", [None, 1, ["user"], {"user": 1}])
def test_a_role_that_is_no_text_makes_no_estimate_fail(role: Any) -> None:
    """It is refused elsewhere, where it is refused."""
    assert prompt_tokens({"messages": [{"role": role, "content": "x"}]}) >= 7


@pytest.mark.parametrize(
    ("field", "whole"),
    [
        ("temperature", True), ("tools", True), ("max_tokens", True), ("stream", True),
        ("truncate_prompt_tokens", False), ("truncation", False), ("truncate", False), ("max_tokens_per_doc", False),
        ("a_name_of_tomorrow", False), ("documents", False), ("chat_template", False), ("chat_template_kwargs", False),
    ],
)  # fmt: skip
def test_what_an_engine_may_not_read_tells_nothing_of_estimates(field: str, whole: bool) -> None:
    """Who lets it cut a prompt off, or hides text from it, would teach that everybody's prompts are short."""
    assert is_read_whole({"model": "m", "messages": [], field: 10}) is whole
