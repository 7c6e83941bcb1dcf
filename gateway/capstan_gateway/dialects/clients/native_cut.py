"""What is kept of a stream of OpenAI's Responses API, so that it can be ended before its host ends it.

The last event of such a stream tells all of the answer once more, and each item has an end of its own. Only streams
that may be cut are kept.
"""

from collections.abc import Callable, Iterator
from sys import getsizeof
from typing import Final

from capstan_gateway.dialects.fields import Document

INCOMPLETE: Final = "incomplete"
_PARTS: Final = {"output_text": "text", "refusal": "refusal", "reasoning_text": "text"}
"""Types of parts of items, and the fields that hold their text."""
_INPUTS: Final = {"function_call_arguments": "arguments", "custom_tool_call_input": "input"}
"""What of an item comes in pieces that belong to no part, and the fields that hold it."""
Write = Callable[..., bytes]
"""Writes an event with this type and these fields."""


class _Open:
    """An item on its way."""

    def __init__(self, item: Document) -> None:
        self.item = item
        self.parts: dict[int, tuple[Document, list[str]]] = {}
        self.inputs: dict[str, list[str]] = {}


class KeptItems:
    """The items of one response."""

    def __init__(self) -> None:
        self.held = 0
        """Bytes of texts."""
        self._done: dict[int, Document] = {}
        self._open: dict[int, _Open] = {}

    def note(self, kind: str, payload: Document) -> None:
        """Take an event. KeyError and TypeError where it is malformed."""
        name = kind.removeprefix("response.")
        what, _, step = name.rpartition(".")
        if step == "delta":
            self._piece(what, payload)
        elif name == "output_item.added":
            self._open[payload["output_index"]] = _Open({**payload["item"]})
        elif name == "output_item.done":
            self._open.pop(payload["output_index"], None)
            self._done[payload["output_index"]] = payload["item"]
        elif name == "content_part.added":
            found = self._open.get(payload["output_index"])
            if found is not None:
                found.parts[payload["content_index"]] = {**payload["part"]}, []

    def _piece(self, what: str, payload: Document) -> None:
        found, piece = self._open.get(payload.get("output_index", -1)), payload.get("delta")
        if found is None or type(piece) is not str:
            return
        if what in _INPUTS:
            found.inputs.setdefault(what, []).append(piece)
        else:
            part = found.parts.get(payload.get("content_index", -1))
            if part is None:
                return
            part[1].append(piece)
        self.held += getsizeof(piece)

    def end(self, write: Write) -> tuple[bytes, list[Document]]:
        """Give the events that end what is open, and all items as they are then."""
        events: list[bytes] = []
        for index, found in sorted(self._open.items()):
            where = {"item_id": found.item.get("id"), "output_index": index}
            item = {**found.item, "status": INCOMPLETE}
            if found.parts:
                item["content"] = list(self._parts(found, where, events, write))
            for what, pieces in found.inputs.items():
                item[_INPUTS[what]] = "".join(pieces)
                events.append(write(f"response.{what}.done", **where, **{_INPUTS[what]: item[_INPUTS[what]]}))
            events.append(write("response.output_item.done", output_index=index, item=item))
            self._done[index] = item
        self._open = {}
        return b"".join(events), [item for _, item in sorted(self._done.items())]

    def _parts(self, found: _Open, where: Document, events: list[bytes], write: Write) -> Iterator[Document]:
        for place, (part, pieces) in sorted(found.parts.items()):
            field = _PARTS.get(part.get("type", ""), "text")
            whole = {**part, field: "".join(pieces)}
            extra: Document = {"logprobs": []} if part.get("type") == "output_text" else {}
            said = {"content_index": place, field: whole[field], **extra}
            events.append(write(f"response.{part.get('type')}.done", **where, **said))
            events.append(write("response.content_part.done", **where, content_index=place, part=whole))
            yield whole
