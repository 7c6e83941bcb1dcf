"""Tokens without a tokenizer: what the rule holds for every text and every request."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.tokens.estimate import TextCount, text_tokens
from capstan_gateway.tokens.prompt import prompt_tokens

TEXT = st.text(st.characters(codec=None), max_size=60)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    ["messages", "content", "role", "type", "text", "image_url", "input", "prompt", "tools", "system", "tool_calls",
     "function", "arguments", "name", "detail", "input_audio", "response_format", "instructions"]
)  # fmt: skip
DOCUMENTS = st.recursive(
    st.dictionaries(FIELDS, JSON, max_size=4),
    lambda inner: st.dictionaries(FIELDS, inner | st.lists(inner, max_size=3), max_size=4),
    max_leaves=10,
)


@given(TEXT)
def test_a_text_has_tokens_between_a_quarter_and_all_of_its_bytes(text: str) -> None:
    """Four bytes of ASCII a token, three of any other; only no text has no token."""
    size = len(text.encode("utf-8", "surrogatepass"))
    assert -(-size // 4) <= text_tokens(text) <= -(-size // 3)
    assert (text_tokens(text) == 0) == (not text)


@given(st.lists(TEXT, max_size=8))
def test_pieces_have_the_tokens_of_the_whole(pieces: list[str]) -> None:
    """However an engine cuts its answer into events, the estimate is the same: events are not tokens."""
    count = TextCount()
    for piece in pieces:
        count.add(piece)
    assert count.tokens == sum_of("".join(pieces), pieces)


def sum_of(whole: str, pieces: list[str]) -> int:
    """Give the tokens of the whole; two halves of a surrogate pair that meet are one character there."""
    count = TextCount()
    for piece in pieces:
        for character in piece:
            count.add(character)
    assert abs(count.tokens - text_tokens(whole)) <= len(pieces)
    return count.tokens


@given(DOCUMENTS | JSON.filter(lambda value: isinstance(value, dict)))
def test_any_request_has_an_estimate(document: dict[str, Any]) -> None:
    """Nothing that a client sends makes the estimate fail."""
    assert prompt_tokens(document) >= 0


@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), TEXT), min_size=1, max_size=6))
def test_more_text_has_more_tokens(turns: list[tuple[str, str]]) -> None:
    """A longer conversation never costs less, and its text is all counted."""
    messages = [{"role": role, "content": text} for role, text in turns]
    parts = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in turns]
    whole = prompt_tokens({"messages": messages})
    assert whole == prompt_tokens({"messages": parts})
    assert whole >= prompt_tokens({"messages": messages[:-1]})
    assert whole >= text_tokens("".join(text for _, text in turns))
