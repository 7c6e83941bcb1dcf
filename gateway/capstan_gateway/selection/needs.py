"""What a request needs of the model that answers it, read from its body without a tokenizer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from capstan_contract.config import Capability
from capstan_gateway.tokens.prompt import sound_tokens

BYTES_PER_TOKEN: Final = 4
"""A usual prompt has about so many bytes a token."""
MOST_BYTES_PER_TOKEN: Final = 8
"""Hardly any prompt has more: one that is too long even by this measure does not fit."""
USUAL_OUTPUT_TOKENS: Final = 512
"""Length of an answer that is assumed where the client sets no limit."""
_VISION_PARTS: Final = frozenset(("image_url", "input_image", "image", "video_url"))
_AUDIO_PARTS: Final = frozenset(("input_audio", "audio_url", "audio"))


@dataclass(frozen=True, slots=True)
class Needs:
    """What a request needs. Token counts are estimates from bytes: good for choosing, never for billing."""

    capabilities: frozenset[Capability] = frozenset()
    text_bytes: int = 0
    """Size of the prompt without images and sounds."""
    max_tokens: int | None = None
    """The longest answer that the client accepts; None when it does not say."""
    sound_tokens: int = 0
    """Of the file that is to be heard, beside the prompt: it has no part in a context window."""

    @property
    def prompt_tokens(self) -> int:
        """How many tokens the prompt probably has."""
        return self.text_bytes // BYTES_PER_TOKEN

    @property
    def least_prompt_tokens(self) -> int:
        """How many tokens the prompt has at least, as good as surely."""
        return self.text_bytes // MOST_BYTES_PER_TOKEN

    @property
    def output_tokens(self) -> int:
        """How many tokens the answer may have."""
        return USUAL_OUTPUT_TOKENS if self.max_tokens is None else self.max_tokens


def read_needs(document: Mapping[str, Any], body_bytes: int, file_bytes: int = 0) -> Needs:
    """Read what a chat, completion or other request needs; fields of a wrong type need nothing.

    `file_bytes` are those of a file that is to be heard, which are not among the body's.
    """
    needed: set[Capability] = set()
    media = 0
    for part in _parts(document.get("messages")):
        kind = part.get("type")
        if type(kind) is not str:
            continue
        if kind in _VISION_PARTS:
            needed.add(Capability.VISION)
            media += _media_bytes(part)
        elif kind in _AUDIO_PARTS:
            needed.add(Capability.AUDIO)
            media += _media_bytes(part)
    if document.get("tools") or document.get("functions"):
        needed.add(Capability.TOOLS)
    modalities = document.get("modalities")
    if isinstance(modalities, list) and "audio" in modalities:
        needed.add(Capability.AUDIO)
    wanted = document.get("response_format")
    if isinstance(wanted, dict) and wanted.get("type") == "json_schema":
        needed.add(Capability.JSON_SCHEMA)
    heard = sound_tokens(file_bytes)
    return Needs(frozenset(needed), max(0, body_bytes - media), read_max_tokens(document), heard)


def read_max_tokens(document: Mapping[str, Any]) -> int | None:
    """The client's own limit of the answer, under either of its names."""
    value = document.get("max_completion_tokens")
    if type(value) is int and value > 0:
        return value
    value = document.get("max_tokens")
    return value if type(value) is int and value > 0 else None


def _parts(messages: object) -> Iterator[dict[str, Any]]:
    if not isinstance(messages, list):
        return
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list):
            for part in content:
                if isinstance(part, dict):
                    yield part


def _media_bytes(part: Mapping[str, Any]) -> int:
    """The length of the strings that hold a picture or a sound: they are not text."""
    total = 0
    for value in part.values():
        for inner in value.values() if isinstance(value, dict) else (value,):
            if isinstance(inner, str):
                total += len(inner)
    return total
