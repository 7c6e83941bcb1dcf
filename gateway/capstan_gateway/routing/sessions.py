"""Which endpoint has a conversation in its cache: the one that answered its last turn, not the one that it hashes to.

    key ─► the endpoint that answered last ─► it is there, and not overloaded: it again
                       │ gone, open breaker, overloaded
                       └─► the one that the key hashes to (`picker.preferred`), which has it from then on

Bounded by tokens, as a cache of keys and values is: the conversations that were asked for longest ago are forgotten, as
engines forget them. An endpoint that goes takes what it held with it.
"""

from collections import OrderedDict
from typing import Final

MOST_TOKENS: Final = 1_000_000
"""Of one endpoint. A token of a model of 8 billion parameters takes 128 KB in 16 bits: 128 GB, more than most have."""
MOST_SESSIONS: Final = 65_536
BYTES_PER_TOKEN: Final = 4
"""Of a request: what is sent of a conversation is JSON around English text."""


class Sessions:
    """Those of one model. Only the loop's thread touches it."""

    __slots__ = ("_held", "_holders", "_most_tokens", "_tokens")

    def __init__(self, most_tokens: int = MOST_TOKENS) -> None:
        self._most_tokens = most_tokens
        self._holders: OrderedDict[bytes, tuple[str, int]] = OrderedDict()
        self._held: dict[str, OrderedDict[bytes, None]] = {}
        """By endpoint: its conversations, in the same order, so that the oldest of each is found at once."""
        self._tokens: dict[str, int] = {}
        """By endpoint: how many tokens its conversations have."""

    def __len__(self) -> int:
        return len(self._holders)

    def tokens(self, endpoint_id: str) -> int:
        """Give how many tokens of conversations an endpoint holds, as far as is known here."""
        return self._tokens.get(endpoint_id, 0)

    def holder(self, key: bytes) -> str | None:
        """Give the id of the endpoint that has this conversation; None where none is known to."""
        found = self._holders.get(key)
        return None if found is None else found[0]

    def found(self, key: bytes) -> tuple[str | None, int]:
        """Give the holder of a conversation, and how many tokens it had at its last turn there; None and 0 as above."""
        return self._holders.get(key, (None, 0))

    def note(self, key: bytes, endpoint_id: str, tokens: int) -> None:
        """An endpoint answers a turn of this conversation, which has so many tokens by now."""
        self._forget(key)
        tokens = min(tokens, self._most_tokens)
        self._holders[key] = endpoint_id, tokens
        held = self._held.get(endpoint_id)
        if held is None:
            held = self._held[endpoint_id] = OrderedDict()
        held[key] = None
        self._tokens[endpoint_id] = self._tokens.get(endpoint_id, 0) + tokens
        while self._tokens[endpoint_id] > self._most_tokens:
            self._forget(next(iter(held)))
        while len(self._holders) > MOST_SESSIONS:
            self._forget(next(iter(self._holders)))

    def retain(self, endpoint_ids: frozenset[str]) -> None:
        """Forget what was held by endpoints that are gone."""
        for gone in self._held.keys() - endpoint_ids:
            for key in self._held.pop(gone):
                del self._holders[key]
            del self._tokens[gone]

    def _forget(self, key: bytes) -> None:
        known = self._holders.pop(key, None)
        if known is not None:
            endpoint_id, tokens = known
            self._tokens[endpoint_id] -= tokens
            del self._held[endpoint_id][key]
