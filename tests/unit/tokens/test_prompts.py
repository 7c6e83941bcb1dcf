"""The estimate of prompts, form by form."""

from typing import Any

import pytest

from capstan_gateway.tokens.estimate import IMAGE_TOKENS, SMALL_IMAGE_TOKENS, prompt_tokens


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
        ({"query": "x" * 4, "documents": ["y" * 4, {"text": "z" * 4}]}, 3),
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
