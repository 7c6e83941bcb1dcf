"""Guards of a test: detectors that look for words, and who is asked about them."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from capstan_contract.guards import ASKED, Action, KeywordsGuard, OnError, Source, Stage
from capstan_gateway.guards.port import Cost, Finding, Scan
from capstan_gateway.pipeline.guards.compiled import CompiledGuard
from capstan_gateway.pipeline.guards.pieces import Piece, Place
from capstan_gateway.pipeline.guards.port import AskingGuard, Case


@dataclass
class Words:
    """Finds words; in doubt of others. It notes the texts that it was given, and on the loop's thread or not."""

    words: Sequence[str]
    cost: Cost = Cost.CHEAP
    doubtful: Sequence[str] = ()
    before: Callable[[], object] = bool
    """Called for each text; what it raises the detector raises."""
    texts: list[str] = field(default_factory=list)
    on_loop: list[bool] = field(default_factory=list)

    def scan(self, text: str, source: Source) -> Scan:
        """Look at one text."""
        self.texts.append(text)
        self.on_loop.append(threading.current_thread() is threading.main_thread())
        self.before()
        found = tuple(
            Finding(word, at, at + len(word)) for word in self.words for at in _all(text, word)
        )  # fmt: skip
        return Scan(found, doubt=0.5 if any(word in text for word in self.doubtful) else None)


def _all(text: str, word: str) -> Iterator[int]:
    at = text.find(word)
    while at >= 0:
        yield at
        at = text.find(word, at + len(word))


@dataclass
class Asked:
    """Finds words when it is asked, after so many turns of the loop, or never."""

    words: Sequence[str] = ()
    hangs: bool = False
    raises: Exception | None = None
    cases: list[Case] = field(default_factory=list)
    cancelled: int = 0

    async def judge(self, case: Case) -> Sequence[Scan]:
        """Judge the case."""
        self.cases.append(case)
        try:
            await (asyncio.Event().wait() if self.hangs else asyncio.sleep(0))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.raises is not None:
            raise self.raises
        scanner = Words(self.words)
        return [scanner.scan(piece.text, piece.source) for piece in case.pieces]


def guard(
    name: str, detector: Words | None = None, asking: AskingGuard | None = None, *, action: Action = Action.BLOCK,
    on_error: OnError = OnError.CLOSED, millis: int = 60_000, sources: Sequence[Source] = ASKED,
    stage: Stage = Stage.INPUT,
) -> CompiledGuard:  # fmt: skip
    """Give a guard that is ready to work."""
    said = KeywordsGuard(
        name=name, keywords=("x",), action=action, onError=on_error, timeoutMillis=millis, appliesTo=tuple(sources)
    )
    return CompiledGuard(said, stage, detector, asking, frozenset(sources), {})


def piece(text: str, source: Source = Source.USER) -> Piece:
    """Give one text."""
    return Piece(text, source, Place(None, "content"))


@contextmanager
def keywords_by(patch: pytest.MonkeyPatch, build: Callable[[Any], Any], ask: Callable[[Any], Any]) -> Iterator[None]:
    """Have these make what guards of keywords are."""
    from capstan_gateway.guards import build as builders
    from capstan_gateway.pipeline.guards import asking

    with patch.context() as inside:
        inside.setitem(builders.BUILDERS, KeywordsGuard, build)
        inside.setitem(asking.ASKING, KeywordsGuard, lambda said, deps: ask(said))  # noqa: ARG005
        yield
