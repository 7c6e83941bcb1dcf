"""What clients are told of limits: the forms that the SDKs read, to the byte."""

import pytest

from capstan_contract.limits import BudgetRule, LimitRule, Per, Period, PeriodType, RateLimitBody, Unit
from capstan_gateway.errors import NO_RETRY, GatewayError
from capstan_gateway.identity.principal import Principal
from capstan_gateway.limits.port import Outcome, Standing, Verdict
from capstan_gateway.pipeline.limits.rules import Plan, compile_policy, plan_for
from capstan_gateway.pipeline.limits.told import (
    Asked,
    budget_line,
    duration,
    heading_lines,
    heading_of,
    headroom_lines,
    moment,
    refusal,
    soft_limited,
    wait_headers,
)
from capstan_gateway.settings import EXPOSED_HEADERS

NOW = 1_796_000_000.25
NANO = 1_000_000_000


def rule(name: str, unit: Unit, amount: int) -> LimitRule:
    """Give a limit of a minute."""
    if unit is Unit.CONCURRENCY:
        return LimitRule(name=name, per=Per.KEY, unit=unit, amount=amount)
    return LimitRule(name=name, per=Per.KEY, unit=unit, amount=amount, windowMillis=60_000, burst=amount)


def plan(*rules: LimitRule, budgets: tuple[BudgetRule, ...] = ()) -> Plan:
    """Give the counters of somebody."""
    policy = compile_policy("RateLimitPolicy/t/p", RateLimitBody(limits=rules, budgets=budgets))
    found = plan_for(
        policy, Principal(tenant="t", key="k"), model_id="t/m", model_name="m", inner=False, now_ms=int(NOW * 1000)
    )
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("millis", "written"),
    [
        (-5, b"0s"), (0, b"0s"), (1, b"1ms"), (12, b"12ms"), (999, b"999ms"), (1000, b"1s"), (1500, b"1.5s"),
        (8640, b"8.64s"), (59_999, b"59.999s"), (60_000, b"1m0s"), (86_400, b"1m26.4s"), (360_000, b"6m0s"),
        (3_600_000, b"1h0m0s"), (86_400_000, b"24h0m0s"), (90_061_001, b"25h1m1.001s"),
    ],
)  # fmt: skip
def test_durations_are_written_as_openai_does(millis: int, written: bytes) -> None:
    """As Go's time.Duration, to the millisecond."""
    assert duration(millis) == written


def test_times_are_rounded_up() -> None:
    """Who comes at the time that is told does not come too early."""
    assert moment(0.0, 1) == b"1970-01-01T00:00:01Z"
    assert moment(1.0, 0) == b"1970-01-01T00:00:01Z"
    assert moment(0.999, 2) == b"1970-01-01T00:00:02Z"
    assert moment(1.8e9, 366 * 86_400_000 * 10**12) == b"9999-12-31T23:59:59Z"


@pytest.mark.parametrize(("millis", "seconds"), [(0, b"1"), (1, b"1"), (1000, b"1"), (1001, b"2"), (59_001, b"60")])
def test_who_waits_as_told_is_not_too_early(millis: int, seconds: bytes) -> None:
    """Seconds are rounded up, milliseconds are as they are, and neither is 0."""
    assert wait_headers(millis) == ((b"retry-after", seconds), (b"retry-after-ms", b"%d" % max(1, millis)))


STOOD = plan(
    rule("a", Unit.REQUESTS, 100), rule("b", Unit.REQUESTS, 10), rule("c", Unit.TOKENS, 5000),
    rule("d", Unit.INPUT_TOKENS, 400), rule("e", Unit.OUTPUT_TOKENS, 300), rule("f", Unit.CONCURRENCY, 1),
)  # fmt: skip
STANDINGS = (Standing(7, 55_800), Standing(9, 6000), Standing(4000, 12_000), Standing(-3, 61_000), Standing(2, 500),
             Standing(0, 1000))  # fmt: skip


