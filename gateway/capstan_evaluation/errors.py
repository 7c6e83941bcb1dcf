"""What can go wrong in an evaluation, by what whoever runs it does about it.

    EvaluationError             the message says what, where and what is allowed, and is fit for a terminal
    ├── SuiteInvalid            edit the suite or its data: all `faults` at once
    ├── LabelsInvalid           edit the file of labelled pairs
    ├── CheckInvalid            make the check of the judge anew
    └── NotAnswered             a judge, or a model of embeddings, was asked and gave no answer: try again

Whatever else is raised is a bug.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MOST_TOLD: Final = 50
"""Faults in a message; the rest is counted."""


class EvaluationError(Exception):
    """Every error that an evaluation raises on purpose."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a suite. No value of a field is ever in it, as a prompt may be one."""

    message: str
    """What is allowed: "must be at least 1"."""
    file: str = ""
    line: int = 0
    """From 1; 0: nobody knows, or the file as a whole."""
    case: str = ""
    """Id of the case; empty: none, or one without an id."""
    field: str = ""
    """Path of the field within the file, or within the case where one is named: `checks[0].pattern`."""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        parts = (where, f"case {self.case}" if self.case else "", f"`{self.field}`" if self.field else "")
        return ": ".join([*(part for part in parts if part), self.message])


class SuiteInvalid(EvaluationError):
    """A suite, or data of it, that cannot be used."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        told = [str(fault) for fault in faults[:MOST_TOLD]]
        more = [f"{len(faults) - MOST_TOLD} more faults"] if len(faults) > MOST_TOLD else []
        super().__init__("\n".join([*told, *more]))
        self.faults = tuple(faults)


class LabelsInvalid(EvaluationError):
    """A file of pairs that people have judged, which holds something else."""


class CheckInvalid(EvaluationError):
    """A file that is no check of a judge, or one of another release."""


class NotAnswered(EvaluationError):
    """A judge, or a model of embeddings, that was asked and gave no answer."""
