"""Scorers of the user: Python functions that a package has registered under the entry point group `capstan.scorers`.

    [project.entry-points."capstan.scorers"]
    rhymes = "my_package.scorers:rhymes"

    def rhymes(given: Given) -> bool | float | tuple[float, str] | None: ...

True and False, or a number from 0 to 1, with a reason if it likes; None: it cannot tell. A function runs in a thread
of its own. What it raises is a score of the state Failed with the function's name, and so is one that takes too long:
it is left alone then, as nothing ends a thread, and while there are many of those nobody calls functions any more.
"""

import asyncio
import math
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Final

from capstan_evaluation.records import Answer, Score, ScoreState
from capstan_evaluation.scorers.texts import MOST_REASON, expected_of, failed, text_of
from capstan_evaluation.suites import checks
from capstan_evaluation.suites.checks import name_of
from capstan_evaluation.suites.suite import Case

GROUP: Final = "capstan.scorers"
MOST_LEFT_ALONE: Final = 16
"""Calls that have not come back in time: each keeps a thread."""


class _LeftAlone:
    """The threads that nobody waits for any more."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []

    def add(self, thread: threading.Thread) -> None:
        self._threads.append(thread)

    def is_full(self) -> bool:
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        return len(self._threads) >= MOST_LEFT_ALONE


_left_alone = _LeftAlone()


@dataclass(frozen=True)
class Given:
    """What a function is given."""

    answer: str
    """To the turn that the check is of."""
    expected: str | None
    conversation: tuple[Mapping[str, str], ...]
    """What was asked before that answer: `role` and `content`."""
    case: str
    tags: tuple[str, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """As the suite has them."""


class NoSuchFunction(Exception):
    """Nothing of that name is installed, or it cannot be loaded; the message says which."""


Scoring = Callable[[Given], Any]


@dataclass(frozen=True)
class Function:
    """Calls one."""

    check: checks.Function
    function: Scoring

    @property
    def name(self) -> str:
        """See `WaitingScorer`."""
        return name_of(self.check)

    async def score(self, case: Case, answer: Answer) -> Score:
        """See `WaitingScorer`."""
        told = await _call(self.function, _given(self.check, case, answer), self.check.timeoutSeconds)
        if isinstance(told, _Fault):
            return failed(self.name, f"the function {self.check.function} {told.message}")
        return _read(self.name, self.check.function, told)


@dataclass(frozen=True)
class _Fault:
    message: str


def load_function(name: str) -> Scoring:
    """Load a function of the group. Raises NoSuchFunction."""
    found = {one.name: one for one in entry_points(group=GROUP)}
    if name not in found:
        known = ", ".join(sorted(found)) or "none"
        raise NoSuchFunction(f"no installed package has it under `{GROUP}`; there are: {known}")
    try:
        function = found[name].load()
    except Exception as error:
        raise NoSuchFunction(f"{found[name].value} cannot be loaded: {type(error).__name__}") from error
    if not callable(function):
        raise NoSuchFunction(f"{found[name].value} cannot be called")
    scoring: Scoring = function
    return scoring


def _given(check: checks.Function, case: Case, answer: Answer) -> Given:
    turn = min(check.turn or len(case.turns), len(answer.earlier) + 1)
    asked = case.conversation(answer.earlier[: turn - 1])
    return Given(
        text_of(answer, check.turn), expected_of(case, check.turn), tuple(asked), case.id, case.tags, check.parameters
    )


async def _call(function: Scoring, given: Given, seconds: float) -> Any:
    if _left_alone.is_full():
        return _Fault(f"was not called: {MOST_LEFT_ALONE} calls of functions have not come back")
    future: Future[Any] = Future()

    def work() -> None:
        try:
            outcome = function(given)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the function's
            outcome = _Fault(f"raised {type(error).__name__}")
        try:
            future.set_result(outcome)
        except InvalidStateError:  # nobody waits any more
            pass

    thread = threading.Thread(target=work, name="capstan-scorer", daemon=True)
    thread.start()
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.wrap_future(future)
    except TimeoutError:
        return _Fault(f"has not come back within {seconds:g} s")
    finally:
        if thread.is_alive():
            _left_alone.add(thread)


def _read(name: str, function: str, told: Any) -> Score:
    reason = ""
    if isinstance(told, tuple) and len(told) == 2 and isinstance(told[1], str):
        told, reason = told[0], told[1][:MOST_REASON]
    if told is None:
        return Score(scorer=name, state=ScoreState.COULD_NOT_TELL, value=None, reason=reason)
    if isinstance(told, bool):
        return Score(scorer=name, value=float(told), reason=reason)
    if isinstance(told, int | float) and math.isfinite(told) and 0 <= told <= 1:
        return Score(scorer=name, value=float(told), binary=False, reason=reason)
    return failed(name, f"the function {function} gave neither a truth, nor a number from 0 to 1, nor None")
