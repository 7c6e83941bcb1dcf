"""`tokenizer.json` and the chat template beside it, by the library of that form. Loaded only where one is used."""

import json
import os
from collections.abc import Mapping
from typing import Any, Final

from tokenizers import Tokenizer

from capstan_gateway.tokenizers.conversation import (
    NotText,
    check_whole,
    messages_of,
    takes_parts,
    texts_of,
    tools_of,
)
from capstan_gateway.tokenizers.files import Shipped, Unusable
from capstan_gateway.tokenizers.template import MAX_TEXT, ChatTemplate, TemplateRefuses
from capstan_gateway.tokens.counter import CountedBy

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
"""The library asks for this with each text: it would start a thread for each CPU, which one text does not use."""
_NOT_COUNTED: Final = ("chat_template", "documents", "mm_processor_kwargs")
"""Fields with which an engine makes another prompt than is made here."""
_TOOL_USE: Final = "tool_use"
_DEFAULT: Final = "default"


class FileCounter:
    """The tokenizer of a model; `tokens.counter.PromptCounter`."""

    kind = CountedBy.FILE

    def __init__(self, shipped: Shipped) -> None:
        """Raises Unusable, with why."""
        self.version = shipped.version
        try:
            self._tokenizer = Tokenizer.from_str(shipped.tokenizer.decode())
        except BaseException as error:  # A panic in Rust is no Exception.
            raise Unusable("no tokenizer", "tokenizer.json is not one that can be read") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._templates = _templates(shipped)

    @property
    def has_template(self) -> bool:
        """Whether it knows how conversations become a text."""
        return bool(self._templates)

    def count(self, document: Mapping[str, Any]) -> int | None:
        """See `PromptCounter.count`."""
        tokens = self.tokens(document)
        return None if tokens is None else len(tokens)

    def tokens(self, document: Mapping[str, Any]) -> list[int] | None:
        """See `PromptCounter.tokens`."""
        try:
            check_whole(document)
            if "messages" in document:
                return self._encoded(self._text(document), special=document.get("add_special_tokens") is True)
            texts = texts_of(document.get("prompt"))
            if texts is None:
                return list(document["prompt"])
            if sum(map(len, texts)) > MAX_TEXT:
                raise NotText
            special = document.get("add_special_tokens") is not False
            return [token for text in texts for token in self._encoded(text, special=special)]
        except (NotText, TemplateRefuses):
            return None

    def _text(self, document: Mapping[str, Any]) -> str:
        if any(document.get(field) is not None for field in _NOT_COUNTED) or document.get("continue_final_message"):
            raise NotText
        tools = tools_of(document)
        found = self._templates.get(_TOOL_USE) if tools else None
        found = found or self._templates.get(_DEFAULT)
        if found is None:
            raise NotText
        template, parts = found
        more = document.get("chat_template_kwargs")
        return template.render(
            messages_of(document, parts=parts), tools, more if isinstance(more, dict) else {},
            add_generation_prompt=document.get("add_generation_prompt") is not False,
        )  # fmt: skip

    def _encoded(self, text: str, *, special: bool) -> list[int]:
        if len(text) > MAX_TEXT:
            raise NotText
        try:
            # NB: `encode` alone keeps Python's lock for as long as it takes, and all streams would wait.
            ids: list[int] = self._tokenizer.encode_batch_fast([text], add_special_tokens=special)[0].ids
        except BaseException as error:  # As above; also a lone half of a surrogate pair.
            raise NotText from error
        return ids


def _templates(shipped: Shipped) -> dict[str, tuple[ChatTemplate, bool]]:
    config = _read_config(shipped.config)
    special = {
        name: token
        for name, value in config.items()
        if name.endswith("_token") and (token := _token(value)) is not None
    }
    try:
        return {
            name: (ChatTemplate(source, special), takes_parts(source))
            for name, source in _sources(config, shipped.template).items()
        }
    except TemplateRefuses as error:
        raise Unusable("no template", "the chat template cannot be read") from error


def _read_config(raw: bytes | None) -> dict[str, Any]:
    if raw is None:
        return {}
    try:
        config = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Unusable("no config", "tokenizer_config.json is not JSON") from error
    if not isinstance(config, dict):
        raise Unusable("no config", "tokenizer_config.json is no object")
    return config


def _token(value: Any) -> str | None:
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else None


def _sources(config: Mapping[str, Any], alone: bytes | None) -> dict[str, str]:
    """Give the templates by name: a file of its own, else what the config has, one or several."""
    if alone is not None:
        return {_DEFAULT: alone.decode(errors="replace")}
    found = config.get("chat_template")
    if isinstance(found, str):
        return {_DEFAULT: found}
    if not isinstance(found, list):
        return {}
    named = (one for one in found if isinstance(one, dict) and isinstance(one.get("template"), str))
    return {one["name"]: one["template"] for one in named if one.get("name") in (_DEFAULT, _TOOL_USE)}
