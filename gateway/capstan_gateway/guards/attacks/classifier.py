"""A small network that tells attacks from prompts by what they say, in words that nobody has listed.

Four layers of MiniLM, trained by scripts/train_guards.py; what on, and what it does on sources that it has never seen,
is in weights/MODEL_CARD.md. It gives two numbers. The first is for what somebody asks: does this try to take the model
over, to have its secrets, or to talk it out of its rules? The second is for texts that only have to be read, such as
results of tools: does this give orders at all?

A text is looked at in windows of 96 word pieces, each of which shares 24 with the next, since what is planted in a long
text is lost in its mean. The one with the highest score counts. Of a text that is too long to be looked at as a whole
both ends are, and the places that attack likeliest by their words (`attacks/lexical.py`), wherever they stand.
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Final, Protocol

from capstan_contract.guards import Sensitivity, Source
from capstan_gateway.embed.once import Once
from capstan_gateway.embed.session import Session
from capstan_gateway.embed.windows import Reach, batches, joined
from capstan_gateway.embed.words import Words
from capstan_gateway.guards.attacks.lexical import Lexical
from capstan_gateway.guards.patience import go_on

WINDOW: Final = 94
"""Word pieces; the two marks around them make it 96."""
OVERLAP: Final = 24
REACH: Final = Reach(ends=8000, slices=0, length=0)
"""All of a text of 16,000 characters is looked at, in some 60 windows."""
ENDS: Final = 2000
"""Characters of each end of a longer one that are looked at, whatever they say."""
PLACES: Final = 28
"""And so many places of it, the likeliest ones; together it is about as much."""
BESIDE: Final = 150
"""Characters beside such a place."""
WEIGHTS: Final = Path(__file__).with_name("weights")
REMEMBERED: Final = 4096
"""Texts whose scores are kept: some 1 MB."""
STRANGE: Final = 0.42
"""Share of pieces that are no English words from which on a window is not of a language that it knows."""
UNSURE: Final = 0.6
"""Most that is said of such a window: it may be doubted, and is not found."""
_BATCH: Final = 1536
"""Word pieces that are computed at once."""
_READ: Final = frozenset({Source.TOOL_RESULTS, Source.DOCUMENTS})
"""Texts that give no orders."""
_LESS: Final = {Sensitivity.LOW: "Medium", Sensitivity.MEDIUM: "High", Sensitivity.HIGH: "doubt"}
"""Which threshold is the end of the doubt."""


@dataclass(frozen=True, slots=True)
class ClassifierHit:
    """What it thinks of a text."""

    score: float
    """From 0 to 1. No probability: what it means is what `AttackThresholds` says."""
    start: int
    """Where the window with the highest score begins, in characters; so is `end`, which is behind it."""
    end: int


NO_HIT: Final = ClassifierHit(0.0, 0, 0)


@dataclass(frozen=True, slots=True)
class AttackThresholds:
    """What its scores mean, by how they were on harmless texts of sources that it had not seen."""

    prompts: Mapping[str, float]
    tools: Mapping[str, float]

    @classmethod
    def load(cls) -> "AttackThresholds":
        """Read what was measured."""
        told = json.loads((WEIGHTS / "attacks.json").read_text(encoding="utf-8"))["thresholds"]
        return cls(told["prompts"], told["tools"])

    def found(self, sensitivity: Sensitivity, source: Source) -> float:
        """Give the least score at which a text is an attack."""
        return self._of(source)[sensitivity.value]

    def doubt(self, sensitivity: Sensitivity, source: Source) -> float:
        """Give the least score at which somebody who knows better should be asked."""
        return self._of(source)[_LESS[sensitivity]]

    def _of(self, source: Source) -> Mapping[str, float]:
        return self.tools if source in _READ else self.prompts


class Judge(Protocol):
    """What has a score for a text."""

    def score(self, text: str, source: Source) -> ClassifierHit:
        """Judge a text as what it is."""
        ...


class SharedClassifier:
    """The classifier of the process, loaded by who first has a text judged, and what it has said of the last texts.

    Every turn of a conversation sends all before it again, and two guards may look for two kinds of attack: the same
    text is judged once. Of a text only its hash is kept.
    """

    def __init__(self, classifier: Once[Judge] | None = None, *, remembered: int = REMEMBERED) -> None:
        self._classifier = classifier or CLASSIFIER
        self._remembered = remembered
        self._hits: OrderedDict[bytes, ClassifierHit] = OrderedDict()
        self._lock = Lock()

    def score(self, text: str, source: Source) -> ClassifierHit:
        """See `AttackClassifier.score`. Raises EmbeddingsMissing where the weights are not the right ones."""
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, salt=_salt(source)).digest()
        with self._lock:
            if (hit := self._hits.get(key)) is not None:
                self._hits.move_to_end(key)
                return hit
        hit = self._classifier.get().score(text, source)
        with self._lock:
            self._hits[key] = hit
            while len(self._hits) > self._remembered:
                self._hits.popitem(last=False)
        return hit


class AttackClassifier:
    """The network. Made once, never changes, asked from any thread; the same text always has the same score."""

    def __init__(self, words: Words, session: Session, lexical: Lexical) -> None:
        self._words = words
        self._session = session
        self._lexical = lexical

    @classmethod
    def load(cls) -> "AttackClassifier":
        """Load the weights: some 30 MB of memory. Raises EmbeddingsMissing where a library is not installed."""
        words = Words.load()
        return cls(words, Session(WEIGHTS / "attacks.onnx"), Lexical.load(WEIGHTS / "words.npy"))

    def score(self, text: str, source: Source) -> ClassifierHit:
        """Judge a text as what it is. One without any word has 0. It raises nothing, whatever the text is."""
        column = 1 if source in _READ else 0
        windows = self._words.windows_of(text, self._parts(text, column), size=WINDOW, overlap=OVERLAP)
        best = NO_HIT
        for batch in batches([len(window.ids) + 2 for window in windows], most=_BATCH):
            go_on()
            scores = self._scores([windows[number].ids for number in batch], column)
            for number, score in zip(batch, scores, strict=True):
                if (score, -windows[number].start) > (best.score, -best.start):
                    best = ClassifierHit(score, windows[number].start, windows[number].end)
        return best

    def _parts(self, text: str, column: int) -> list[tuple[int, int]]:
        if len(text) <= REACH.everything:
            return [(0, len(text))]
        places = self._lexical.likeliest(text, column, most=PLACES, beside=BESIDE)
        return joined([(0, ENDS), *places, (len(text) - ENDS, len(text))])

    def _scores(self, rows: list[tuple[int, ...]], column: int) -> list[float]:
        ids, mask = self._words.numbers(rows)
        found = self._session.run(vectors=self._words.vectors(ids), mask=mask.astype("float32"))
        return [
            min(float(score), UNSURE) if self._words.strangeness(row) > STRANGE else float(score)
            for score, row in zip(found[:, column], rows, strict=True)
        ]


def _salt(source: Source) -> bytes:
    return b"read" if source in _READ else b"said"


CLASSIFIER: Final[Once[Judge]] = Once(AttackClassifier.load)
