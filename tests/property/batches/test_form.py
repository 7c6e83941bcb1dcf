"""A form with a file, however its bytes come."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.errors import InvalidRequest
from capstan_gateway.pages.form import MOST_FIELD, Form

TYPE = b"multipart/form-data; boundary=XX"


def written(data: bytes, purpose: str = "batch") -> bytes:
    """Write a form as SDKs do."""
    return (
        b'--XX\r\ncontent-disposition: form-data; name="purpose"\r\n\r\n' + purpose.encode()
        + b'\r\n--XX\r\nContent-Disposition: form-data; name="file"; filename="in.jsonl"\r\n'
        + b"Content-Type: application/octet-stream\r\n\r\n" + data + b"\r\n--XX--\r\n"
    )  # fmt: skip


@given(st.binary(max_size=200), st.lists(st.integers(0, 500), max_size=20))
def test_a_file_does_not_depend_on_how_it_comes(data: bytes, cuts: list[int]) -> None:
    """The file is its bytes, wherever the form is cut."""
    data = data.replace(b"--XX", b"")
    whole = written(data)
    places = sorted({min(cut, len(whole)) for cut in cuts} | {0, len(whole)})
    form = Form(TYPE)
    found = b"".join(form.feed(whole[begin:end]) for begin, end in pairwise(places))
    assert (found, form.filename, form.fields, form.complete) == (data, "in.jsonl", {"purpose": "batch"}, True)


@given(st.binary(max_size=300))
def test_what_is_no_form_is_refused(data: bytes) -> None:
    """Whatever comes is a form, half a form, or refused as the client's mistake."""
    form = Form(TYPE)
    try:
        form.feed(data)
    except InvalidRequest as error:
        assert error.status == 400  # noqa: PT017 - both ends are looked at
    else:
        assert not form.complete or form.filename is None


@pytest.mark.parametrize("content_type", [b"", b"application/json", b"multipart/form-data"])
def test_a_form_says_that_it_is_one(content_type: bytes) -> None:
    """Another content type, or a form without a boundary, is refused with 415."""
    with pytest.raises(InvalidRequest) as raised:
        Form(content_type)
    assert raised.value.status == 415


def test_fields_are_bounded() -> None:
    """A field, and the headers of a part, may have so many bytes and no more."""
    Form(TYPE).feed(written(b"", "x" * MOST_FIELD))
    with pytest.raises(InvalidRequest, match="longer than"):
        Form(TYPE).feed(written(b"", "x" * (MOST_FIELD + 1)))
    with pytest.raises(InvalidRequest, match="form"):
        Form(TYPE).feed(b"--XX\r\nx: " + b"y" * 5000)
