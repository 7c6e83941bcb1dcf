"""Scorers that compare texts: exact, normalised, contains, regex, length, latency. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from capstan_evaluation.records import Answer, Score
from capstan_evaluation.scorers.texts import expected_of, failed, normalise, passed, text_of
from capstan_evaluation.suites import checks
from capstan_evaluation.suites.checks import name_of
from capstan_evaluation.suites.patterns import extract, matches
from capstan_evaluation.suites.suite import Case


@dataclass(frozen=True)
class Equal:
    """Exact and Normalised."""

    check: checks.Exact | checks.Normalised

    @property
    def name(self) -> str:
        """See `Scorer`."""
        return name_of(self.check)

    def score(self, case: Case, answer: Answer) -> Score:
        """See `Scorer`."""
        right = right_answers(self.check.values, case, self.check.turn)
        if not right:
            return failed(self.name, "the case has no `expected`")
        text: str | None = text_of(answer, self.check.turn)
        if self.check.extract is not None:
            text = extract(self.check.extract, text or "")
            if text is None:
                return passed(self.name, False, "`extract` matches nowhere")
        plain = normalise if isinstance(self.check, checks.Normalised) else str.strip
        return passed(self.name, plain(text or "") in map(plain, right), "is another answer than the expected one")


@dataclass(frozen=True)
class Contains:
    """Texts that must be in it, and must not."""

    check: checks.Contains

    @property
    def name(self) -> str:
        """See `Scorer`."""
        return name_of(self.check)

    def score(self, case: Case, answer: Answer) -> Score:
        """See `Scorer`."""
        check = self.check
        text = self._plain(text_of(answer, check.turn))
        wanted = check.all
        if not (check.all or check.any or check.none):
            expected = expected_of(case, check.turn)
            if not expected:
                return failed(self.name, "the case has no `expected`")
            wanted = (expected,)
        missing = [one for one in wanted if self._plain(one) not in text]
        unwanted = [one for one in check.none if self._plain(one) in text]
        some = not check.any or any(self._plain(one) in text for one in check.any)
        reasons = (
            "" if not missing else f"lacks {missing[0]!r}",
            "" if some else f"has none of {', '.join(map(repr, check.any))}",
            "" if not unwanted else f"has {unwanted[0]!r}",
        )
        return passed(self.name, not any(reasons), "; ".join(filter(None, reasons)))

    def _plain(self, text: str) -> str:
        return text if self.check.caseSensitive else text.casefold()


@dataclass(frozen=True)
class Regex:
    """An expression that must match, or must not."""

    check: checks.Regex

    @property
    def name(self) -> str:
        """See `Scorer`."""
        return name_of(self.check)

    def score(self, case: Case, answer: Answer) -> Score:  # noqa: ARG002
        """See `Scorer`."""
        found = matches(self.check.pattern, text_of(answer, self.check.turn))
        return passed(self.name, found == self.check.mustMatch, "does not match" if not found else "matches")


@dataclass(frozen=True)
class Length:
    """Characters and words within bounds."""

    check: checks.Length

    @property
    def name(self) -> str:
        """See `Scorer`."""
        return name_of(self.check)

    def score(self, case: Case, answer: Answer) -> Score:  # noqa: ARG002
        """See `Scorer`."""
        text = text_of(answer, self.check.turn)
        check, characters, words = self.check, len(text), len(text.split())
        right = _within(characters, check.minCharacters, check.maxCharacters)
        right = right and _within(words, check.minWords, check.maxWords)
        return passed(self.name, right, f"has {characters} characters, {words} words")


@dataclass(frozen=True)
class Latency:
    """Seconds to the first token, and to the end."""

    check: checks.Latency

    @property
    def name(self) -> str:
        """See `Scorer`."""
        return name_of(self.check)

    def score(self, case: Case, answer: Answer) -> Score:  # noqa: ARG002
        """See `Scorer`."""
        first, most_first = answer.firstTokenSeconds, self.check.maxFirstTokenSeconds
        if most_first is not None and first is None:
            return failed(self.name, "nobody has measured the first token: the answer did not come as a stream")
        right = first is None or _within(first, None, most_first)
        right = right and _within(answer.seconds, None, self.check.maxSeconds)
        return passed(self.name, right, f"took {answer.seconds:.2f} s, the first token {first or 0.0:.2f} s")


def right_answers(values: Sequence[str], case: Case, turn: int | None) -> tuple[str, ...]:
    """Give what is right: as the check says, or the case."""
    expected = expected_of(case, turn)
    return tuple(values) or (() if expected is None else (expected,))


def _within(value: float, least: float | None, most: float | None) -> bool:
    return (least is None or value >= least) and (most is None or value <= most)
