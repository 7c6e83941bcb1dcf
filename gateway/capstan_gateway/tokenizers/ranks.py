"""OpenAI's tokenizers: the ranks of a `.tiktoken` file, and the rule for what is around messages.

Which encoding a model has, and the patterns by which text is cut before it is merged, are those of tiktoken
(tiktoken/model.py, tiktoken_ext/openai_public.py). What is around messages is the rule of OpenAI's cookbook ("How to
count tokens with tiktoken"): three tokens for each message, one for a name, three for the beginning of the answer. For
tools and calls of tools OpenAI has said no rule: they are not counted here. tiktoken itself is loaded only where a file
is used, and nothing is ever fetched.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, Final

import tiktoken

from capstan_gateway.tokenizers.conversation import NotText, check_whole, texts_of
from capstan_gateway.tokenizers.encodings import PATTERNS
from capstan_gateway.tokenizers.files import Shipped, Unusable
from capstan_gateway.tokens.counter import CountedBy

MESSAGE_TOKENS: Final = 3
NAME_TOKENS: Final = 1
ANSWER_TOKENS: Final = 3
MAX_TEXT: Final = 1024 * 1024
"""Characters of one text."""
MAX_TEXTS: Final = 4 * MAX_TEXT
"""Of all texts of a prompt."""
_SAID: Final = frozenset(("role", "content", "name"))
_NOT_COUNTED: Final = ("tools", "functions", "response_format")
_BYTES: Final = 256


class RankCounter:
    """The tokenizer of OpenAI's models with one encoding; `tokens.counter.PromptCounter`."""

    kind = CountedBy.TIKTOKEN
    has_template = True

    def __init__(self, shipped: Shipped, encoding: str) -> None:
        """Raises Unusable, with why."""
        self.version = shipped.version
        ranks = read_ranks(shipped.tokenizer)
        try:
            self._encoding = tiktoken.Encoding(
                encoding, pat_str=PATTERNS[encoding], mergeable_ranks=ranks, special_tokens={}
            )
        except BaseException as error:  # A panic in Rust is no Exception.
            raise Unusable("no ranks", "the file holds no ranks of a tokenizer") from error

    def count(self, document: Mapping[str, Any]) -> int | None:
        """See `PromptCounter.count`."""
        try:
            check_whole(document)
            if "messages" in document:
                return self._conversation(document)
            return len(self._prompt(document))
        except NotText:
            return None

    def tokens(self, document: Mapping[str, Any]) -> list[int] | None:
        """See `PromptCounter.tokens`; nobody knows which are around messages."""
        try:
            check_whole(document)
            return None if "messages" in document else self._prompt(document)
        except NotText:
            return None

    def _prompt(self, document: Mapping[str, Any]) -> list[int]:
        texts = texts_of(document.get("prompt"))
        if texts is None:
            return list(document["prompt"])
        _check_size(texts)
        return [token for text in texts for token in self._encoded(text)]

    def _conversation(self, document: Mapping[str, Any]) -> int:
        messages = document["messages"]
        if not isinstance(messages, list) or any(document.get(field) for field in _NOT_COUNTED):
            raise NotText
        fixed, texts = ANSWER_TOKENS, list[str]()
        for message in messages:
            fixed += _read_message(message, texts)
        _check_size(texts)
        return fixed + sum(len(self._encoded(text)) for text in texts)

    def _encoded(self, text: str) -> list[int]:
        if len(text) > MAX_TEXT:
            raise NotText
        try:
            return self._encoding.encode_ordinary(text)
        except BaseException as error:  # As above.
            raise NotText from error


def _check_size(texts: Sequence[str]) -> None:
    if sum(map(len, texts)) > MAX_TEXTS:
        raise NotText


def _read_message(message: Any, texts: list[str]) -> int:
    """Put the texts of a message to the others, and give the tokens that are around them; raises NotText."""
    if not isinstance(message, dict) or any(message[key] is not None for key in message.keys() - _SAID):
        raise NotText
    given: list[Any] = [message.get("role")]
    name, content = message.get("name"), message.get("content")
    if name is not None:
        given.append(name)
    given += map(_part, content) if isinstance(content, list) else [] if content is None else [content]
    if not all(isinstance(text, str) for text in given):
        raise NotText
    texts += given
    return MESSAGE_TOKENS + (0 if name is None else NAME_TOKENS)


def _part(part: Any) -> Any:
    if not isinstance(part, dict) or part.get("type") != "text":
        raise NotText
    return part.get("text")


def read_ranks(raw: bytes) -> dict[bytes, int]:
    """Give the ranks of a `.tiktoken` file: lines of a token in base64 and its rank. Raises Unusable."""
    try:
        lines = (line.split() for line in raw.splitlines() if line)
        ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in lines}
    except (ValueError, binascii.Error) as error:
        raise Unusable("no ranks", "a line of the file is no token with its rank") from error
    if any(bytes((byte,)) not in ranks for byte in range(_BYTES)) or len(set(ranks.values())) < len(ranks):
        raise Unusable("no ranks", "not each byte has a rank, or two tokens have the same")
    return ranks
