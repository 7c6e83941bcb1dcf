"""Forms of all kinds: an independent parser reads what was read here, of what came and of what is sent."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from python_multipart.multipart import MultipartParser, parse_options_header

from capstan_gateway.dialects.clients.forms import boundary_of, read_form, written
from capstan_gateway.errors import GatewayError, InvalidRequest

NAMES = st.text("aBcXYZ019_.-", min_size=1, max_size=12).filter(lambda name: name != "file")
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
PIECES = st.lists(st.sampled_from([b"\r\n", b"--", b"b", b"\r", b"\n", b"-", b"\x00", b"\xff", b"a: b", b'"']))


def parse(boundary: bytes, body: bytes) -> list[tuple[str, bytes | None, bytes]]:
    """Give name, name of the file if it is one, and content of each part, as python-multipart reads them."""
    found: list[tuple[str, bytes | None, bytes]] = []
    state: dict[str, Any] = {}

    def begin() -> None:
        state.update(header=b"", value=b"", said=b"", data=b"")

    def on_header() -> None:
        if state["header"].lower() == b"content-disposition":
            state["said"] = state["value"]
        state.update(header=b"", value=b"")

    def add(name: str, data: bytes, start: int, end: int) -> None:
        state[name] += data[start:end]

    def finish() -> None:
        named = parse_options_header(state["said"])[1]
        found.append((named[b"name"].decode(), named.get(b"filename"), state["data"]))

    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": begin, "on_header_end": on_header, "on_part_end": finish,
            "on_header_field": lambda *given: add("header", *given),
            "on_header_value": lambda *given: add("value", *given),
            "on_part_data": lambda *given: add("data", *given),
        },
    )  # fmt: skip
    parser.write(body)
    return found


@given(st.lists(st.tuples(NAMES, TEXTS), max_size=5, unique_by=lambda one: one[0].lower()), PIECES)
def test_another_parser_reads_what_is_sent_as_it_was_said(given: list[tuple[str, str]], pieces: list[bytes]) -> None:
    """Every field and every byte of the file, whatever is in them."""
    fields = dict(given)
    sound = b"RIFF" + b"".join(pieces)
    form, _ = read_form(
        b"original",
        b'--original\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        + sound
        + b"\r\n--original--",
    )
    sent = written(form, fields)
    said = [(name, None, text.encode()) for name, text in fields.items()]
    assert parse(form.boundary, sent) == [*said, ("file", b"file.wav", sound)]
    again, read = read_form(boundary_of(form.content_type), sent)
    assert (read, bytes(again.file)) == (fields, sound)


@given(st.lists(st.sampled_from([
    b"--b\r\n", b"\r\n--b\r\n", b"\r\n--b--", b"--b--\r\n", b"\r\n", b"--b", b"b", b"--", b" ", b"x", b"\xff",
    b'Content-Disposition: form-data; name="m"\r\n', b'Content-Disposition: form-data; name="file"; filename="a"\r\n',
    b"Content-Type: audio/wav\r\n", b":", b'"', b";",
])))  # fmt: skip
def test_whatever_comes_is_read_or_refused(pieces: list[bytes]) -> None:
    """Nothing else is raised; and what is read is what another parser reads, once it is written anew."""
    try:
        form, fields = read_form(b"b", b"".join(pieces))
    except GatewayError as error:
        assert isinstance(error, InvalidRequest)  # noqa: PT017 - either is right
        return
    parts = parse(form.boundary, written(form, fields))
    assert parts[-1] == ("file", b"file", bytes(form.file))
    assert [(name, text.decode()) for name, _, text in parts[:-1]] == list(fields.items())


@given(st.binary(max_size=200))
def test_any_head_and_body_are_read_or_refused(noise: bytes) -> None:
    """With an error of the client's, and no other."""
    for read in (lambda: boundary_of(noise), lambda: read_form(b"b", noise)):
        try:
            read()
        except InvalidRequest as error:
            assert error.status in (400, 415)  # noqa: PT017 - either is right
