"""The estimate of tokens, number by number: what counts, how deep, and what is not text."""

from typing import Any

import pytest

from capstan_gateway.tokens.estimate import TextCount, text_tokens, tokens_of
from capstan_gateway.tokens.prompt import IMAGE_TOKENS, MAX_DEPTH, MAX_NAME, SMALL_IMAGE_TOKENS, prompt_tokens


def said(content: Any, **more: Any) -> int:
    """Give the tokens of one message's content alone."""
    return prompt_tokens({"messages": [{"role": "user", "content": content, **more}]}) - 6


def test_tokens_are_rounded_up_once() -> None:
    """Four bytes of ASCII, three of anything else, the sum of both rounded up."""
    assert [tokens_of(count, 0) for count in (0, 1, 4, 5, 8)] == [0, 1, 1, 2, 2]
    assert [tokens_of(0, count) for count in (0, 1, 3, 4, 6)] == [0, 1, 1, 2, 2]
    assert [tokens_of(2, 1), tokens_of(2, 2), tokens_of(1, 2), tokens_of(3, 3)] == [1, 2, 1, 2]
    assert [text_tokens(text) for text in ("", "a", "aaaaa", "é", "漢字")] == [0, 1, 2, 1, 2]


def test_ascii_is_counted_apart_in_a_text_of_both() -> None:
    """Each byte counts in its own kind, and what came before stays; half a character counts as its three bytes."""
    count = TextCount()
    for text in ("ab", "cé漢", "", "d", "\ud83d"):
        count.add(text)
    assert (count.ascii, count.other) == (4, 8)
    assert count.tokens == tokens_of(4, 8)


@pytest.mark.parametrize("kind", ["image_url", "input_image", "image"])
def test_a_picture_counts_by_its_detail(kind: str) -> None:
    """And never by its bytes, wherever the detail is said; what else is in the part counts nothing."""
    assert said([{"type": kind, "text": "x" * 400}]) == IMAGE_TOKENS
    assert said([{"type": kind, "detail": "low"}] * 2) == 2 * SMALL_IMAGE_TOKENS
    assert said([{"type": kind, "image_url": {"detail": "low"}}]) == SMALL_IMAGE_TOKENS
    assert said([{"type": kind, "image_url": {"detail": "high"}, "detail": "high"}]) == IMAGE_TOKENS
    assert said([{"type": kind, "image_url": "low"}]) == IMAGE_TOKENS


@pytest.mark.parametrize("kind", ["input_audio", "audio_url", "audio"])
def test_sound_counts_by_its_length(kind: str) -> None:
    """About a KiB of base64 for each token, rounded up, however deep it stands."""
    sound = {"type": kind, "input_audio": {"data": "A" * 2048, "more": {"inner": "B" * 1024}, "rate": 7}}
    assert said([sound]) == -(-(3072 + len(kind)) // 1024)
    assert said([{"type": kind, "data": "A" * (1024 - len(kind)), "rate": 7}]) == 1
    assert said([sound, sound]) == 2 * said([sound])


def nested(depth: int) -> dict[str, Any]:
    """Give sound so many objects deep."""
    value: Any = "A" * 102_400
    for _ in range(depth):
        value = {"inner": value}
    return {"type": "audio", "audio": value}


@pytest.mark.parametrize("depth", [MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 1, 300, 100_000])
def test_all_text_counts_however_deep_it_is_and_nothing_breaks(depth: int) -> None:
    """Of lists, objects and sound; what is deeper than parts are counts with what is around it in JSON."""

    def lists() -> Any:
        value: Any = "x" * 40
        for _ in range(depth):
            value = [value]
        return value

    def objects() -> Any:
        value: Any = "x" * 40
        for _ in range(depth):
            value = {"text": value}
        return value

    exact = depth < MAX_DEPTH
    for form in (lists, objects):
        for tokens in (prompt_tokens({"prompt": form()}), prompt_tokens({"system": form()}), said(form())):
            assert tokens == 10 if exact else tokens >= 10
    assert said([nested(depth)]) == 101


@pytest.mark.parametrize("field", ["text", "content", "output", "arguments", "name", "refusal", "thinking"])
def test_every_field_that_holds_text_counts(field: str) -> None:
    """In whatever part it stands, and all of them together."""
    assert said([{"type": "x", field: "y" * 40}]) == 10
    assert said([{field: "y" * 40, "signature": "z" * 40, "reasoning_content": "w" * 40}]) == 20


def test_calls_of_tools_count_with_their_arguments() -> None:
    """As OpenAI writes them beside the message, and as Anthropic does among its parts."""
    call = {"id": "x" * MAX_NAME, "type": "function", "function": {"name": "a" * 4, "arguments": "b" * 36}}
    assert said(None, tool_calls=[call, 7, call]) == 20 + 2 * MAX_NAME // 4
    assert said(None, tool_calls=[{**call, "id": "x" * 400}]) == 110
    assert [said(None, tool_calls=calls) for calls in (None, 7)] == [0, 0]
    assert said([{"type": "tool_use", "id": "x" * MAX_NAME, "name": "abcd", "input": {"a": "x" * 28}}]) == 16 + 1 + 9
    assert said([{"function": {"name": "abcd", "arguments": {"a": "x" * 28}}}]) == 1 + 9
    assert said([{"type": "x", "input": "x" * 400}]) == 100


@pytest.mark.parametrize(
    "field", ["prompt", "input", "query", "documents", "text_1", "text_2", "suffix", "instructions"]
)
def test_every_field_of_a_request_that_is_read_counts(field: str) -> None:
    """Wherever a route has its input: as a text, a list of them, or tokens."""
    assert prompt_tokens({field: "x" * 40}) == 10
    assert prompt_tokens({field: ["x" * 40, {"text": "y" * 40}]}) == 20
    assert prompt_tokens({field: [1, 2, 3]}) == 3
    assert prompt_tokens({field: None, "metadata": "x" * 400}) == 0
    assert prompt_tokens({field: []}) == 0


@pytest.mark.parametrize("field", ["tools", "functions", "response_format", "text", "output_config"])
def test_what_templates_write_into_the_prompt_counts_as_json(field: str) -> None:
    """A list or an object, as it is written; an empty one and what is no text is not."""
    assert prompt_tokens({field: [{"a": "x" * 30}]}) == 10
    assert prompt_tokens({field: {"a": "x" * 32}}) == 10
    assert [prompt_tokens({field: value}) for value in ([], {}, 7, None, {})] == [0] * 5
    assert prompt_tokens({field: {"a": 2**70}}) > 0
    assert prompt_tokens({field: "x" * 40}) == 10


def test_a_chat_has_its_frame() -> None:
    """Three tokens for each message, whatever it is, and three for the answer; without messages there are none."""
    assert [prompt_tokens({"messages": messages}) for messages in ([], [{}], [{}, 7, "abcd"])] == [3, 6, 13]
    assert prompt_tokens({"messages": "x" * 40}) == 0
    assert prompt_tokens({"system": "abcd", "messages": [], "prompt": "abcd", "tools": [1, 2]}) == 3 + 4
