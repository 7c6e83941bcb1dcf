"""What is asked of a model: one value, from which everything that is sent follows.

as it came ──► Request(document, raw bytes)            nobody has rewritten it: the bytes go out as they are
in a dialect ─► Request(document, native)              the same; `document` is its translation into chat
as_read() ────► Request(document)                      neither: who decides by the document has seen all that is sent
rewritten(d) ─► Request(d)                             the same of another document
as a form ────► Request(document, form)                `document` is its fields; it is written anew, with the file
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from capstan_contract.config import Task
from capstan_gateway.dialects.clients.forms import Form
from capstan_gateway.dialects.clients.port import ClientTools, Dialect
from capstan_gateway.documents import to_json
from capstan_gateway.errors import GatewayError
from capstan_gateway.headers import Header

USAGE_FLAG: Final = "stream_include_usage"
"""By what the form of a stream asks for its usage: vLLM's name for it."""
CHAT_PATH: Final = b"/chat/completions"
COUNT_PATH: Final = b"/messages/count_tokens"
TOKENIZE_PATH: Final = b"//tokenize"
"""Beside the API's `/v1`, where vLLM, SGLang and llama.cpp have it."""


@dataclass(frozen=True, slots=True)
class Route:
    """An inference route."""

    path: str
    upstream_path: bytes
    """Appended to an endpoint's base path."""
    tasks: frozenset[Task]
    """Tasks of the models that can answer here."""
    required: tuple[str, ...] = ()
    """Fields that a body must have beside `model`."""
    streams: bool = False
    """Whether `stream: true` has a meaning here."""
    dialect: Dialect | None = None
    """What clients speak here; None: what the engines speak."""
    model: str = ""
    """Which model is asked where the body names none; "": that is refused."""
    form: bool = False
    """Whether a body is a form with a file in it, and no JSON."""

    @property
    def counts(self) -> bool:
        """Whether only the tokens of a prompt are wanted."""
        return self.upstream_path in (COUNT_PATH, TOKENIZE_PATH)


class NativeRequest:
    """A request in the dialect of its route."""

    __slots__ = ("_raw", "document", "tools")

    def __init__(self, document: dict[str, Any], raw: bytes | None = None, tools: ClientTools | None = None) -> None:
        self.document: Final = document
        self.tools: Final = tools
        """Those of the document; None when they cannot be read, and the request is untranslatable."""
        self._raw: Final = raw

    @property
    def is_written_anew(self) -> bool:
        """Whether what is sent is what `document` says, in one reading."""
        return self._raw is None

    @property
    def body(self) -> bytes:
        """The bytes to send: those that came, unless only the document is left."""
        return to_json(self.document) if self._raw is None else self._raw


class Request:
    """One request. It is never changed: who wants another one makes it, with `rewritten`."""

    __slots__ = (
        "came", "document", "form", "headers", "native", "plain", "raw", "route", "stream", "untranslatable",
        "usage_asked",
    )  # fmt: skip

    def __init__(
        self,
        route: Route,
        document: dict[str, Any],
        stream: bool,
        usage_asked: bool,
        raw: bytes | None = None,
        came: int = 0,
        plain: bool = False,
        # NB: not for keywords alone: of those each default is looked up in a dictionary.
        native: NativeRequest | None = None,
        untranslatable: GatewayError | None = None,
        headers: Sequence[Header] = (),
        form: Form | None = None,
    ) -> None:
        self.came: Final = came
        """How many bytes came in for it: about as many are to be written."""
        self.route: Final = route
        self.document: Final = document
        """The request as the engines understand it, whatever the client speaks. Nobody writes into it."""
        self.raw: Final = raw
        """The bytes that say what `document` says, as they came; None when there are none."""
        self.native: Final = native
        """On a route with a dialect: what the client sent, for models that speak the dialect too. None: no model is
        spoken to in the client's own dialect."""
        self.untranslatable: Final = untranslatable
        """Why `document` does not hold the whole request: only a model that gets `native` can answer."""
        self.stream: Final = stream
        self.usage_asked: Final = usage_asked
        """Whether a stream ends with its usage."""
        self.headers: Final = headers
        """What the client says to a provider that speaks its dialect: versions, beta features."""
        self.form: Final = form
        """The file that is sent with the fields of `document`; None where the body is JSON. No guard can read it."""
        self.plain: Final = plain
        """Whether every message of `document` is a text, and none of the role `developer`, which few engines know."""

    @property
    def size(self) -> int:
        """How many bytes the request has."""
        if self.raw is not None:
            return len(self.raw)
        return len(to_json(self.document) if self.native is None else self.native.body)

    def rewritten(self, document: dict[str, Any], *, route: Route | None = None) -> "Request":
        """Give the request that asks for this instead, of any model: nothing that came from the client is left in it.

        `document` is a chat completion request, or what else the route's engines understand. Raises what makes this
        request untranslatable: its document holds nothing of it.
        """
        if self.untranslatable is not None:
            raise self.untranslatable
        stream = document.get("stream") is True
        options = document.get("stream_options")
        usage_asked = stream and isinstance(options, dict) and bool(options.get("include_usage"))
        if self.form is not None:
            usage_asked = stream and self.usage_asked  # A form has another field for it.
        return Request(
            self.route if route is None else route,
            document, stream=stream, usage_asked=usage_asked, headers=self.headers, came=self.came, form=self.form,
        )  # fmt: skip

    def as_read(self) -> "Request":
        """Give the request that sends what its document says and nothing else, for who decides by the document.

        JSON that could be read in two ways (a key that stands there twice) is written anew, so that the engine reads
        what was judged here; what the client said in its own dialect goes nowhere, because the document may not hold
        all of it. Raises what makes the request untranslatable: nobody has read such a one.
        """
        if self.untranslatable is not None:
            raise self.untranslatable
        if self.raw is None and self.native is None:
            return self
        return Request(
            self.route, self.document, stream=self.stream, usage_asked=self.usage_asked, headers=self.headers,
            came=self.came, form=self.form,
        )  # fmt: skip

    def as_one_reading(self) -> "Request":
        """Give the request that sends what it says in one reading, for who decides by everything that it says."""
        if self.raw is None and (self.native is None or self.native.is_written_anew):
            return self
        native = None if self.native is None else NativeRequest(self.native.document, None, self.native.tools)
        return Request(
            self.route, self.document, stream=self.stream, usage_asked=self.usage_asked, native=native,
            untranslatable=self.untranslatable, headers=self.headers, came=self.came, form=self.form,
        )  # fmt: skip

    def texts(self) -> Iterator[str]:
        """Give every text that may be sent of it, names of fields among them, of both documents."""
        waiting: list[Any] = [self.document] if self.native is None else [self.native.document, self.document]
        while waiting:
            value = waiting.pop()
            if isinstance(value, str):
                yield value
            elif isinstance(value, dict):
                yield from value
                waiting.extend(reversed(value.values()))
            elif isinstance(value, list):
                waiting.extend(reversed(value))
