#!/usr/bin/env python3
"""Measures the guards on public data sets, and writes what came out into docs/guards.md.

    scripts/eval_guards.py              all sets; writes the tables
        --show                          only print them
        --check                         measure nothing: say whether the page's tables are of these weights and patterns
        --data FOLDER                   where the sets are (default: ../shared/data)
        --most N                        texts of each class of a set (default 120, drawn with the same seed each time)
        --sensitivity Low|Medium|High   default Medium

Of attacks, what is found and what harmless text passes stand side by side: one number without the other says nothing.
A text is found when a guard of type PromptInjection or one of type Jailbreak finds it. All shares have their 95% Wilson
interval. Numbers of a classifier on what it was trained on say little, and stand apart from those of a classifier that
has never seen a text of the same family (`.cache/guards/held_out.jsonl.gz`, which scripts/train_guards.py writes).
"""

import argparse
import gzip
import hashlib
import json
import random
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "gateway"), str(ROOT / "scripts")]

from guard_own import load_own  # noqa: E402
from guard_sets import ATTACK_SETS, PII_SETS, AttackSet, Labelled, PiiSet, Row, labelled, values  # noqa: E402

from capstan_contract.guards import PiiGuard, PiiKind, Sensitivity, Source  # noqa: E402
from capstan_contract.intervals import wilson  # noqa: E402
from capstan_gateway.guards.attacks import detector as attack_detector  # noqa: E402
from capstan_gateway.guards.attacks.classifier import WEIGHTS  # noqa: E402
from capstan_gateway.guards.attacks.detector import AttackDetector, Hit, installed_judge  # noqa: E402
from capstan_gateway.guards.attacks.patterns import LOOSE_PATTERNS, PATTERNS  # noqa: E402
from capstan_gateway.guards.pii.build import build_pii_detector  # noqa: E402

PAGE: Final = ROOT / "docs" / "guards.md"
HELD_OUT: Final = ROOT / ".cache" / "guards" / "held_out.jsonl.gz"
SEED: Final = 11


def fingerprint() -> str:
    """Give what the tables of attacks depend on: the weights, their thresholds, what patterns say and how they weigh.

    How texts are decoded and folded, and how patterns are looked for, is not in it.
    """
    found = hashlib.sha256()
    for name in ("attacks.onnx", "words.npy"):
        found.update((WEIGHTS / name).read_bytes())
    thresholds = json.loads((WEIGHTS / "attacks.json").read_text(encoding="utf-8"))["thresholds"]
    said = sorted(
        (one.kind, one.expression, one.injection, one.jailbreak, one.planted or 0.0)
        for one in (*PATTERNS, *LOOSE_PATTERNS)
    )
    limits = [sorted(limit.items()) for limit in (attack_detector.ENOUGH, attack_detector.WEAK)]
    found.update(json.dumps([thresholds, said, limits], sort_keys=True).encode())
    return found.hexdigest()[:16]


def told(found: int, of: int) -> str:
    """Write a share with its interval."""
    if not of:
        return "-"
    low, high = wilson(found, of)
    return f"{100 * found / of:.1f} ({100 * low:.1f} to {100 * high:.1f})"


@dataclass
class Count:
    """How often, of how many."""

    found: int = 0
    of: int = 0

    def add(self, found: bool) -> None:
        """Count one more."""
        self.found += found
        self.of += 1

    def __str__(self) -> str:
        return told(self.found, self.of)


@dataclass(frozen=True)
class Given:
    """A classifier that says what it said when its family was held out."""

    likely: float
    least: float
    unsure: float

    def score(self, text: str, source: Source) -> Hit:
        """Give that score."""
        return _Whole(self.likely, 0, len(text))

    def found(self, sensitivity: Sensitivity, source: Source) -> float:
        """Give the threshold of that time."""
        return self.least

    def doubt(self, sensitivity: Sensitivity, source: Source) -> float:
        """Give that of doubt."""
        return self.unsure


