"""How many tokens the prompt of a request probably has, whatever its route: by `tokens.estimate`, and what is around
the text.

Every text counts that stands in a request, except in fields that are known to be no part of a prompt: engines take
prompts under more names than anybody can list, and a name that is not known must not make a prompt free.

Around the text: three tokens for each message and three for the beginning of the answer ("How to count tokens with
tiktoken", OpenAI's cookbook); 85 tokens for a picture at low detail and 765 for any other (OpenAI's "Images and
vision": 85, and four tiles of 170), or a film; ten tokens for each second of sound, which is about one for each KiB of
its base64; a page of a PDF 1,500 to 3,000 ("PDF support" of Anthropic's docs), which is about one for 32 characters of
its base64.

A cross encoder reads a query once with each document ("Score API" of vLLM's docs); who makes vectors reads both once.
"""

from collections.abc import Mapping
from typing import Any, Final

from capstan_gateway.documents import TooDeep, to_json
from capstan_gateway.tokens.estimate import ASCII_BYTES_PER_TOKEN, TextCount

MESSAGE_TOKENS: Final = 3
ANSWER_TOKENS: Final = 3
SMALL_IMAGE_TOKENS: Final = 85
IMAGE_TOKENS: Final = 765
SOUND_CHARS_PER_TOKEN: Final = 1024
SOUND_BYTES_PER_TOKEN: Final = 768
"""The same of bytes."""
SOUND_TOKENS_PER_SECOND: Final = 10
FILE_CHARS_PER_TOKEN: Final = 32
EMBEDS_CHARS_PER_TOKEN: Final = 2048
"""Of vectors in place of a prompt, in base64: no model has fewer than 768 numbers of two bytes for a token."""
MAX_DEPTH: Final = 16
"""Of values inside each other that are read as parts of a message. Of what is deeper every text counts."""
_WRITTEN_FIELDS: Final = frozenset(
    ("tools", "functions", "response_format", "text", "output_config", "chat_template_kwargs")
)
"""Fields of a request that templates write into the prompt as JSON."""
_NO_PROMPT: Final = frozenset(
    (
        "model", "user", "metadata", "stream", "stream_options", "seed", "temperature", "top_p", "top_k", "min_p",
        "typical_p", "tfs_z", "top_a", "n", "best_of", "max_tokens", "max_completion_tokens", "max_output_tokens",
        "max_tool_calls", "min_tokens", "n_predict", "stop", "stop_sequences", "stop_token_ids", "stop_regex",
        "include_stop_str_in_output", "ignore_eos", "skip_special_tokens", "spaces_between_special_tokens",
        "logit_bias", "bad_words", "bad_words_ids", "allowed_token_ids", "label_token_ids", "logprobs",
        "top_logprobs", "prompt_logprobs", "return_tokens_as_token_ids", "return_token_ids",
        "return_hidden_states", "presence_penalty", "frequency_penalty", "repetition_penalty", "length_penalty",
        "use_beam_search", "early_stopping", "echo", "tool_choice", "function_call", "parallel_tool_calls",
        "service_tier", "store", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
        "cache_prompt", "cache_salt", "include", "previous_response_id", "conversation", "background",
        "reasoning", "reasoning_effort", "include_reasoning", "enable_thinking", "separate_reasoning",
        "stream_reasoning", "thinking", "verbosity", "modalities", "audio", "prediction", "web_search_options",
        "encoding_format", "dimensions", "embed_dtype", "endianness", "truncation", "truncate",
        "truncate_prompt_tokens", "truncation_side", "input_type", "task", "return_documents", "top_n",
        "max_chunks_per_doc", "max_tokens_per_doc", "activation", "normalize", "normalized", "softmax",
        "apply_softmax", "use_activation", "raw_scores", "add_special_tokens", "add_generation_prompt",
        "continue_final_message", "response_role", "guided_json", "guided_regex", "guided_choice",
        "guided_grammar", "guided_decoding_backend", "guided_whitespace_pattern", "structured_outputs",
        "structural_tag", "json_schema", "regex", "ebnf", "grammar", "grammar_lazy", "grammar_triggers",
        "logits_processors", "lora_path", "lora", "kv_transfer_params", "vllm_xargs", "mm_processor_kwargs",
        "media_io_kwargs", "priority", "request_id", "rid", "session_id", "session_params", "no_stop_trim",
        "container", "context_management", "betas", "mcp_servers", "inference_geo", "speed", "item_first",
    )
)  # fmt: skip
"""Fields of requests that are no part of a prompt, or of which nobody knows how much of one they make."""
_PLAIN: Final = _NO_PROMPT | {"messages"}
_CUTTING: Final = frozenset(
    ("truncate_prompt_tokens", "truncation", "truncate", "max_tokens_per_doc", "max_chunks_per_doc")
)
"""Fields that let an engine read less than what it was sent."""
_READ: Final = (_PLAIN | {"prompt", "input", "system", "tools"}) - _CUTTING
"""Fields of which an engine reads all that counts, and nothing else."""
_UNWRITTEN: Final = frozenset(
    ("signature", "encrypted_content", "cache_control", "citations", "annotations", "logprobs")
)
"""Fields of the parts of a prompt that are not written into it."""
_NAMES: Final = frozenset(("type", "status", "media_type", "mime_type", "detail", "format"))
"""Fields that hold a word of the protocol, which no template writes. What is longer is text.

An id is text: some templates write it beside each call and result of a tool.
"""
MAX_NAME: Final = 64
ROLES: Final = ("user", "assistant", "system", "tool", "developer", "function")
"""Roles that are in what is around the text, the most frequent first: to compare a text takes less than to hash it. Any
other counts: engines take it, and templates write it as it is."""
_IMAGES: Final = frozenset(("image_url", "input_image", "image", "image_file", "image_pil", "image_embeds"))
_SOUNDS: Final = frozenset(("input_audio", "audio_url", "audio"))
_VIDEOS: Final = frozenset(("video_url", "input_video", "video"))
_FILES: Final = frozenset(("file", "input_file"))
_ONCE: Final = ("text_1", "data_1", "queries", "query")
_EACH: Final = ("text_2", "data_2", "documents", "items")


