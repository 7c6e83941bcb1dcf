"""A suite's file and its data become a Suite; what is wrong with either is told at once. Pure.

Nothing of what a prompt or an answer says is in a fault: places and what is allowed, as suites may be confidential.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from capstan_contract.yamldoc import YamlFault, read_yaml
from capstan_evaluation.errors import Fault, SuiteInvalid
from capstan_evaluation.suites.checks import Check, Judge, name_of, needs_expected
from capstan_evaluation.suites.columns import Missing, at, fields_of, plain_fields
from capstan_evaluation.suites.document import (
    MOST_CASES,
    MOST_CHECKS,
    MOST_TAGS,
    CaseDocument,
    CriterionDocument,
    DataDocument,
    JoinDocument,
    Settings,
    SuiteDocument,
)
from capstan_evaluation.suites.explain import Faulty, read_part
from capstan_evaluation.suites.rows import Unreadable, format_of, read_rows
from capstan_evaluation.suites.suite import Case, Message, Rubric, Suite, Turn

MOST_FAULTS: Final = 1_000
"""Reading ends there."""
MOST_ALL_CHARACTERS: Final = 256 * 1024 * 1024
"""Of all cases together."""
NOBODY: Final = Settings()

Rows = list[tuple[int, Mapping[str, Any]]]


class ReadFile(Protocol):
    """Gives the text of a data file by the name under which the suite has it. Raises Unreadable."""

    def __call__(self, name: str) -> str:
        """See the class."""


@dataclass
class _Reading:
    """What is known so far."""

    file: str
    read: ReadFile
    lines: Mapping[str, int]
    faults: list[Fault] = field(default_factory=list)
    cases: dict[str, Case] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    """Data files, each read once."""
    characters: int = 0

    def blame(self, message: str, path: str = "", *, case: str = "", inner: str | None = None) -> None:
        """Note what is wrong with a place of the suite's own file; `inner` is the path within the case."""
        line = _line_of(self.lines, path if inner is None else f"{path}.{inner}")
        self.faults.append(Fault(message, self.file, line, case, path if inner is None else inner))
        self._enough()

    def blame_row(self, file: str, line: int, message: str, *, case: str = "", path: str = "") -> None:
        """Note what is wrong with a row of data."""
        self.faults.append(Fault(message, file, line, case, path))
        self._enough()

    def _enough(self) -> None:
        if len(self.faults) >= MOST_FAULTS:
            raise SuiteInvalid(self.faults)


def resolve_suite(text: str, *, file: str, read: ReadFile) -> Suite:
    """Read a suite. Raises SuiteInvalid with all its faults.

    Args:
        text: YAML, or JSON.
        file: What the file is called in faults.
        read: Gives the texts of data files.
    """
    try:
        documents = list(read_yaml(text))
    except YamlFault as fault:
        raise SuiteInvalid([Fault(fault.message, file, fault.line)]) from None
    if len(documents) != 1 or not isinstance(documents[0].data, dict):
        raise SuiteInvalid([Fault("must be one YAML document, an object with `name` and `cases` or `data`", file)])
    reading = _Reading(file, read, documents[0].lines)
    document = _head(reading, documents[0].data)
    for number, raw in enumerate(document.cases):
        _own_case(reading, f"cases[{number}]", raw, document.defaults)
    for number, data in enumerate(document.data):
        _data_cases(reading, f"data[{number}]", data, document.defaults)
    if not reading.cases and not reading.faults:
        reading.blame("gives no case: the files of `data` have no rows", "data")
    if reading.faults:
        raise SuiteInvalid(reading.faults)
    return Suite(
        **{name: getattr(document, name) for name in _SAME},
        rubric=Rubric(**document.rubric.model_dump()),
        cases=tuple(reading.cases.values()),
    )


_SAME: Final = ("name", "version", "description", "margin", "alpha", "minimumKappa")


def _head(reading: _Reading, data: dict[str, Any]) -> SuiteDocument:
    """Read all but the cases. Where that is faulty, cases are looked at by themselves, so that all faults are told."""
    try:
        return read_part(SuiteDocument, data)
    except Faulty as error:
        for path, message in error.faults:
            reading.blame(message, path)
    raw = data.get("cases")
    for number, case in enumerate(raw if isinstance(raw, list) else ()):
        try:
            read_part(CaseDocument, case)
        except Faulty as error:
            for path, message in error.faults:
                reading.blame(message, f"cases[{number}]", case=_id_of(case), inner=path)
    raise SuiteInvalid(reading.faults)


