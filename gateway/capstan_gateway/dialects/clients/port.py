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


class ClientTools(Protocol):
    """The tools of one request, read once: for its translation and for that of its answer."""

    @property
    def dropped(self) -> tuple[DroppedTool, ...]:
        """Those that a translation leaves out."""
        ...


class Presenter(Protocol):
    """Writes one stream of chat completion chunks in the client's dialect."""

    @property
    def held(self) -> int:
        """How many bytes of the answer are kept."""
        ...

    def estimated(self, output_tokens: int) -> None:
        """Take the place of what an engine has not counted: so many tokens were written."""
        ...

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

    def read_tools(self, document: Document) -> ClientTools:
        """Read the tools of a request; InvalidRequest names the field of one that is none."""
        ...

    def read_request(self, document: Document, tools: ClientTools | None = None) -> Document:
        """Translate a request into a chat completion request; InvalidRequest names the field that cannot be.

        `tools` are those of this document, where they were read already.
        """
        ...

    def write_answer(self, completion: Document, request: Document, tools: ClientTools | None = None) -> Document:
        """Translate a chat completion; `request` is the client's own. UpstreamFailed when it is none."""
        ...

    def presenter(self, request: Document, tools: ClientTools | None = None) -> Presenter:
        """What translates a stream."""
        ...

    def write_error(self, error: GatewayError, request_id: str) -> tuple[int, bytes]:
        """The status and the body of an error answer."""
        ...
