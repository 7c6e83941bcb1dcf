"""Names, addresses and organisations, which have no form: Presidio finds them, by a spaCy model of the language.

Both come with the extra `presidio`, the models do not: those that are installed are used, one of each
language. Of Presidio only its recogniser of names is used; its patterns are off, because ours know more.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final, Protocol

from capstan_contract.guards import PiiKind, Source
from capstan_gateway.guards.patience import go_on
from capstan_gateway.guards.pii.detector import PiiDetector, plain
from capstan_gateway.guards.pii.errors import PiiNotAvailable
from capstan_gateway.guards.port import NOTHING, Cost, Detector, Finding, Scan

THRESHOLD: Final = 0.5
WINDOW: Final = 20_000
"""Characters that a model reads at once: what spaCy holds in memory grows with them, 1 GB for 100,000."""
OVERLAP: Final = 200
"""Characters that are read twice, so that a name over the end of a window is whole in the next one."""
_KINDS: Final = {"PERSON": PiiKind.PERSON, "LOCATION": PiiKind.ADDRESS, "ORGANIZATION": PiiKind.ORGANIZATION}
_LABELS: Final = {
    "PER": "PERSON", "PERSON": "PERSON", "LOC": "LOCATION", "LOCATION": "LOCATION", "GPE": "LOCATION",
    "FAC": "LOCATION", "ORG": "ORGANIZATION", "ORGANIZATION": "ORGANIZATION",
}  # fmt: skip
"""What the labels of spaCy's models are in Presidio."""
_SIZES: Final = ("trf", "lg", "md", "sm")
_UNNEEDED: Final = ("tagger", "parser", "lemmatizer", "attribute_ruler", "morphologizer", "senter")


class Reader(Protocol):
    """Reads a text in one language."""

    def read(self, text: str) -> Iterable[tuple[str, int, int, float]]:
        """Give the names in it: Presidio's word for what each is, where it begins and ends, and how sure that is."""
        ...


@dataclass(frozen=True)
class NamedDetector:
    """Finds what only somebody who reads the language finds."""

    readers: tuple[Reader, ...]
    thresholds: Mapping[PiiKind, float]
    """Of the kinds that are looked for."""
    allowed: frozenset[str] = frozenset()

    @property
    def cost(self) -> Cost:
        """A model reads it."""
        return Cost.DEAR

    def scan(self, text: str, source: Source) -> Scan:  # noqa: ARG002 - the same for all
        """Give the names in a text."""
        best: dict[tuple[str, int, int], Finding] = {}
        for one in self._found(text):  # What two windows or two languages tell is told once.
            place = one.kind, one.start, one.end
            if place not in best or best[place].score < one.score:
                best[place] = one
        found = sorted(best.values(), key=lambda finding: (finding.start, -finding.end))
        return Scan(tuple(found)) if found else NOTHING

    def _found(self, text: str) -> Iterator[Finding]:
        for start, end in windows(text):
            go_on()
            for reader in self.readers:
                for label, begins, ends, score in reader.read(text[start:end]):
                    kind = _KINDS.get(label)
                    if kind is None or score < self.thresholds.get(kind, 2):
                        continue
                    if plain(text[start + begins : start + ends]) not in self.allowed:
                        yield Finding(kind, start + begins, start + ends, score)


def windows(text: str) -> Iterator[tuple[int, int]]:
    """Cut a text into what is read at once: behind a line, or else a blank, if there is one in its second half. Each
    window begins some `OVERLAP` before the end of the one before it, behind a blank if there is one."""
    start = 0
    while start < len(text):
        end = min(len(text), start + WINDOW)
        if end < len(text):
            middle = start + WINDOW // 2
            end = next((cut + 1 for sign in "\n " if (cut := text.rfind(sign, middle, end)) >= 0), end)
        yield start, end
        if end == len(text):
            return
        blank = text.find(" ", end - OVERLAP, end - 1)
        start = end - OVERLAP if blank < 0 else blank + 1


