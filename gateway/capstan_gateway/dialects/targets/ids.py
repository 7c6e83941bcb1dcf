"""Ids of tool calls as a hosted API takes them. A call and its result keep one id, and each pair its own."""

import re
from hashlib import blake2b
from typing import Final

_FIT: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What Anthropic takes as an id (`^[a-zA-Z0-9_-]+$`), and no longer than OpenAI takes one."""
_UNFIT: Final = re.compile(r"[^A-Za-z0-9_-]")
_KEPT_CHARS: Final = 40


def fitting_id(call_id: str) -> str:
    """Give the id itself where it fits, else its beginning and a hash: the same for the same id, now and later."""
    if _FIT.fullmatch(call_id):
        return call_id
    digest = blake2b(call_id.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
    return f"{_UNFIT.sub('_', call_id)[:_KEPT_CHARS]}_{digest}"


class PairedIds:
    """The ids of one conversation, from its first turn to its last.

    Some engines give an id again in a later turn, or to two calls at once. The n-th call with an id is then another one
    (`a`, `a_2`), and so is the n-th result.
    """

    def __init__(self) -> None:
        self._calls: dict[str, list[str]] = {}
        self._results: dict[str, int] = {}
        self._taken: set[str] = set()

    def of_call(self, call_id: str) -> str:
        """Give the id of the next call in the conversation."""
        before = self._calls.setdefault(call_id, [])
        wanted = fitting_id(call_id) if not before else fitting_id(f"{call_id}_{len(before) + 1}")
        number = len(before) + 1
        while wanted in self._taken:
            number += 1
            wanted = fitting_id(f"{call_id}_{number}")
        self._taken.add(wanted)
        before.append(wanted)
        return wanted

    def of_result(self, call_id: str) -> str:
        """Give the id of the next result: of the call that it answers, or its own where there was no such call."""
        calls = self._calls.get(call_id)
        if not calls:
            return fitting_id(call_id)
        number = self._results.get(call_id, 0)
        self._results[call_id] = number + 1
        return calls[min(number, len(calls) - 1)]
