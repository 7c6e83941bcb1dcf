"""Which models could answer a request at all, and which condition left none."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Generic, Protocol, TypeVar

from capstan_contract.config import Capability, Price
from capstan_gateway.selection.needs import Needs

_ABILITIES: Final = {
    Capability.TOOLS: "can use tools",
    Capability.VISION: "can do vision",
    Capability.AUDIO: "can do audio",
    Capability.JSON_SCHEMA: "can keep to a JSON schema",
    Capability.REASONING: "can reason",
}


class Selectable(Protocol):
    """What selection needs to know of a model."""

    @property
    def id(self) -> str:
        """Key of all that is remembered about it."""
        ...

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it can do beyond text."""
        ...

    @property
    def context_window(self) -> int | None:
        """Tokens of prompt and answer together; None: unknown, and taken for large enough."""
        ...

    @property
    def max_output_tokens(self) -> int | None:
        """Longest answer; None: unknown, and taken for long enough."""
        ...

    @property
    def price(self) -> Price | None:
        """What tokens cost; None: unknown."""
        ...


Model = TypeVar("Model", bound=Selectable)


@dataclass(frozen=True, slots=True)
class Member(Generic[Model]):
    """A model that may be chosen, and how its router thinks of it."""

    model: Model
    weight: int = 100
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Narrowed(Generic[Model]):
    """What is left of the members, and how it came to that."""

    members: tuple[Member[Model], ...]
    steps: tuple[tuple[int, str], ...]
    """How many were left after each condition, with its words; ends with the condition that left none."""

    @property
    def explanation(self) -> str:
        """Say it to a client: "3 models serve chat, 0 of them can do vision"."""
        words = []
        for position, (count, what) in enumerate(self.steps):
            who = "of them" if position else ("model" if count == 1 else "models")
            words.append(f"{count} {who} {what}")
        return ", ".join(words)


Condition = tuple[str, Callable[[Model], bool]]
"""What the models that are left do, in words, and whether one does."""


def narrow(
    members: Sequence[Member[Model]],
    needs: Needs,
    *,
    serves: str,
    extra: Sequence[Condition[Model]] = (),
) -> Narrowed[Model]:
    """Keep the members that can answer. `serves` says what all of them do, `extra` are further conditions to put first.

    What is unknown about a model does not exclude it, except for capabilities, which must be declared.
    """
    left = tuple(members)
    steps = [(len(left), serves)]
    for what, fits in (*extra, *_conditions(needs)):
        if not left:
            break
        kept = tuple(member for member in left if fits(member.model))
        if len(kept) != len(left):
            steps.append((len(kept), what))
        left = kept
    return Narrowed(left, tuple(steps))


def _conditions(needs: Needs) -> Iterator[tuple[str, Callable[[Selectable], bool]]]:
    for ability in sorted(needs.capabilities):
        yield _ABILITIES[ability], partial(_has, ability)
    wanted = needs.max_tokens
    if wanted is not None:
        yield f"may answer with {wanted} tokens", lambda model: _at_most(wanted, model.max_output_tokens)
    least = needs.least_prompt_tokens + (wanted or 1)
    yield "have a context window for this request", lambda model: _at_most(least, model.context_window)


def _has(ability: Capability, model: Selectable) -> bool:
    return ability in model.capabilities


def _at_most(value: int, limit: int | None) -> bool:
    return limit is None or value <= limit


def is_tight(model: Selectable, needs: Needs) -> bool:
    """Whether the request probably does not fit into the model's context window, although it may."""
    return not _at_most(needs.prompt_tokens + (needs.max_tokens or 1), model.context_window)
