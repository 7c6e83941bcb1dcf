"""Which requests belong together."""

import pytest

from capstan_gateway.routing.affinity import affinity_key


def chat(*texts: object) -> dict[str, object]:
    """A chat request with these messages."""
    return {"messages": [{"role": "user", "content": text} for text in texts]}


def test_what_the_client_says_goes_first() -> None:
    """prompt_cache_key before the session, the session before the prompt; the three never collide."""
    keys = [
        affinity_key({**chat("x" * 2000), "prompt_cache_key": "k"}, session="s"),
        affinity_key(chat("x" * 2000), session="s"),
        affinity_key(chat("x" * 2000), session="k"),
        affinity_key(chat("x" * 2000)),
    ]
    assert len(set(keys)) == 4
    assert keys[0] == affinity_key({"prompt_cache_key": "k"})


def test_a_conversation_that_goes_on_keeps_its_key() -> None:
    """Only the head of the prompt counts."""
    first = chat("system " * 300)
    longer = chat("system " * 300, "an answer", "a question")
    assert affinity_key(first) == affinity_key(longer) is not None
    assert affinity_key(chat("another " * 300)) != affinity_key(first)


@pytest.mark.parametrize(
    "document",
    [
        {},
        chat("short"),
        {"messages": "nonsense"},
        {"messages": [1, None, {"role": "user"}, {"role": "user", "content": 5}]},
        {"prompt": ["tokens"]},
        {"prompt_cache_key": 7},
        {"messages": [{"role": "user", "content": [{"type": "image_url"}, "x"]}]},
    ],
)
def test_short_or_odd_prompts_have_no_key(document: dict[str, object]) -> None:
    """Nothing worth an uneven load, and nothing that the engine would refuse stops the gateway."""
    assert affinity_key(document) is None


def test_text_parts_count_and_lone_surrogates_do_no_harm() -> None:
    """Multi-part content has a head as well; text that is not valid Unicode is hashed like any other."""
    parts = [{"type": "text", "text": "\ud800" * 400}]
    assert affinity_key({"messages": [{"role": "user", "content": parts}]}) is not None
    assert affinity_key({"prompt": "p" * 256}) is not None
