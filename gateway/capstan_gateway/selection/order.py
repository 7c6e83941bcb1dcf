"""In which order the models that could answer are asked: the first one answers, the others stand by."""

import math
from collections.abc import Callable, Sequence
from hashlib import blake2b

from capstan_contract.config import Price, Strategy
from capstan_gateway.selection.filters import Member, Model, is_tight
from capstan_gateway.selection.needs import Needs
from capstan_gateway.selection.route_memory import RouteMemory
from capstan_gateway.tokens.price import MINUTE
from capstan_gateway.tokens.prompt import SOUND_TOKENS_PER_SECOND

MILLION = 1_000_000


def order(
    members: Sequence[Member[Model]],
    strategy: Strategy,
    needs: Needs,
    *,
    route: str,
    memory: RouteMemory,
    load: Callable[[Model], float],
    sticky: bytes | None = None,
    stream: bool = False,
) -> list[Member[Model]]:
    """The members, best first; those that must not be asked are left out. The order of `members` does not matter.

    Where a strategy has no preference, the less loaded model comes first. Models whose context window the request
    probably exceeds come last, except for weights, which are kept as they are.
    """
    if strategy is Strategy.WEIGHTED:
        return _by_weight(members, route, memory, sticky)
    if strategy is Strategy.FASTEST:
        return _by_speed(members, needs, route, memory, load, stream)

    def key(member: Member[Model]) -> tuple[bool, float, float, str]:
        model = member.model
        first = member.priority if strategy is Strategy.PRIORITY else estimated_cost(model.price, needs)
        return is_tight(model, needs), math.inf if first is None else first, load(model), model.id

    return sorted(members, key=key)


def estimated_cost(price: Price | None, needs: Needs) -> float | None:
    """What a request would cost in US dollars; None when nobody knows."""
    if price is None:
        return None
    ins, out, heard = price.inputPerMillion, price.outputPerMillion, price.audioInputPerMillion
    for tier in price.tiers:
        if needs.prompt_tokens > tier.aboveInputTokens:
            ins = ins if tier.inputPerMillion is None else tier.inputPerMillion
            out = out if tier.outputPerMillion is None else tier.outputPerMillion
    tokens = needs.prompt_tokens * ins + needs.output_tokens * out
    if needs.sound_tokens:
        tokens += needs.sound_tokens * (ins if heard is None else heard)
        minutes = needs.sound_tokens / (MINUTE * SOUND_TOKENS_PER_SECOND)
        return tokens / MILLION + minutes * (price.audioInputPerMinute or 0.0)
    return tokens / MILLION


def _by_weight(
    members: Sequence[Member[Model]], route: str, memory: RouteMemory, sticky: bytes | None
) -> list[Member[Model]]:
    usable = [member for member in members if member.weight > 0]
    if len(usable) < 2:
        return usable
    if sticky is not None:
        return sorted(usable, key=lambda member: (-_rank(member, sticky), member.model.id))
    first = memory.next_turn(route, [(member.model.id, member.weight) for member in usable])
    return sorted(usable, key=lambda member: (member.model.id != first, -member.weight, member.model.id))


def _rank(member: Member[Model], sticky: bytes) -> float:
    """Weighted rendezvous hashing: a key's best member is each with the probability of its weight.

    A change of weights moves no key but those that it must, and so does a member that comes or goes.
    """
    digest = blake2b(sticky + b"\0" + member.model.id.encode(), digest_size=8).digest()
    share = (int.from_bytes(digest, "big") + 0.5) / 2.0**64
    return -member.weight / math.log(min(share, 1 - 2.0**-53))


def _by_speed(
    members: Sequence[Member[Model]],
    needs: Needs,
    route: str,
    memory: RouteMemory,
    load: Callable[[Model], float],
    stream: bool,
) -> list[Member[Model]]:
    def key(member: Member[Model]) -> tuple[bool, float, float, str]:
        model = member.model
        speed = memory.speed(model.id, stream=stream)
        return is_tight(model, needs), math.inf if speed is None else speed, load(model), model.id

    ordered = sorted(members, key=key)
    roomy = [member for member in ordered if not is_tight(member.model, needs)]
    if len(roomy) > 1 and memory.explores(route):
        longest_ago = min(roomy, key=lambda member: (memory.looked_at(member.model.id, stream=stream), member.model.id))
        ordered.remove(longest_ago)
        ordered.insert(0, longest_ago)
    return ordered


def sticky_key(kind: str, value: str) -> bytes | None:
    """The key that keeps a user or a session with one member; None for nobody in particular."""
    return blake2b(f"{kind}\n{value}".encode("utf-8", "surrogatepass"), digest_size=16).digest() if value else None
