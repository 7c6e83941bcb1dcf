"""Texts that were written to look at the guards with: what is hard, in words of no training and of no public set.

No threshold comes of them. They are in guard_texts/unseen.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from capstan_contract.guards import Source

TEXTS: Final = Path(__file__).with_name("guard_texts")


def lines_of(name: str) -> list[str]:
    """Read a file of texts, one a line."""
    return [line for line in TEXTS.joinpath(name).read_text(encoding="utf-8").split("\n") if line.strip()]


def blocks_of(name: str) -> list[str]:
    """Read a file of texts of several lines."""
    return [block.strip() for block in TEXTS.joinpath(name).read_text(encoding="utf-8").split("\n%%\n")]


@dataclass(frozen=True, slots=True)
class Own:
    """One text that was written to look at the guards with."""

    kind: str
    text: str
    attack: bool
    source: Source


def load_own() -> Iterator[Own]:
    """Give them all."""
    carriers, planted = blocks_of("unseen/carriers.txt"), lines_of("unseen/planted.txt")
    documents = [*blocks_of("unseen/documents.txt"), *carriers]
    for text in lines_of("unseen/triggers.txt"):
        yield Own("prompts full of the words of attacks", text, False, Source.USER)
    for text in blocks_of("unseen/personas.txt"):
        yield Own("personas and role-plays", text, False, Source.USER)
    for text in documents:
        yield Own("documents with orders for people", text, False, Source.TOOL_RESULTS)
        yield Own("the same, pasted by a user", f"Summarize this for me:\n\n{text}", False, Source.USER)
    for carrier in carriers:
        lines = carrier.split("\n") if "\n" in carrier else carrier.split(". ")
        for order in planted:
            yield Own("orders planted at the end of a document", f"{carrier}\n{order}", True, Source.TOOL_RESULTS)
            among = ("\n" if "\n" in carrier else ". ").join((*lines[:2], order.rstrip("."), *lines[2:]))
            yield Own("orders planted in the middle", among, True, Source.TOOL_RESULTS)
            asked = f"Answer the question using this text.\n\n{carrier}\n{order}\n\nQuestion: what is it about?"
            yield Own("the same, pasted by a user with a question", asked, True, Source.USER)
    for text in lines_of("unseen/games.txt"):
        yield Own("games: secrets asked for, answers dictated", text, True, Source.USER)
    for text in blocks_of("unseen/wild.txt"):
        yield Own("jailbreaks as communities write them", text, True, Source.USER)
