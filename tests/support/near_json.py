"""Documents that are nearly right: with values missing, of other types, too deep, too large, twice, or no JSON."""

import json
from collections.abc import Iterable
from copy import deepcopy
from typing import Any, Final

from hypothesis import strategies as st

Path = tuple[Any, ...]


class Raw:
    """A value as these bytes, whatever they are."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __repr__(self) -> str:
        return f"Raw({self.data[:40]!r})"

    def __deepcopy__(self, memo: object) -> "Raw":
        return self


class Twice:
    """A value in front of which its name stands once more, with another one."""

    def __init__(self, first: Any, second: Any) -> None:
        self.first, self.second = first, second

    def __repr__(self) -> str:
        return f"Twice({self.first!r}, {self.second!r})"


DEEP: Final = 300
DEEPER: Final = 1000
NESTED: Final = (
    Raw(b"[" * 200 + b"]" * 200), Raw(b"[" * DEEP + b"]" * DEEP), Raw(b'{"a":' * DEEP + b"1" + b"}" * DEEP),
    Raw(b"[" * DEEPER + b"]" * DEEPER),
)  # fmt: skip
ODD: Final = (
    Raw(b"NaN"), Raw(b"-Infinity"), Raw(b"1e999"), Raw(b"-0.0"), Raw(b"9" * 400), Raw(b"18446744073709551616"),
    Raw(rb'"\ud83d"'), Raw(rb'"a\udc00\ud800b"'), Raw(b'"\xff"'), Raw(b""), Raw(b'"a'),
    Raw(b"01"), Raw(rb'"\u0000"'), Raw(b"1.5e3"),
)  # fmt: skip
"""What JSON has no word for, what parsers differ about, and what is nearly right."""
WRONG: Final = (
    None, True, False, 0, -1, 1, 2.5, 10**12, 2**63, "", "x", "auto", "none", "text", "\U0001f600", [], {}, [None],
    [[]], [{}], {"type": 5}, {"type": "text"}, {"type": "function"}, {"a": None}, ["a", 1], "a" * 300,
    '{"a":' * DEEP + "1" + "}" * DEEP, [1, 2.5, "x", None, {}],
)  # fmt: skip


def written(value: Any) -> bytes:
    """Write it; what holds a `Raw` is perhaps no JSON."""
    if isinstance(value, Raw):
        return value.data
    if isinstance(value, dict):
        return b"{" + b",".join(_member(key, inner) for key, inner in value.items()) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(map(written, value)) + b"]"
    if isinstance(value, Twice):
        return written(value.second)
    return json.dumps(value).encode()


def _member(key: str, value: Any) -> bytes:
    name = json.dumps(key).encode() + b":"
    before = name + written(value.first) + b"," if isinstance(value, Twice) else b""
    return before + name + written(value)


def places(value: Any, path: Path = ()) -> list[Path]:
    """Give the path of every value in a document."""
    found = [path] if path else []
    items: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, dict) else ()
    for key, inner in enumerate(value) if isinstance(value, list) else items:
        found += places(inner, (*path, key))
    return found


@st.composite
def nearly(draw: st.DrawFn, document: Any, names: tuple[str, ...] = (), *, most: int = 2) -> Any:
    """Give this document with some changes; `names` are those of fields that it may get beside its own."""
    document = deepcopy(document)
    for _ in range(draw(st.integers(0, most))):
        if names and draw(st.integers(0, 2)) == 0:
            document[draw(st.sampled_from(names))] = draw(_VALUES)
            continue
        found = places(document)
        if not found:
            break
        *parents, key = draw(st.sampled_from(found))
        holder = document
        for step in parents:
            holder = holder[step]
        _change(draw, holder, key)
    return document


_VALUES: Final = st.sampled_from(WRONG).map(deepcopy) | st.sampled_from(ODD) | st.sampled_from(NESTED)


def _change(draw: st.DrawFn, holder: Any, key: Any) -> None:
    kind = draw(st.sampled_from(["drop", "wrong", "wrong", "wrong", "odd", "deep", "twice", "wrapped", "again"]))
    if kind == "drop":
        del holder[key]
    elif kind == "deep":
        holder[key] = draw(st.sampled_from(NESTED))
    elif kind == "odd":
        holder[key] = draw(st.sampled_from(ODD))
    elif kind == "wrapped":
        holder[key] = draw(st.sampled_from([[holder[key]], {"type": holder[key]}, {"a": holder[key]}]))
    elif kind == "twice" and isinstance(holder, dict):
        holder[key] = Twice(draw(_VALUES), holder[key]) if draw(st.booleans()) else Twice(holder[key], draw(_VALUES))
    elif kind == "again" and isinstance(holder, list):
        holder.insert(key, deepcopy(holder[key]))
    else:
        holder[key] = deepcopy(draw(st.sampled_from(WRONG)))
