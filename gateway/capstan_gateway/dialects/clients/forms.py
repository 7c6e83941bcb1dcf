"""A form with a file in it (RFC 7578), as what turns sound into text is asked. Pure, but for the boundaries it draws.

    read_form(content_type, body) ─► Form     its fields as texts; its file stays where it is in the body that came
    written(form, fields)         ─► bytes    a form that says these fields, with the file: one copy of it

A form is sent written anew, with a boundary that its client cannot know: so the next parser reads what was read here,
and nothing goes on that only it would see (a second `model`, what stands before the first part or behind the last one,
parts within the file for who takes "\\n" for the end of a line). The body is searched for its boundary, and not copied.
All of it is in memory, because it may have to be sent once more, elsewhere.
"""

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from capstan_gateway.dialects.fields import missing, wrong
from capstan_gateway.documents import to_json
from capstan_gateway.errors import InvalidRequest, NotJson

FILE: Final = "file"
FORM: Final = b"multipart/form-data"
MOST_PARTS: Final = 64
MOST_HEADER_BYTES: Final = 4096
"""Of one part."""
MOST_FIELD_BYTES: Final = 64 * 1024
"""Of a field that is no file: a `prompt` may be long."""
MOST_NAME: Final = 128
MOST_BOUNDARY: Final = 70
"""RFC 2046, section 5.1.1."""
_LIST: Final = "[]"
"""What the name of a field ends with that may stand there several times: OpenAI's `timestamp_granularities[]`."""
_PARAMETER: Final = re.compile(rb';[ \t]*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=("(?:[^"\\]|\\.)*+"|[^;" \t]*)[ \t]*')
_ESCAPED: Final = re.compile(rb'\\(["\\])')
_BOUNDARY: Final = re.compile(rb"[0-9A-Za-z'()+_,\-./:=? ]*[0-9A-Za-z'()+_,\-./:=?]")
_WHOLE: Final = re.compile("-?[0-9]{1,15}")
_NAME: Final = re.compile(r"[0-9A-Za-z_.-]+(?:\[[0-9A-Za-z_.-]*\])*")
"""What every parser reads alike: in quotes, backslashes and per cent signs some of them read other characters."""
_KIND: Final = re.compile(r"\.[0-9A-Za-z]{1,16}\Z")
_LINE_END: Final = re.compile(rb"[ \t]*\r\n")
_AS_BYTES: Final = frozenset((b"", b"7bit", b"8bit", b"binary"))
_MALFORMED: Final = "the form is not as multipart/form-data is written"
_OCTETS: Final = b"application/octet-stream"
_MEDIA_TYPE: Final = re.compile(rb"[!-~]+/[!-~]+(?:;[ !-~]*)?")
_CODE: Final = "invalid_form"
_MODEL: Final = "model"

Fields = dict[str, Any]
"""Each a text, or a list of them where its name says that there may be several."""


@dataclass(frozen=True, slots=True)
class Form:
    """What came, but for its fields."""

    boundary: bytes
    """Of the form that is sent. Drawn for it, so that nobody has written it into the file or into a field."""
    filename: str
    """`file`, and the end of the name that came, which says of which kind it is: no guard reads the rest."""
    file_type: bytes
    file: memoryview
    """A view of the body that came, which it keeps."""

    @property
    def content_type(self) -> bytes:
        """What the head of a request says of the form."""
        return FORM + b"; boundary=" + self.boundary


def boundary_of(content_type: bytes | None) -> bytes:
    """Give the boundary of a form by the head of its request. NotJson where it is none, or says no boundary."""
    kind, _, rest = (content_type or b"").partition(b";")
    boundary = _parameters(b";" + rest).get(b"boundary", b"")
    if kind.strip().lower() != FORM or len(boundary) > MOST_BOUNDARY or not _BOUNDARY.fullmatch(boundary):
        raise NotJson("the content type must be multipart/form-data, with a boundary", param="content-type")
    return boundary


def read_form(boundary: bytes, body: bytes) -> tuple[Form, Fields]:
    """Give a form and its fields. InvalidRequest says what is wrong with it."""
    fields: Fields = {}
    form: Form | None = None
    for number, (head, start, end) in enumerate(_parts(body, boundary)):
        if number >= MOST_PARTS:
            raise _malformed(f"the form has more than {MOST_PARTS} parts")
        headers = _headers_of(head)
        said = headers.get(b"content-disposition", b"")
        kind, _, rest = said.partition(b";")
        named = _parameters(b";" + rest)
        name = _text(named.get(b"name", b""))
        if kind.strip().lower() != b"form-data" or len(name) > MOST_NAME or not _NAME.fullmatch(name):
            raise _malformed(
                "a part of the form has no name, or one that is not letters, digits and any of _ . - [ ], at most "
                f"{MOST_NAME} of them"
            )
        if headers.get(b"content-transfer-encoding", b"").strip().lower() not in _AS_BYTES:
            raise _malformed("a part of the form is encoded: its bytes must stand there as they are", name)
        if name == FILE:
            if form is not None:
                raise _malformed("the form has two files", FILE)
            form = Form(_drawn_boundary(), _filename(named), _media_type(headers), memoryview(body)[start:end])
        elif b"filename" in named:
            raise _malformed(f"the form has a file in a field other than `{FILE}`", name)
        else:
            _add(fields, name, _value(name, body, start, end))
    if form is None:
        raise missing(FILE)
    if not form.file:
        raise InvalidRequest(f"`{FILE}` is empty", code="empty_file", param=FILE)
    return form, fields


