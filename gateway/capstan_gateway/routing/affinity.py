"""Which requests belong together: they share a prefix that one engine has in its cache already.

A beginning that more requests share than one endpoint can take, such as an application's system prompt, tells nothing:
it is in every cache soon. So the key of a prompt ends with the first block behind it.

    system prompt ─┬─ conversation 1 ─── its next turn      key: up to "conversation 1", for both
                   ├─ conversation 2                        key: up to "conversation 2"
                   └─ a short question                      no key: any endpoint has all of it that can be had
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final

BLOCK_CHARS: Final = 256
MAX_BLOCKS: Final = 64
"""How far into a prompt a shared beginning is followed."""
FORKS: Final = 8
"""A beginning goes on in many ways when so many different blocks have followed it."""
MAX_HEADS: Final = 4096
"""A megabyte for each model. What many requests share is used again long before so many others have come."""
RECENT: Final = 2048
"""After so many requests each one before counts half."""
MAX_KEY_CHARS: Final = 512
_END: Final = (b"", False)


class _Head:
    """What is known about one beginning: its recent requests, and the blocks that followed it."""

    __slots__ = ("count", "era", "nexts")

    def __init__(self, era: int) -> None:
        self.count = 0
        self.era = era
        self.nexts: set[bytes] | None = None
        """None: no block yet. Most beginnings never get one, and there are many of them."""

    @property
    def forks(self) -> bool:
        return self.nexts is not None and len(self.nexts) >= FORKS

    def followed_by(self, block: bytes) -> None:
        if self.nexts is None:
            self.nexts = {block}
        else:
            self.nexts.add(block)


class SharedHeads:
    """Which beginnings of prompts are shared by too many. Bounded: the least recently used are forgotten.

    A beginning is passed over when it has more than one endpoint's fair share of the requests, and goes on in many
    ways; a single conversation that is all of the traffic keeps its key. It decides by what it has seen, not by who
    has what in its cache: gateways side by side come to the same keys.
    """

    __slots__ = ("_era", "_heads", "_max_heads", "_total")

    def __init__(self, max_heads: int = MAX_HEADS) -> None:
        self._max_heads = max_heads
        self._heads: OrderedDict[bytes, _Head] = OrderedDict()
        self._total = 0
        self._era = 0

    def __len__(self) -> int:
        return len(self._heads)

    def key(self, head: str, endpoints: int) -> bytes | None:
        """Give the key of a prompt that begins so; None when all of its whole blocks are shared, or there is none."""
        self._count_request()
        if len(head) < BLOCK_CHARS:
            return None
        chain = _chain(head)
        block, whole = next(chain, _END)
        key = block if whole else None
        while whole:
            known = self._seen(block)
            if known.count * endpoints <= self._total:
                break
            block, whole = next(chain, _END)
            if block and not known.forks:
                known.followed_by(block)
            if known.forks:
                key = block if whole else None
        return key

    def shared(self, head: str, endpoints: int) -> int:
        """Give how many characters of a beginning are shared by so many requests that every endpoint has them soon.

        It counts nothing: `key` does, of the same prompt.
        """
        shared = seen = 0
        for block, whole in _chain(head):
            known = self._heads.get(block) if whole else None
            if known is None or (known.count >> (self._era - known.era)) * endpoints <= self._total:
                break
            seen += BLOCK_CHARS
            if known.forks:
                shared = seen
        return shared

    def _count_request(self) -> None:
        self._total += 1
        if self._total >= RECENT:
            self._total //= 2
            self._era += 1

    def _seen(self, block: bytes) -> _Head:
        known = self._heads.get(block)
        if known is None:
            known = self._heads[block] = _Head(self._era)
            if len(self._heads) > self._max_heads:
                self._heads.popitem(last=False)
        else:
            self._heads.move_to_end(block)
        known.count = (known.count >> (self._era - known.era)) + 1
        known.era = self._era
        return known


def affinity_key(
    document: Mapping[str, Any], heads: SharedHeads, *, endpoints: int, session: str = "", whose: str = ""
) -> bytes | None:
    """Give the key of a request: what the client says, or the prompt's head; None when neither says anything.

    What a client says is its own: `whose` says who that is. Requests with equal keys prefer one endpoint. A prompt
    shorter than one block has no key: there is nothing in a cache that would be worth an uneven load.
    """
    said = document.get("prompt_cache_key")
    if isinstance(said, str) and said:
        return _hash("cache", said[:MAX_KEY_CHARS], whose)
    if session:
        return _hash("session", session[:MAX_KEY_CHARS], whose)
    return heads.key(prompt_head(document, BLOCK_CHARS * MAX_BLOCKS), endpoints)


def shared_chars(document: Mapping[str, Any], heads: SharedHeads, *, endpoints: int, session: str = "") -> int:
    """Give how many characters of a prompt's beginning too many requests share; call it behind `affinity_key`."""
    head = prompt_head(document, BLOCK_CHARS * MAX_BLOCKS)
    if session or document.get("prompt_cache_key"):
        heads.key(head, endpoints)  # Its key was what the client says: the beginning is not counted yet.
    return heads.shared(head, endpoints)


def _chain(head: str) -> Iterator[tuple[bytes, bool]]:
    """Give a hash for each block, over everything before it too, and whether it is whole; only as far as asked."""
    before = b"head"
    for start in range(0, len(head), BLOCK_CHARS):
        text = head[start : start + BLOCK_CHARS]
        before = blake2b(before + text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        yield before, len(text) == BLOCK_CHARS


def prompt_head(document: Mapping[str, Any], chars: int) -> str:
    """Give the first `chars` characters of a prompt, in the order in which the engine sees them."""
    messages = document.get("messages")
    if not isinstance(messages, list):
        prompt = document.get("prompt")
        return prompt[:chars] if isinstance(prompt, str) else ""
    parts: list[str] = []
    left = chars
    for message in messages:
        text = _text_of(message, left)
        parts.append(text)
        left -= len(text)
        if left <= 0:
            break
    return "".join(parts)[:chars]


def _text_of(message: object, chars: int) -> str:
    """Give what counts of a message; of a text longer than `chars` no more than its first so many are copied."""
    if not isinstance(message, dict):
        return ""
    content = message.get("content")
    if isinstance(content, str):
        return f"{message.get('role')}\n{content if len(content) <= chars else content[:chars]}\n"
    if not isinstance(content, list):
        return ""
    texts = (part.get("text") for part in content if isinstance(part, dict))
    return f"{message.get('role')}\n" + "\n".join(text[:chars] for text in texts if isinstance(text, str))


def _hash(kind: str, text: str, whose: str) -> bytes:
    said = f"{kind}\n{whose}\n{text}" if whose else f"{kind}\n{text}"
    return blake2b(said.encode("utf-8", "surrogatepass"), digest_size=8).digest()
