"""From what clients said of answers to cases of a suite: which rows are added to its data. Pure.

Of an answer its request is known by ids alone: the prompt comes from samples, or from who has it. A case is asked anew,
and what made it a case (which answer, of which model, what was said) is provenance, written apart: it says nothing of
what is right. Cases have the tag PROMOTED, so that whoever trains on feedback can leave out what gates.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from capstan_contract.entries import canonical
from capstan_contract.feedback import Feedback, Label
from capstan_evaluation.suites.suite import Suite

PROMOTED: Final = "promoted"
_SYSTEM: Final = ("system", "developer")


@dataclass(frozen=True)
class Prompt:
    """What was asked."""

    messages: tuple[Mapping[str, str], ...]
    """Role and content of each, the last one of the user."""
    expected: str | None = None
    """What would have been right, where somebody has said that."""


@dataclass
class Promotion:
    """What is to be added."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    """Lines of a data file of the suite."""
    provenance: list[dict[str, Any]] = field(default_factory=list)
    """One for each row."""
    without_text: list[str] = field(default_factory=list)
    """Ids of answers of whose request nobody has the text."""
    known: int = 0
    """Answers to what the suite asks already."""


def prompt_hash(messages: Iterable[Mapping[str, str]]) -> str:
    """Give the SHA-256 of a conversation, without what its application says in front of it."""
    said = [[one["role"], one["content"]] for one in messages if one["role"] not in _SYSTEM]
    return hashlib.sha256(canonical(said)).hexdigest()


def asked_by(suite: Suite | None) -> set[str]:
    """Give the hashes of all that a suite asks."""
    return set() if suite is None else {prompt_hash(case.conversation()) for case in suite.cases}


def promote(
    feedback: Iterable[Feedback],
    prompts: Mapping[str, Prompt],
    asked: Iterable[str],
    *,
    labels: Sequence[Label] = (Label.BAD,),
) -> Promotion:
    """Make a case of each answer with one of these labels, each prompt once.

    Args:
        feedback: What was said, the oldest first.
        prompts: By the id of an answer, or of its request.
        asked: Hashes of what the suite asks already.
        labels: Which answers become cases.
    """
    found, seen = Promotion(), set(asked)
    for one in feedback:
        if one.label not in labels:
            continue
        prompt = prompts.get(one.id) or (prompts.get(one.requestId) if one.requestId else None)
        if prompt is None:
            found.without_text.append(one.id)
            continue
        name = prompt_hash(prompt.messages)
        if name in seen:
            found.known += 1
            continue
        seen.add(name)
        row: dict[str, Any] = {
            "id": f"{PROMOTED}-{name[:16]}", "messages": [dict(message) for message in prompt.messages],
            "tags": [PROMOTED],
        }  # fmt: skip
        if prompt.expected is not None:
            row["expected"] = prompt.expected
        found.rows.append(row)
        found.provenance.append(
            {
                "case": row["id"],
                "promptHash": name,
                "responseId": one.id,
                "requestId": one.requestId,
                "model": one.model,
                "label": one.label.value,
                "score": one.score,
                "source": one.source.value,
                "at": one.at,
            }
        )
    return found
