"""JSON or not, token by token, at the edges that chance seldom finds."""

from itertools import product

import orjson
import pytest

from capstan_gateway.streaming import json_check
from capstan_gateway.streaming.json_check import MAX_DEPTH, NotJson, check_json


def steps(data: bytes) -> int:
    """Give in how many steps a document is checked."""
    return sum(1 for _ in check_json(data))


def fault(data: bytes) -> str | None:
    """Give what is wrong with it."""
    try:
        steps(data)
    except NotJson as error:
        return str(error)
    return None


TOKENS = (b"{", b"}", b"[", b"]", b",", b":", b'"a"')


def test_every_short_run_of_tokens_is_told() -> None:
    """All of them up to five tokens: a parser says the same."""
    for length in range(6):
        for tokens in product(TOKENS, repeat=length):
            data = b" ".join(tokens)
            try:
                orjson.loads(data)
            except orjson.JSONDecodeError:
                assert fault(data) is not None, data
            else:
                assert fault(data) is None, data


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it ends too early"),
        (b"[1", "it ends too early"),
        (b"1 1", "something follows"),
        (b"{} x", "something follows"),
        (b"[\xff]", "not UTF-8"),
        (b'["\xc3"]', "not UTF-8"),
        (b'"\xc3', "not UTF-8"),
        (b"[1 2]", "something else than must follow"),
        (b"{1:2}", "something else than must follow"),
        (b'{"a" 1}', "something else than must follow"),
        (b'["a', "something else than must follow"),
        (b'["a\n"]', "something else than must follow"),
        (b'["\\x"]', "something else than must follow"),
        (b"[x]", "no value where one must be"),
        (b"[,1]", "no value where one must be"),
        (b"[1,]", "no value where one must be"),
        (b"[+1]", "no value where one must be"),
        (b"[1,2,3 4]", "something else than must follow"),
        (b"[" * (MAX_DEPTH + 1), "something else than must follow"),
        (b"[" * MAX_DEPTH, "it ends too early"),
        (b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH, None),
        (b'{"a":1,"b":2,"c":[3,4]}', None),
        (b" \t\r\n[ 1 , 2.5e-3 , -0 , true , false , null , \"\\u00e9\\n\" , {} ] \n", None),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_apart(data: bytes, said: str | None) -> None:
    """Bytes, an early end, a wrong token, more than one document; spaces may stand between all tokens."""
    assert fault(data) == said


@pytest.mark.parametrize(
    "data",
    [
        b'"' + "é".encode() * 40 + b'"',
        b'"' + b"\\u00e9" * 40 + b'"',
        b'["' + b"x" * 200 + b'","' + b"y" * 63 + b'"]',
        b"[" + b"1.5, " * 80 + b"2]",
        b"[" + b"1," * 80 + b'"a",' + b"123456789012," * 20 + b"3]",
    ],
)
def test_a_step_may_end_anywhere(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """Whatever the size of a step is, the middle of a character, an escape or a number belongs to one document."""
    orjson.loads(data)
    for size in range(16, 70):
        monkeypatch.setattr(json_check, "STEP_BYTES", size)
        assert fault(data) is None
        assert fault(data[:-1]) is not None


def test_others_have_their_turn_after_so_many_tokens_or_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a document of many small values, of one long text, and of the look at its bytes."""
    monkeypatch.setattr(json_check, "STEP_BYTES", 1000)
    monkeypatch.setattr(json_check, "STEP_TOKENS", 10)
    looked = 1
    assert steps(b'"a"') == looked
    assert steps(b"[" + b"{}," * 30 + b"{}]") == looked + (2 + 31 * 3 - 1) // 10
    assert steps(b'"' + b"x" * 3000 + b'"') == 4 + 4
    assert steps(b"[" + b"1," * 30 + b"1]") == looked
    assert steps(b"[" + b"1," * 2000 + b"1]") == 5 + 4
    assert steps(b"[" + b'"a",' * 3 + b'"' + b"x" * 100 + b'"' + b',"a"' * 3 + b"]") == looked + 1
    assert steps(b'["' + b"x" * 1500 + b'"' + b',"a"' * 3 + b"]") == 2 + 2
    assert steps(b"[" + b" " * 900 + b"1" + b" " * 99 + b"]" + b" " * 2000) == 4 + 1
