"""Prefixes in real workers: what the engine has thrown away is computed again before anybody asks for it."""

import json
from pathlib import Path

import pytest

from support.wait import wait_until
from support.worker import Worker, post_json, simulator, worker

WORDS = 140
TEXT = " ".join(f"rule{number}" for number in range(WORDS))
SMALL = ("--kv-blocks", "80", "--context-window", "1024")
RECOMPUTED = "capstan_worker_prefixes_recomputed_total"


@pytest.fixture
def prefixes(tmp_path: Path) -> str:
    """A file with one prefix that takes a third of a small engine's cache."""
    path = tmp_path / "prefixes.json"
    path.write_text(json.dumps([{"name": "rules", "system": TEXT}]))
    return str(path)


def flood(engine: Worker) -> None:
    """Ask for other things until nothing else is left in the cache."""
    for number in range(8):
        text = " ".join(f"other{number}-{word}" for word in range(WORDS))
        post_json(f"{engine.url}/v1/completions", {"model": "sim", "prompt": text, "max_tokens": 1})


def cached(engine: Worker) -> float:
    """Give the share of a prompt with the prefix that the engine has."""
    messages = [{"role": "system", "content": TEXT}, {"role": "user", "content": "and now?"}]
    told = post_json(f"{engine.url}/v1/chat/completions", {"model": "sim", "messages": messages, "max_tokens": 1})
    usage = told["usage"]
    return usage["prompt_tokens_details"]["cached_tokens"] / usage["prompt_tokens"]


@pytest.mark.parametrize("beside", [False, True], ids=["in process", "sidecar"])
def test_a_prefix_that_was_thrown_away_is_computed_again(prefixes: str, beside: bool) -> None:
    """By the worker itself, which counts it, whether the engine is in its process or beside it."""
    keeping = ("--prefixes", prefixes, "--keep-warm-seconds", "0.2")
    with simulator(*SMALL, *(() if beside else keeping)) as engine:
        if not beside:
            _comes_back(engine, engine)
            return
        flags = ["--engine", "vLLM", "--engine-url", engine.url, "--model", "sim", *keeping]
        with worker("sidecar", flags) as aside:
            _comes_back(engine, aside)


def _comes_back(engine: Worker, keeper: Worker) -> None:
    wait_until(lambda: keeper.metric("vllm:prefix_cache_hits_total") > 0, what="the worker has asked once")
    assert keeper.metric(RECOMPUTED) == 0
    flood(engine)
    wait_until(lambda: keeper.metric(RECOMPUTED) > 0, what="the prefix is computed again")
    # It may have been in the middle of the flood: for what is computed now the worker looks once more.
    looks = lambda: (keeper.metric("vllm:prefix_cache_hits_total"), keeper.metric(RECOMPUTED))  # noqa: E731
    before = looks()
    post_json(f"{engine.url}/v1/completions", {"model": "sim", "prompt": "one more", "max_tokens": 1})
    wait_until(lambda: looks() != before, what="the prefix is warm again")
    assert cached(engine) > 0.8


def test_nothing_is_kept_where_it_is_turned_off(prefixes: str) -> None:
    """What is thrown away then stays so until somebody asks for it."""
    with simulator(*SMALL, "--prefixes", prefixes, "--keep-warm-seconds", "0") as engine:
        assert cached(engine) > 0.8
        flood(engine)
        assert cached(engine) == 0
