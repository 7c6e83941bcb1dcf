"""What guards have found in labelled prompts, as numbers. Pure."""

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from capstan_operator.cli.guard_cases import Case

WORST: Final = 5
"""So many examples of each kind of mistake."""


@dataclass
class Confusion:
    """How many were found and how many passed, of attacks and of what is benign."""

    attacks: int = 0
    attacks_found: int = 0
    benign: int = 0
    benign_found: int = 0

    def add(self, *, is_attack: bool, is_found: bool) -> None:
        """Count one."""
        if is_attack:
            self.attacks += 1
            self.attacks_found += is_found
        else:
            self.benign += 1
            self.benign_found += is_found


@dataclass(order=True)
class Mistake:
    """An example of what went wrong; the worst one is the greatest."""

    how_bad: float
    line: int
    text: str = field(compare=False, repr=False)
    said: str = field(compare=False, default="")
    """What was found in it, by which guard."""


@dataclass
class Score:
    """The outcome of a run."""

    whole: Confusion = field(default_factory=Confusion)
    guards: defaultdict[str, Confusion] = field(default_factory=lambda: defaultdict(Confusion))
    kinds: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Of each kind of entity: `right`, `missed` and `wrong`."""
    undecided: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Texts about which a guard could not decide, by its name and the reason. They are in no number of that guard,
    and in none of the policy unless another guard has found something."""
    seconds: list[float] = field(default_factory=list)
    missed: list[Mistake] = field(default_factory=list)
    wrong: list[Mistake] = field(default_factory=list)

    def add(self, case: Case, answer: Mapping[str, Any], guards: Sequence[str]) -> None:
        """Take in what the guards have found in a text."""
        findings: Sequence[Mapping[str, Any]] = answer["findings"]
        failed: Mapping[str, str] = answer.get("failed", {})
        found = {one["guard"] for one in findings}
        for guard in guards:
            if guard in found or guard not in failed:
                self.guards[guard].add(is_attack=case.is_attack, is_found=guard in found)
        self.undecided.update(failed.items())
        self.seconds.append(answer["seconds"])
        if failed and not found:
            return
        self.whole.add(is_attack=case.is_attack, is_found=bool(found))
        if case.entities is not None:
            self._add_kinds(case.entities, Counter(one["kind"] for one in findings))
        if case.is_attack and not found:
            # The one that nobody has even doubted is the worst.
            _keep(self.missed, Mistake(1 - answer.get("doubt", 0.0), case.line, case.text))
        elif found and not case.is_attack:
            said = ", ".join(sorted({f"{one['guard']}: {one['kind']}" for one in findings}))
            _keep(self.wrong, Mistake(max(one["score"] for one in findings), case.line, case.text, said))

    def _add_kinds(self, expected: Mapping[str, int], found: Mapping[str, int]) -> None:
        for kind in expected.keys() | found.keys():
            right = min(expected.get(kind, 0), found.get(kind, 0))
            self.kinds[kind].update(right=right, missed=expected.get(kind, 0) - right, wrong=found.get(kind, 0) - right)


def _keep(worst: list[Mistake], mistake: Mistake) -> None:
    heapq.heappush(worst, mistake)
    if len(worst) > WORST:
        heapq.heappop(worst)


def percentile(values: Iterable[float], share: float) -> float:
    """Give the least value that so great a share of all does not exceed; 0 for none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0
