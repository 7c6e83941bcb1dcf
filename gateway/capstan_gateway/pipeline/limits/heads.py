"""What is told of the limits of one request: of all policies that it is inside of, the tightest of each unit."""

from collections.abc import Sequence

from capstan_gateway.dialects.clients.spoken import MESSAGES
from capstan_gateway.errors import GatewayError
from capstan_gateway.limits.port import Verdict
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.limits.grant import Grant
from capstan_gateway.pipeline.limits.rules import Heading, Plan
from capstan_gateway.pipeline.limits.told import (
    Asked,
    Stood,
    budget_line,
    heading_lines,
    heading_of,
    headroom_headers,
    headroom_lines,
    refusal,
    soft_limited,
)
from capstan_gateway.pipeline.request import Request

NOT_USUAL = Heading(b"", ())
"""Of plans with several counters of one unit: the one with the least left is told."""
_LIMITS_OF_ANSWERS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


def stood_in(ask: Ask) -> list[Stood]:
    """Give the counters of all grants of an ask, as they stood last."""
    stood: list[Stood] = []
    if ask.governed is not None:
        for grant in ask.governed.grants:
            if isinstance(grant, Grant):
                stood += zip(grant.plan.counters, grant.standings, strict=True)
    return stood


def limit_lines(ask: Ask, now: float) -> bytes:
    """Give the header lines of an answer."""
    return _usual_lines(ask) or _any_lines(ask, now)


def _usual_lines(ask: Ask) -> bytes:
    """Give those of one policy that needs no more than OpenAI's headers; b"" where there is more to tell."""
    governed = ask.governed
    if governed is None or len(governed.grants) != 1 or ask.request.route.dialect is MESSAGES:
        return b""
    grant = governed.grants[0]
    if type(grant) is not Grant or grant.plan.has_soft_limit:
        return b""
    plan = grant.plan
    heading = plan.heading
    if heading is None:
        heading = plan.heading = heading_of(plan.counters) or NOT_USUAL
    held = grant.reservation
    return b"" if heading is NOT_USUAL or held is None else heading_lines(heading, held.verdict.standings)


def _any_lines(ask: Ask, now: float) -> bytes:
    stood = stood_in(ask)
    lines = headroom_lines(stood, anthropic=ask.request.route.dialect is MESSAGES, now=now)
    nearly = list(soft_limited(stood))
    return lines + budget_line(nearly, now) if nearly else lines


def refused(ask: Ask, plan: Plan, verdict: Verdict, needed: Sequence[int], now: float) -> GatewayError:
    """Give the error of an ask that a policy does not admit."""
    stood = [*stood_in(ask), *zip(plan.counters, verdict.standings, strict=True)]
    headroom = headroom_headers(stood, anthropic=ask.request.route.dialect is MESSAGES, now=now)
    return refusal(verdict, plan.counters, needed, _asked(ask.request), headroom, now)


def _asked(request: Request) -> Asked:
    document = request.document if request.native is None else request.native.document
    return Asked(next((name for name in _LIMITS_OF_ANSWERS if document.get(name) is not None), None))
