"""Tokenizers that tests make: small, and right by what is easily said of them."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, processors

TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}> {{ message.content }} {% endfor %}"
    "{% if tools %}{{ tools | tojson }}{% endif %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
"""Of each message two words more than it has; one for the answer."""


def words_tokenizer(*, begins: bool = False) -> str:
    """Give a `tokenizer.json` by which each word is a token; with `begins` one more stands before a text."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "<s>": 1, "a": 2, "b": 3}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if begins:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    text: str = tokenizer.to_str()
    return text


def ship_words(folder: Path, *, template: str | None = TEMPLATE, begins: bool = False, **config: Any) -> None:
    """Write such a tokenizer into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(words_tokenizer(begins=begins))
    if template is not None:
        config["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def ranks_file(*words: str) -> bytes:
    """Give a `.tiktoken` file with all bytes, and these words, each of which is made of two that stand before it."""
    tokens = [bytes((byte,)) for byte in range(256)] + [word.encode() for word in words]
    return b"".join(b"%b %d\n" % (base64.b64encode(token), rank) for rank, token in enumerate(tokens))


def hash_of(raw: bytes) -> str:
    """Give the SHA-256."""
    return hashlib.sha256(raw).hexdigest()
