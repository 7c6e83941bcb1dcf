"""Chat completion chunks as Anthropic's events.

message_start, ping, (content_block_start, content_block_delta..., content_block_stop)...,
message_delta, message_stop
"""

from typing import Any, Final

import orjson

from capstan_gateway.dialects.clients.chat_events import ChatEvents, Kind
from capstan_gateway.dialects.clients.messages_answer import error_document, input_of, message_head, stop, write_usage
from capstan_gateway.dialects.fields import Document
from capstan_gateway.dialects.frames import event
from capstan_gateway.dialects.signatures import UNSIGNED
from capstan_gateway.errors import GatewayError

_EMPTY: Final[dict[Kind, Document]] = {
    Kind.TEXT: {"type": "text", "text": ""},
    Kind.REFUSAL: {"type": "text", "text": ""},
    Kind.REASONING: {"type": "thinking", "thinking": "", "signature": ""},
}
_DELTAS: Final = {
    Kind.TEXT: ("text_delta", "text"),
    Kind.REFUSAL: ("text_delta", "text"),
    Kind.REASONING: ("thinking_delta", "thinking"),
    Kind.CALL: ("input_json_delta", "partial_json"),
}
"""Type of a block's pieces, and the field that holds them."""


class MessageEvents(ChatEvents):
    """One stream for a client of `/v1/messages`."""

    _objects_only = True

    def __init__(self, request: Document | None = None) -> None:
        super().__init__(request)
        self._index = -1
        """Of the newest block."""
        self._refused = False

    def _stream_begins(self, chunk: Document) -> bytes:
        # NB: engines count the prompt at the end of their streams; the numbers come with message_delta.
        message = {
            **message_head(chunk), "content": [], "stop_reason": None, "stop_sequence": None, "usage": write_usage({}),
        }  # fmt: skip
        return event({"type": "message_start", "message": message}) + event({"type": "ping"})

    def _stream_ends(self) -> bytes:
        delta = stop(self._finish, self._matched, called=self._call >= 0, refused=self._refused)
        events = event({"type": "message_delta", "delta": delta, "usage": write_usage(self._usage), **self._note})
        return events + event({"type": "message_stop"})

    def _stream_fails(self, error: GatewayError) -> bytes:
        return event(error_document(error))

    def _text_begins(self, kind: Kind) -> bytes:
        self._refused = self._refused or kind is Kind.REFUSAL
        return self._block_begins(_EMPTY[kind])

    def _signature(self, signature: str) -> bytes:
        return self._block_begins(_EMPTY[Kind.REASONING]) + self._thoughts_end(signature)

    def _call_begins(self, call_id: str, name: str) -> bytes:
        return self._block_begins({"type": "tool_use", "id": call_id, "name": name, "input": {}})

    def _whole_arguments(self, arguments: str) -> str:
        return orjson.dumps(input_of(arguments)).decode()

    def _block_begins(self, block: Document) -> bytes:
        self._index += 1
        return event({"type": "content_block_start", "index": self._index, "content_block": block})

    def _piece(self, kind: Kind, text: str) -> bytes:
        delta, field = _DELTAS[kind]
        return self._delta_event(delta, **{field: text})

    def _delta_event(self, kind: str, **fields: Any) -> bytes:
        return event({"type": "content_block_delta", "index": self._index, "delta": {"type": kind, **fields}})

    def _part_ends(self, kind: Kind) -> bytes:
        return self._thoughts_end(UNSIGNED) if kind is Kind.REASONING else self._block_ends()

    def _thoughts_end(self, signature: str) -> bytes:
        return self._delta_event("signature_delta", signature=signature) + self._block_ends()

    def _block_ends(self) -> bytes:
        return event({"type": "content_block_stop", "index": self._index})
