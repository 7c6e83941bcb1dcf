"""Ids of tool calls as a target takes them. A call and its result keep one id, and each pair its own."""

import re
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final

from capstan_contract.config import ToolIds
from capstan_gateway.dialects.fields import Document

IdForm = Callable[[str, str, int], str]
"""Makes an id fit: of the id as it came, the tool's name, and how many calls of the conversation came before, or more.
The same for the same three; what fits stays as it is."""

_UNFIT: Final = re.compile(r"[^A-Za-z0-9_-]")
_DIGEST_CHARS: Final = 12
_MISTRAL: Final = re.compile(r"[A-Za-z0-9]{9}")
_MISTRAL_CHARS: Final = 9
_LETTERS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def _plain(longest: int) -> IdForm:
    """Letters, digits, `_` and `-`, and no more than so many: else its beginning and a hash."""
    fit = re.compile(rf"[A-Za-z0-9_-]{{1,{longest}}}")

    def form(call_id: str, _name: str, _number: int) -> str:
        if fit.fullmatch(call_id):
            return call_id
        return f"{_UNFIT.sub('_', call_id)[: longest - _DIGEST_CHARS - 1]}_{_digest(call_id, _DIGEST_CHARS // 2).hex()}"

    return form


def _mistral(call_id: str, _name: str, _number: int) -> str:
    if _MISTRAL.fullmatch(call_id):
        return call_id
    rest, made = int.from_bytes(_digest(call_id, 8)), ""
    while len(made) < _MISTRAL_CHARS:
        rest, letter = divmod(rest, len(_LETTERS))
        made += _LETTERS[letter]
    return made


def _kimi(call_id: str, name: str, number: int) -> str:
    return f"functions.{name}:{number}" if name else call_id


def _digest(call_id: str, size: int) -> bytes:
    return blake2b(call_id.encode("utf-8", "surrogatepass"), digest_size=size).digest()


anthropic_id: Final = _plain(64)
"""What Anthropic takes, `^[a-zA-Z0-9_-]+$`, and no longer than OpenAI's Responses API takes one."""
FORMS: Final[dict[ToolIds, IdForm]] = {
    ToolIds.OPENAI: _plain(40),
    ToolIds.MISTRAL: _mistral,
    ToolIds.KIMI: _kimi,
}
"""OpenAI's chat completions: "string too long. Expected a string with maximum length 40". Mistral: "must be a-z, A-Z,
0-9, with a length of 9". Kimi's template numbers all calls of a conversation, `functions.<name>:<number>`."""


def fitting_id(call_id: str) -> str:
    """Give an id that Anthropic and OpenAI's Responses API take: itself where it fits, else a beginning and a hash."""
    return anthropic_id(call_id, "", 0)


class PairedIds:
    """The ids of one conversation, from its first turn to its last.

    Some engines give an id again in a later turn, or to two calls at once. The n-th call with an id is then another one
    (`a`, `a_2`). A result is of the first call with its id in the newest turn that none has answered yet, so that
    calls which were interrupted, and have no result, leave the others theirs.
    """

    def __init__(self, form: IdForm = anthropic_id) -> None:
        self._form = form
        self._calls: dict[str, list[list[str]]] = {}
        """By the id as it came, of each turn that has such calls: the new ids of those without a result."""
        self._newest: dict[str, str] = {}
        """By the id as it came: the new one of the call that was answered last."""
        self._turns: dict[str, int] = {}
        """By the id as it came: the turn of its newest calls."""
        self._turn = 0
        self._counts: dict[str, int] = {}
        """By the id as it came: the number of its newest call. What was tried in vain is not tried again."""
        self._place = 0
        """Of the next call in the conversation."""
        self._taken: set[str] = set()

    def begin_turn(self) -> None:
        """Note that the calls that follow are of another turn than those before."""
        self._turn += 1

    def of_call(self, call_id: str, name: str = "") -> str:
        """Give the id of the next call in the conversation."""
        number, place = self._counts.get(call_id, 0) + 1, self._place
        made = self._form(call_id if number == 1 else f"{call_id}_{number}", name, place)
        while made in self._taken:
            # Each form goes by at least one of the two, so that this ends.
            number, place = number + 1, place + 1
            made = self._form(f"{call_id}_{number}", name, place)
        self._taken.add(made)
        self._counts[call_id], self._place = number, place + 1
        turns = self._calls.setdefault(call_id, [])
        if not turns or self._turns[call_id] != self._turn:
            turns.append([])
            self._turns[call_id] = self._turn
        turns[-1].append(made)
        return made

    def of_result(self, call_id: str) -> str:
        """Give the id of the next result: of the call that it answers, or its own where there was no such call."""
        turns = self._calls.get(call_id)
        if turns is None:
            return self._form(call_id, "", self._place)
        while turns and not turns[-1]:
            turns.pop()  # All of them have their results.
        if turns:
            self._newest[call_id] = turns[-1].pop(0)
        return self._newest[call_id]


def with_fitting_ids(messages: list[Any], form: IdForm) -> list[Any]:
    """Give the messages of a chat with ids of this form; the very same list when all of them fit already."""
    ids = PairedIds(form)
    fit = []
    for message in messages:
        role = message.get("role") if isinstance(message, dict) else None
        if role == "assistant":
            ids.begin_turn()
        fit.append(_fitting(message, ids) if role in ("assistant", "tool") else message)
    return messages if all(new is old for new, old in zip(fit, messages, strict=True)) else fit


def _fitting(message: Document, ids: PairedIds) -> Document:
    if message["role"] == "tool":
        given = message.get("tool_call_id")
        made = ids.of_result(given) if isinstance(given, str) else given
        return message if made == given else {**message, "tool_call_id": made}
    calls = message.get("tool_calls")
    if not isinstance(calls, list) or not calls:
        return message
    fit = [_fitting_call(call, ids) for call in calls]
    return message if all(new is old for new, old in zip(fit, calls, strict=True)) else {**message, "tool_calls": fit}


def _fitting_call(call: Any, ids: PairedIds) -> Any:
    given = call.get("id") if isinstance(call, dict) else None
    if not isinstance(given, str):
        return call
    function = call.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    made = ids.of_call(given, name if isinstance(name, str) else "")
    return call if made == given else {**call, "id": made}
