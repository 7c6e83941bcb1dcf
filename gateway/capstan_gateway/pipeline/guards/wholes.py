"""Which texts guards are about that judge a text as a whole: what is said, and not what stands beside it. Pure.

That an answer is JSON, that the context supports it, or that somebody keeps to a topic is asked of what is said: not of
a name, of a setting, of what a provider notes beside its answer, and of a message not part by part.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from capstan_contract.guards import AttackGuard, FormatGuard, GroundingGuard, Guard, TopicsGuard
from capstan_gateway.guards.plain.topics import OFF_TOPIC
from capstan_gateway.guards.port import Scan
from capstan_gateway.pipeline.guards.pieces import Piece

MOST_ONCE_MORE: Final = 4096
"""Characters of the parts of a message that the dearest guards look at once more for the line ends between them."""


def shown(guard: Guard, pieces: Sequence[Piece], numbers: Iterable[int]) -> list[int]:
    """Give those of these numbers whose pieces a guard is about at all."""
    if isinstance(guard, FormatGuard):
        return [number for number in numbers if not (pieces[number].aside or pieces[number].is_part)]
    if isinstance(guard, GroundingGuard):
        return [number for number in numbers if not pieces[number].aside]
    if isinstance(guard, AttackGuard):
        # NB: most words that touch each other it sees apart by itself, and what it does costs.
        return [one for one in numbers if pieces[one].apart is None or len(pieces[one].text) <= MOST_ONCE_MORE]
    return list(numbers)


def of_it(guard: Guard, piece: Piece, scan: Scan) -> Scan:
    """Give what of a scan holds of a text: a setting or a part of a text is not off topic by itself."""
    if not isinstance(guard, TopicsGuard) or (piece.says and not piece.is_part):
        return scan
    # NB: what is denied is found wherever it stands. Nobody is asked either: of the whole text somebody is.
    return replace(scan, findings=[one for one in scan.findings if one.kind != OFF_TOPIC], doubt=None)
