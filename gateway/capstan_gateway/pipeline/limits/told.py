"""What clients are told of limits: in headers of every answer, and in the errors of refusals. Pure.

Names and forms are those that the SDKs of the field read: `x-ratelimit-*` with durations as OpenAI writes them (6m0s,
12ms; Go's time.Duration), and on routes of Anthropic's API `anthropic-ratelimit-*` with times of RFC 3339. Of several
counters of one unit the one with the least left is told.

Nobody's name is told: a limit is called by what its policy calls it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from capstan_contract.limits import Per
from capstan_gateway.errors import NO_RETRY, BudgetSpent, GatewayError, LimitExceeded, LimitReached
from capstan_gateway.headers import Header
from capstan_gateway.limits.port import Outcome, Rate, Standing, Verdict
from capstan_gateway.pipeline.limits.rules import Counter, Counts, Heading, amount_text

Stood = tuple[Counter, Standing]
"""A counter, and how it stands."""

_OPENAI: Final = {
    Counts.REQUESTS: b"requests", Counts.TOKENS: b"tokens", Counts.INPUT: b"tokens", Counts.OUTPUT: b"tokens"
}  # fmt: skip
_ANTHROPIC: Final = {
    Counts.REQUESTS: b"requests", Counts.TOKENS: b"tokens", Counts.INPUT: b"input-tokens",
    Counts.OUTPUT: b"output-tokens",
}  # fmt: skip
_OPENAI_LINES: Final = b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-remaining-%b: %d\r\nx-ratelimit-reset-%b: %b\r\n"
_HEADING: Final = b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-remaining-%b: %%d\r\nx-ratelimit-reset-%b: %%b\r\n"
_ANTHROPIC_LINES: Final = (
    b"anthropic-ratelimit-%b-limit: %d\r\nanthropic-ratelimit-%b-remaining: %d\r\nanthropic-ratelimit-%b-reset: %b\r\n"
)
_UNITS: Final = {
    Counts.REQUESTS: "requests", Counts.TOKENS: "tokens", Counts.INPUT: "input tokens",
    Counts.OUTPUT: "output tokens", Counts.SLOTS: "requests at once", Counts.MONEY: "",
}  # fmt: skip
_WHOSE: Final = {
    Per.KEY: "this key", Per.USER: "this user", Per.TEAM: "this team", Per.TENANT: "this tenant",
    Per.MODEL: "this model", Per.POLICY: "everybody together",
}  # fmt: skip
_UNFIT: Final = re.compile(r"[^A-Za-z0-9_.-]")
"""What a header could not hold."""
_SLOT_WAIT_MS: Final = 1000
"""When nobody knows how long a request will take that holds a slot."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request says of its own size, for the parameter that an error names."""

    max_tokens: str | None = None
    """The name under which it limits its answer; None: it does not."""


def headroom_lines(stood: Iterable[Stood], *, anthropic: bool, now: float) -> bytes:
    """Give the header lines; none for concurrency and budgets. `now` is in Unix seconds."""
    lines = b""
    for name, (remaining, reset_ms, limit) in tightest(stood, _ANTHROPIC if anthropic else _OPENAI).items():
        left = remaining if remaining > 0 else 0
        if anthropic:
            lines += _ANTHROPIC_LINES % (name, limit, name, left, name, moment(now, reset_ms))
        else:
            lines += _OPENAI_LINES % (name, limit, name, left, name, duration(reset_ms))
    return lines


def heading_of(counters: Sequence[Counter]) -> Heading | None:
    """Give OpenAI's header lines of these counters, where each is the only one of its unit; else None."""
    units = [(_OPENAI[one.rule.counts], place, one) for place, one in enumerate(counters) if one.rule.counts in _OPENAI]
    if len({name for name, *_ in units}) < len(units):
        return None
    lines = [_HEADING % (name, one.rule.limit, name, name) for name, _, one in units]
    return Heading(b"".join(lines), tuple(place for _, place, _ in units))


def heading_lines(heading: Heading, standings: Sequence[Standing]) -> bytes:
    """Give the same lines as `headroom_lines`."""
    values: list[int | bytes] = []
    for place in heading.units:
        remaining, reset_ms = standings[place]
        values += remaining if remaining > 0 else 0, duration(reset_ms)
    return heading.lines % (*values,)


def headroom_headers(stood: Iterable[Stood], *, anthropic: bool, now: float) -> tuple[Header, ...]:
    """Give the same as headers."""
    lines = headroom_lines(stood, anthropic=anthropic, now=now).split(b"\r\n")
    return tuple((name, value) for name, _, value in (line.partition(b": ") for line in lines if line))


def tightest(stood: Iterable[Stood], names: Mapping[Counts, bytes]) -> dict[bytes, tuple[int, int, int]]:
    """Give what is left, reset in milliseconds, and limit, by name: of the counter with the least left."""
    found: dict[bytes, tuple[int, int, int]] = {}
    for counter, standing in stood:
        rule = counter.rule
        name = names.get(rule.counts)
        if name is not None:
            known = found.get(name)
            if known is None or (standing.remaining, -standing.reset_ms) < (known[0], -known[1]):
                found[name] = standing.remaining, standing.reset_ms, rule.limit
    return found


