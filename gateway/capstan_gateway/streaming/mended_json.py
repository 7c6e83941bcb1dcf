"""JSON with the faults that engines are known to write, read all the same.

A character that was cut in two, `"\\ud83d"` (JavaScript's strings are UTF-16, and token boundaries fall anywhere), and
`NaN` or `Infinity` among log-probabilities (Python's `json` writes them). RFC 8259 allows neither, and no client's
parser takes both. Half a character becomes U+FFFD, what is no number null.
"""

import json
import re
from typing import Any, Final

import orjson

_HIGH: Final = rb"\\u[dD][89abAB][0-9a-fA-F]{2}"
_LOW: Final = rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_FAULTS: Final = re.compile(rb"%b(?!%b)|(?<!%b)%b|[:,\[] *(?:NaN|-?Infinity)" % (_HIGH, _LOW, _HIGH, _LOW))
_HALVES: Final = re.compile("[\ud800-\udfff]")
_INT_DIGITS: Final = 18
"""So many fit into 64 bits, which is what is written again."""


def may_be_faulty(data: bytes) -> bool:
    """Whether something in it looks like one of these faults; it may be in a text, or well."""
    return _FAULTS.search(data) is not None


def read_mended(data: bytes) -> Any:
    """Read what `orjson` has refused. Raises orjson.JSONDecodeError when it has other faults than these."""
    if not may_be_faulty(data):
        return orjson.loads(data)
    try:
        return _whole(json.loads(data, parse_constant=_null, parse_int=_number))
    except (ValueError, RecursionError) as error:
        raise orjson.JSONDecodeError(str(error), "", 0) from error


def _null(_: str) -> None:
    return None


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) <= _INT_DIGITS else float(digits)


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return _HALVES.sub("\ufffd", value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {_whole(key): _whole(item) for key, item in value.items()}
    return value
