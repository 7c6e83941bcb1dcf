"""The lines of a batch's input: cut apart, read, and checked before any of them is asked. Pure."""

from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import orjson

from capstan_gateway.documents import INLINE_BYTES, MAX_VALUES, TooDeep, count_values, is_too_much, to_json

MOST_CUSTOM_ID: Final = 512
"""Characters."""
MOST_FAULTS: Final = 100
"""Faults that are told of one file; the first ones."""
MOST_SHOWN: Final = 64
"""Characters of what a client wrote that a fault repeats."""
ENDPOINTS: Final = (
    "/v1/responses", "/v1/chat/completions", "/v1/embeddings", "/v1/completions", "/v1/moderations", "/v1/rerank",
    "/v1/score", "/v1/classify",
)  # fmt: skip
"""What lines may ask for: OpenAI's, and the gateway's own beside them."""


def endpoint_of(url: object) -> object:
    """Give what a URL of Azure's form, which has no /v1, stands for; any other one as it is."""
    return f"/v1{url}" if isinstance(url, str) and f"/v1{url}" in ENDPOINTS else url


class LineTooLong(Exception):
    """A line is longer than a request may be."""

    def __init__(self, line: int) -> None:
        super().__init__(f"line {line} is too long")
        self.line = line


class Splitter:
    """Cuts bytes, however they come, into lines. It holds one line at most."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._rest = bytearray()
        self._number = 0

    @property
    def held(self) -> int:
        """How many bytes are kept of a line that has not ended."""
        return len(self._rest)

    def feed(self, piece: bytes) -> Iterator[tuple[int, bytes]]:
        """Give the lines that end here, each with its number from 1; blank ones are left out. Raises LineTooLong."""
        begin = 0
        while (end := piece.find(b"\n", begin)) >= 0:
            self._rest += piece[begin:end]
            begin = end + 1
            line = self._take()
            if line.strip():
                yield self._number, line
        self._rest += piece[begin:]
        if len(self._rest) > self._most:
            raise LineTooLong(self._number + 1)

    def finish(self) -> Iterator[tuple[int, bytes]]:
        """Give the last line, where nothing ends it. Raises LineTooLong."""
        line = self._take()
        if line.strip():
            yield self._number, line

    def _take(self) -> bytes:
        self._number += 1
        if len(self._rest) > self._most:
            raise LineTooLong(self._number)
        line = bytes(self._rest)
        self._rest.clear()
        return line


class Fault(NamedTuple):
    """What is wrong with an input, in OpenAI's form."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class LineRequest(NamedTuple):
    """One request of a batch."""

    custom_id: str
    url: str
    model: str
    body: bytes


def read_line(line: bytes, number: int, endpoint: str) -> LineRequest | Fault:
    """Read one line of a batch for this endpoint, or say what is wrong with it."""
    if len(line) > INLINE_BYTES and is_too_much(count_values(line)):
        message = f"This line has more values than a request may have, {MAX_VALUES}, or too many objects and lists."
        return Fault("invalid_value", message, None, number)
    try:
        # Some editors begin a file with a mark of its encoding.
        document = orjson.loads(line.removeprefix(BOM_UTF8) if number == 1 else line)
    except orjson.JSONDecodeError:
        return Fault("invalid_json_line", "This line is not parseable as valid JSON.", None, number)
    if not isinstance(document, dict):
        return Fault("invalid_json_line", "This line is not a JSON object.", None, number)
    custom_id, method, url, body = (document.get(name) for name in ("custom_id", "method", "url", "body"))
    for name in ("custom_id", "method", "url", "body"):
        if document.get(name) is None:
            return Fault("missing_required_parameter", f"Missing required parameter: '{name}'.", name, number)
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= MOST_CUSTOM_ID:
        return _invalid("custom_id", f"must be a text of 1 to {MOST_CUSTOM_ID} characters", number)
    if method != "POST":
        return Fault("invalid_method", f"Unsupported method: {_shown(method)}. It must be POST.", "method", number)
    if endpoint_of(url) != endpoint:
        message = f"The URL {_shown(url)} is not that of the batch, {endpoint}."
        return Fault("mismatched_endpoint" if url in ENDPOINTS else "invalid_url", message, "url", number)
    return _body(body, custom_id, endpoint, number)