@dataclass(frozen=True)
class _Whole:
    score: float
    start: int
    end: int


def draw(rows: Iterable[Row], most: int, name: str) -> list[Row]:
    """Draw so many of each class, the same each time."""
    chosen = random.Random(f"{SEED}:{name}")  # noqa: S311
    both: dict[bool, list[Row]] = {True: [], False: []}
    for row in rows:
        both[row.attack].append(row)
    return [row for part in both.values() for row in chosen.sample(part, min(most, len(part)))]


class Both:
    """A guard of either type."""

    def __init__(self, sensitivity: Sensitivity, *judge: object) -> None:
        self._detectors = (
            AttackDetector("PromptInjection", sensitivity, *judge),  # type: ignore[arg-type]
            AttackDetector("Jailbreak", sensitivity, *judge),  # type: ignore[arg-type]
        )
        self.seconds: list[float] = []

    def finds(self, row: Row) -> bool:
        """Say whether one of them finds something; the time is that of one of them."""
        before = time.perf_counter()
        first = self._detectors[0].scan(row.text, row.source)
        self.seconds.append(time.perf_counter() - before)
        return bool(first.findings) or bool(self._detectors[1].scan(row.text, row.source).findings)


def attack_tables(folder: Path, most: int, sensitivity: Sensitivity) -> tuple[list[str], list[str]]:
    """Measure all sets with patterns alone, and with the classifier as it is shipped where it is installed."""
    judge = installed_judge()
    plain = Both(sensitivity)
    judged = Both(sensitivity, *judge) if judge else None
    tables: dict[bool, list[str]] = {True: [], False: []}
    for wanted in ATTACK_SETS:
        try:
            rows = draw(wanted.rows(folder), most, wanted.name)
        except ImportError as error:
            print(f"left out: {wanted.name}: {error} (pip install pyarrow)", file=sys.stderr)
            continue
        print(f"{wanted.name}: {len(rows)} texts", file=sys.stderr)
        tables[any(row.attack for row in rows)].append(_attack_line(wanted, rows, plain, judged))
    print(_latency("patterns", plain.seconds), file=sys.stderr)
    if judged:
        print(_latency("patterns and classifier", judged.seconds), file=sys.stderr)
    return tables[True], tables[False]


def _attack_line(wanted: AttackSet, rows: Sequence[Row], plain: Both, judged: Both | None) -> str:
    cells = [wanted.name, "yes" if wanted.looked else "no"]
    for detector in (plain, judged):
        found, passed = Count(), Count()
        for row in rows if detector else ():
            hit = detector.finds(row) if detector else False
            found.add(hit) if row.attack else passed.add(not hit)
        cells += [str(found), str(passed)]
    return _row(*cells)


def _latency(name: str, seconds: Sequence[float]) -> str:
    ordered = sorted(seconds)
    middle, late = (ordered[int(share * (len(ordered) - 1))] for share in (0.5, 0.99))
    return f"{name}: p50 {1e3 * middle:.2f} ms, p99 {1e3 * late:.2f} ms a text on this machine"


def own_table(sensitivity: Sensitivity) -> list[str]:
    """Measure on texts that were written for it, with patterns alone and with the classifier as it is shipped."""
    judge = installed_judge()
    detectors = [Both(sensitivity), *([Both(sensitivity, *judge)] if judge else [])]
    counts: dict[tuple[bool, str], list[Count]] = {}
    for own in load_own():
        row = Row(own.text, own.attack, own.source)
        for detector, count in zip(
            detectors, counts.setdefault((own.attack, own.kind), [Count(), Count()]), strict=False
        ):
            count.add(detector.finds(row) == own.attack)
    return [
        _row(kind, "found" if attack else "passed", both[0].of, *both)
        for (attack, kind), both in sorted(counts.items(), key=lambda item: item[0][0])
    ]