def put_model(fields: Fields, model: str) -> None:
    """Have the form name this model, and no other one in any spelling that some parser takes for it."""
    for name in [one for one in fields if _plain(one) == _MODEL]:
        del fields[name]
    fields[_MODEL] = model


def read_flag(fields: Mapping[str, Any], name: str) -> bool:
    """Give a field that says true or false; one that is not there, or empty, is false. InvalidRequest for others."""
    said = fields.get(name)
    if isinstance(said, bool):
        return said
    word = said.strip().lower() if isinstance(said, str) else said
    if word in (None, "", "false", "0"):
        return False
    if word in ("true", "1"):
        return True
    raise wrong(name, "must be true or false")


def whole_numbers(fields: Mapping[str, Any], names: Iterable[str]) -> dict[str, int]:
    """Give those of these fields that are there, as numbers. InvalidRequest for what is no whole number: parsers differ
    in which texts are one (" 5", "5.0", "1_0")."""
    return {name: _whole(name, fields[name]) for name in names if name in fields}


def _whole(name: str, said: Any) -> int:
    if not isinstance(said, str) or not _WHOLE.fullmatch(said):
        raise wrong(name, "must be a whole number")
    return int(said)


def written(form: Form, fields: Mapping[str, Any]) -> bytes:
    """Give a form that says these fields, with the file; None says nothing."""
    begin = b"--" + form.boundary + b'\r\nContent-Disposition: form-data; name="'
    parts: list[bytes | memoryview] = []
    for name, value in fields.items():
        for one in value if isinstance(value, list) else (value,):
            if one is None:
                continue
            parts += (begin, name.encode(), b'"\r\n\r\n', _written(one), b"\r\n")
    filename = b'"; filename="' + form.filename.encode() + b'"\r\nContent-Type: ' + form.file_type + b"\r\n\r\n"
    return b"".join((*parts, begin, FILE.encode(), filename, form.file, b"\r\n--", form.boundary, b"--\r\n"))


def _parts(body: bytes, boundary: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Give the head of each part, and where in the body what it says begins and ends."""
    mark = b"--" + boundary
    at = 2 if body.startswith(b"\r\n" + mark) else 0
    if not body.startswith(mark, at):
        raise _malformed(_MALFORMED)
    at += len(mark)
    mark = b"\r\n" + mark
    while not body.startswith(b"--", at):
        begins = _LINE_END.match(body, at)
        # NB: what goes on in another way is a text that begins like the boundary, of which parsers make many things.
        if begins is None:
            raise _malformed(_MALFORMED)
        start = begins.end()
        end_of_head = body.find(b"\r\n\r\n", start, start + MOST_HEADER_BYTES)
        if end_of_head < 0:
            raise _malformed("the headers of a part of the form do not end, or are too long")
        # The line end before a boundary is its own, also where it is the one that ends the head.
        end = body.find(mark, end_of_head + 2)
        if end < 0:
            raise _malformed("the form ends in the middle")
        yield body[start:end_of_head], min(end_of_head + 4, end), end
        at = end + len(mark)


def _headers_of(head: bytes) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for line in head.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        name = name.lower()
        if not colon or not name or name != name.strip() or name in headers:
            raise _malformed("a part of the form has a header that is none, or one twice")
        headers[name] = value.strip()
    return headers


def _parameters(said: bytes) -> dict[bytes, bytes]:
    """Give what stands behind the value of a header; nothing where it is not written as such values are."""
    found: dict[bytes, bytes] = {}
    at = 0
    while (one := _PARAMETER.match(said, at)) is not None:
        name, value = one[1].lower(), one[2]
        if name in found:
            return {}
        found[name] = _ESCAPED.sub(rb"\1", value[1:-1]) if value.startswith(b'"') else value
        at = one.end()
    return found if not said[at:].strip(b"; \t") else {}


def _filename(named: Mapping[bytes, bytes]) -> str:
    if b"filename" not in named:
        raise wrong(FILE, "must be a file, with a filename, and not a text")
    kind = _KIND.search(named[b"filename"].decode("utf-8", "replace"))
    return FILE if kind is None else FILE + kind[0]


def _drawn_boundary() -> bytes:
    return b"capstan-" + secrets.token_hex(16).encode()


def _media_type(headers: Mapping[bytes, bytes]) -> bytes:
    told = headers.get(b"content-type", b"")
    return told if len(told) <= MOST_NAME and _MEDIA_TYPE.fullmatch(told) else _OCTETS


def _value(name: str, body: bytes, start: int, end: int) -> str:
    if end - start > MOST_FIELD_BYTES:
        raise _malformed(f"a field of the form is longer than {MOST_FIELD_BYTES} bytes", name)
    return _text(body[start:end], name)


def _text(said: bytes, name: str | None = None) -> str:
    try:
        return said.decode()
    except UnicodeDecodeError:
        raise _malformed("a field of the form, or its name, is not UTF-8", name) from None


def _add(fields: Fields, name: str, value: str) -> None:
    # NB: to some servers `Model` and `model[]` are the field `model`.
    plain = _plain(name)
    if plain == FILE or any(one != name and _plain(one) == plain and not one[-1] == name[-1] == "]" for one in fields):
        raise _malformed("the form has a field twice", name)
    if name.endswith(_LIST):
        fields.setdefault(name, []).append(value)
    elif name in fields:
        raise _malformed("the form has a field twice", name)
    else:
        fields[name] = value


def _written(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    return to_json(value)


def _plain(name: str) -> str:
    return name.partition("[")[0].lower()


def _malformed(why: str, param: str | None = None) -> InvalidRequest:
    return InvalidRequest(why, code=_CODE, param=param)
