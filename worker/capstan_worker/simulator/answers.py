"""What the simulator says: made of a seed, so the same request always gets the same answer, and plainly simulated.

A seed comes from what decides an answer (model, prompt, tools, format, `seed`, index of the choice) and not from how it
is delivered, so a stream and a whole answer agree, and a smaller `max_tokens` gives a beginning of the longer answer.
"""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from capstan_worker.simulator.tokens import split

_VOCABULARY = (
    "the a this that each some token answer prompt model gate wind sail rope anchor harbor vessel cargo line deck hold "
    "tide turns moves lifts waits carries pulls keeps gives takes holds steady slow quick small large clear round even "
    "then and or so but with from over under into near"
)
VOCABULARY = tuple(_VOCABULARY.split())
_WORDS = tuple(" " + word for word in VOCABULARY if len(word) <= 6)
"""One token each."""
_SENTENCE = 12


class Kind(StrEnum):
    """What a part of an answer is."""

    TEXT = "text"
    REASONING = "reasoning"
    REFUSAL = "refusal"
    CALL = "call"


@dataclass(frozen=True)
class Part:
    """A part of an answer: from one token up to the next part."""

    kind: Kind
    start: int = 0
    tool: str = ""
    """Of a call: the tool's name. Its tokens are the arguments."""


@dataclass(frozen=True)
class Answer:
    """One choice, whole."""

    tokens: tuple[str, ...]
    finish_reason: str
    stop_reason: str | None = None
    parts: tuple[Part, ...] = (Part(Kind.TEXT),)
    """In their order; the first begins with the first token. Parts that begin behind the last token are not there."""
    wrong: bool = False
    """Whether it is one of those that are wrong on purpose: its tokens are less probable."""

    @property
    def text(self) -> str:
        """The answer as text, with all its parts."""
        return "".join(self.tokens)

    def pieces(self, start: int, end: int) -> list[tuple[int, Part, str]]:
        """Give what the tokens from `start` to `end` hold: number, part and text of each part."""
        found = []
        for number, part in enumerate(self.parts):
            following = self.parts[number + 1].start if number + 1 < len(self.parts) else len(self.tokens)
            low, high = max(start, part.start), min(end, following)
            if low < high:
                found.append((number, part, "".join(self.tokens[low:high])))
        return found


@dataclass(frozen=True)
class Bounds:
    """What limits an answer."""

    max_tokens: int
    min_tokens: int = 0
    ignore_eos: bool = False
    stop: tuple[str, ...] = ()
    keep_stop: bool = False


def make_seed(*parts: str) -> int:
    """Give a number for what decides an answer, the same in every process."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    return int.from_bytes(digest.digest(), "big")


def write_prose(seed: int, *, model: str, mean_tokens: int, bounds: Bounds, opening: str = "") -> Answer:
    """Write an answer of about `mean_tokens` tokens behind the opening, cut by the bounds."""
    return cut([*split(opening), *prose(seed, model=model, mean_tokens=mean_tokens, bounds=bounds)], bounds)


def prose(seed: int, *, model: str, mean_tokens: int, bounds: Bounds) -> list[str]:
    """Give the tokens of an answer of about `mean_tokens` tokens, before it is cut."""
    rng = random.Random(seed)  # noqa: S311  # reproducible on purpose
    natural = rng.randint(max(mean_tokens // 2, 1), max(mean_tokens * 3 // 2, 1))
    length = bounds.max_tokens if bounds.ignore_eos else max(natural, bounds.min_tokens)
    tokens = split(f"This is a simulated answer from {model}; no model was run.")
    missing = length - len(tokens)
    if missing > 0:
        words = rng.choices(_WORDS, k=missing)
        for place in (*range(_SENTENCE - 1, missing - 2, _SENTENCE), missing - 1):
            words[place] = "."
        tokens += words
    return tokens


def thoughts(seed: int, mean_tokens: int) -> list[str]:
    """Give the tokens of a reasoning that is about so long."""
    rng = random.Random(seed ^ 0x7E1)  # noqa: S311  # reproducible on purpose
    length = rng.randint(max(mean_tokens // 2, 1), max(mean_tokens * 3 // 2, 1))
    return [*split("Simulated reasoning:"), *rng.choices(_WORDS, k=length), "."]


def cut(
    tokens: Sequence[str], bounds: Bounds, *, parts: tuple[Part, ...] = (Part(Kind.TEXT),), wrong: bool = False
) -> Answer:
    """Apply the bounds to a whole answer: a stop string first met ends it, then `max_tokens`."""
    kept = list(tokens[: bounds.max_tokens])
    stopped = _first_stop("".join(kept), bounds) if bounds.stop else None
    if stopped is not None:
        end, reason = stopped
        return Answer(tuple(_up_to(kept, end)), "stop", reason, parts, wrong)
    reached = len(tokens) > bounds.max_tokens or (bounds.ignore_eos and len(tokens) >= bounds.max_tokens)
    return Answer(tuple(kept), "length" if reached else "stop", None, parts, wrong)


def _first_stop(text: str, bounds: Bounds) -> tuple[int, str] | None:
    found = [(text.find(stop), stop) for stop in bounds.stop if stop and stop in text]
    if not found:
        return None
    start, stop = min(found, key=lambda item: (item[0] + len(item[1]), item[0]))
    return (start + len(stop) if bounds.keep_stop else start), stop


def _up_to(tokens: Sequence[str], end: int) -> list[str]:
    kept: list[str] = []
    position = 0
    for token in tokens:
        if position + len(token) >= end:
            if end > position:
                kept.append(token[: end - position])
            break
        kept.append(token)
        position += len(token)
    return kept


def logprob(seed: int, index: int, rank: int, *, wrong: bool = False) -> float:
    """Give the log-probability of the token at `index` among its alternatives: made up, but always the same.

    A wrong answer's tokens are less probable, so that who judges by them can tell.
    """
    spread = random.Random(seed * 1_000_003 + index).random()  # noqa: S311  # reproducible on purpose
    return -0.02 - spread * 0.5 - rank * 1.5 - (1.0 if wrong else 0.0)


def alternatives(seed: int, index: int, token: str, number: int) -> list[str]:
    """Give `number` different tokens for this place, the chosen one first."""
    others = random.Random(seed * 7_368_787 + index).sample(_WORDS, k=min(number + 1, len(_WORDS)))  # noqa: S311
    return ([token] + [other for other in others if other != token])[:number]