def held_out_table(path: Path, sensitivity: Sensitivity) -> list[str]:
    """Measure with the scores of classifiers that have not seen the family of a text, by set."""
    by_set: dict[str, tuple[Count, Count, Count, Count]] = {}
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            text = json.loads(line)
            row = Row(text["text"], text["attack"], Source.TOOL_RESULTS if text["tool"] else Source.USER)
            given = Given(text["score"], text["found"], text["doubt"])
            alone = text["score"] >= text["found"]
            hit = Both(sensitivity, given, given).finds(row)
            counts = by_set.setdefault(text["set"], (Count(), Count(), Count(), Count()))
            for count, found in zip(counts[:2] if row.attack else counts[2:], (alone, hit), strict=True):
                count.add(found if row.attack else not found)
    order = sorted(by_set.items(), key=lambda item: (not item[1][0].of, item[0]))
    lines = [f"| {name} | {' | '.join(map(str, counts))} |" for name, counts in order]
    return [*lines, _mean_of_sets(by_set.values())]


def _mean_of_sets(counts: Iterable[tuple[Count, Count, Count, Count]]) -> str:
    cells = []
    for column in zip(*counts, strict=True):
        shares = [count.found / count.of for count in column if count.of]
        cells.append(f"{100 * sum(shares) / len(shares):.1f}" if shares else "-")
    return _row("mean of the sets", *cells)


@dataclass
class Kinds:
    """What was found of each kind, and what of it was right."""

    recall: dict[PiiKind, Count] = field(default_factory=dict)
    precision: dict[PiiKind, Count] = field(default_factory=dict)

    def judge(self, document: Labelled, found: Sequence[tuple[PiiKind, int, int]], known: set[PiiKind]) -> None:
        """Compare by overlap; kinds that the set does not label are left out."""
        for span in document.spans:
            if span.kind is not None:
                hit = any(kind is span.kind and start < span.end and span.start < end for kind, start, end in found)
                self.recall.setdefault(span.kind, Count()).add(hit)
        for kind, start, end in found:
            if kind in known:
                right = any(span.kind is kind and start < span.end and span.start < end for span in document.spans)
                self.precision.setdefault(kind, Count()).add(right)


def pii_table(folder: Path, most: int) -> list[str]:
    """Measure the PII guard by kind, on every set."""
    lines = []
    for wanted in PII_SETS:
        lines += _pii_lines(folder, wanted, most)
    return lines


def _found(text: str) -> list[tuple[PiiKind, int, int]]:
    scan = _PII.scan(text, Source.USER)
    return [(PiiKind(finding.kind), finding.start, finding.end) for finding in scan.findings]


_PII: Final = build_pii_detector(PiiGuard(name="pii", appliesTo=(Source.USER,)))


def _pii_lines(folder: Path, wanted: PiiSet, most: int) -> list[str]:
    rows = list(labelled(folder, wanted))
    rows = random.Random(f"{SEED}:{wanted.name}").sample(rows, min(most, len(rows)))  # noqa: S311
    print(f"{wanted.name}: {len(rows)} documents", file=sys.stderr)
    kinds = Kinds()
    for document in rows:
        kinds.judge(document, _found(document.text), set(wanted.kinds.values()))
    return [
        f"| {wanted.name} | {kind} | {kinds.recall.get(kind, Count())} | {kinds.precision.get(kind, Count())} |"
        for kind in dict.fromkeys(wanted.kinds.values())
        if kinds.recall.get(kind, Count()).of
    ]


def values_table(folder: Path) -> list[str]:
    """Measure single values without any words around them, as they are in a column or a field."""
    counts: dict[tuple[bool, str], Count] = {}
    for kind, text, personal in values(folder):
        other = "tokens, coins, URLs with addresses" if kind in _FOUND_ON_PURPOSE else "look-alikes"
        counts.setdefault((personal, kind if personal else other), Count()).add(bool(_found(text)))
    return [
        f"| {kind} | {'personal' if personal else 'not'} | {count.of} | {count} |"
        for (personal, kind), count in sorted(counts.items(), key=lambda item: (not item[0][0], item[0][1]))
    ]


