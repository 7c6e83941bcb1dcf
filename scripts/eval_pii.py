"""How well personal data is found: precision and recall of each kind, on labelled sets, by spans that overlap.

`python scripts/eval_pii.py [../shared/data]` prints a table for each set. `score` is what other evaluations use.
"""

import gzip
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from capstan_contract.guards import PiiGuard, PiiKind, Source
from capstan_gateway.guards.pii.build import build_pii_detector
from capstan_gateway.guards.port import Detector


@dataclass(frozen=True)
class Span:
    """Something in a text that is labelled, or found."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True)
class Labelled:
    """A text, and what is in it."""

    text: str
    spans: tuple[Span, ...]
    """By the kinds of the set, as `KINDS` names them in ours."""


@dataclass
class Counts:
    """What came of one kind."""

    found: int = 0
    """Labelled spans that a finding of the kind touches."""
    missed: int = 0
    wrong: int = 0
    """Findings of the kind that touch nothing labelled that could be of the kind."""
    misses: list[str] = field(default_factory=list)
    wrongs: list[str] = field(default_factory=list)

    @property
    def precision(self) -> float | None:
        """Of all that was found, the share that is right."""
        return self.found / (self.found + self.wrong) if self.found + self.wrong else None

    @property
    def recall(self) -> float | None:
        """Of all that is there, the share that was found."""
        return self.found / (self.found + self.missed) if self.found + self.missed else None


KINDS: Mapping[str, frozenset[PiiKind]] = {
    "EMAIL": frozenset({PiiKind.EMAIL}),
    "EMAIL_ADDRESS": frozenset({PiiKind.EMAIL}),
    "PHONE": frozenset({PiiKind.PHONE}),
    "PHONE_NUMBER": frozenset({PiiKind.PHONE}),
    "CREDIT_CARD": frozenset({PiiKind.CARD}),
    "IBAN": frozenset({PiiKind.IBAN}),
    "IBAN_CODE": frozenset({PiiKind.IBAN}),
    "BIC": frozenset({PiiKind.BIC}),
    "IP": frozenset({PiiKind.IP_ADDRESS}),
    "IP_ADDRESS": frozenset({PiiKind.IP_ADDRESS}),
    "MAC": frozenset({PiiKind.MAC_ADDRESS}),
    "SSN": frozenset({PiiKind.SSN}),
    "US_SSN": frozenset({PiiKind.SSN}),
    "US_DRIVER_LICENSE": frozenset({PiiKind.DRIVER_LICENSE}),
    "PASSPORT": frozenset({PiiKind.PASSPORT}),
    "THAI_ID": frozenset({PiiKind.NATIONAL_ID}),
    "NATIONAL_ID": frozenset({PiiKind.NATIONAL_ID, PiiKind.TAX_ID, PiiKind.SSN}),
    "TAX_ID": frozenset({PiiKind.TAX_ID, PiiKind.NATIONAL_ID, PiiKind.SSN}),
    "VAT": frozenset({PiiKind.TAX_ID}),
    "BANK_ACCOUNT": frozenset({PiiKind.BANK_ACCOUNT}),
    "DATE_OF_BIRTH": frozenset({PiiKind.DATE_OF_BIRTH}),
    "MRN": frozenset({PiiKind.MEDICAL_ID}),
    "NPI": frozenset({PiiKind.MEDICAL_ID}),
    "PATIENT_ID": frozenset({PiiKind.MEDICAL_ID}),
    "INSURANCE_ID": frozenset({PiiKind.MEDICAL_ID}),
}
"""What the labels of the sets are in ours. Others (names, places, dates) have no form of their own."""


def score(
    texts: Iterable[Labelled],
    detector: Detector,
    kinds: Mapping[str, frozenset[PiiKind]] = KINDS,
    unlabelled: frozenset[PiiKind] = frozenset(),
) -> dict[str, Counts]:
    """Count, for each label of a set that is one of ours, and for each kind that was found elsewhere.

    `unlabelled`: kinds that the set does not label, so that a finding says nothing against the detector.
    """
    counts: dict[str, Counts] = {}
    for labelled in texts:
        findings = detector.scan(labelled.text, Source.USER).findings
        touched = _count_labels(labelled, findings, kinds, counts)
        for index, finding in enumerate(findings):
            if index not in touched and PiiKind(finding.kind) not in unlabelled:
                of_kind = counts.setdefault(f"(only) {finding.kind}", Counts())
                of_kind.wrong += 1
                of_kind.wrongs.append(labelled.text[max(0, finding.start - 30) : finding.end + 10])
    return counts


def _count_labels(
    labelled: Labelled, findings: Sequence[Any], kinds: Mapping[str, frozenset[PiiKind]], counts: dict[str, Counts]
) -> set[int]:
    """Count the labels that were found, and those that were not; give which findings touch any label of theirs."""
    touched = set()
    for span in labelled.spans:
        ours = kinds.get(span.kind)
        touching = [
            index for index, finding in enumerate(findings) if finding.start < span.end and span.start < finding.end
        ]
        if ours is None:
            continue
        right = [index for index in touching if findings[index].kind in ours]
        touched.update(right)
        of_kind = counts.setdefault(span.kind, Counts())
        if right:
            of_kind.found += 1
        else:
            of_kind.missed += 1
            of_kind.misses.append(labelled.text[max(0, span.start - 30) : span.end + 10])
    return touched


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """Read a set of lines of JSON, packed or not."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        yield from map(json.loads, lines)