def _own_case(reading: _Reading, path: str, raw: Any, defaults: Settings) -> None:
    name = _id_of(raw)
    try:
        document = read_part(CaseDocument, raw)
        if document.id is None:
            raise Faulty([("id", "is required")])
        _add(reading, document.id, _case(document.id, document, NOBODY, defaults))
    except Faulty as error:
        for inner, message in error.faults:
            reading.blame(message, path, case=name, inner=inner)


def _data_cases(reading: _Reading, path: str, data: DataDocument, defaults: Settings) -> None:
    try:
        rows = list(_rows(reading, data.file, data.format))
    except Unreadable as error:
        reading.blame_row(data.file, error.line, error.message)
        return
    joined = [found for number, one in enumerate(data.join) if (found := _joined(reading, path, number, one))]
    if len(joined) < len(data.join):
        return
    table = format_of(data.file, data.format) == "CSV"
    for number, line, row in _chosen(rows, data):
        name = ""
        try:
            raw = plain_fields(row, table=table) if data.columns is None else fields_of(row, data.columns)
            for one, there in zip(data.join, joined, strict=True):
                partner = there.get(_key(at(row, one.key)))
                raw |= {} if partner is None else fields_of(partner, one.columns)
            raw["id"] = name = f"{data.idPrefix}{_id_of(raw) or number}"
            document = read_part(CaseDocument, raw)
            _add(reading, name, _case(name, document, data, defaults))
        except Missing as error:
            reading.blame_row(data.file, line, str(error), case=name)
        except Faulty as error:
            for inner, message in error.faults:
                reading.blame_row(data.file, line, message, case=name, path=inner)


def _rows(reading: _Reading, file: str, kind: str | None) -> Iterator[tuple[int, Mapping[str, Any]]]:
    found = format_of(file, kind)
    if file not in reading.texts:
        reading.texts[file] = reading.read(file)
    return read_rows(reading.texts[file], found)


def _joined(reading: _Reading, path: str, number: int, join: JoinDocument) -> dict[str, Mapping[str, Any]] | None:
    """Give the rows of the other file by what they are joined on; None, and a fault, where that cannot be."""
    found: dict[str, Mapping[str, Any]] = {}
    try:
        for line, row in _rows(reading, join.file, join.format):
            key = _key(at(row, join.key))
            if key in found:
                raise Unreadable(line, f"has a second row with the same {join.key}")
            found[key] = row
    except Unreadable as error:
        reading.blame_row(join.file, error.line, error.message)
        return None
    except Missing as error:
        reading.blame(f"joins {join.file}, which {error}", f"{path}.join[{number}].key")
        return None
    return found