@pytest.mark.parametrize(
    ("units", "has_one"),
    [
        ((Unit.REQUESTS, Unit.TOKENS, Unit.CONCURRENCY), True), ((Unit.CONCURRENCY, Unit.OUTPUT_TOKENS), True),
        ((Unit.CONCURRENCY,), True), ((Unit.REQUESTS, Unit.REQUESTS), False), ((Unit.TOKENS, Unit.INPUT_TOKENS), False),
    ],
)  # fmt: skip
def test_the_usual_headers_are_written_alike_by_what_is_ready_for_them(units: tuple[Unit, ...], has_one: bool) -> None:
    """Lines that were prepared say what lines that are put together do; several counters of a unit have none."""
    counters = plan(*(rule(f"r{number}", unit, 10 + number) for number, unit in enumerate(units))).counters
    heading = heading_of(counters)
    assert (heading is not None) == has_one
    for standings in ((Standing(7, 55_800), Standing(-3, 61_000), Standing(0, 0)), STANDINGS[3:]):
        stood = list(zip(counters, standings, strict=False))
        if heading is not None:
            assert heading_lines(heading, standings) == headroom_lines(stood, anthropic=False, now=NOW)


def test_openais_headers_have_the_counter_with_the_least_left() -> None:
    """Of each unit; what is below nothing is told as nothing, and what runs at once is not told."""
    lines = headroom_lines(zip(STOOD.counters, STANDINGS, strict=True), anthropic=False, now=NOW)
    assert lines.decode().split("\r\n") == [
        "x-ratelimit-limit-requests: 100",
        "x-ratelimit-remaining-requests: 7",
        "x-ratelimit-reset-requests: 55.8s",
        "x-ratelimit-limit-tokens: 400",
        "x-ratelimit-remaining-tokens: 0",
        "x-ratelimit-reset-tokens: 1m1s",
        "",
    ]


def test_anthropics_headers_have_a_family_for_each_kind_of_tokens() -> None:
    """With the times at which they are full again."""
    lines = headroom_lines(zip(STOOD.counters, STANDINGS, strict=True), anthropic=True, now=NOW)
    assert lines.decode().split("\r\n") == [
        "anthropic-ratelimit-requests-limit: 100",
        "anthropic-ratelimit-requests-remaining: 7",
        "anthropic-ratelimit-requests-reset: 2026-11-30T00:54:17Z",
        "anthropic-ratelimit-tokens-limit: 5000",
        "anthropic-ratelimit-tokens-remaining: 4000",
        "anthropic-ratelimit-tokens-reset: 2026-11-30T00:53:33Z",
        "anthropic-ratelimit-input-tokens-limit: 400",
        "anthropic-ratelimit-input-tokens-remaining: 0",
        "anthropic-ratelimit-input-tokens-reset: 2026-11-30T00:54:22Z",
        "anthropic-ratelimit-output-tokens-limit: 300",
        "anthropic-ratelimit-output-tokens-remaining: 2",
        "anthropic-ratelimit-output-tokens-reset: 2026-11-30T00:53:21Z",
        "",
    ]


def refused(outcome: Outcome, denied: int, wait_ms: int = 0, asked: Asked = Asked()) -> GatewayError:  # noqa: B008
    """Give the error of a verdict on a request of 20 units of each."""
    verdict = Verdict(outcome, STANDINGS, denied, wait_ms)
    return refusal(verdict, STOOD.counters, [1, 1, 20, 10, 10, 1], asked, ((b"x", b"y"),), NOW)


@pytest.mark.parametrize(
    ("denied", "kind"), [(0, "requests"), (2, "tokens"), (3, "tokens"), (4, "tokens"), (5, "requests")]
)
def test_who_has_to_wait_is_told_how_long(denied: int, kind: str) -> None:
    """429 rate_limit_exceeded, of requests or of tokens."""
    error = refused(Outcome.WAIT, denied, 1234)
    assert (error.status, error.type, error.code, error.param) == (429, kind, "rate_limit_exceeded", None)
    assert error.headers == ((b"retry-after", b"2"), (b"retry-after-ms", b"1234"), (b"x", b"y"))
    assert error.message.endswith("try again in 1.234s")


