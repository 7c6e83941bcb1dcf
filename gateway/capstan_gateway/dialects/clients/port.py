"""What the pipeline needs of a dialect that clients speak. Inside, every request and every answer is a chat completion:

client's request ─► read_request ─► chat request  ─► routing, limits, guards, cache ─► the model
client's answer  ◄─ write_answer / Presenter      ◄─ chat completion / its chunks   ◄─
"""

from typing import NamedTuple, Protocol

from capstan_gateway.dialects.fields import Document
from capstan_gateway.errors import GatewayError


class DroppedTool(NamedTuple):
    """A tool that only the API's own host can run: a translation leaves it out."""

    field: str
    """Its path in the client's request."""
    kind: str
    """Its type."""


class Presenter(Protocol):
    """Writes one stream of chat completion chunks in the client's dialect."""

    def chunk(self, chunk: Document) -> bytes:
        """The events of one chunk."""
        ...

    def end(self) -> bytes:
        """The last events; nothing after a failure."""
        ...

    def failure(self, error: GatewayError) -> bytes:
        """The events of a stream that has begun and cannot go on."""
        ...


class Dialect(Protocol):
    """One API beside chat completions; it holds no state."""

    def read_request(self, document: Document) -> Document:
        """Translate a request into a chat completion request; InvalidRequest names the field that cannot be."""
        ...

    def dropped_tools(self, document: Document) -> tuple[DroppedTool, ...]:
        """The tools that `read_request` leaves out of a request that it takes."""
        ...

    def write_answer(self, completion: Document, request: Document) -> Document:
        """Translate a chat completion; `request` is the client's own. UpstreamFailed when it is none."""
        ...

    def presenter(self, request: Document) -> Presenter:
        """What translates a stream."""
        ...

    def write_error(self, error: GatewayError, request_id: str) -> tuple[int, bytes]:
        """The status and the body of an error answer."""
        ...
