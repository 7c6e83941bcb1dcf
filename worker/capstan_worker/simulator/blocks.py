"""The KV cache in blocks, with prefix caching, as vLLM keeps it.

A block holds 16 tokens. Its name covers everything before it too, so equal names mean equal prefixes; it is the one of
the contract, by which gateways are told what is there (`kv_events`). Blocks of running requests are held; full blocks
that nobody holds any more stay as a cache and are evicted, least recently used first, when room is needed. Held and
cached blocks together never exceed the capacity.

One simplification: a request takes the blocks of its whole answer when it is admitted, so nothing is ever preempted.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from capstan_contract.kv_events import block_names, root_name
from capstan_worker.kv_events.held import HeldBlocks
from capstan_worker.simulator.tokens import token_id

BLOCK_SIZE = 16


@dataclass(frozen=True)
class Lease:
    """The blocks that one running request holds."""

    hashes: tuple[int, ...]
    """Its full prompt blocks, shared with whoever has the same prefix."""
    private: int
    """Blocks that only it has."""
    hit_tokens: int
    """Prompt tokens that were in the cache already."""


class BlockCache:
    """All blocks of one engine."""

    def __init__(self, capacity: int, *, prefix_caching: bool = True, told: HeldBlocks | None = None) -> None:
        """`told` is kept at what can be hit: the full blocks that are held or cached."""
        self.capacity = capacity
        self._told = told
        self.prefix_caching = prefix_caching
        self.queried_tokens = 0
        self.hit_tokens = 0
        self._held: dict[int, int] = {}
        self._private = 0
        self._cached: OrderedDict[int, None] = OrderedDict()

    @property
    def used(self) -> int:
        """Blocks held by running requests."""
        return len(self._held) + self._private

    @property
    def cached(self) -> int:
        """Blocks that nobody holds and that can be hit."""
        return len(self._cached)

    @property
    def usage(self) -> float:
        """The share of blocks that running requests hold, as in `vllm:kv_cache_usage_perc`."""
        return self.used / self.capacity

    def take(self, hashes: Sequence[int], *, prompt_tokens: int, total_blocks: int) -> Lease | None:
        """Hold `total_blocks` blocks, of which `hashes` are the full ones of the prompt; None when there is no room."""
        shared = tuple(hashes) if self.prefix_caching else ()
        private = max(total_blocks - len(shared), 0)
        new = sum(1 for item in shared if item not in self._held)
        if self.used + new + private > self.capacity:
            return None
        hit = self._hit_tokens(shared, prompt_tokens)
        if self.prefix_caching:
            self.queried_tokens += prompt_tokens
            self.hit_tokens += hit
        self._tell(item for item in shared if item not in self._held and item not in self._cached)
        for item in shared:
            self._cached.pop(item, None)
            self._held[item] = self._held.get(item, 0) + 1
        self._private += private
        self._evict()
        return Lease(hashes=shared, private=private, hit_tokens=hit)

    def give_back(self, lease: Lease, computed: Sequence[int] = ()) -> None:
        """Let go of a lease; `computed` are further full blocks (of the answer) that stay as a cache."""
        self._private -= lease.private
        # The tail goes first when room is needed, so it is put in first: a shared beginning outlives it.
        kept = [item for item in (computed if self.prefix_caching else ()) if item not in self._held]
        self._tell(item for item in kept if item not in self._cached)
        for item in reversed(kept):
            self._keep(item)
        for item in reversed(lease.hashes):
            self._held[item] -= 1
            if not self._held[item]:
                del self._held[item]
                self._keep(item)
        self._evict()

    def clear(self) -> None:
        """Forget what nobody holds."""
        if self._told is not None and self._held:
            self._told.remove(self._cached)
        elif self._told is not None:
            self._told.clear()
        self._cached.clear()

    def _tell(self, items: Iterable[int]) -> None:
        if self._told is not None:
            self._told.store(items)

    def _keep(self, item: int) -> None:
        self._cached[item] = None
        self._cached.move_to_end(item)

    def _evict(self) -> None:
        while self._cached and self.used + len(self._cached) > self.capacity:
            gone, _ = self._cached.popitem(last=False)
            if self._told is not None:
                self._told.remove((gone,))

    def _hit_tokens(self, shared: Sequence[int], prompt_tokens: int) -> int:
        # The last token is computed in any case: the first token of the answer comes out of it.
        most = (prompt_tokens - 1) // BLOCK_SIZE
        blocks = 0
        for item in shared[:most]:
            if item not in self._held and item not in self._cached:
                break
            blocks += 1
        return blocks * BLOCK_SIZE


_NOBODY = root_name()


def block_hashes(tokens: Sequence[str], *, before: int = _NOBODY) -> list[int]:
    """Give the name of each full block; `before` is that of the block before these tokens, or the root's."""
    return block_names([token_id(token) for token in tokens], BLOCK_SIZE, before=before)


def blocks_for(token_count: int) -> int:
    """Give how many blocks so many tokens need."""
    return -(-token_count // BLOCK_SIZE)
