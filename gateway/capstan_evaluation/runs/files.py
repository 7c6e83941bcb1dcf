"""The file of a run: JSON lines that are only ever appended, `header`, `result`, `asked` and `asking`.

What a process has appended survives its death at any moment: each line is written by one call before anything is done
with what it says. It survives the death of the machine from the next fsync on, which is at most a second later and at
the end; what is lost then is asked again. A last line that was not finished is cut off by who appends, and passed over
by who reads. Of two results of one repeat the later one counts: it is the one that was asked again after an error.
"""

import fcntl
import math
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from pydantic import Field, ValidationError

from capstan_contract.entries import Document, is_none
from capstan_evaluation.records import RUN_VERSION, Answer, Asked, Asking, Purpose, Result, Run, RunHeader, Spent

FSYNC_SECONDS: Final = 1.0
_TORN: Final = "it has no end"
_MISMATCHES: Final = {
    "suiteHash": "another suite, or another version of it",
    "target": "another model",
    "url": "another gateway",
    "revision": "another revision of the model",
    "judge": "another judge",
    "embedder": "another embedder",
    "baseline": "another baseline, with whose answers a judge compares",
    "mostTokens": "another length of answers",
    "repeats": "another number of repeats",
    "results": "another number of repeats",
}

_Key = tuple[Purpose, str, str, int]


class BadRun(ValueError):
    """A file is no run, or not the one that is wanted; the message says which file, where, and why."""


class Line(Document):
    """One line; one of them is set."""

    header: RunHeader | None = Field(default=None, exclude_if=is_none)
    result: Result | None = Field(default=None, exclude_if=is_none)
    asking: Asking | None = Field(default=None, exclude_if=is_none)
    asked: Asked | None = Field(default=None, exclude_if=is_none)


class RunLog:
    """What the file of a run says so far."""

    def __init__(self, header: RunHeader) -> None:
        self.header = header
        self.results: dict[tuple[str, int], Result] = {}
        """By case and repeat."""
        self.asked: list[Asked] = []
        self._open: dict[_Key, list[Asking]] = {}
        """Asks that have begun, and of whose end nothing is said."""

    def add(self, line: Line) -> None:
        """Take in what one more line says."""
        if line.result is not None:
            self.results[line.result.case, line.result.repeat] = line.result
        elif line.asking is not None:
            self._open.setdefault(_key(line.asking), []).append(line.asking)
        elif line.asked is not None:
            self.asked.append(line.asked)
            # NB: what its own tries may have taken stands in the answer; what was begun before them has ended nowhere.
            begun = self._open.get(_key(line.asked), [])
            del begun[len(begun) - min(len(begun), line.asked.tries) :]

    @property
    def complete(self) -> bool:
        """Whether every repeat of every case has a result."""
        return len(self.results) >= self.expected

    @property
    def expected(self) -> int:
        """How many results there are when the run is over."""
        return self.header.results or self.header.cases * self.header.repeats

    def run(self) -> Run:
        """Give the run as it is compared and reported, the same for every order in which the lines came."""
        results = sorted(self.results.values(), key=lambda one: (one.place, one.repeat))
        return Run(header=self.header, results=tuple(results), target=self.target(), judging=self.judging())

    def target(self) -> Spent:
        """Add up what the answers of the target took."""
        return self._spent(lambda purpose: purpose is Purpose.TARGET)

    def judging(self) -> Spent:
        """Add up what judges and embedders took."""
        return self._spent(lambda purpose: purpose is not Purpose.TARGET)

    def _spent(self, wanted: Callable[[Purpose], bool]) -> Spent:
        known = add_up(one.answer for one in self.asked if wanted(one.purpose))
        lost = [one for begun in self._open.values() for one in begun if wanted(one.purpose)]
        return known.model_copy(
            update={
                "doubtTokens": known.doubtTokens + sum(one.tokens for one in lost),
                "doubtCost": math.fsum([known.doubtCost, *(one.cost for one in lost)]),
            }
        )


def _key(asked: Asked | Asking) -> _Key:
    return asked.purpose, asked.model, asked.request, asked.repeat


def add_up(answers: Iterable[Answer]) -> Spent:
    """Add up what asks took: the same numbers in whichever order they come."""
    answers = list(answers)
    usages = [one.usage for one in answers]
    # NB: fsum rounds once, so that the order changes nothing.
    return Spent(
        asks=len(usages),
        inputTokens=sum(one.inputTokens for one in usages),
        outputTokens=sum(one.outputTokens for one in usages),
        cost=math.fsum(one.cost for one in usages if one.cost is not None),
        doubtTokens=sum(one.doubtTokens for one in usages),
        doubtCost=math.fsum(one.doubtCost for one in usages),
        unpriced=sum(one.usage.cost is None for one in answers if not one.error),
    )


