"""Forms with a file: what is read of them, what is refused by name, and what is sent in their place."""

import pytest
from python_multipart.multipart import parse_options_header

from capstan_gateway.dialects.clients.forms import (
    MOST_FIELD_BYTES,
    MOST_PARTS,
    Fields,
    Form,
    boundary_of,
    put_model,
    read_flag,
    read_form,
    written,
)
from capstan_gateway.errors import InvalidRequest, NotJson

FILE = b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\nRIFF'


def field(name: str, value: str = "x", *more: str) -> bytes:
    """Give a part with a text."""
    return "\r\n".join((f'Content-Disposition: form-data; name="{name}"', *more, "", value)).encode()


def body(*parts: bytes, boundary: bytes = b"b", end: bytes = b"--\r\n") -> bytes:
    """Put parts together."""
    return b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + boundary + end


def read(*parts: bytes) -> tuple[Form, Fields]:
    """Read a form of these parts."""
    return read_form(b"b", body(*parts))


@pytest.mark.parametrize(
    ("said", "boundary"),
    [
        (b"multipart/form-data; boundary=abc", b"abc"),
        (b'Multipart/Form-Data; charset=utf-8; boundary="a b:c"', b"a b:c"),
        (b"multipart/form-data;boundary=a'()+_,-./:=?c", b"a'()+_,-./:=?c"),
    ],
)
def test_a_boundary_is_read_as_it_may_be_written(said: bytes, boundary: bytes) -> None:
    """As a word or in quotes, and what is said again of the form means the same."""
    assert boundary_of(said) == boundary


def test_a_form_is_sent_with_a_boundary_of_its_own() -> None:
    """No client knows it, so none can have written parts into a file or a field, whatever others take for line ends."""
    forms = [read(FILE)[0] for _ in range(2)]
    assert len({form.boundary for form in forms} | {b"b"}) == 3
    for form in forms:
        assert boundary_of(form.content_type) == form.boundary
        assert parse_options_header(form.content_type)[1] == {b"boundary": form.boundary}
    inside = b"\n--b\n" + field("model", "other").replace(b"\r", b"") + b"\n--b\n"
    form, fields = read(field("model", "m"), field("prompt", inside.decode()), FILE + inside)
    sent = written(form, fields)
    assert (bytes(form.file), fields["prompt"]) == (b"RIFF" + inside, inside.decode())
    assert sent.count(b"--" + form.boundary) == 4


@pytest.mark.parametrize(
    "said",
    [
        None, b"", b"application/json", b"multipart/form-data", b"multipart/form-data; boundary=",
        b"multipart/form-data; boundary=a; boundary=b", b"multipart/mixed; boundary=a",
        b"multipart/form-data; boundary=" + b"a" * 71, b'multipart/form-data; boundary="a\r\nb"',
        b'multipart/form-data; boundary="a', b'multipart/form-data; boundary="a "',
    ],
)  # fmt: skip
def test_a_head_without_one_boundary_is_refused(said: bytes | None) -> None:
    """With the status of a media type that is not taken."""
    with pytest.raises(NotJson):
        boundary_of(said)


def test_fields_are_texts_and_the_file_is_not_copied() -> None:
    """Names with brackets at their end may stand there several times."""
    whole = body(field("model", "m"), field("t[]", "word"), FILE, field("t[]", "segment"), field("empty", ""))
    form, fields = read_form(b"b", whole)
    assert fields == {"model": "m", "t[]": ["word", "segment"], "empty": ""}
    assert (bytes(form.file), form.filename, form.file_type) == (b"RIFF", "file.wav", b"audio/wav")
    assert form.file.obj is whole


def test_what_stands_around_the_parts_goes_nowhere() -> None:
    """Nor do headers that nobody has read: what is sent says what was read, and nothing else."""
    whole = body(field("model", "m", "X-Secret: 1"), FILE, end=b"--\r\nbehind the end")
    form, fields = read_form(b"b", b"\r\n" + whole)
    sent = written(form, {**fields, "model": "other", "stream": True, "gone": None})
    assert b"behind" not in sent
    assert b"Secret" not in sent
    assert read_form(form.boundary, sent)[1] == {"model": "other", "stream": "true"}