def _key(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def _chosen(rows: Rows, data: DataDocument) -> Iterator[tuple[int, int, Mapping[str, Any]]]:
    """Give the rows that are asked for, each with its number from 1 and its line, in the order of the file.

    By lot those are taken whose number has the smallest hash with the seed: so a file that grows at its end keeps
    most of the sample, and every process and release draws the same.
    """
    taken = range(len(rows))
    if data.sample is not None:
        seed = data.sample.seed
        order = sorted(taken, key=lambda place: hashlib.sha256(f"{seed}:{place}".encode()).digest())
        chosen: Sequence[int] = sorted(order[: data.sample.n])
    else:
        chosen = taken[: data.limit]
    return ((place + 1, *rows[place]) for place in chosen)


def _id_of(raw: Any) -> str:
    """Give the id that a case has, if it is one that can be told."""
    name = raw.get("id") if isinstance(raw, dict) else None
    name = str(name) if isinstance(name, int | float) and not isinstance(name, bool) else name
    return name if isinstance(name, str) and len(name) <= 200 and name.isprintable() else ""


def _add(reading: _Reading, name: str, case: Case) -> None:
    if name in reading.cases:
        raise Faulty([("id", "is the id of another case: each needs one of its own (`idPrefix` for files of data)")])
    if len(reading.cases) >= MOST_CASES:
        reading.blame(f"has more than {MOST_CASES} cases: take `limit` or `sample`", "data")
        raise SuiteInvalid(reading.faults)
    reading.characters += sum(len(message.content) for turn in case.turns for message in turn.messages)
    reading.characters += sum(len(turn.expected or "") for turn in case.turns)
    if reading.characters > MOST_ALL_CHARACTERS:
        reading.blame(f"has cases of more than {MOST_ALL_CHARACTERS} characters: take `limit` or `sample`", "data")
        raise SuiteInvalid(reading.faults)
    reading.cases[name] = case


def _case(name: str, case: CaseDocument, data: Settings, defaults: Settings) -> Case:
    """Fill in the defaults. Raises Faulty."""
    levels = (case, data, defaults)
    turns = _turns(case, _nearest(levels, "system"))
    own = _written_checks(case)
    checks = own if own is not None else _written_checks(data)
    checks = _fitting(checks if checks is not None else _written_checks(defaults) or (), len(turns), own is not None)
    _check_checks(checks, turns)
    tags = tuple(dict.fromkeys((*case.tags, *data.tags, *defaults.tags)))
    if len(tags) > MOST_TAGS:
        raise Faulty([("tags", f"must have at most {MOST_TAGS} items, with those of data and defaults")])
    return Case(
        id=name,
        turns=turns,
        checks=checks,
        tags=tags,
        weight=_nearest(levels, "weight") or 1.0,
        repeats=_nearest(levels, "repeats") or 1,
        cluster=_nearest(levels, "cluster") or "",
        temperature=_nearest(levels, "temperature") or 0.0,
        maxTokens=_nearest(levels, "maxTokens"),
    )


def _nearest(levels: Sequence[Settings], name: str) -> Any:
    return next((value for level in levels if (value := getattr(level, name)) is not None), None)


def _turns(case: CaseDocument, system: str | None) -> tuple[Turn, ...]:
    before = () if system is None else (Message(role="system", content=system),)
    if case.turns is not None:
        asked: list[tuple[Message, ...]] = [(Message(role="user", content=turn.prompt),) for turn in case.turns]
        right: list[str | None] = [turn.expected for turn in case.turns]
    else:
        asked = [case.messages or (Message(role="user", content=case.prompt or ""),)]
        right = [None]
    if case.expected is not None:
        given = case.expected if len(case.expected) == len(asked) else (*right[:-1], *case.expected)
        right = [new if new is not None else old for new, old in zip(given, right, strict=True)]
    if before and any(message.role == "system" for message in asked[0]):
        before = ()  # the nearest one counts, and that is the case's own
    asked[0] = (*before, *asked[0])
    return tuple(Turn(messages=one, expected=answer) for one, answer in zip(asked, right, strict=True))


def _written_checks(level: Settings) -> tuple[Check, ...] | None:
    """Give the checks and criteria of a level; None where it says nothing of either."""
    if level.checks is None and level.criteria is None:
        return None
    return (*(level.checks or ()), *(_judge(criterion) for criterion in level.criteria or ()))


def _judge(criterion: CriterionDocument) -> Judge:
    name = None if criterion.name is None else f"judge:{criterion.name}"
    return Judge(type="Judge", name=name, criterion=criterion.criterion, turn=criterion.turn)


def _fitting(checks: tuple[Check, ...], turns: int, own: bool) -> tuple[Check, ...]:
    """Leave out what defaults say of turns that a case has not; its own checks must fit."""
    fitting = tuple(check for check in checks if check.turn is None or check.turn <= turns)
    if own and len(fitting) < len(checks):
        raise Faulty([("checks", f"`turn` must be at most {turns}, as many as the case has")])
    return fitting


def _check_checks(checks: Sequence[Check], turns: Sequence[Turn]) -> None:
    faults = []
    if len(checks) > MOST_CHECKS:
        faults.append(("checks", f"must have at most {MOST_CHECKS} items, criteria among them"))
    names = [name_of(check) for check in checks]
    if twice := {name for name in names if names.count(name) > 1}:
        faults.append(("checks", f"has two of the name {min(twice)}: give one a `name`"))
    for check, name in zip(checks, names, strict=True):
        if needs_expected(check) and turns[(check.turn or 0) - 1].expected is None:
            faults.append(("expected", f"is required by the check {name}"))
    if faults:
        raise Faulty(faults)


def _line_of(lines: Mapping[str, int], path: str) -> int:
    """Give the line of a field, or of the nearest thing around it that is there."""
    while path and path not in lines:
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return lines.get(path, 0)
