"""What an engine tells of tokens, found in the bytes of an answer."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.tokens.usage import (
    MAX_OBJECT_BYTES,
    MOST_TOKENS,
    WRITTEN_NAMES,
    Usage,
    count_of,
    find_usage,
    parse_usage,
    written_of,
)

TOLD = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
SAID = Usage(5, 3)


@pytest.mark.parametrize(
    ("document", "usage"),
    [
        (b"", None),
        (b'"usage"', None),
        (b'"usage":{"prompt_tokens":5,"completion_tokens":3}', SAID),
        (b'{"usage":{"prompt_tokens":5,"completion_tokens":3}}', SAID),
        (b'{"usage" \t\r\n: \t\r\n{"prompt_tokens":5,"completion_tokens":3}}', SAID),
        (b'{"usage":null}', None),
        (b'{"usage":null,"x":{"prompt_tokens":5,"completion_tokens":3}}', None),
        (b'{"usage" {"prompt_tokens":5,"completion_tokens":3}}', None),
        (b'{"usage"::{"prompt_tokens":5,"completion_tokens":3}}', None),
        (b'{"usage":{"prompt_tokens":5,"completion_tokens":3', None),
        (b'{"usage":{"prompt_tokens":5,"completion_tokens":}}', None),
        (b'{"usage":[{"prompt_tokens":5,"completion_tokens":3}]}', None),
        (b'{"usage":{}}', None),
        (b'{"usage":{"prompt_tokens":5,"completion_tokens":3}}{"usage":null}', SAID),
        (b'{"usage":{"prompt_tokens":1}}{"usage":{"prompt_tokens":5,"completion_tokens":3}}', SAID),
        (b'{"usage":{"prompt_tokens":5,"completion_tokens":3},"text":"\\"usage\\":{\\"prompt_tokens\\":9}"}', SAID),
        (b'{"text":"\\"usage\\":{}","a":1}', None),
        (b'{"usage":{"prompt_tokens":5,"completion_tokens":3},"x\\"usage":{"prompt_tokens":1}}', SAID),
        (
            b'{"usage":{"a":{},"b":{"c":{"d":{}}},"prompt_tokens":5,"completion_tokens":3,"e":{}},"f":{"g":1}}',
            SAID,
        ),
        (b'{"usage":{"prompt_tokens":5,"completion_tokens":3},"service_tier":{"a":{}}}}}}', SAID),
        (b'{"a":1,"usage":7,"usage":{"prompt_tokens":5,"completion_tokens":3},"usage":7}', SAID),
    ],
)  # fmt: skip
def test_usage_is_the_last_object_under_its_key(document: bytes, usage: Usage | None) -> None:
    """What a model says is no key, what is no object is passed over, and nothing behind the object is read."""
    assert find_usage(document) == usage


def test_an_object_that_is_too_large_is_not_searched_to_its_end() -> None:
    """What is larger than a usage object ever is, is none: up to the very byte."""

    def padded(size: int) -> bytes:
        empty = orjson.dumps({**TOLD, "x": ""})
        value = orjson.dumps({**TOLD, "x": "a" * (size - len(empty))})
        assert len(value) == size
        return b'{"usage":' + value + b"}"

    assert find_usage(padded(MAX_OBJECT_BYTES - 1)) == SAID
    assert find_usage(padded(MAX_OBJECT_BYTES)) is None


@given(st.text(max_size=30), st.text(max_size=30), st.integers(0, 4), st.booleans())
def test_usage_is_found_whatever_is_said(before: str, after: str, depth: int, last: bool) -> None:
    """No text of an answer, on either side, hides the usage or is taken for it."""
    told: dict[str, Any] = dict(TOLD)
    inner = told
    for _ in range(depth):
        inner["prompt_tokens_details"] = inner = {"reserved": 1}
    said = [("text", before + '"usage":{"prompt_tokens":9}' + after), ("usage", told), ("more", after + '"usage"')]
    document = orjson.dumps(dict(said if last else said[:2]))
    assert find_usage(document) == SAID


@pytest.mark.parametrize(
    ("found", "usage"),
    [
        (None, None),
        ([], None),
        ({}, None),
        ({"total_tokens": 0}, None),
        ({"total_tokens": 9}, Usage(9, 0, bare=True)),
        ({"prompt_tokens": 5, "total_tokens": 9}, Usage(5, 4)),
        ({"completion_tokens": 5, "total_tokens": 9}, Usage(4, 5)),
        ({"prompt_tokens": 5}, Usage(5, 0)),
        ({"completion_tokens": 5}, Usage(0, 5)),
        ({"prompt_tokens": 9, "total_tokens": 5}, Usage(9, 0)),
        ({"prompt_tokens": None, "completion_tokens": None, "total_tokens": 4}, Usage(4, 0, bare=True)),
        ({"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 100}, SAID),
        ({"prompt_tokens": 0, "completion_tokens": 0}, Usage(0, 0)),
        ({**TOLD, "prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 1}}, Usage(5, 3, 2, 1)),
        ({**TOLD, "prompt_tokens_details": [2]}, SAID),
        (
            {
                "prompt_tokens": 5,
                "total_tokens": 9,
                "prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 1},
            },
            Usage(5, 4, 2, 1),
        ),
        (
            {"completion_tokens": 5, "total_tokens": 9, "prompt_tokens_details": {"cache_creation_tokens": 2}},
            Usage(4, 5, 0, 2),
        ),
    ],
)
def test_a_count_that_is_missing_follows_from_the_sum(found: object, usage: Usage | None) -> None:
    """Of input, output and their sum two say the third; the sum alone is said to be only that."""
    assert parse_usage(found) == usage


def test_what_was_written_to_a_cache_has_several_names() -> None:
    """The first name that tells a number counts, and none adds to another."""
    for name in WRITTEN_NAMES:
        assert written_of({name: 4}) == 4
    assert written_of(dict(zip(WRITTEN_NAMES, (0, 7, 9), strict=True))) == 7
    assert written_of({"cached_tokens": 4}) == 0


@pytest.mark.parametrize(
    ("value", "count"),
    [(1, 1), (0, 0), (-1, 0), (1.0, 1), (2.9, 2), (0.5, 0), (-2.0, 0), (True, 0), ("5", 0), (None, 0), ([5], 0),
     (float("nan"), 0), (float("inf"), 0), (MOST_TOKENS - 1, MOST_TOKENS - 1), (MOST_TOKENS, 0),
     (float(MOST_TOKENS), 0), (float(MOST_TOKENS - 1), MOST_TOKENS - 1)],
)  # fmt: skip
def test_a_count_is_a_whole_number_that_can_be(value: object, count: int) -> None:
    """Some engines write it as a float; nothing else, nothing negative and nothing absurd becomes money."""
    found = count_of(value)
    assert (found, type(found)) == (count, int)


@pytest.mark.parametrize(
    ("found", "usage"),
    [
        ({"completion_tokens_details": None}, SAID),
        ({"completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": 1}},
         SAID._replace(thought_tokens=2, spoken_tokens=1)),
        ({"completion_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 10},
         Usage(5, 5, thought_tokens=2)),
        ({"prompt_tokens_details": {"audio_tokens": 4}}, SAID._replace(audio_tokens=4)),
        ({"prompt_tokens_details": {"cache_creation_tokens": 4,
                                    "cache_creation_token_details": {"ephemeral_1h_input_tokens": 3}}},
         SAID._replace(written_tokens=4, hour_tokens=3)),
        ({"completion_tokens_details": {"reasoning_tokens": -1, "audio_tokens": "x"}}, SAID),
    ],
)  # fmt: skip
def test_kinds_with_prices_of_their_own_are_told_apart(found: dict[str, Any], usage: Usage) -> None:
    """Thoughts, sound and what is cached for an hour are read; thoughts that are beside the output are added to it."""
    assert parse_usage({**TOLD, **found}) == usage


@pytest.mark.parametrize(
    ("found", "usage"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}, Usage(5, 2)),
        ({"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 3}}, Usage(5, 2, 3)),
        ({"prompt_tokens": 5, "total_tokens": 7, "prompt_tokens_details": {"cached_tokens": 3}}, Usage(5, 2, 3)),
        ({"prompt_tokens": 5, "completion_tokens": 2, "prompt_cache_hit_tokens": 3}, Usage(5, 2, 3)),
        ({"prompt_tokens": -5, "completion_tokens": 2, "total_tokens": 7}, Usage(0, 2)),
    ],
)
def test_a_usage_of_three_numbers_is_read_for_all_that_it_says(found: dict[str, Any], usage: Usage) -> None:
    """Only input, output and their sum leave no room for anything else."""
    assert parse_usage(found) == usage