class _Prompt:
    """What was found in a request."""

    __slots__ = ("text", "tokens")

    def __init__(self) -> None:
        self.text = TextCount()
        self.tokens = 0
        """What is not text."""

    @property
    def all(self) -> int:
        return self.tokens + self.text.tokens

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
        elif isinstance(value, dict):
            self._add_object(value, depth)

    def _add_list(self, items: list[Any], depth: int) -> None:
        if items and type(items[0]) is int:
            # A prompt may be given as tokens.
            numbers = sum(type(item) is int for item in items)
            self.tokens += numbers
            if numbers == len(items):
                return
        if depth >= MAX_DEPTH:
            self._add_deep(items)
            return
        for item in items:
            self.add(item, depth + 1)

    def _add_object(self, part: Mapping[str, Any], depth: int) -> None:
        if depth >= MAX_DEPTH:
            self._add_deep(part)
            return
        kind = part.get("type")
        if isinstance(kind, str) and self._add_medium(part, kind):
            return
        for field, value in part.items():
            if field in _UNWRITTEN or (isinstance(value, str) and _is_name(field, value)):
                continue
            if field == "source" and isinstance(value, dict):
                self._add_source(value, depth + 1)
            elif field in ("input", "arguments") and isinstance(value, dict):
                self.add_json(value)  # Of a tool call.
            elif field in _IMAGES:
                self.tokens += SMALL_IMAGE_TOKENS if _is_small(part) else IMAGE_TOKENS
            else:
                self.add(value, depth + 1)

    def _add_medium(self, part: Mapping[str, Any], kind: str) -> bool:
        """Take a part that is no text; False where it is one, or holds some."""
        if kind in _IMAGES:
            self.tokens += SMALL_IMAGE_TOKENS if _is_small(part) else IMAGE_TOKENS
        elif kind in _SOUNDS:
            self.tokens += -(-_string_bytes(part) // SOUND_CHARS_PER_TOKEN)
        elif kind in _VIDEOS:
            self.tokens += max(-(-_string_bytes(part) // SOUND_CHARS_PER_TOKEN), IMAGE_TOKENS)
        elif kind in _FILES:
            self.tokens += -(-_string_bytes(part) // FILE_CHARS_PER_TOKEN)
        else:
            return False
        return True

    def _add_source(self, source: Mapping[str, Any], depth: int) -> None:
        """Take what Anthropic's documents are made of."""
        if source.get("type") == "base64":
            self.tokens += -(-_string_bytes(source.get("data")) // FILE_CHARS_PER_TOKEN)
        else:
            self._add_object(source, depth)

    def add_json(self, value: Any) -> None:
        """Take a value that is written into the prompt as JSON."""
        try:
            written = to_json(value)
        except (TooDeep, TypeError):
            # Engines read deeper values than can be written here. TypeError: a number of more than 64 bits, say.
            self._add_deep(value)
            return
        self.text.add(written.decode())

    def _add_deep(self, value: Any) -> None:
        """Take all that stands in a value of any depth, as much of it as JSON has."""
        left = [value]
        while left:
            one = left.pop()
            if isinstance(one, str):
                self.text.add(one)
                self.text.ascii += 2  # Its quotes.
            elif isinstance(one, dict):
                left += one
                left += one.values()
                self.text.ascii += 2 * len(one) + 2  # What stands between the names and the values, and around them.
            elif isinstance(one, list):
                left += one
                self.text.ascii += len(one) + 2
            else:
                self.text.ascii += len(str(one))


def _is_name(field: str, value: str) -> bool:
    """Whether this is in what is around the text."""
    return value in ROLES if field == "role" else field in _NAMES and len(value) <= MAX_NAME


def prompt_tokens(document: Mapping[str, Any], *, pairs: bool = True) -> int:
    """Give the tokens that the prompt of a request probably has: a chat, a completion, embeddings, a score, a rerank.

    Takes any document; what is of a wrong type counts nothing. `pairs` says that a query is read with each document.
    """
    plain = _plain_tokens(document.get("messages")) if _PLAIN.issuperset(document) else -1
    return plain if plain >= 0 else _read_tokens(document, pairs=pairs)


def sound_tokens(size: int) -> int:
    """Give the tokens that a sound in so many bytes probably has, whatever its coding is."""
    return -(-size // SOUND_BYTES_PER_TOKEN)


def is_read_whole(document: Mapping[str, Any]) -> bool:
    """Whether what an engine tells of this request's prompt is of what was estimated: it is not told to cut anything
    off, and no field counts of which it is not known whether an engine reads it."""
    return _READ.issuperset(document)


def _plain_tokens(messages: object) -> int:
    """Count messages of nothing but a role and a text in ASCII, as most are; -1 where one is anything else."""
    if type(messages) is not list:
        return -1
    length = 0
    for message in messages:
        if type(message) is not dict or len(message) != 2:
            return -1
        content = message.get("content")
        if message.get("role") not in ROLES:
            return -1
        if type(content) is not str or not content.isascii():
            return -1
        length += len(content)
    return MESSAGE_TOKENS * len(messages) + ANSWER_TOKENS - (-length // ASCII_BYTES_PER_TOKEN)


def _read_tokens(document: Mapping[str, Any], *, pairs: bool) -> int:
    prompt = _Prompt()
    messages = document.get("messages")
    if isinstance(messages, list):
        prompt.add_messages(messages)
        prompt.tokens += ANSWER_TOKENS
    for field, value in document.items():
        if field in _PLAIN:
            continue
        if field == "prompt_embeds":
            prompt.tokens += -(-_string_bytes(value) // EMBEDS_CHARS_PER_TOKEN)
        elif value and isinstance(value, dict | list) and (field in _WRITTEN_FIELDS or _is_shown(field, document)):
            prompt.add_json(value)
        else:
            prompt.add(value, 0)
    return prompt.all + (_repeated(document) if pairs else 0)


def _is_shown(field: str, document: Mapping[str, Any]) -> bool:
    """Whether these are the documents that a chat is about, which templates write with the names of their fields."""
    return field == "documents" and "messages" in document


def _repeated(document: Mapping[str, Any]) -> int:
    """Give the tokens of the query as often as it is read once more, each time with another document."""
    once = next((name for name in _ONCE if name in document), None)
    each = next((name for name in _EACH if name in document), None)
    if once is None or each is None:
        return 0
    left, right = _count(document[once]), _count(document[each])
    if left == right or min(left, right) > 1:
        return 0  # One of these with one of those; engines refuse what does not fit.
    prompt = _Prompt()
    prompt.add(document[once] if left <= right else document[each], 0)
    for field in ("instruction", "instructions"):
        prompt.add(document.get(field), 0)
    return prompt.all * (max(left, right) - 1)


def _count(value: Any) -> int:
    """Count the texts of a field; some engines take many as the parts of one content."""
    inner = value.get("content") if isinstance(value, dict) else value
    return max(len(inner), 1) if isinstance(inner, list) and not (inner and type(inner[0]) is int) else 1


def _is_small(part: Mapping[str, Any]) -> bool:
    inner = part.get("image_url")
    return part.get("detail") == "low" or (isinstance(inner, dict) and inner.get("detail") == "low")


def _string_bytes(value: Any) -> int:
    """Give the characters of all texts in a value of any depth."""
    length, left = 0, [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            length += len(one)
        elif isinstance(one, dict):
            left += one.values()
        elif isinstance(one, list):
            left += one
    return length


def known_fields() -> frozenset[str]:
    """Give the names of all fields of requests that are known here."""
    return _NO_PROMPT | _PLAIN | _READ | _WRITTEN_FIELDS | {*_ONCE, *_EACH}