def test_a_wait_that_nobody_knows_is_a_second() -> None:
    """Of what runs at once nobody knows when it ends."""
    assert refused(Outcome.WAIT, 5).headers[:2] == wait_headers(1000)


def test_the_message_says_what_is_limited_and_how_much_is_left() -> None:
    """In words, by the name that the policy gives it."""
    assert refused(Outcome.WAIT, 4, 500).message == (
        "the limit `e` of 300 output tokens in 1m0s for this key has 2 output tokens left, and the request needs 10"
        " output tokens; try again in 500ms"
    )


@pytest.mark.parametrize("name", [None, "max_tokens", "max_completion_tokens", "max_output_tokens"])
def test_what_never_fits_is_the_requests_own_fault(name: str | None) -> None:
    """400, with the field that the client limits its answer with; the SDKs are told not to try again."""
    error = refused(Outcome.NEVER, 2, asked=Asked(name))
    assert (error.status, error.type, error.code) == (400, "invalid_request_error", "request_exceeds_limit")
    assert error.param == name
    assert error.headers == ((b"x-should-retry", b"false"), (b"x", b"y"))


def budget(name: str, dollars: int, soft: int | None) -> BudgetRule:
    """Give a budget of a day."""
    period = Period(type=PeriodType.DAY)
    return BudgetRule(name=name, per=Per.TENANT, nanoDollars=dollars * NANO, period=period, softLimitPercent=soft)


BUDGETS = budget("day", 10, 80), budget("month\r\nx", 100, 50), budget("none", 1, None)


def test_a_spent_budget_says_when_it_is_full_again() -> None:
    """429 insufficient_quota: the SDKs do not wait for that, people read it."""
    counters = plan(budgets=BUDGETS).counters
    verdict = Verdict(Outcome.SPENT, (Standing(5 * 10_000_000, 1), Standing(0, 1), Standing(0, 1)), 0, 7_200_000)
    error = refusal(verdict, counters, [2 * NANO, 0, 0], Asked(), (), NOW)
    assert (error.status, error.type, error.code) == (429, "insufficient_quota", "insufficient_quota")
    assert error.headers == (*wait_headers(7_200_000), (b"x-should-retry", b"false"))
    assert error.message == (
        "the budget `day` of $10.00 for this tenant has $0.05 left, and the request may cost $2.00; the next period"
        " begins at 2026-11-30T02:53:21Z"
    )


def test_the_budget_with_the_least_left_is_told_above_its_soft_limit() -> None:
    """By its share, in one header that no name can break."""
    counters = plan(budgets=BUDGETS).counters
    stood = list(
        zip(counters, (Standing(2 * NANO, 3_600_000), Standing(10 * NANO, 60_000), Standing(0, 0)), strict=True)
    )
    found = list(soft_limited(stood))
    assert [counter.rule.name for counter, _ in found] == ["day", "month\r\nx"]
    assert budget_line(found, NOW) == b"x-capstan-budget: month__x; used=90%; resets=2026-11-30T00:54:21Z\r\n"
    assert budget_line([], NOW) == b""
    below = [(counters[0], Standing(2 * NANO + 1, 0))]
    assert list(soft_limited(below)) == []


@pytest.mark.parametrize("anthropic", [False, True])
def test_pages_of_other_origins_may_read_all_of_it(anthropic: bool) -> None:
    """What is told is among the headers that browsers give to pages."""
    lines = headroom_lines(zip(STOOD.counters, STANDINGS, strict=True), anthropic=anthropic, now=NOW)
    told = {line.split(":")[0] for line in lines.decode().splitlines()}
    told |= {name.decode() for name, _ in (*wait_headers(1), NO_RETRY)} | {"x-capstan-budget"}
    assert told <= set(EXPOSED_HEADERS)
