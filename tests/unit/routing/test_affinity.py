"""Which requests belong together."""

from hashlib import blake2b

import pytest

from capstan_gateway.routing import affinity
from capstan_gateway.routing.affinity import BLOCK_CHARS, FORKS, MAX_KEY_CHARS, RECENT, SharedHeads


def affinity_key(document: dict[str, object], *, session: str = "") -> bytes | None:
    """The key of a request to a model that has seen nothing yet."""
    return affinity.affinity_key(document, SharedHeads(), endpoints=4, session=session)


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


def test_behind_a_beginning_that_everybody_shares_the_next_block_decides() -> None:
    """Conversations with one long system prompt get keys of their own, and keep them; short questions get none."""
    heads, system = SharedHeads(), "s" * (3 * BLOCK_CHARS)
    for number in range(4 * FORKS):
        heads.key(system + f"{number:0{BLOCK_CHARS}}", 4)
    keys = {number: heads.key(system + f"{number:0{BLOCK_CHARS}}", 4) for number in range(20)}
    assert len(set(keys.values())) == 20
    assert None not in keys.values()
    assert keys[5] == heads.key(system + f"{5:0{BLOCK_CHARS}}" + "its next turn" * 100, 4)
    assert heads.key(system + "short?", 4) is None


def test_short_questions_behind_one_beginning_are_spread() -> None:
    """When only short questions follow a beginning, it is in every cache, and load alone decides."""
    heads = SharedHeads()
    keys = [heads.key("s" * (3 * BLOCK_CHARS) + f"question {number}", 4) for number in range(50)]
    assert not any(keys[FORKS:])


def test_a_conversation_that_is_all_of_the_traffic_keeps_its_key() -> None:
    """One user alone, turn after turn: the key stays, although every block belongs to all requests."""
    heads, text, keys = SharedHeads(), "", set()
    for turn in range(30):
        text += f"{turn:0{2 * BLOCK_CHARS}}"
        keys.add(heads.key(text, 4))
    assert len(keys) == 1


def test_a_document_with_many_questions_keeps_its_key_within_a_fair_share() -> None:
    """Its questions go where it is cached, as long as one endpoint can take them beside its other work."""
    heads, keys = SharedHeads(), set()
    for number in range(200):
        for other in range(9):
            heads.key(f"{number * 9 + other:<{3 * BLOCK_CHARS}}", 4)
        keys.add(heads.key("d" * (4 * BLOCK_CHARS) + f"{number:<{BLOCK_CHARS}}", 4))
    assert len(keys) == 1


def test_what_is_known_about_beginnings_is_bounded() -> None:
    """However many different prompts there are, only the latest are remembered."""
    heads = SharedHeads(max_heads=10)
    for number in range(100):
        heads.key(f"{number:<{3 * BLOCK_CHARS}}", 4)
    assert len(heads) == 10


def test_a_shared_beginning_stays_known_among_many_prompts() -> None:
    """Prompts that come once do not push out a beginning that every third request shares."""
    heads = SharedHeads(max_heads=64)
    for number in range(1000):
        heads.key("s" * BLOCK_CHARS + f"{number:<{BLOCK_CHARS}}", 4)
        heads.key(f"once {number:<{3 * BLOCK_CHARS}}", 4)
        heads.key(f"and {number:<{3 * BLOCK_CHARS}}", 4)
    keys = {heads.key("s" * BLOCK_CHARS + name * BLOCK_CHARS, 4) for name in "ab"}
    assert len(keys - {None}) == 2


def hashed(text: str) -> bytes:
    """The hash that gateways of any version agree on."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()


@pytest.mark.parametrize("said", ["k", "\ud800", "x" * MAX_KEY_CHARS])
def test_gateways_side_by_side_come_to_the_same_keys(said: str) -> None:
    """A key is a hash of what the client says, and of what kind it is; of a long one its beginning."""
    assert affinity_key({"prompt_cache_key": said + "y" * (len(said) >= MAX_KEY_CHARS)}) == hashed(f"cache\n{said}")
    assert affinity_key({}, session=said) == hashed(f"session\n{said}")
    assert affinity.affinity_key({}, SharedHeads(), endpoints=4) is None


def test_the_key_of_a_prompt_is_a_chain_of_its_blocks() -> None:
    """Each block is hashed over what is before it; the first one, over the word that says what it is."""
    text = "user\n" + "x" * BLOCK_CHARS
    first = blake2b(b"head" + text[:BLOCK_CHARS].encode(), digest_size=8).digest()
    assert affinity_key(chat("x" * BLOCK_CHARS)) == first
    assert affinity_key({"prompt": 5}) is None
    heads = SharedHeads()
    assert heads.key("x" * (BLOCK_CHARS - 1), 1) is None
    assert heads.key("x" * BLOCK_CHARS, 1) == blake2b(b"head" + b"x" * BLOCK_CHARS, digest_size=8).digest()


def test_what_was_shared_long_ago_counts_less() -> None:
    """After so many requests each one before counts half, again and again: a new beginning is soon as well known."""
    heads = SharedHeads()
    for _ in range(RECENT - 1):
        heads.key("a" * BLOCK_CHARS, 1)
    (known,) = heads._heads.values()
    assert (heads._total, known.count, known.era) == (RECENT - 1, RECENT - 1, 0)
    heads.key("", 1)
    assert (heads._total, heads._era) == (RECENT // 2, 1)
    heads.key("a" * BLOCK_CHARS, 1)
    assert (known.count, known.era) == ((RECENT - 1) // 2 + 1, 1)
    for _ in range(RECENT // 2):
        heads.key("", 1)
    assert (heads._era, type(heads._total)) == (2, int)


def test_the_beginning_that_nobody_has_used_for_longest_is_forgotten() -> None:
    """And not the one that came last."""
    heads = SharedHeads(max_heads=2)
    for text in "aba":
        heads.key(text * BLOCK_CHARS, 1)
    before = list(heads._heads)
    heads.key("c" * BLOCK_CHARS, 1)
    assert next(iter(heads._heads)) == before[1]
    assert len(heads) == 2


def test_the_head_of_a_prompt_is_whole_to_its_last_character() -> None:
    """Wherever one message ends and the next one begins; what is no text has no head."""
    messages = [{"role": "u", "content": "x" * 5}, {"role": "v", "content": "y"}]
    whole = "u\nxxxxx\nv\ny\n"
    for chars in range(1, 20):
        assert affinity.prompt_head({"messages": messages}, chars) == whole[:chars]
    assert affinity.prompt_head({"prompt": 5}, 9) == ""
