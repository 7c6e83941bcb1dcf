"""Headers as they are written to either side."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.headers import header_lines


@pytest.mark.parametrize("evil", [b"a\r\nb: c", b"a\nb", b"a\rb", b"a\0b"])
def test_a_header_is_one_line(evil: bytes) -> None:
    """A name or a value that would become more than one header is an error."""
    for header in ((evil, b"x"), (b"x", evil)):
        with pytest.raises(ValueError, match="not allowed"):
            header_lines([(b"a", b"b"), header])


@given(st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=8)), max_size=4))
def test_as_many_lines_as_headers(headers: list[tuple[bytes, bytes]]) -> None:
    """Whatever headers hold, there is one line for each of them, or none at all."""
    try:
        lines = header_lines(headers)
    except ValueError:
        assert any(set(b"\r\n\0") & set(name + value) for name, value in headers)
    else:
        assert lines.split(b"\r\n") == [*(name + b": " + value for name, value in headers), b""]
