"""Numbers in texts, and the scorer that compares them. Pure.

The number of an answer is, in this order: the first one of a line `#### ...` at its end, as GSM8K has it (or of one
that has nothing but a number: `#### 2. Sum` in the middle is a heading); the last one in the last `\\boxed{...}`; the
last one of the text. Numbers are written as in English: 1,234.5, with spaces that do not break as well; a currency
before them, units behind them; -5, $-5, 50%, 3/4, 1 1/2, \\frac{3}{4}, 1.5e3. What hangs on letters before it (H2, x2)
is none.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from capstan_evaluation.records import Answer, Score
from capstan_evaluation.scorers.texts import expected_of, failed, passed, text_of
from capstan_evaluation.suites import checks
from capstan_evaluation.suites.checks import name_of
from capstan_evaluation.suites.patterns import extract
from capstan_evaluation.suites.suite import Case

MOST_LOOKED_AT: Final = 100_000
"""Characters of an answer, from its end."""
MOST_DIGITS: Final = 100
MOST_EXPONENT: Final = 400
_GROUP: Final = "[,\u00a0\u2009\u202f]"
_WHOLE: Final = rf"(?:[0-9]{{1,3}}(?:{_GROUP}[0-9]{{3}})+(?![0-9])|[0-9]+)"
_NUMBER: Final = re.compile(
    rf"\\[dt]?frac\{{(?P<over>-?[0-9]{{1,{MOST_DIGITS}}})\}}\{{(?P<under>[0-9]{{1,{MOST_DIGITS}}})\}}"
    rf"|(?P<number>(?P<whole>{_WHOLE})(?:\.[0-9]+)?|\.[0-9]+)(?P<exponent>[eE][+-]?[0-9]+)?"
    rf"(?:(?P<mixed>\ [0-9]{{1,9}})?\s?/\s?(?P<divisor>[0-9]{{1,9}})(?![0-9/]|[.,][0-9]))?"
)
_LINE: Final = "####"
_BOXED: Final = "\\boxed{"
_MINUS: Final = frozenset("-\u2212")
_CURRENCY: Final = frozenset("$\u20ac\u00a3\u00a5\u20b9")
_PERCENT: Final = re.compile(r"\s*\\?(?:%|percent\b|per cent\b)")


@dataclass(frozen=True)
class Number:
    """A number of a text."""

    value: Fraction
    percent: bool = False
    """Whether it is said in percent; `value` is what stands before the sign."""


@dataclass(frozen=True)
class Numeric:
    """The number that an answer ends with is the expected one, give or take."""

    check: checks.Numeric

    @property
    def name(self) -> str:
        """See `Scorer`."""
        return name_of(self.check)

    def score(self, case: Case, answer: Answer) -> Score:
        """See `Scorer`."""
        check = self.check
        right = check.value if check.value is not None else expected_of(case, check.turn)
        expected = number_in(right or "")
        if expected is None:
            return failed(self.name, "`expected` has no number")
        text: str | None = text_of(answer, check.turn)
        if check.extract is not None:
            text = extract(check.extract, text or "")
        found = number_in(text or "")
        if found is None:
            return passed(self.name, False, "has no number")
        right_one = same(found, expected, tolerance=check.tolerance, relative=check.relativeTolerance)
        return passed(self.name, right_one, f"is {_written(found)}, not {_written(expected)}")


def number_in(text: str) -> Number | None:
    """Give the number that a text means; None when it has none."""
    text = text[-MOST_LOOKED_AT:]
    if _LINE in text and (number := _of_line(text)) is not None:
        return number
    if _BOXED in text:
        found = _all_in(_boxed(text.rpartition(_BOXED)[2]))
        if found:
            return found[-1]
    found = _all_in(text)
    return found[-1] if found else None


def _of_line(text: str) -> Number | None:
    """Give the number of the last line that is one of GSM8K's."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for place, line in reversed(list(enumerate(lines))):
        if line.startswith(_LINE) and (found := _all_in(line)):
            letters = _NUMBER.sub("", line)
            if place == len(lines) - 1 or not any(map(str.isalnum, letters)):
                return found[0]
    return None


def same(found: Number, expected: Number, *, tolerance: float = 0.0, relative: float = 0.0) -> bool:
    """Whether two numbers are the same, give or take the larger of both tolerances.

    Of 50% and a number without the sign either 50 or 0.5 may be meant: both are right.
    """
    values = [found.value, found.value / 100] if found.percent and not expected.percent else [found.value]
    rights = [expected.value, expected.value / 100] if expected.percent and not found.percent else [expected.value]
    return any(
        abs(value - right) <= max(Fraction(tolerance), Fraction(relative) * abs(right))
        for value in values
        for right in rights
    )


def _boxed(text: str) -> str:
    depth = 1
    for place, char in enumerate(text):
        depth += (char == "{") - (char == "}")
        if depth == 0:
            return text[:place]
    return ""


def _all_in(text: str) -> list[Number]:
    return [number for found in _NUMBER.finditer(text) if (number := _read(text, found)) is not None]


def _read(text: str, found: re.Match[str]) -> Number | None:
    start, negative = _sign(text, found.start())
    if start and (text[start - 1].isalpha() or text[start - 1] == "_"):
        return None
    value = _plain(found) if found["over"] is None else _ratio(int(found["over"]), int(found["under"]))
    if value is None:
        return None
    return Number(-value if negative else value, _PERCENT.match(text, found.end()) is not None)


def _sign(text: str, start: int) -> tuple[int, bool]:
    """Give where a number begins with its sign and currency, and whether it is below zero. 10-12 has no sign."""
    place, negative = start, False
    for _ in range(2):
        before = text[place - 1] if place else ""
        if before in _CURRENCY:
            place -= 1
        elif before in _MINUS and not negative:
            earlier = text[place - 2] if place > 1 else ""
            if earlier.isalnum() or earlier in (")", "]", "%"):
                break
            place, negative = place - 1, True
    return place, negative


def _plain(found: re.Match[str]) -> Fraction | None:
    digits = re.sub(_GROUP, "", found["number"])
    power = (found["exponent"] or "e0")[1:]
    if len(digits) > MOST_DIGITS or len(power) > 4 or abs(exponent := int(power)) > MOST_EXPONENT:
        return None
    value = Fraction(digits) * Fraction(10) ** exponent
    if found["divisor"] is None:
        return value
    if found["mixed"] is None:
        return _ratio(value, int(found["divisor"]))
    part = _ratio(int(found["mixed"]), int(found["divisor"]))
    return None if part is None else value + part


def _ratio(over: Fraction | int, under: int) -> Fraction | None:
    return Fraction(over) / under if under else None


def _written(number: Number) -> str:
    value = number.value
    if value.denominator == 1 and abs(value) < 10**15:
        text = str(value.numerator)
    else:
        try:
            text = f"{float(value):.6g}"
        except OverflowError:
            text = "a number without end"
    return f"{text}%" if number.percent else text
