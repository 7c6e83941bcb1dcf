"""Checking JSON in steps says what a parser says."""

from contextlib import suppress

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.streaming import json_check
from capstan_gateway.streaming.json_check import STEP_BYTES, STEP_TOKENS, NotJson, check_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip
PIECES = st.lists(
    st.sampled_from(
        [b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"1", b"-", b"0", b".5", b"e3", b"true", b"null", b" ", b"a",
         b"\\u00e9", b"\xc3\xa9", b"\xff", b"\n", b'"a"', b'"a":1', b"[1,2]", b"{}", b"\x00"]
    ),
    max_size=9,
)  # fmt: skip


def _is_json(data: bytes) -> bool:
    try:
        for _ in check_json(data):
            pass
    except NotJson:
        return False
    return True


def _parses(data: bytes) -> bool:
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return True


@given(JSON, st.booleans(), st.integers(8, 64))
def test_every_document_is_one(value: object, indent: bool, step: int) -> None:
    """What a writer writes is JSON, in steps of any size, and cut anywhere it is none."""
    data = orjson.dumps(value, option=orjson.OPT_INDENT_2 if indent else 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_check, "STEP_BYTES", step)
        assert _is_json(data)
        assert _is_json(data[:-1]) == _parses(data[:-1])


@given(PIECES)
def test_it_says_what_a_parser_says(pieces: list[bytes]) -> None:
    """Of any bytes."""
    data = b"".join(pieces)
    assert _is_json(data) == _parses(data)


@pytest.mark.parametrize(
    "data", [b"[" + b"1.5," * 500_000 + b"2]", b'{"a":"' + b"x" * 2_000_000 + b'"}', b"[" + b"{}," * 100_000 + b"{}]"]
)
def test_no_step_is_large(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """However a document is made, it is read in steps that are bounded in bytes and in tokens."""
    walk = json_check._Walk(data)
    at, tokens, most = 0, 0, 0
    token = json_check._Walk._token

    def counted(self: json_check._Walk) -> bool:
        nonlocal tokens
        tokens += 1
        return token(self)

    monkeypatch.setattr(json_check._Walk, "_token", counted)
    for _ in walk.steps():
        most = max(most, walk._at - at)
        at = walk._at
        assert tokens <= STEP_TOKENS
        tokens = 0
    assert most <= 3 * STEP_BYTES


def test_depth_is_bounded() -> None:
    """A document deeper than parsers read is none."""
    with suppress(NotJson):
        list(check_json(b"[" * 100_000))
    assert not _is_json(b"[" * 2000 + b"]" * 2000)
    assert _is_json(b"[" * 1000 + b"]" * 1000)
