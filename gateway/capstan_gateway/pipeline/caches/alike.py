"""Answers to questions that mean the same, by vectors that the process makes itself.

    a question ─► its vector ─► the nearest of its partition ─► rules ─► score ─► the entry, where entries are

All but the last is done in a thread of its own, which all policies share. What it cannot do in time is a miss. It keeps
questions and vectors, and no answers: those are in memory or in Redis, and who deletes them there deletes them here.
Where replicas share answers they share questions, too: each has all of them in its own index, its own at once, those of
others as soon as it has read them (`caches/semantic/shared_questions.py`).
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from threading import Lock
from traceback import extract_tb
from typing import Final, Protocol, TypeVar

from capstan_contract.caches import SemanticTier
from capstan_gateway.caches.port import Alike, CacheKey, Entry, Found, Tier
from capstan_gateway.caches.semantic.index import Asked, Near, Neighbours
from capstan_gateway.caches.semantic.judge import MOST_CHARACTERS, Judge
from capstan_gateway.caches.semantic.language import ENGLISH, language_of
from capstan_gateway.caches.semantic.questions import SharedQuestions, StoredQuestion
from capstan_gateway.caches.semantic.relations import load_relations
from capstan_gateway.embed.files import EmbeddingsMissing
from capstan_gateway.embed.once import Once
from capstan_gateway.embed.sentences import EMBEDDER, Sentence
from capstan_gateway.life.threads import Busy, Threads

log = logging.getLogger(__name__)
T = TypeVar("T")

FIND_SECONDS: Final = 0.5
"""How long a request waits to be compared."""
PUT_SECONDS: Final = 5.0
MOST_TOLD: Final = 20
"""Failures that are logged, each once."""
_KNOWN: Final = 20_000
"""Word pieces whose vectors are kept, 1.5 KB each: of some 1,500 questions."""


class NotCompared(Exception):
    """Questions are not compared just now, and that is known: nothing is wrong that somebody would have to mend."""

    def __init__(self, reason: str) -> None:
        """Make it; `reason` is what it is counted as."""
        super().__init__(reason)
        self.reason: Final = reason


class Reads(Protocol):
    """Makes vectors of texts; `embed.sentences.SentenceEmbedder`."""

    def read(self, text: str) -> Sentence | None:
        """Give those of a text; None of one without any word."""
        ...


class Sentences:
    """The vectors of texts, those of the last ones kept: for each whose they are apart, because the time that it takes
    would say to one what another one has asked. Asked in threads."""

    def __init__(self, embedder: Once[Reads] | None = None) -> None:
        """Make it; without an embedder that of the process is taken."""
        self._embedder: Final = embedder
        self._known: OrderedDict[tuple[str, str], Sentence] = OrderedDict()
        self._pieces = 0
        self._lock = Lock()

    def of(self, text: str, *, whose: str) -> Sentence | None:
        """Give those of a text. Raises EmbeddingsMissing."""
        key = whose, text
        with self._lock:
            known = self._known.get(key)
            if known is not None:
                self._known.move_to_end(key)
                return known
        made = self.made(text)
        if made is not None:
            with self._lock:
                if key not in self._known:
                    self._known[key] = made
                    self._pieces += len(made.ids)
                while self._pieces > _KNOWN:
                    self._pieces -= len(self._known.popitem(last=False)[1].ids)
        return made

    def made(self, text: str) -> Sentence | None:
        """Make those of a text that will not come again. Raises EmbeddingsMissing."""
        return (EMBEDDER if self._embedder is None else self._embedder).get().read(text)

    def warm(self) -> None:
        """Load what a comparison needs, where it is there."""
        load_relations()
        with suppress(EmbeddingsMissing):
            (EMBEDDER if self._embedder is None else self._embedder).get()


class AlikeInProcess:
    """Implements `port.AlikeEntries`."""

    def __init__(
        self,
        tier: SemanticTier,
        *,
        sentences: Sentences,
        threads: Threads,
        entry_of: Callable[[CacheKey], Awaitable[Entry | None]],
        now_ms: Callable[[], int],
        count: Callable[[str], None] = lambda _: None,
        index: Neighbours | None = None,
        shared: SharedQuestions | None = None,
    ) -> None:
        """Make it. `entry_of` gives an entry that is still there; `count` hears why a question was not compared: late,
        busy, missing (the vectors' weights), failed, or the reason of a `NotCompared`. `shared` puts into `index` what
        other replicas have stored."""
        self._tier: Final = tier
        self._judge: Final = Judge(tier)
        self._index: Final = Neighbours(most=tier.maxEntries) if index is None else index
        self._shared: Final = shared
        self._sentences = sentences
        self._threads = threads
        self._entry_of = entry_of
        self._now_ms = now_ms
        self._count: Final = count
        self._told: set[str] = set()

    def __len__(self) -> int:
        return len(self._index)

    async def find(self, alike: Alike) -> Found | None:
        """See `AlikeEntries.find`."""
        return await self._tried(self._find(alike), FIND_SECONDS)

    async def _find(self, alike: Alike) -> Found | None:
        if not self._compares(alike.text):
            return None
        for near in await self._near(alike):
            entry = await self._entry_of(near.asked.key)
            if entry is not None:
                return Found(entry, Tier.SEMANTIC, near.asked.key, near.similarity)
            # NB: while Redis is away nobody knows whether the answer is still there.
            if self._shared is None or not self._shared.is_down:
                self._index.drop(near.asked.key)
        return None

    def _compares(self, text: str) -> bool:
        """Whether a question is one that can be compared."""
        return is_compared(text)

    async def _near(self, alike: Alike) -> list[Near]:
        """Give the questions whose answers serve, the surest first."""
        return await self._threads.run(self._serving, alike)

    async def put(self, alike: Alike, key: CacheKey, entry: Entry) -> None:
        """See `AlikeEntries.put`."""
        await self._tried(self._kept(alike, key, entry), PUT_SECONDS)

    async def _kept(self, alike: Alike, key: CacheKey, entry: Entry) -> None:
        if not self._compares(alike.text):
            return
        sentence = await self._threads.run(self._put, alike, Asked(key, alike.text, entry.expires_ms))
        if sentence is not None and self._shared is not None:
            await self._shared.put(
                StoredQuestion(key, alike.partition, alike.text, entry.created_ms, entry.expires_ms, sentence.vector)
            )

    async def _tried(self, work: Awaitable[T], seconds: float) -> T | None:
        """Give what this gives in time. Whatever goes wrong, the model is asked as if nothing were there, and what is
        not kept is found by who asks the very same."""
        try:
            async with asyncio.timeout(seconds):
                return await work
        except TimeoutError:
            self._count("late")
        except Busy:
            self._count("busy")
        except NotCompared as error:
            self._count(error.reason)
        except EmbeddingsMissing as error:
            self._count("missing")
            self._tell(str(error))
        except Exception as error:  # noqa: BLE001 - none of it is the request's fault
            self._count("failed")
            # NB: what it says may hold what was asked.
            (*_, last) = extract_tb(error.__traceback__)
            self._tell(f"{type(error).__name__} in {last.name}, {last.filename}:{last.lineno}")
        return None

    def drop(self, key: CacheKey) -> bool:
        """See `AlikeEntries.drop`."""
        return self._index.drop(key)

    def keys(self) -> Sequence[CacheKey]:
        """See `AlikeEntries.keys`."""
        return self._index.keys()

    def close(self) -> None:
        """See `AlikeEntries.close`."""
        if self._shared is not None:
            self._shared.close()

    def _serving(self, alike: Alike) -> list[Near]:
        if not len(self._index):
            return []
        sentence_of = partial(self._sentences.of, whose=_whose(alike))
        sentence = sentence_of(alike.text)
        if sentence is None:
            return []
        near = self._index.nearest(
            alike.partition, sentence.vector, count=self._tier.topK, now_ms=self._now_ms()
        )  # fmt: skip
        serving = self._judge.serving(alike.text, sentence, near, least=alike.least, sentence_of=sentence_of)
        for one in serving[:1]:
            self._index.used(one.asked.key)
        return serving

    def _put(self, alike: Alike, asked: Asked) -> Sentence | None:
        load_relations()  # Who asks next has less time.
        sentence = self._sentences.of(alike.text, whose=_whose(alike))
        if sentence is not None:
            self._index.put(alike.partition, asked, sentence.vector)
        return sentence

    def _tell(self, reason: str) -> None:
        if reason not in self._told and len(self._told) < MOST_TOLD:
            self._told.add(reason)
            log.error("questions are not compared by their meaning", extra={"reason": reason})


def _whose(alike: Alike) -> str:
    """Give who asks: the partition of the key, which the one of the question begins with."""
    return alike.partition.partition(".")[0]


async def likeness(sentences: Sentences, threads: Threads, one: str, other: str) -> float:
    """Give how alike two texts are, by their vectors. Raises Busy and EmbeddingsMissing."""

    def compare() -> float:
        mine, theirs = sentences.made(one), sentences.made(other)
        return 0.0 if mine is None or theirs is None else float(mine.vector @ theirs.vector)

    return await threads.run(compare)


def is_compared(text: str) -> bool:
    """Whether a question is one that can be compared: short enough, and in the language of the vectors."""
    return len(text) <= MOST_CHARACTERS and language_of(text) == ENGLISH
