"""Which endpoint of a model holds which blocks of prompts, as their workers tell it (`capstan_contract.kv_events`).

    begin ─► the snapshot, then changes ─► forget      of one connection to one worker
                     │
    a prompt's names ┴─► for each endpoint that tells: how many tokens of the prompt's beginning it holds

What was sent to an endpoint a moment ago counts as held there, although its worker cannot have told it yet: equal
prompts that come together would go to as many endpoints as there are, and each would compute the same.

Pure, and bounded: by what a worker may tell, and by who connects to no more of them than there is room for.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from capstan_contract.kv_events import MOST_BLOCKS, Change, Head

SOON_SECONDS: Final = 2.0
"""How long a prompt counts as held where it was sent. By then the worker has told it, or the engine has not begun."""
MOST_SOON: Final = 16_384
"""Blocks of one endpoint that count so; those that were sent longest ago no longer do."""

FORGOTTEN_AT_ONCE: Final = 1024


@dataclass(frozen=True, slots=True)
class PromptBlocks:
    """What of a prompt is compared with what endpoints hold."""

    tokens: int
    """Of the whole prompt."""
    names: Mapping[int, Sequence[int]]
    """The names of its whole blocks, by the number of tokens that a block has."""
    shared: int = 0
    """So many tokens of its beginning are in every cache soon; see `affinity`."""


class TooManyBlocks(ValueError):
    """An endpoint holds more than a worker may tell."""


class _Told:
    """What one endpoint holds."""

    __slots__ = ("blocks", "left", "size", "soon")

    def __init__(self, head: Head) -> None:
        self.size = head.block_tokens
        self.left = head.snapshot
        """Names of the snapshot that are still to come."""
        self.blocks: set[int] = set()
        self.soon: OrderedDict[int, float] = OrderedDict()
        """What was sent there and is not told yet, and until when it counts; the oldest first."""

    def leading(self, names: Sequence[int], now: float) -> int:
        """Give how many blocks of a prompt's beginning are here, or will be at once."""
        blocks, soon, most = self.blocks, self.soon, len(names)

        def is_here(place: int) -> bool:
            name = names[place]
            return name in blocks or soon.get(name, 0.0) > now

        # NB: a request waits for this, and each look at a large set is a miss of the processor's caches: 6 ms for a
        # prompt of 2,048 blocks that eight endpoints hold. So it is searched for in steps that double, then by halves.
        # Engines give up the end of a prompt before its beginning; where one has not, a hole is passed over, and the
        # request finds less than was expected.
        least, step = 0, 1
        while least + step <= most and is_here(least + step - 1):
            least += step
            step *= 2
        end = min(least + step - 1, most)
        while least < end:
            middle = (least + end + 1) // 2
            if is_here(middle - 1):
                least = middle
            else:
                end = middle - 1
        return least


class HeldBlocks:
    """Those of one model. Only the loop's thread touches it."""

    __slots__ = ("_told", "beginnings", "estimated", "exact", "expected_hits", "prompt_tokens", "unheard")

    def __init__(self) -> None:
        self._told: dict[str, _Told] = {}
        self.exact = 0
        """Requests that went where their blocks are, or would have gone there; for metrics, as those below."""
        self.beginnings = 0
        """Of an earlier turn of the conversation only the blocks were known."""
        self.estimated = 0
        """Requests whose blocks nobody knew in time."""
        self.expected_hits = 0
        """Tokens of prompts that the chosen endpoints held."""
        self.prompt_tokens = 0
        """Of the same prompts, all tokens."""
        self.unheard: dict[str, int] = {}
        """How often a worker was not heard, or no longer, by the reason, of `kv_listening.Unheard`."""

    def begin(self, endpoint_id: str, head: Head) -> None:
        """A worker begins to tell: what was known of its endpoint is forgotten."""
        self._told[endpoint_id] = _Told(head)

    def apply(self, endpoint_id: str, change: Change) -> int:
        """Take what has changed; give by how many blocks the endpoint holds more. Raises TooManyBlocks."""
        told = self._told[endpoint_id]
        before = len(told.blocks)
        if len(change.stored) + (0 if change.cleared else before) > MOST_BLOCKS + len(change.removed):
            raise TooManyBlocks(f"an engine may hold at most {MOST_BLOCKS} blocks")
        if change.cleared:
            told.blocks.clear()
            told.soon.clear()
        told.blocks.difference_update(change.removed)
        told.blocks.update(change.stored)
        if told.left:
            told.left = max(0, told.left - len(change.stored))
        if told.soon:
            for name in change.stored:
                told.soon.pop(name, None)
        return len(told.blocks) - before

    def not_sent(self, endpoint_id: str, prompt: PromptBlocks) -> None:
        """It could not be sent there: none of it counts as held there but what its worker has told."""
        told = self._told.get(endpoint_id)
        if told is not None and told.soon:
            for name in prompt.names.get(told.size, ())[:MOST_SOON]:
                told.soon.pop(name, None)

    def forget(self, endpoint_id: str) -> None:
        """The worker is lost, or its endpoint gone."""
        self._told.pop(endpoint_id, None)

    def told_by(self) -> list[str]:
        """Give the ids of the endpoints whose workers have told all that they hold."""
        return [id_ for id_, told in self._told.items() if not told.left]

    def blocks(self, endpoint_id: str) -> int:
        """Give how many blocks an endpoint holds, as far as it has told."""
        told = self._told.get(endpoint_id)
        return 0 if told is None else len(told.blocks)

    def block_sizes(self) -> set[int]:
        """Give the sizes of the blocks that are told of, in tokens: one, but while engines are replaced by others."""
        return {told.size for told in self._told.values() if not told.left}

    def held(self, prompt: PromptBlocks, now: float) -> dict[str, int]:
        """Give how many tokens of a prompt's beginning each endpoint holds that has told all; others are left out."""
        found = {}
        for id_, told in self._told.items():
            names = prompt.names.get(told.size)
            if names is not None and not told.left:
                found[id_] = told.leading(names, now) * told.size
        return found

    def expect(self, prompt: PromptBlocks, tokens: int) -> None:
        """Count a prompt, and so many tokens of it that the endpoint holds which was chosen first."""
        self.prompt_tokens += prompt.tokens
        self.expected_hits += min(tokens, prompt.tokens)

    def chosen(self, endpoint_id: str, prompt: PromptBlocks, now: float) -> None:
        """A prompt is sent to an endpoint: for a moment all of it counts as held there."""
        told = self._told.get(endpoint_id)
        if told is None:
            return
        soon, until = told.soon, now + SOON_SECONDS
        for name in prompt.names.get(told.size, ())[:MOST_SOON]:
            if name not in told.blocks:
                soon.pop(name, None)
                soon[name] = until
        while len(soon) > MOST_SOON:
            soon.popitem(last=False)
        # The rest of those that are over goes with the next ones: a request waits for this.
        for _ in range(min(FORGOTTEN_AT_ONCE, len(soon))):
            if next(iter(soon.values())) > now:
                break
            soon.popitem(last=False)
