"""A conversation of the Responses API that goes on from a response that was kept: what is kept, and what is sent.

kept:    the items of `input`, those of earlier turns before them, each with an id      (`kept_items`)
then:    [*the kept items, *the response's output, *what the new request says]          (`continued`)

`instructions` are said anew with each request, as OpenAI has it; so are tools.
"""

from typing import Any, Final

from capstan_gateway.dialects.fields import Document
from capstan_gateway.dialects.signatures import may_be_openais

_PREFIXES: Final = {
    "message": "msg", "function_call": "fc", "function_call_output": "fco", "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco", "local_shell_call": "lsh", "local_shell_call_output": "lsho",
    "tool_search_call": "tsc", "tool_search_output": "tso", "reasoning": "rs",
}  # fmt: skip
"""Of the ids of items, by their types."""
_OUTGOING: Final = ("id", "status")
"""What a hosted API would look for among its own."""


def continued(document: Document, earlier: list[Document]) -> Document:
    """Give the request with the items of the earlier turns in front of its own; what is wrong with those stays."""
    given = document.get("input")
    if given is None:
        return {**document, "input": earlier}
    items = [_said(given)] if isinstance(given, str) else given
    return {**document, "input": [*earlier, *items] if isinstance(items, list) else items}


def hosted_items(items: list[Document]) -> list[Document]:
    """Give items of ours for a hosted API of the same dialect: it knows none of the ids, nor what others thought."""
    return [
        {key: value for key, value in item.items() if key not in _OUTGOING}
        for item in items
        if item.get("type") != "reasoning" or may_be_openais({**item, "id": None})
    ]


def kept_items(document: Document, number: str) -> list[Document]:
    """Give the items of a request's `input` as they are listed later: messages in parts, each item with an id.

    The request was read before: there is nothing in it that is no item. `number` makes the ids unique; one that stands
    twice is the first one's.
    """
    given = document.get("input")
    items = [_said(given)] if isinstance(given, str) else given or []
    taken: set[str] = set()
    kept: list[Document] = []
    for place, item in enumerate(items):
        one = _kept(item, f"{number}_i{place}", taken)
        taken.add(one["id"])
        kept.append(one)
    return kept


def _said(text: str) -> Document:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def _kept(item: Document, number: str, taken: set[str]) -> Document:
    kind = item.get("type") or "message"
    known = item.get("id")
    own = (
        known if isinstance(known, str) and known and known not in taken else f"{_PREFIXES.get(kind, 'item')}_{number}"
    )
    kept: Document = {**item, "type": kind, "id": own}
    if kind == "message":
        kept |= {"content": _parts(item), "status": item.get("status") or "completed"}
    return kept


def _parts(message: Document) -> Any:
    content = message.get("content")
    if not isinstance(content, str):
        return content
    if message.get("role") == "assistant":
        return [{"type": "output_text", "text": content, "annotations": [], "logprobs": []}]
    return [{"type": "input_text", "text": content}]
