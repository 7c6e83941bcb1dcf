"""Models that guards ask and that are not served: these guards fail, and somebody should know."""

from collections.abc import Iterator
from typing import Final

from capstan_contract.entries import PolicyEntry
from capstan_contract.guards import AnyGuard, AttackGuard, OnError, models_of_guard, read_guard_body
from capstan_operator.desired.live import key_of
from capstan_operator.desired.surroundings import Surroundings

MOST_TOLD: Final = 3
"""So many guards are named."""


def tell_unasked(entry: PolicyEntry, around: Surroundings) -> Iterator[str]:
    """Say of the first guards of a policy whose model is none what becomes of requests."""
    body = read_guard_body(entry)
    found = [
        f"the guard '{guard.name}' {_becomes(guard)}, because {why}"
        for guard in (*body.input, *body.output)
        for model in models_of_guard(guard)
        if (why := around.lacks(key_of(model))) is not None
    ]
    yield from found[:MOST_TOLD]
    if len(found) > MOST_TOLD:
        yield f"so it is with {len(found) - MOST_TOLD} more"


def _becomes(guard: AnyGuard) -> str:
    closed = guard.onError is OnError.CLOSED
    if isinstance(guard, AttackGuard):
        return f"{'refuses' if closed else 'lets through'} what it is not sure of"
    return "refuses everything" if closed else "looks at nothing"
