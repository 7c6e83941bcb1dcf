"""What a document costs is told from its bytes: never too little, whatever is in its texts and wherever it is cut."""

import gc
import tracemalloc
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway import documents
from capstan_gateway.documents import WORST_FACTOR, count_values, memory_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text('ab"\\{}[],:\u00e4\U0001f600', max_size=12),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text('a"\\{,:', max_size=4), inner, max_size=5),
    max_leaves=30,
)


def shape(value: Any) -> tuple[int, int, int]:
    """Count containers, pairs and commas of a parsed document."""
    if isinstance(value, list):
        counts = [shape(item) for item in value]
        return (
            1 + sum(c[0] for c in counts),
            sum(c[1] for c in counts),
            sum(c[2] for c in counts) + max(0, len(value) - 1),
        )
    if isinstance(value, dict):
        counts = [shape(item) for item in value.values()]
        pairs = len(value) + sum(c[1] for c in counts)
        return (1 + sum(c[0] for c in counts), pairs, sum(c[2] for c in counts) + max(0, len(value) - 1))
    return 0, 0, 0


@given(JSON, st.integers(1, 40), st.booleans())
def test_only_what_stands_outside_of_texts_counts(document: Any, window: int, spaced: bool) -> None:
    """The counts are those of the document, however it is cut into windows and whatever its texts look like."""
    body = orjson.dumps(document, option=orjson.OPT_INDENT_2 if spaced else 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "WINDOW", window)
        counts = count_values(body)
    assert (counts.containers, counts.pairs, counts.commas) == shape(document)


@given(st.binary(max_size=200))
def test_nonsense_is_counted_somehow(body: bytes) -> None:
    """Counting never fails."""
    assert count_values(body).values > 0


UNITS = [
    "{}", "[]", '"a"', '"abc"', "1", "100000", "1.5", '{"a":1}', '{"abc":[]}', "null", "[[]]", '{"a":{}}', '"\u00e4"',
    '{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6}', '"\\u00e4bcdefghijk"', '"abcdefghijklmnop\U0001f600"',
]  # fmt: skip


@pytest.mark.parametrize("unit", UNITS)
def test_a_document_never_takes_more_than_was_said(unit: str) -> None:
    """What parsing takes is at most the size of the body and what was told before, and never above the worst factor."""
    body = ("[" + ",".join([unit] * 20_000) + "]").encode()
    told = len(body) + memory_of(body, count_values(body))
    gc.collect()
    tracemalloc.start()
    try:
        parsed = orjson.loads(body)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(parsed) == 20_000
    assert taken <= told
    assert taken <= WORST_FACTOR * len(body)