def _body(body: Any, custom_id: str, endpoint: str, number: int) -> LineRequest | Fault:
    if not isinstance(body, dict):
        return _invalid("body", "must be an object: the body of the request", number)
    model = body.get("model")
    if model is None:
        return Fault("missing_required_parameter", "Missing required parameter: 'body.model'.", "body.model", number)
    if not isinstance(model, str) or not model:
        return _invalid("body.model", "must be the name of a model", number)
    if body.get("stream"):
        return _invalid("body.stream", "must be false: an answer of a batch is given as a whole", number)
    if body.get("background"):
        return _invalid("body.background", "must be false: a batch is in the background as it is", number)
    try:
        written = to_json(body)
    except TooDeep:
        return _invalid("body", "may have 254 levels of objects and lists at most", number)
    return LineRequest(custom_id, endpoint, model, written)


class Validator:
    """Checks the lines of one input, one after the other: all of them are to be of one batch."""

    def __init__(self, endpoint: str, *, most_lines: int, one_model: bool = True) -> None:
        """Check for this endpoint. Without `one_model` each line may name another one, and one that there is not is
        that line's own fault."""
        self.faults: list[Fault] = []
        self.total = 0
        """How many lines there are."""
        self._endpoint = endpoint
        self._most_lines = most_lines
        self._seen: set[bytes] = set()
        """Hashes of ids: fifty thousand ids of any length take a few MB."""
        self._model: str | None = None
        self._one_model = one_model
        self._model_line = 0

    @property
    def is_full(self) -> bool:
        """Whether nobody is told of further faults."""
        return len(self.faults) >= MOST_FAULTS

    @property
    def model(self) -> str:
        """What all lines name, as the first one does; "" before that."""
        return self._model or ""

    def take(self, number: int, line: bytes) -> None:
        """Check the next line."""
        self.total += 1
        if self.total > self._most_lines:
            if self.total == self._most_lines + 1:
                message = f"The file has more requests than a batch may have, {self._most_lines}."
                self._add(Fault("too_many_requests_in_file", message, None, number))
            return
        request = read_line(line, number, self._endpoint)
        if isinstance(request, Fault):
            self._add(request)
            return
        digest = blake2b(request.custom_id.encode(), digest_size=16).digest()
        if digest in self._seen:
            shown = _shown(request.custom_id)
            message = f"The custom_id {shown} is that of another line: it must be unique in a file."
            self._add(Fault("duplicate_custom_id", message, "custom_id", number))
        self._seen.add(digest)
        if not self._one_model:
            return
        if self._model is None:
            self._model, self._model_line = request.model, number
        elif request.model != self._model:
            message = f"The model {_shown(request.model)} is not that of the first line: a batch is for one model."
            self._add(Fault("mismatched_model", message, "body.model", number))

    def too_long(self, number: int, most_bytes: int) -> None:
        """Take note of a line that was not read, because it is longer than this."""
        self._add(Fault("line_too_long", f"This line is longer than {most_bytes} bytes.", None, number))

    def check_model(self, has_model: Callable[[str], bool]) -> None:
        """Check what all lines name; `has_model` says whether who asks may use a model of this name.

        It is apart from the lines, which another thread may read than the one that knows of models.
        """
        if self._model is not None and not has_model(self._model):
            message = f"The model {_shown(self._model)} does not exist or you do not have access to it."
            found = [*self.faults, Fault("model_not_found", message, "body.model", self._model_line)]
            self.faults = sorted(found, key=lambda fault: fault.line or 0)[:MOST_FAULTS]

    def finish(self) -> None:
        """The file is over."""
        if not self.total and not self.faults:
            self._add(Fault("empty_file", "The file has no request. It must have one on each line, as JSON."))

    def _add(self, fault: Fault) -> None:
        if not self.is_full:
            self.faults.append(fault)


def errors_document(faults: list[Fault]) -> dict[str, Any]:
    """Write faults as the field `errors` of a batch."""
    return {"object": "list", "data": [fault._asdict() for fault in faults]}


def _invalid(param: str, must: str, number: int) -> Fault:
    return Fault("invalid_value", f"'{param}' {must}.", param, number)


def _shown(value: object) -> str:
    return f"'{value[:MOST_SHOWN]}'" if isinstance(value, str) else "of another type than text"
