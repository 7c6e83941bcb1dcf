"""Who counts the tokens of a prompt exactly, and what everybody who needs such a count may expect of it."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, Protocol


class CountedBy(StrEnum):
    """Who has counted."""

    FILE = "file"
    """The model's own tokenizer and template, from files that were shipped beside the config."""
    TIKTOKEN = "tiktoken"
    """The ranks that OpenAI has published for the model, and its rule for what is around messages."""
    ENGINE = "engine"
    """The model's engine: its own tokenizer, with its template for conversations."""
    PROVIDER = "provider"
    """The API that hosts the model."""
    ESTIMATE = "estimate"
    """Nobody: the number is the one of `tokens.estimate`."""


class PromptCounter(Protocol):
    """The tokenizer of one model. It never changes: a file that is replaced makes another one."""

    @property
    def kind(self) -> CountedBy:
        """Who counts."""
        ...

    @property
    def version(self) -> str:
        """What counts depend on, beside the request: whoever keeps counts keeps them by this."""
        ...

    def count(self, document: Mapping[str, Any]) -> int | None:
        """Give how many tokens the prompt of this request has, in OpenAI's form (`messages` with `tools`, or `prompt`).

        None where it cannot tell exactly: pictures, sound, a template that does not take these messages, too much text.
        Never raises. From any thread; takes about a millisecond for each 4 KiB of text, and so runs beside the loop
        (`life.threads`).
        """
        ...

    def tokens(self, document: Mapping[str, Any]) -> list[int] | None:
        """Give the tokens themselves; None where `count` gives None, and where only their number is known."""
        ...


class Counters(Protocol):
    """The counters of all models."""

    def of(self, model_id: str) -> PromptCounter | None:
        """Give the counter of a model (an adapter counts with its model); None where there is none that is trusted.

        In the loop's thread. Takes no longer than to look into a map, so ask anew for each request.
        """
        ...


class NoCounters:
    """`Counters` where no tokenizer was shipped."""

    def of(self, model_id: str) -> PromptCounter | None:  # noqa: ARG002 - one signature
        """Give None."""
        return None


NO_COUNTERS: Final = NoCounters()
