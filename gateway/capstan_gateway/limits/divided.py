"""A gateway's part of a limit, while it cannot ask what the others have had. Pure.

The parts of all gateways together come to the limit, with one exception: each may have at least one unit at a moment,
so that a limit below the number of gateways does not turn requests away by chance.
"""

from dataclasses import replace

from capstan_gateway.limits.port import Charge, Rate, Rule, Slots


def part_of(rule: Rule, gateways: int) -> Rule:
    """Give the part of one of so many gateways; a Rate is slowed down, so that its parts come in exactly as it does."""
    count = max(gateways, 1)
    if isinstance(rule, Rate):
        return Rate(amount=rule.amount, window_ms=rule.window_ms * count, capacity=max(rule.capacity // count, 1))
    return replace(rule, limit=max(rule.limit // count, 1))


def most_of(rule: Rule) -> int:
    """Give what a bucket holds at most."""
    return rule.capacity if isinstance(rule, Rate) else rule.limit


def charge_on_part(charge: Charge, gateways: int) -> Charge:
    """Give the charge on this gateway's part. What fits the limit and not the part takes all of the part, and what it
    used is charged in the end: its part is then below 0 for a while."""
    bucket, amount = charge.bucket, charge.amount
    part = part_of(bucket.rule, gateways)
    if amount <= most_of(bucket.rule):
        amount = min(amount, most_of(part))
    return Charge(replace(bucket, rule=part), amount)


def is_held(rule: Rule) -> bool:
    """Whether it is given back as a whole, however much was used."""
    return isinstance(rule, Slots)


def refilled(rule: Rule, seconds: float) -> int:
    """Give how much comes in during a time, rounded up."""
    if not isinstance(rule, Rate):
        return 0
    return -(-rule.amount * int(seconds * 1000 + 1) // rule.window_ms)