_FOUND_ON_PURPOSE: Final = frozenset(("JWT", "BTCADDRESS", "ETHEREUMADDRESS", "URL"))
"""What the set of values calls harmless, and a guard does not: secrets, wallets, addresses in those of pages."""
_WHO: Final = ("patterns", "with the shipped classifier")
_WHAT: Final = ("found", "passed")


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def sections(folder: Path, most: int, sensitivity: Sensitivity) -> dict[str, str]:
    """Make all tables, by the name of their marks in the page."""
    attacks, harmless = attack_tables(folder, most, sensitivity)
    head = _row("set", "read while patterns were written", *(f"{what}, {who}" for who in _WHO for what in _WHAT))
    rule = "| --- | --- | --- | --- | --- | --- |"
    made = {
        "attacks": [head, rule, *attacks],
        "harmless": [head, rule, *harmless],
        "own": [
            "| kind | share that is | texts | patterns | with the shipped classifier |",
            "| --- | --- | --- | --- | --- |",
            *own_table(sensitivity),
        ],
        "pii": ["| set | kind | recall | precision |", "| --- | --- | --- | --- |", *pii_table(folder, most)],
        "values": ["| what | personal data | values | found |", "| --- | --- | --- | --- |", *values_table(folder)],
    }
    if HELD_OUT.exists():
        head = "| set | found, classifier | found, all | passed, classifier | passed, all |"
        made["held-out"] = [head, "| --- | --- | --- | --- | --- |", *held_out_table(HELD_OUT, sensitivity)]
    made["fingerprint"] = [_fingerprint_line()]
    return {name: "\n".join(lines) for name, lines in made.items()}


def _fingerprint_line() -> str:
    return (
        f"The tables of attacks are of the weights and patterns `{fingerprint()}` (`scripts/eval_guards.py --check`)."
    )


def check(page: str) -> str | None:
    """Give what is wrong with a page: its tables are of other weights or patterns. None: nothing."""
    if _fingerprint_line() in page:
        return None
    return f"{PAGE.name}: its tables are of other weights or patterns than these ({fingerprint()}): make eval-guards"


def write_between_marks(page: str, made: dict[str, str]) -> str:
    """Put each table between its marks; those that were not made stay as they are. Raises ValueError without a mark."""
    for name, table in made.items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        if begin not in page or end not in page:
            raise ValueError(f"{PAGE.name} has no marks for {name}")
        before, rest = page.split(begin, 1)
        page = f"{before}{begin}\n{table}\n{end}{rest.split(end, 1)[1]}"
    return page


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--most", type=int, default=120)
    parser.add_argument("--sensitivity", type=Sensitivity, default=Sensitivity.MEDIUM)
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args()
    if asked.check:
        wrong = check(PAGE.read_text(encoding="utf-8"))
        print(wrong or f"{PAGE.name}: its tables are of these weights and patterns ({fingerprint()})", file=sys.stderr)
        return 1 if wrong else 0
    missing = [name for name in (one.name for one in (*ATTACK_SETS, *PII_SETS)) if not (asked.data / name).exists()]
    if missing:
        print(f"left out: {asked.data} has not {', '.join(missing)}", file=sys.stderr)
        return 0
    made = sections(asked.data, asked.most, asked.sensitivity)
    if not HELD_OUT.exists():
        print("left out: what a classifier finds that has not seen a family (make train-guards)", file=sys.stderr)
    if asked.show:
        print("\n\n".join(f"{name}\n{table}" for name, table in made.items()))
    else:
        PAGE.write_text(write_between_marks(PAGE.read_text(encoding="utf-8"), made), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
