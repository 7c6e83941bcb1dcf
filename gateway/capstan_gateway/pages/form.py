"""A form with a file (RFC 7578), read as it comes. Pure: it keeps the fields, and gives the file on."""

from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from capstan_gateway.errors import InvalidRequest

MOST_HEADER: Final = 4096
"""Bytes of the headers of one part."""
MOST_FIELD: Final = 1024
"""Bytes of a field that is no file."""
MOST_FIELDS: Final = 16
MOST_NAME: Final = 255
FILE: Final = "file"


class Form:
    """Takes a form piece by piece."""

    def __init__(self, content_type: bytes) -> None:
        """Take the value of the request's `content-type`. Raises InvalidRequest where it is no form."""
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not boundary:
            raise InvalidRequest(
                "a file is uploaded as multipart/form-data, with the fields `purpose` and `file`",
                status=415, code="unsupported_media_type",
            )  # fmt: skip
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        """Of the file; None until it begins."""
        self.complete = False
        self._file: list[bytes] = []
        self._header = self._value = b""
        self._headers_size = 0
        self._disposition = b""
        self._name: str | None = None
        self._text = bytearray()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin, "on_header_field": self._on_name, "on_header_value": self._on_value,
                "on_header_end": self._on_header, "on_headers_finished": self._on_headers,
                "on_part_data": self._on_data, "on_part_end": self._on_end, "on_end": self._on_complete,
            },
        )  # fmt: skip

    def feed(self, piece: bytes) -> bytes:
        """Take the next piece of the form; give what is the file's of it. Raises InvalidRequest."""
        self._file.clear()
        try:
            self._parser.write(piece)
        except FormParserError:
            raise InvalidRequest("the form is not as multipart/form-data is written") from None
        return b"".join(self._file)

    def _begin(self) -> None:
        self._disposition, self._headers_size, self._name = b"", 0, None
        self._header = self._value = b""
        self._text.clear()

    def _on_name(self, data: bytes, start: int, end: int) -> None:
        self._grow(end - start)
        self._header += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._grow(end - start)
        self._value += data[start:end]

    def _grow(self, size: int) -> None:
        self._headers_size += size
        if self._headers_size > MOST_HEADER:
            raise InvalidRequest("the headers of a part of the form are too long")

    def _on_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _on_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")[:MOST_NAME]
        if name == FILE:
            if self.filename is not None:
                raise InvalidRequest("the form has two files", param=FILE)
            given = options.get(b"filename", b"").decode("utf-8", "replace")
            self.filename = "".join(one for one in given if one.isprintable())[-MOST_NAME:] or FILE
        elif not name or name in self.fields or len(self.fields) >= MOST_FIELDS:
            raise InvalidRequest("the form has a field twice, one without a name, or too many of them")
        self._name = name

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._name == FILE:
            self._file.append(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > MOST_FIELD:
            raise InvalidRequest(f"a field of the form is longer than {MOST_FIELD} bytes", param=self._name)

    def _on_end(self) -> None:
        if self._name is not None and self._name != FILE:
            self.fields[self._name] = self._text.decode("utf-8", "replace")

    def _on_complete(self) -> None:
        self.complete = True