@pytest.mark.parametrize(
    ("whole", "param"),
    [
        (b"", None),
        (b"before" + body(FILE), None),
        (b"--bx\r\n" + FILE + b"\r\n--b--", None),
        (body(FILE, end=b""), None),
        (body(FILE)[:-5], None),
        (body(b"\r\nx", FILE), None),
        (body(b"no header\r\n\r\nx", FILE), None),
        (body(b"Content-Disposition: attachment; name=\"x\"\r\n\r\nx", FILE), None),
        (body(b"Content-Disposition: form-data\r\n\r\nx", FILE), None),
        (body(b"Content-Disposition: form-data; name=\"\"\r\n\r\nx", FILE), None),
        (body(field("n" * 129), FILE), None),
        (body(b"Content-Disposition: form-data; name=\"x\r\n\r\nx", FILE), None),
        (body(field("x", "1", "Content-Disposition: form-data; name=y"), FILE), None),
        (body(b"A: " + b"a" * 5000 + b"\r\n" + field("x"), FILE), None),
        (body(*[field(f"f{n}") for n in range(MOST_PARTS)], FILE), None),
        (body(b"Content-Disposition: form-data; name=\"x\"\r\n\r\n\xff", FILE), "x"),
        (body(field("x", "1"), field("x", "2"), FILE), "x"),
        (body(field("model", "1"), field("Model", "2"), FILE), "Model"),
        (body(field("model", "1"), field("model[]", "2"), FILE), "model[]"),
        (body(field("model[]", "1"), field("model", "2"), FILE), "model"),
        (body(field("model[a]", "1"), field("model", "2"), FILE), "model"),
        (body(field("file[]"), FILE), "file[]"),
        (body(field("File"), FILE), "File"),
        (body(field("mod\\el"), FILE), None),
        (body(field("model\\\\"), FILE), None),
        (body(field('a\\"b'), FILE), None),
        (body(field("mod%65l"), FILE), None),
        (body(field(" model"), FILE), None),
        (body(field("mod\x00el"), FILE), None),
        (body(field("x", "1", "Content-Transfer-Encoding: base64"), FILE), "x"),
        (body(field("x", "1" * (MOST_FIELD_BYTES + 1)), FILE), "x"),
        (body(b'Content-Disposition: form-data; name="x"; filename="b"\r\n\r\nx', FILE), "x"),
        (body(FILE, FILE), "file"),
        (body(field("file"), field("model")), "file"),
        (body(field("model")), "file"),
        (body(FILE[:-4]), "file"),
        (body(FILE.replace(b"RIFF", b"RIFF\r\n--bad")), None),
    ],
)  # fmt: skip
def test_what_parsers_could_read_in_several_ways_is_refused(whole: bytes, param: str | None) -> None:
    """Each is a 400 that says what is wrong, and in which field where that is known."""
    with pytest.raises(InvalidRequest) as raised:
        read_form(b"b", whole)
    assert (raised.value.status, raised.value.param) == (400, param)


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("Ada Lovelace.mp3", "file.mp3"),
        ("../../etc/passwd", "file"),
        ("a.tar.gz", "file.gz"),
        ('x\\"; name=\\"model\\".wav', "file.wav"),
        ("C:\\\\a.WAV", "file.WAV"),
        ("x.\xfc", "file"),
        ("a." + "x" * 17, "file"),
        ("", "file"),
    ],
)
def test_of_the_name_of_a_file_goes_on_what_says_of_which_kind_it_is(name: str, sent: str) -> None:
    """Nobody judges the rest, and it gets into no header of the next form."""
    form, _ = read(FILE.replace(b"a.wav", name.encode()))
    assert form.filename == sent
    again, _ = read_form(form.boundary, written(form, {}))
    assert (again.filename, again.file) == (sent, form.file)


def test_a_type_that_is_none_is_said_to_be_bytes() -> None:
    """No header of the next form is written by a client."""
    form, _ = read(FILE.replace(b"audio/wav", b"audio / wav"))
    assert form.file_type == b"application/octet-stream"


def test_fields_in_brackets_may_stand_beside_each_other() -> None:
    """As OpenAI's `chunking_strategy[type]` and `chunking_strategy[threshold]` do."""
    _, fields = read(field("c[type]", "vad"), field("c[threshold]", "1"), field("t[]", "a"), field("t[]", "b"), FILE)
    assert fields == {"c[type]": "vad", "c[threshold]": "1", "t[]": ["a", "b"]}


@pytest.mark.parametrize(
    ("said", "flag"),
    [(None, False), ("", False), ("false", False), ("0", False), ("TRUE", True), (" true ", True), ("1", True)],
)
def test_flags_are_read_as_forms_say_them(said: str | None, flag: bool) -> None:
    """Another word is refused by the name of its field."""
    assert read_flag({} if said is None else {"stream": said}, "stream") is flag
    with pytest.raises(InvalidRequest, match="`stream` must be true or false"):
        read_flag({"stream": "yes"}, "stream")
    with pytest.raises(InvalidRequest):
        read_flag({"stream": ["true"]}, "stream")


def test_a_model_that_a_path_names_is_the_only_one() -> None:
    """No other spelling of the field goes on, which some parsers would take for it."""
    for spelling in ("model", "Model", "model[]", "model[a]"):
        fields = read(field(spelling, "other"), field("modelling", "x"), FILE)[1]
        put_model(fields, "named")
        assert fields == {"model": "named", "modelling": "x"}
