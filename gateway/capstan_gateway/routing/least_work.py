"""Which endpoint has the least to do for a request, where they tell which blocks of prompts they hold. Pure.

    those below the bound of load ─► work of each: tokens to be computed, and what is before the request
            │ nobody holds more than what every cache has soon      │ about the same at several
            ▼                                                       ▼
          today's way among all                                   today's way among these

Today's way is `picker`: the endpoint that answered the conversation last, the one that its key hashes to, the better of
two. So new prompts spread, and stay where they went.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from capstan_gateway.routing.picker import better, candidates, load_bound, preferred
from capstan_gateway.routing.registry import EndpointState

REQUEST_TOKENS: Final = 64
"""What a request in flight at an endpoint is worth in tokens of a prompt: others in its batch slow a request down."""
LEAST_HELD: Final = 32
"""Fewer tokens than this are computed in no time: they are no reason to go anywhere."""
SAME_SHARE: Final = 16
"""Endpoints whose work differs by less than this part of the prompt are alike."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is known of a request."""

    tokens: int
    """Of its prompt."""
    held: Mapping[str, int]
    """How many of them endpoints hold, by id: of those that tell."""
    shared: int = 0
    """How many of them every endpoint has soon, because many requests begin so."""
    affinity: bytes | None = None
    holder: str | None = None
    """The id of the endpoint that answered the conversation last."""
    holder_tokens: int = 0
    """How many tokens it had then."""


def least_work(
    states: Sequence[EndpointState], now: float, rng: Random, wanted: Wanted, excluded: Collection[EndpointState] = ()
) -> EndpointState | None:
    """Choose one of the endpoints that are not excluded; None when there is none.

    None is chosen that has `picker.load_bound` requests in flight, as long as there are others.
    """
    usable = candidates(states, now, excluded)
    if len(usable) < 2:
        return usable[0] if usable else None
    held = _expected(usable, wanted)
    if held is None or max(held) - wanted.shared < LEAST_HELD:
        return _as_today(usable, now, rng, wanted)
    bound = load_bound(usable)
    work = [
        (wanted.tokens - found + REQUEST_TOKENS * state.in_flight, state)
        for found, state in zip(held, usable, strict=True)
        if state.in_flight < bound
    ]
    least = min(tokens for tokens, _ in work) + wanted.tokens // SAME_SHARE
    return _as_today([state for tokens, state in work if tokens <= least], now, rng, wanted)


def _expected(usable: Sequence[EndpointState], wanted: Wanted) -> list[int] | None:
    """Give how many tokens each probably holds; None where none of them tells.

    One that tells nothing holds what it was sent of the conversation last, and what all have soon. It is not passed
    over: new prompts are spread over all, and go on where they went.
    """
    if not any(state.endpoint.id in wanted.held for state in usable):
        return None
    sent = max(wanted.shared, min(wanted.holder_tokens, wanted.tokens))
    return [
        wanted.held.get(id_, sent if id_ == wanted.holder else wanted.shared)
        for id_ in (state.endpoint.id for state in usable)
    ]


def _as_today(alike: Sequence[EndpointState], now: float, rng: Random, wanted: Wanted) -> EndpointState:
    if len(alike) == 1:
        return alike[0]
    if wanted.affinity is not None:
        return preferred(alike, wanted.affinity, wanted.holder)
    one, other = rng.sample(alike, 2)
    return better(one, other, now)