def load_run(path: Path) -> Run:
    """Read a run that is whole. Raises BadRun for what is none, and OSError."""
    log, _ = read_log(path)
    if log is None:
        raise BadRun(f"{path} is no run: it has no header")
    if not log.complete:
        raise BadRun(
            f"{path} is not over: it has {len(log.results)} of {log.expected} results;"
            " the same `capstan eval run` goes on with it"
        )
    return log.run()


def read_log(path: Path) -> tuple[RunLog | None, int]:
    """Give what a file says (None: nothing yet), and how many of its bytes say it: what is behind them was torn.

    Torn is what stands behind the last line that can be read. Raises BadRun for a line that cannot be read before one
    that can, and OSError.
    """
    log: RunLog | None = None
    end = good = 0
    bad: tuple[int, str] | None = None
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            end += len(raw)
            line = _line(raw)
            if isinstance(line, str):
                bad = bad or (number, line)
                continue
            if bad is not None:
                raise BadRun(f"{path}, line {bad[0]}: {bad[1]}")
            if (line.header is None) is not (log is not None):
                raise BadRun(f"{path}, line {number}: a run begins with one header, and has no other")
            if line.header is not None:
                log = RunLog(line.header)
            elif log is not None:
                log.add(line)
            good = end
    if log is None and bad is not None and bad[1] != _TORN:
        raise BadRun(f"{path} is no run: line {bad[0]}: {bad[1]}")
    return log, good


def _line(raw: bytes) -> Line | str:
    """Read one line, or say why it cannot be read."""
    if not raw.endswith(b"\n"):
        return _TORN
    try:
        line = Line.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        return f"{'.'.join(map(str, first['loc'])) or 'the line'}: {first['msg']}"
    if line.header is not None and line.header.version != RUN_VERSION:
        return f"version {line.header.version} of the form; this release reads {RUN_VERSION}"
    return line if len(line.model_fields_set) == 1 else "it must be one of header, result, asking and asked"


class RunWriter:
    """Appends to the file of one run, which nobody else appends to meanwhile."""

    def __init__(self, path: Path, header: RunHeader, *, now: Callable[[], float] = time.monotonic) -> None:
        """Begin a run, or go on with the one that the file has. Raises BadRun when it is of something else, or when
        another process appends to it, and OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._now = now
        self._synced = now()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self.log = self._open(path, header)
        except BaseException:
            os.close(self._file)
            raise

    def _open(self, path: Path, header: RunHeader) -> RunLog:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadRun(f"{path} is written by another process") from None
        log, good = read_log(path)
        if log is not None and (mismatch := find_mismatch(log.header, header)):
            raise BadRun(f"{path} is a run of {mismatch}; choose another --out, or remove it")
        os.ftruncate(self._file, good)
        if log is None:
            log = RunLog(header)
            self._append(Line(header=header))
            self._sync()
        return log

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def result(self, result: Result) -> None:
        """Keep the result of one repeat of one case."""
        self._add(Line(result=result))

    def asking(self, asking: Asking) -> None:
        """Keep that an ask begins, before it does."""
        self._add(Line(asking=asking))

    def asked(self, asked: Asked) -> None:
        """Keep an answer that was paid for, before it is used."""
        self._add(Line(asked=asked))

    def close(self) -> None:
        """Have the disk keep what was written, and let others append."""
        if self._file >= 0:
            try:
                os.fsync(self._file)
            finally:
                os.close(self._file)
                self._file = -1

    def _add(self, line: Line) -> None:
        self._append(line)
        self.log.add(line)
        if self._now() - self._synced >= FSYNC_SECONDS:
            self._sync()

    def _append(self, line: Line) -> None:
        data = line.model_dump_json().encode() + b"\n"
        while data:
            data = data[os.write(self._file, data) :]

    def _sync(self) -> None:
        os.fsync(self._file)
        self._synced = self._now()


def find_mismatch(found: RunHeader, wanted: RunHeader) -> str:
    """Say in what two runs differ that one could not be the other gone on with; empty when in nothing."""
    for name, text in _MISMATCHES.items():
        if getattr(found, name) != getattr(wanted, name):
            was, now = (str(getattr(one, name))[:80] or "none" for one in (found, wanted))
            return f"{text} ({was}, and not {now})"
    return ""
