"""What models cost, and what an ask may take at most before anybody knows. Pure."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import Field, TypeAdapter, ValidationError

from capstan_contract.entries import Document, is_none
from capstan_contract.yamldoc import YamlFault, read_yaml
from capstan_evaluation.records import Usage

MESSAGE_TOKENS: Final = 64
"""What a chat template adds to a message at most, and what any adds to the whole."""


class ModelPrice(Document):
    """US dollars per million tokens."""

    inputPerMillion: float = Field(ge=0)
    cachedInputPerMillion: float | None = Field(default=None, ge=0, exclude_if=is_none)
    """None: as any other input."""
    outputPerMillion: float = Field(ge=0)

    def cost(self, usage: Usage) -> float:
        """Give what so many tokens cost."""
        cached = self.inputPerMillion if self.cachedInputPerMillion is None else self.cachedInputPerMillion
        fresh = max(0, usage.inputTokens - usage.cachedInputTokens)
        dollars = fresh * self.inputPerMillion + usage.cachedInputTokens * cached
        return (dollars + usage.outputTokens * self.outputPerMillion) / 1e6

    def most(self, bound: "Bound") -> float:
        """Give what an ask costs at most."""
        dearest = max(self.inputPerMillion, self.cachedInputPerMillion or 0.0)
        return (bound.inputTokens * dearest + bound.outputTokens * self.outputPerMillion) / 1e6


class Bound(Document):
    """What one ask takes at most."""

    inputTokens: int
    outputTokens: int

    @property
    def tokens(self) -> int:
        """Of both kinds."""
        return self.inputTokens + self.outputTokens


_PRICES: Final = TypeAdapter(dict[str, ModelPrice])


class BadPrices(ValueError):
    """A file of prices that cannot be used; the message says why."""


def read_prices(text: str) -> dict[str, ModelPrice]:
    """Read prices by the name of the model from YAML or JSON. Raises BadPrices."""
    try:
        documents = [one.data for one in read_yaml(text)]
        return _PRICES.validate_python(documents[0] if len(documents) == 1 else documents)
    except YamlFault as error:
        raise BadPrices(f"line {error.line}: {error.message}") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise BadPrices(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def bound_of(messages: Sequence[Mapping[str, Any]], most_output: int) -> Bound:
    """Give what an ask takes at most.

    A token is a byte at least, in every tokenizer that knows all bytes; what templates write around a message is
    bounded by MESSAGE_TOKENS.
    """
    size = sum(len(json.dumps(message, ensure_ascii=False).encode("utf-8", "replace")) for message in messages)
    return Bound(inputTokens=size + MESSAGE_TOKENS * (len(messages) + 1), outputTokens=most_output)


def bound_of_texts(texts: Sequence[str]) -> Bound:
    """Give what it takes at most to embed texts."""
    size = sum(len(text.encode("utf-8", "replace")) for text in texts)
    return Bound(inputTokens=size + MESSAGE_TOKENS * len(texts), outputTokens=0)
