"""The outcome of `capstan eval judge-check`, for people. Pure."""

from collections.abc import Iterator, Sequence

from capstan_evaluation.judges.check import Difference, JudgeCheck, Rate, Report, Trivial
from capstan_operator.cli.tables import as_table, printable


def as_text(check: JudgeCheck) -> str:
    """Write the outcome of a check."""
    reports = check.files if len(check.files) == 1 else (*check.files, check.all)
    heads = ("FILE", "PAIRS", "DECIDED", "AGREES", "KAPPA", "LONGER WINS", "FIRST", "LONGER THAN PEOPLE")
    rows = [heads, *map(_row, reports)]
    gate = "may gate" if check.mayGate else "may inform, and may not gate"
    lines = [
        f"judge {printable(check.model)}, rubric {printable(check.rubric)}, prompt {check.promptHash[:12]}",
        "",
        as_table(rows, left=1).rstrip("\n"),
        "",
        *_sentences(check.all),
        "",
        f"This judge {gate}: {check.reason}.",
    ]
    return "\n".join(lines)


def as_trivial(files: Sequence[tuple[str, int, Trivial]]) -> str:
    """Write how the judge that prefers the longer answer does."""
    rows = [("FILE", "PAIRS", "LONGER WINS", "KAPPA")]
    rows += [(printable(name), str(count), _share(one.agreement), f"{one.kappa:.2f}") for name, count, one in files]
    return as_table(rows, left=1).rstrip("\n")


def _row(one: Report) -> tuple[str, ...]:
    decided = 1 - (one.couldNotTell.share or 0.0) if one.couldNotTell.of else 0.0
    return (
        printable(one.file),
        str(one.pairs),
        f"{decided:.0%}",
        _share(one.agreement),
        f"{one.kappa:.2f} ({one.kappaLow:.2f} to {one.kappaHigh:.2f})",
        f"{one.longerWins.agreement.share or 0.0:.3f}",
        f"{one.position.share:.1%}{_mark(one.position.bias)}",
        f"{one.length.bias.value:+.1%}{_mark(one.length.bias)}",
    )


def _sentences(one: Report) -> Iterator[str]:
    if one.failed:
        yield f"No answer for {one.failed} pairs, which are in no number."
    yield (
        f"Could not tell of {one.couldNotTell.hits} of {one.couldNotTell.of} pairs, and contradicted itself on"
        f" {one.contradicted} of them when the order changed."
    )
    position, length = one.position, one.length
    said = "likes one place" if position.bias.found else "no liking for a place is seen"
    yield (
        f"Position: {said}. It preferred the first answer in both orders {position.first} times, the second"
        f" {position.second} times; first in {position.share:.1%}, {_interval(position.bias)} from 50 %."
    )
    said = "likes length otherwise than people" if length.bias.found else "no liking for length beyond people's is seen"
    yield (
        f"Length: {said}. It preferred the longer one in {_share(length.judge)}, people in {_share(length.people)};"
        f" {_interval(length.bias)} between them."
    )
    yield (
        f"It agrees in {_share(length.agreementWherePeopleLikeLonger)} where people like the longer one, and in"
        f" {_share(length.agreementWherePeopleLikeShorter)} where they like the shorter."
    )
    if length.correlation is not None and length.peopleCorrelation is not None:
        own, people = length.correlation, length.peopleCorrelation
        yield f"Its preference and length correlate by {own:+.2f}, that of people by {people:+.2f}."
    trivial = one.longerWins
    yield f'The judge "longer wins" agrees in {_share(trivial.agreement)}, kappa {trivial.kappa:.2f}.'


def _share(rate: Rate) -> str:
    return "-" if rate.share is None else f"{rate.share:.1%} ({rate.low:.1%} to {rate.high:.1%})"


def _interval(difference: Difference) -> str:
    return f"{difference.value:+.1%} ({difference.low:+.1%} to {difference.high:+.1%})"


def _mark(difference: Difference) -> str:
    return "!" if difference.found else ""
