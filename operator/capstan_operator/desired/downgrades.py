"""Downgrades of budgets that lead nowhere: the requests that they are for are denied, and somebody should know."""

from collections.abc import Collection, Iterator
from typing import Final

from capstan_contract.entries import PolicyEntry
from capstan_contract.limits import RATE_LIMIT_KIND, read_body
from capstan_operator.desired.live import key_of
from capstan_operator.desired.surroundings import Surroundings
from capstan_operator.resources.resource import ObjectKey

MOST_TOLD: Final = 3
"""So many budgets are named."""


def dead_downgrades(
    entry: PolicyEntry, served: Collection[ObjectKey], models: Collection[ObjectKey]
) -> Iterator[tuple[int, str]]:
    """Give the places of the budgets of a policy whose cheaper model is none, and why: it is not there (`models` are
    all that are), is not served, or is the only one that the policy is for."""
    if entry.kind != RATE_LIMIT_KIND:
        return
    only = entry.targets.names if entry.targets and len(entry.targets.names) == 1 else ()
    for place, budget in enumerate(read_body(entry).budgets):
        if budget.downgradeTo is None:
            continue
        key = key_of(budget.downgradeTo)
        if key in served and key.name in only:
            yield place, f"the LLMModel '{key.name}' is the only one that the policy is for"
        elif key not in served:
            yield place, f"the LLMModel '{key.name}' is not {'served' if key in models else 'there'}"


def tell_dead(entry: PolicyEntry, around: Surroundings) -> Iterator[str]:
    """Say of the first of these budgets what becomes of requests once they are spent."""
    found = list(dead_downgrades(entry, around.served, around.models))
    budgets = read_body(entry).budgets if found else ()
    for place, why in found[:MOST_TOLD]:
        yield f"the budget '{budgets[place].name}' denies once it is spent, because {why}"
    if len(found) > MOST_TOLD:
        yield f"so do {len(found) - MOST_TOLD} more"