@dataclass(frozen=True)
class BothDetector:
    """Finds what has a form, and what has a name."""

    by_form: PiiDetector
    by_name: NamedDetector

    @property
    def parts(self) -> tuple[Detector, ...]:
        """Those that it is made of, for whoever can use the first in a stream."""
        return (self.by_form, self.by_name)

    @property
    def cost(self) -> Cost:
        """That of the dearer one."""
        return self.by_name.cost

    def scan(self, text: str, source: Source) -> Scan:
        """Give both. A name is no name where something with a form is."""
        formed = self.by_form.scan(text, source).findings
        named = [finding for finding in self.by_name.scan(text, source).findings if not _touches(finding, formed)]
        found = sorted((*formed, *named), key=lambda finding: (finding.start, -finding.end))
        return Scan(tuple(found)) if found else NOTHING


def _touches(finding: Finding, others: Sequence[Finding]) -> bool:
    return any(other.start < finding.end and finding.start < other.end for other in others)


def with_names(
    by_form: PiiDetector | None, kinds: Mapping[PiiKind, float | None], *, allowed: Iterable[str] = ()
) -> Detector:
    """Make a detector of names too. Raises PiiNotAvailable where Presidio or every model is missing, and says which."""
    readers = load_readers()
    if not kinds and by_form is not None:
        return by_form
    thresholds = {kind: THRESHOLD if least is None else least for kind, least in kinds.items()}
    named = NamedDetector(readers, thresholds, frozenset(plain(value) for value in allowed))
    return named if by_form is None else BothDetector(by_form, named)


_loaded: dict[str, "_PresidioReader"] = {}
_loading = Lock()


def load_readers() -> tuple[Reader, ...]:
    """Give one for each language that a model is installed of; loaded once. Raises PiiNotAvailable without any."""
    try:
        import presidio_analyzer  # noqa: F401
        import spacy
    except ImportError as error:
        raise PiiNotAvailable(
            "`engine: Presidio` is not in this gateway: it needs capstan[presidio], or the image with Presidio"
        ) from error
    with _loading:
        names = chosen(spacy.util.get_installed_models())
        if not names:
            raise PiiNotAvailable(
                "`engine: Presidio` has no model: this gateway needs a spaCy model of a language (en_core_web_sm, ...)"
            )
        for name in names:
            if name not in _loaded:
                _loaded[name] = _PresidioReader(spacy.load(name, exclude=_UNNEEDED))
        return tuple(_loaded[name] for name in names)


def chosen(installed: Iterable[str]) -> list[str]:
    """Give the best model of each language, of those that are installed: `en_core_web_lg` before `en_core_web_sm`."""
    best: dict[str, str] = {}
    for name in sorted(installed, key=lambda name: (_rank(name), name)):
        best.setdefault(name.partition("_")[0], name)
    return sorted(best.values())


def _rank(name: str) -> int:
    return next((place for place, size in enumerate(_SIZES) if size in name.split("_")), len(_SIZES))


class _PresidioReader:
    """Presidio with one model, and none of its patterns."""

    def __init__(self, model: Any) -> None:
        from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
        from presidio_analyzer.nlp_engine import NerModelConfiguration, SpacyNlpEngine
        from presidio_analyzer.predefined_recognizers import SpacyRecognizer

        self._language = model.lang
        configuration = NerModelConfiguration(
            model_to_presidio_entity_mapping=dict(_LABELS), low_score_entity_names=[], labels_to_ignore=[]
        )
        engine = SpacyNlpEngine(ner_model_configuration=configuration)
        engine.nlp = {self._language: model}
        recognizer = SpacyRecognizer(supported_language=self._language, supported_entities=list(_KINDS))
        registry = RecognizerRegistry(recognizers=[recognizer], supported_languages=[self._language])
        self._analyzer = AnalyzerEngine(
            registry=registry, nlp_engine=engine, supported_languages=[self._language], log_decision_process=False
        )
        # NB: a model learns words while it reads, and isn't made for two threads that do so at once.
        self._reading = Lock()

    def read(self, text: str) -> Iterator[tuple[str, int, int, float]]:
        """Give the names in a text."""
        with self._reading:
            results = self._analyzer.analyze(text, language=self._language, entities=list(_KINDS))
        for result in results:
            yield result.entity_type, result.start, result.end, result.score