def labelled_rows(path: Path) -> list[Labelled]:
    """Read a set whose rows have `text` and `spans`."""
    return [
        Labelled(row["text"], tuple(Span(span["type"], span["start"], span["end"]) for span in row["spans"]))
        for row in rows(path)
    ]


def presidio_rows(path: Path) -> list[Labelled]:
    """Read a set of presidio-research."""
    return [
        Labelled(
            row["full_text"],
            tuple(Span(span["entity_type"], span["start_position"], span["end_position"]) for span in row["spans"]),
        )
        for row in json.loads(path.read_text())
    ]


BIRTH = PiiKind.DATE_OF_BIRTH
SETS: Mapping[str, tuple[str, Callable[[Path], list[Labelled]], frozenset[PiiKind]]] = {
    "presidio_research_pii": ("presidio_research_pii/synth_dataset_v2.json", presidio_rows, frozenset({BIRTH})),
    "tau_bench_pii": ("tau_bench_pii/data.jsonl.gz", labelled_rows, frozenset()),
    "ambientmeta_pii": (
        "ambientmeta_pii/data.jsonl",
        labelled_rows,
        # Some of its rows are labelled, and others that have the same are not: what is found beside labels says little.
        frozenset(PiiKind) - {PiiKind.NATIONAL_ID, PiiKind.TAX_ID, PiiKind.SECRET},
    ),
    "thai_pii_gold": ("thai_pii_gold/data.jsonl", labelled_rows, frozenset({PiiKind.MEDICAL_ID, PiiKind.TAX_ID})),
    "meddocan_es": ("meddocan_es/data.jsonl.gz", labelled_rows, frozenset({BIRTH})),
}
"""The sets, each with its file, how it is read, and the kinds that it does not label."""


def main(data: Path) -> None:
    """Print a table for each set that is there."""
    detector = build_pii_detector(PiiGuard(name="pii", appliesTo=(Source.USER,)))
    verbose = "-v" in sys.argv
    for name, (path, read, unlabelled) in SETS.items():
        print(f"\n{name}")
        for label, counts in sorted(score(read(data / path), detector, unlabelled=unlabelled).items()):
            print(f"  {label:24} right {counts.found:5} missed {counts.missed:5} wrong {counts.wrong:5}"
                  f"  precision {_share(counts.precision)} recall {_share(counts.recall)}")  # fmt: skip
            if verbose:
                for said, which in (("missed", counts.misses), ("wrong", counts.wrongs)):
                    for example in which[:12]:
                        print(f"      {said}: {example!r}")
    _values(data / "pii_values/data.jsonl", detector, verbose=verbose)


def _values(path: Path, detector: Detector, *, verbose: bool) -> None:
    """Print what becomes of single values: which are found, and of what is harmless how much is taken for something."""
    print("\npii_values (single values, no words around)")
    found: Counter[str] = Counter()
    count: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for row in rows(path):
        if row["pii"] is None:
            continue
        name = f"{'PII' if row['pii'] else 'harmless'} {row['type']}"
        findings = detector.scan(row["text"], Source.USER).findings
        count[name] += 1
        found[name] += bool(findings)
        if findings and (not row["pii"]):
            wrong[name] += 1
            if verbose:
                print("     ", row["type"], repr(row["text"][:80]), [finding.kind for finding in findings])
    for name in sorted(count):
        print(f"  {name:24} {found[name]:5} of {count[name]:5}")
    harmless = sum(number for name, number in count.items() if name.startswith("harmless"))
    print(f"  harmless in all: {sum(wrong.values())} of {harmless}")


def _share(value: float | None) -> str:
    return "-    " if value is None else f"{value:.3f}"


if __name__ == "__main__":
    main(Path(next((argument for argument in sys.argv[1:] if argument != "-v"), "../shared/data")))
