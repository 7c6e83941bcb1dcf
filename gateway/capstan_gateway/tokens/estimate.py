"""How many tokens a text probably has, without a tokenizer: for calls of which nobody told.

The rule, in whole numbers: four bytes of ASCII make a token, and three bytes of any other UTF-8. Four characters of
English a token is what OpenAI and Google tell their users to reckon with (help.openai.com "What are tokens and how to
count them", ai.google.dev "Understand and count tokens"); tokenizers of this kind work on the bytes of UTF-8
(byte-level BPE), and give other scripts more tokens for each byte: about one for each CJK character, which has three.

What is around the text: three tokens for each message and three for the beginning of the answer ("How to count tokens
with tiktoken", OpenAI's cookbook); 85 tokens for a picture at low detail and 765 for any other (OpenAI's "Images and
vision": 85, and four tiles of 170); ten tokens for each second of sound, which is about one for each KiB of its
base64.

An estimate is for settling what cannot be known, never in place of what an engine told of a whole answer.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from capstan_gateway.documents import TooDeep, to_json

ASCII_BYTES_PER_TOKEN: Final = 4
OTHER_BYTES_PER_TOKEN: Final = 3
MESSAGE_TOKENS: Final = 3
ANSWER_TOKENS: Final = 3
SMALL_IMAGE_TOKENS: Final = 85
IMAGE_TOKENS: Final = 765
SOUND_CHARS_PER_TOKEN: Final = 1024
_TEXT_FIELDS: Final = ("text", "content", "output", "arguments", "name", "refusal", "thinking", "reasoning_content")
_WRITTEN_FIELDS: Final = ("tools", "functions", "response_format", "text", "output_config")
"""Fields of a request that templates write into the prompt as JSON."""
_PROMPT_FIELDS: Final = ("prompt", "input", "query", "documents", "text_1", "text_2", "suffix", "instructions")
_BESIDE_MESSAGES: Final = frozenset(("system", *_PROMPT_FIELDS, *_WRITTEN_FIELDS))
"""Fields of which any makes a prompt more than its messages."""
MAX_DEPTH: Final = 16
"""Of values inside each other. What is deeper is not counted: nothing that an engine reads is."""


class TextCount:
    """Bytes of the text that was seen so far. How the text was cut changes nothing, as long as no character was."""

    __slots__ = ("ascii", "other", "pieces")

    def __init__(self) -> None:
        self.pieces = 0
        """Of a stream: how many pieces with text came, each of which is one token at least."""
        self.ascii = 0
        """Bytes of texts that are ASCII. Hot paths add to it themselves."""
        self.other = 0
        """Bytes of the other texts that are not ASCII."""

    def add(self, text: str) -> None:
        """Take a text, or a piece of one."""
        length = len(text)
        if text.isascii():
            self.ascii += length
            return
        # NB: a lone half of a surrogate pair is not UTF-8; engines that cut a character in two send it.
        encoded = text.encode("utf-8", "surrogatepass")
        plain = len(encoded.translate(None, _NOT_ASCII))
        self.ascii += plain
        self.other += len(encoded) - plain

    @property
    def tokens(self) -> int:
        """How many tokens the text has by the rule, and no fewer than it has pieces; 0 only of no text."""
        return max(tokens_of(self.ascii, self.other), self.pieces)


_NOT_ASCII: Final = bytes(range(128, 256))


def tokens_of(ascii_bytes: int, other_bytes: int) -> int:
    """Give the tokens of so many bytes, rounded up."""
    weighed = ascii_bytes * OTHER_BYTES_PER_TOKEN + other_bytes * ASCII_BYTES_PER_TOKEN
    return -(-weighed // (ASCII_BYTES_PER_TOKEN * OTHER_BYTES_PER_TOKEN))


def text_tokens(text: str) -> int:
    """Give the tokens of one text."""
    count = TextCount()
    count.add(text)
    return count.tokens


class _Prompt:
    """What was found in a request."""

    __slots__ = ("text", "tokens")

    def __init__(self) -> None:
        self.text = TextCount()
        self.tokens = 0
        """What is not text."""

    def add_messages(self, messages: list[Any]) -> None:
        for message in messages:
            self.tokens += MESSAGE_TOKENS
            self.add(message, 0)

    def add(self, value: Any, depth: int) -> None:
        """Take a text, a list of them, or an object that holds some."""
        if isinstance(value, str):
            self.text.add(value)
        elif isinstance(value, list):
            self._add_list(value, depth)
        elif isinstance(value, dict) and depth < MAX_DEPTH:
            self._add_object(value, depth)

    def _add_list(self, items: list[Any], depth: int) -> None:
        if items and type(items[0]) is int:
            self.tokens += len(items)  # A prompt may be given as tokens.
            return
        if depth < MAX_DEPTH:
            for item in items:
                self.add(item, depth + 1)

    def _add_object(self, part: Mapping[str, Any], depth: int) -> None:
        kind = part.get("type")
        if kind in ("image_url", "input_image", "image"):
            self.tokens += SMALL_IMAGE_TOKENS if _is_small(part) else IMAGE_TOKENS
            return
        if kind in ("input_audio", "audio_url", "audio"):
            self.tokens += -(-_string_bytes(part, 0) // SOUND_CHARS_PER_TOKEN)
            return
        for field in _TEXT_FIELDS:
            if field in part:
                self.add(part[field], depth + 1)
        for call in part.get("tool_calls") or () if isinstance(part.get("tool_calls"), list) else ():
            if isinstance(call, dict):
                self.add(call.get("function"), depth + 1)
        if isinstance(part.get("input"), dict):
            self.add_json(part["input"])  # Of a tool call in Anthropic's dialect.

    def add_json(self, value: Any) -> None:
        """Take a value that is written into the prompt as JSON."""
        try:
            written = to_json(value)
        except (TooDeep, TypeError):
            return  # A number of more than 64 bits, say: no parser here gives one, and it is no reason to fail.
        self.text.add(written.decode())


def prompt_tokens(document: Mapping[str, Any]) -> int:
    """Give the tokens that the prompt of a request probably has: a chat, a completion, embeddings, a rerank.

    Takes any document; what is of a wrong type counts nothing.
    """
    plain = _plain_tokens(document.get("messages")) if _BESIDE_MESSAGES.isdisjoint(document) else -1
    return plain if plain >= 0 else _read_tokens(document)


def _plain_tokens(messages: object) -> int:
    """Count messages of nothing but a role and a text in ASCII, as most are; -1 where one is anything else."""
    if type(messages) is not list:
        return -1
    length = 0
    for message in messages:
        if type(message) is not dict or len(message) != 2 or "role" not in message:
            return -1
        content = message.get("content")
        if type(content) is not str or not content.isascii():
            return -1
        length += len(content)
    return MESSAGE_TOKENS * len(messages) + ANSWER_TOKENS - (-length // ASCII_BYTES_PER_TOKEN)


def _read_tokens(document: Mapping[str, Any]) -> int:
    prompt = _Prompt()
    messages = document.get("messages")
    if isinstance(messages, list):
        prompt.add_messages(messages)
        prompt.tokens += ANSWER_TOKENS
    if document.get("system") is not None:
        prompt.add(document["system"], 0)
    _add_fields(prompt, document, _PROMPT_FIELDS)
    for field in _WRITTEN_FIELDS:
        value = document.get(field)
        if isinstance(value, dict | list) and value:
            prompt.add_json(value)
    return prompt.tokens + prompt.text.tokens


def _add_fields(prompt: _Prompt, document: Mapping[str, Any], fields: Iterable[str]) -> None:
    for field in fields:
        if document.get(field) is not None:
            prompt.add(document[field], 0)


def _is_small(part: Mapping[str, Any]) -> bool:
    inner = part.get("image_url")
    return part.get("detail") == "low" or (isinstance(inner, dict) and inner.get("detail") == "low")


def _string_bytes(value: Any, depth: int) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict) and depth < MAX_DEPTH:
        return sum(_string_bytes(inner, depth + 1) for inner in value.values())
    return 0
