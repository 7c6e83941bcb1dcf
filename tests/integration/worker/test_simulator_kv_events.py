"""The simulator tells which blocks its cache holds, as vLLM's worker does."""

from typing import Any

from capstan_contract.kv_events import KV_EVENTS_TYPE, block_names, root_name
from support.kv_events import listening
from support.wait import wait_until
from support.worker import Worker, get, post_json, simulator

LONG = "Shared rules of the house, which everybody reads before they ask. " * 12


def ask(worker: Worker, **body: Any) -> None:
    """Have a chat request computed whose answer is one token."""
    post_json(f"{worker.url}/v1/chat/completions", {"model": "sim", "max_tokens": 1, **body})


def names(worker: Worker, messages: list[dict[str, Any]], root: int, **body: Any) -> list[int]:
    """Give the names of the whole blocks of a prompt, of the tokens that /tokenize tells."""
    tokens = post_json(f"{worker.url}/tokenize", {"model": "sim", "messages": messages, **body})["tokens"]
    return block_names(tokens, 16, before=root)


def test_the_ids_of_tokenize_are_those_in_names() -> None:
    """Of a prompt that was computed the blocks are told under the names that a gateway makes of the tokens that
    /tokenize tells; for another salt or adapter under others."""
    messages = [{"role": "user", "content": LONG}]
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    with simulator("--kv-events", "on", "--alias", "tuned") as started, listening(started.worker_port) as reader:
        assert reader.type == KV_EVENTS_TYPE
        assert (reader.head.block_tokens, reader.head.snapshot) == (16, 0)
        expected: set[int] = set()
        cases: list[tuple[dict[str, Any], int]] = [
            ({}, root_name()),
            ({"cache_salt": "of a tenant"}, root_name(salt="of a tenant")),
            ({"model": "tuned"}, root_name(adapter="tuned")),
            ({"model": "tuned", "cache_salt": "s", "tools": tools}, root_name(salt="s", adapter="tuned")),
        ]
        for body, root in cases:
            ask(started, messages=messages, **body)
            found = names(started, messages, root, **{"tools": body["tools"]} if "tools" in body else {})
            assert len(found) >= 8
            assert not expected & set(found)
            expected |= set(found)
            wait_until(lambda known=frozenset(expected): known <= reader.names, what=f"the blocks of {sorted(body)}")
        # The one token of an answer may have filled a block.
        assert len(reader.names - expected) <= len(cases)
        with listening(started.worker_port) as late:
            assert late.head.snapshot == len(reader.names)
            late.wait_for(reader.names, what="the snapshot")
            assert started.metric("capstan_worker_kv_event_readers") == 2
        assert started.metric("capstan_worker_kv_blocks") == len(reader.names)


def test_an_answer_is_held_for_the_next_turn() -> None:
    """The whole blocks of an answer follow those of its prompt: a conversation that goes on finds both."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": LONG}]
    with simulator("--kv-events", "on") as started, listening(started.worker_port) as reader:
        answer = post_json(f"{started.url}/v1/chat/completions", {"messages": messages, "max_tokens": 64})
        text = answer["choices"][0]["message"]["content"]
        prompt = names(started, messages, root_name())
        whole = names(started, [*messages, {"role": "assistant", "content": text}], root_name())
        wait_until(lambda: len(reader.names) > len(prompt), what="blocks of the answer")
        assert set(prompt) < reader.names
        assert reader.names <= set(whole)


def test_what_goes_is_told() -> None:
    """Blocks that have to make room are removed, and a cache that is turned off is cleared."""
    flags = ("--kv-events", "on", "--kv-blocks", "20", "--context-window", "320")
    with simulator(*flags) as started, listening(started.worker_port) as reader:
        first, second = ([{"role": "user", "content": f"{name} {LONG}"}] for name in ("one", "two"))
        ask(started, messages=first)
        before = set(names(started, first, root_name()))
        wait_until(lambda: before <= reader.names, what="the first prompt")
        ask(started, messages=second)
        latest = set(names(started, second, root_name()))
        wait_until(lambda: latest <= reader.names, what="the second prompt")
        assert any(change.removed for change in reader.changes)
        assert before - reader.names
        assert started.metric("capstan_worker_kv_blocks") == len(reader.names) <= 20
        started.turn(prefixCache=False)
        reader.wait_for(set(), what="an empty cache")
        assert any(change.cleared for change in reader.changes)


def test_without_the_flag_nothing_is_told() -> None:
    """A gateway hears a plain 404, and there is nothing of it among the metrics."""
    with simulator() as started:
        status, text = get(f"{started.worker_url}/kv-events")
        assert (status, text) == (404, "this engine tells nobody which blocks it holds\n")
        assert "capstan_worker_kv" not in get(f"{started.worker_url}/metrics")[1]


def test_a_reader_keeps_no_worker_from_ending() -> None:
    """A drain does not wait for who listens: the stream ends whole, and the worker with 0."""
    with simulator("--kv-events", "on") as started, listening(started.worker_port) as reader:
        assert started.stop() == 0
        assert reader.ended.wait(60)
