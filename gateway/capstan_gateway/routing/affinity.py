"""Which requests belong together: they share a prefix that one engine has in its cache already."""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final

BLOCK_CHARS: Final = 256
MAX_BLOCKS: Final = 4
"""Only the head of a prompt counts: a conversation that goes on keeps its key, and so its endpoint."""
MAX_KEY_CHARS: Final = 512


def affinity_key(document: Mapping[str, Any], *, session: str = "") -> bytes | None:
    """Give the key of a request: what the client says, or whole blocks of the prompt's head; None without either.

    Requests with equal keys prefer one endpoint. A prompt shorter than one block has no key: there is nothing in a
    cache that would be worth an uneven load.
    """
    said = document.get("prompt_cache_key")
    if isinstance(said, str) and said:
        return _hash("cache", said[:MAX_KEY_CHARS])
    if session:
        return _hash("session", session[:MAX_KEY_CHARS])
    head = prompt_head(document, BLOCK_CHARS * MAX_BLOCKS)
    blocks = len(head) // BLOCK_CHARS
    return _hash("head", head[: blocks * BLOCK_CHARS]) if blocks else None


def prompt_head(document: Mapping[str, Any], chars: int) -> str:
    """Give the first `chars` characters of a prompt, in the order in which the engine sees them."""
    messages = document.get("messages")
    if isinstance(messages, list):
        parts: list[str] = []
        size = 0
        for message in messages:
            text = _text_of(message)
            parts.append(text[: chars - size])
            size += len(parts[-1])
            if size >= chars:
                break
        return "".join(parts)
    prompt = document.get("prompt")
    return prompt[:chars] if isinstance(prompt, str) else ""


def _text_of(message: object) -> str:
    if not isinstance(message, dict):
        return ""
    content = message.get("content")
    if isinstance(content, str):
        return f"{message.get('role')}\n{content}\n"
    if not isinstance(content, list):
        return ""
    texts = (part.get("text") for part in content if isinstance(part, dict))
    return f"{message.get('role')}\n" + "\n".join(text for text in texts if isinstance(text, str))


def _hash(kind: str, text: str) -> bytes:
    return blake2b(f"{kind}\n{text}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