@lru_cache(4096)
def duration(millis: int) -> bytes:
    """Write a duration as Go and OpenAI do, to the millisecond: 0s, 12ms, 1.5s, 6m0s, 24h0m0s."""
    if millis <= 0:
        return b"0s"
    if millis < 1000:
        return b"%dms" % millis
    minutes, rest = divmod(millis, 60_000)
    seconds = b"%d" % (rest // 1000)
    if rest % 1000:
        seconds += (b".%03d" % (rest % 1000)).rstrip(b"0")
    if not minutes:
        return b"%bs" % seconds
    hours, minutes = divmod(minutes, 60)
    return b"%dh%dm%bs" % (hours, minutes, seconds) if hours else b"%dm%bs" % (minutes, seconds)


LAST_SECOND: Final = 253_402_300_799
"""The end of the year 9999: the last one that RFC 3339 can write."""


def moment(now: float, after_ms: int) -> bytes:
    """Write the time so many milliseconds from now by RFC 3339, in whole seconds, rounded up; at most `LAST_SECOND`."""
    seconds = min(-(-int(now * 1000 + after_ms) // 1000), LAST_SECOND)
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ").encode()


def wait_headers(wait_ms: int) -> tuple[Header, ...]:
    """Tell when to come back: never too early by rounding."""
    millis = max(1, wait_ms)
    return ((b"retry-after", b"%d" % -(-millis // 1000)), (b"retry-after-ms", b"%d" % millis))


def refusal(
    verdict: Verdict, counters: Sequence[Counter], needed: Sequence[int], asked: Asked, headroom: tuple[Header, ...],
    now: float,
) -> GatewayError:  # fmt: skip
    """Give the error of a request that was not admitted: wait, spent, or more than is ever there."""
    counter = counters[verdict.denied]
    standing, needs = verdict.standings[verdict.denied], needed[verdict.denied]
    if verdict.outcome is Outcome.NEVER:
        return _never(counter, needs, asked, headroom)
    if verdict.outcome is Outcome.SPENT:
        when = moment(now, verdict.wait_ms).decode()
        message = (
            f"the budget {_named(counter)} has {_amount(counter, standing.remaining)} left, and the request may cost"
            f" {_amount(counter, needs)}; the next period begins at {when}"
        )
        return BudgetSpent(message, headers=(*wait_headers(verdict.wait_ms), NO_RETRY, *headroom))
    wait_ms = verdict.wait_ms or _SLOT_WAIT_MS
    message = (
        f"the limit {_named(counter)} has {_amount(counter, standing.remaining)} left, and the request needs"
        f" {_amount(counter, needs)}; try again in {duration(wait_ms).decode()}"
    )
    kind = "requests" if counter.rule.counts in (Counts.REQUESTS, Counts.SLOTS) else "tokens"
    return LimitReached(message, type=kind, headers=(*wait_headers(wait_ms), *headroom))


def _never(counter: Counter, needs: int, asked: Asked, headroom: tuple[Header, ...]) -> GatewayError:
    money = counter.rule.counts is Counts.MONEY
    message = (
        f"the request {'may cost' if money else 'may need'} {_amount(counter, needs)}, and the"
        f" {'budget' if money else 'limit'} {_named(counter)} never has more; ask for less"
    )
    return LimitExceeded(message, param=asked.max_tokens, headers=(NO_RETRY, *headroom))


def _named(counter: Counter) -> str:
    rule = counter.rule
    limit = _amount(counter, rule.limit)
    window = f" in {duration(rule.fixed.window_ms).decode()}" if isinstance(rule.fixed, Rate) else ""
    return f"`{rule.name}` of {limit}{window} for {_WHOSE[rule.per]}"


def _amount(counter: Counter, amount: int) -> str:
    counts = counter.rule.counts
    return f"{amount_text(counts, amount)} {_UNITS[counts]}".rstrip()


def soft_limited(stood: Iterable[Stood]) -> Iterator[Stood]:
    """Give the budgets that are spent above their soft limit."""
    for counter, standing in stood:
        budget = counter.rule.budget
        if budget is not None and budget.softLimitPercent is not None:
            used = budget.nanoDollars - standing.remaining
            if used * 100 >= budget.nanoDollars * budget.softLimitPercent:
                yield counter, standing


def budget_line(stood: Sequence[Stood], now: float) -> bytes:
    """Give the header line that names the budget with the least left of those nearly spent; b"" where none is."""
    if not stood:
        return b""
    counter, standing = min(stood, key=lambda one: one[1].remaining * 1_000_000 // one[0].rule.limit)
    left = max(0, standing.remaining)
    used = 100 - -(-left * 100 // counter.rule.limit)
    name, reset = _UNFIT.sub("_", counter.rule.name).encode(), moment(now, standing.reset_ms)
    return b"x-capstan-budget: %b; used=%d%%; resets=%b\r\n" % (name, used, reset)
