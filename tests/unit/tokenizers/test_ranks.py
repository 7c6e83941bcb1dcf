"""OpenAI's tokenizers, from ranks that tests make; and from the real ones where an installed package ships them."""

from pathlib import Path
from typing import Any

import pytest

from capstan_gateway.tokenizers.encodings import CL100K, O200K, PUBLISHED, encoding_of
from capstan_gateway.tokenizers.files import Shipped, Unusable
from capstan_gateway.tokenizers.ranks import RankCounter, read_ranks
from support.tokenizers import hash_of, ranks_file

ROOT = Path(__file__).parents[3]
SHIPPED = "lib/*/site-packages/litellm/litellm_core_utils/tokenizers/*"
PLACES = (f".venv-clients/*/{SHIPPED}", f".cache/bench/litellm/{SHIPPED}")


@pytest.fixture
def counter() -> RankCounter:
    """One that knows `he` and `hel` beside all bytes."""
    return RankCounter(Shipped(tokenizer=ranks_file("he", "hel"), ranks=True), O200K)


@pytest.mark.parametrize(
    ("document", "tokens"),
    [
        ({"prompt": "hello"}, 3),
        ({"prompt": ["hello", "he"]}, 4),
        ({"prompt": [1, 2]}, 2),
        ({"messages": [{"role": "he", "content": "hello"}]}, 3 + 1 + 3 + 3),
        ({"messages": [{"role": "he", "content": "hello", "name": "he"}]}, 3 + 1 + 3 + 1 + 1 + 3),
        ({"messages": [{"role": "he", "content": None, "tool_calls": None}]}, 3 + 1 + 3),
        ({"messages": [{"role": "he", "content": [{"type": "text", "text": "hello"}]}]}, 3 + 1 + 3 + 3),
        ({"messages": [{"role": "he", "content": "<|endoftext|>"}]}, 3 + 1 + 13 + 3),
    ],
)
def test_what_is_counted(counter: RankCounter, document: dict[str, Any], tokens: int) -> None:
    """Texts by their ranks, and three tokens around each message, one for a name, three for the answer."""
    assert counter.count(document) == tokens


@pytest.mark.parametrize(
    "document",
    [
        {"messages": [{"role": "user", "content": "a"}], "tools": [{"type": "function"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        {"messages": [{"role": "assistant", "content": "", "tool_calls": [{}]}]},
        {"messages": [{"role": "user", "content": 7}]},
        {"messages": [7]},
        {"messages": 7},
        {"prompt": "x" * (1024 * 1024 + 1)},
        {"prompt": ["x" * (1024 * 1024)] * 5},
        {"prompt": "x", "truncate_prompt_tokens": 1},
        {"messages": [{"role": "user", "content": "x" * (1024 * 1024)}] * 5},
        {"messages": [{"role": "user", "content": "x"}], "truncate_prompt_tokens": 1},
        {},
    ],
)
def test_what_openai_has_said_no_rule_for_is_not_told(counter: RankCounter, document: dict[str, Any]) -> None:
    """Tools, calls, pictures, and what is no text."""
    assert counter.count(document) is None


def test_only_a_prompt_has_tokens_that_are_known(counter: RankCounter) -> None:
    """Of a conversation only their number is."""
    assert counter.tokens({"prompt": "hel"}) == [257]
    assert counter.tokens({"messages": [{"role": "user", "content": "a"}]}) is None


@pytest.mark.parametrize(
    "raw",
    [b"", b"aGU= 0\n", b"not base64 at all", ranks_file() + b"aGU= x\n", ranks_file() + b"aGU= 7\n", b"\xff\xfe"],
)
def test_what_are_no_ranks_cannot_be_used(raw: bytes) -> None:
    """Each byte has one, and no two tokens the same."""
    with pytest.raises(Unusable):
        read_ranks(raw)


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-4o", O200K), ("gpt-4o-mini-2024-07-18", O200K), ("gpt-4.1-nano", O200K), ("gpt-5", O200K),
        ("gpt-5.1-codex", O200K), ("o1", O200K), ("o3-mini", O200K), ("o4-mini", O200K),
        ("ft:gpt-4o-mini:acme::x", O200K), ("gpt-4", CL100K), ("gpt-4-turbo", CL100K), ("gpt-3.5-turbo-0125", CL100K),
        ("text-embedding-3-large", CL100K), ("gpt-oss-20b", None), ("gpt-40", None), ("o10", None), ("", None),
        ("my-gpt-4o", None), ("davinci", None),
    ],
)  # fmt: skip
def test_which_encoding_a_model_has(model: str, encoding: str | None) -> None:
    """By tiktoken's table; of a name that is not in it nobody guesses."""
    assert encoding_of(model) == encoding


@pytest.mark.parametrize("encoding", [CL100K, O200K])
def test_the_published_ranks_give_the_published_counts(encoding: str) -> None:
    """What OpenAI's cookbook prints, where an installed package has the file."""
    files = (path for place in PLACES for path in ROOT.glob(place) if path.is_file())
    found = next((raw for raw in (path.read_bytes() for path in files) if hash_of(raw) == PUBLISHED[encoding]), None)
    if found is None:
        pytest.skip("left out: no installed package ships these ranks")
    counter = RankCounter(Shipped(tokenizer=found, ranks=True), encoding)
    assert counter.tokens({"prompt": "tiktoken is great!"}) == {
        CL100K: [83, 1609, 5963, 374, 2294, 0], O200K: [83, 8251, 2488, 382, 2212, 0],
    }[encoding]  # fmt: skip
