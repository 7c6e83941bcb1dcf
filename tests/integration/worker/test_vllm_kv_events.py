"""Real vLLM on the CPU tells which blocks it holds: in the worker's process, and beside a sidecar.

Both engines start once for all of these tests, at the same time, because loading is what takes long.
"""

import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from capstan_contract.kv_events import block_names, root_name
from capstan_operator.desired.kvcache import events_config
from support.kv_events import Listener, listening
from support.ports import free_port
from support.vllm import ENVIRON, FLAGS, need_vllm, tiny_chat_model
from support.wait import wait_until
from support.worker import Worker, post_json, worker

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

BLOCK_TOKENS = 32
BLOCKS = 64
"""Of the engine beside the sidecar: so few that prompts put each other out."""
SYSTEM = "You are the help desk of a harbor. Be brief and friendly. " * 12


@dataclass
class Engines:
    """The two engines with their workers."""

    inside: Worker
    """vLLM in the worker's process."""
    beside: Worker
    """A sidecar."""
    beside_url: str


@contextmanager
def stock_vllm(python: str, model: str, folder: Path, *flags: str) -> Iterator[str]:
    """Run `vllm serve`, as in vLLM's own image; give its URL."""
    port = free_port()
    with (folder / "vllm.log").open("wb") as log:
        process = subprocess.Popen(
            [str(Path(python).parent / "vllm"), "serve", model, "--port", str(port), "--host", "127.0.0.1", *flags],
            stdout=log,
            stderr=log,
            env={**os.environ, **ENVIRON, "VLLM_SERVER_DEV_MODE": "1"},
            start_new_session=True,
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=10)


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """Start the same model twice: in the worker's process, and as a pod with a sidecar has it."""
    python = need_vllm()
    model = str(tiny_chat_model(python))
    rest = ["--served-model-name", "tiny", "--max-model-len", "1024", "--block-size", str(BLOCK_TOKENS), *FLAGS]
    events, replay = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    told = ["--kv-events-config", events_config(events, replay)]
    with ExitStack() as stack:
        options = {"python": python, "environ": ENVIRON, "wait_ready": False}
        flags = ["--settle-seconds", "0.3", "--kv-events", "on"]
        inside = stack.enter_context(worker("vllm", flags, rest=[model, *rest], **options))
        few = ["--num-gpu-blocks-override", str(BLOCKS)]
        folder = tmp_path_factory.mktemp("vllm")
        url = stack.enter_context(stock_vllm(python, model, folder, *rest, *told, *few))
        beside = ["--engine", "vLLM", "--engine-url", url, "--model", "tiny"]
        beside += ["--kv-events", events, "--kv-events-replay", replay, "--settle-seconds", "0.3"]
        sidecar = stack.enter_context(worker("sidecar", beside, wait_ready=False))
        for engine in (inside, sidecar):
            wait_until(engine.is_ready, seconds=480, every=0.2, what="the engine's readiness")
        yield Engines(inside, sidecar, url)


def ask(url: str, content: str, *, system: str = SYSTEM, **body: Any) -> set[int]:
    """Have a prompt computed, and give the names of its whole blocks, of the tokens that /tokenize tells."""
    messages = [{"role": "system", "content": system}, {"role": "user", "content": content}]
    chat = {"model": "tiny", "messages": messages, "max_tokens": 1, **body}
    post_json(f"{url}/v1/chat/completions", chat)
    tokens = post_json(f"{url}/tokenize", {"model": "tiny", "messages": messages})["tokens"]
    names = block_names(tokens, BLOCK_TOKENS, before=root_name(salt=body.get("cache_salt", "")))
    assert len(names) > 3
    return set(names)


def told(reader: Listener, names: set[int], *, what: str) -> None:
    """Wait until all of these blocks are told."""
    wait_until(lambda: names <= reader.names, every=0.05, what=what)


def test_each_tells_what_it_has_computed(engines: Engines) -> None:
    """Of two engines each tells the blocks of its own prompts, under the names that a gateway makes of the tokens that
    /tokenize tells; what both have begun with has one name at both."""
    with listening(engines.inside.worker_port) as inside, listening(engines.beside.worker_port) as beside:
        one = ask(engines.inside.url, "Where is pier 4?")
        other = ask(engines.beside_url, "When does the ferry to the island leave?")
        told(inside, one, what="what the first has computed")
        told(beside, other, what="what the second has computed")
        assert one & other
        assert not (one - other) & beside.names
        assert not (other - one) & inside.names
        wait_until(
            lambda: engines.inside.metric("capstan_worker_kv_blocks") == len(inside.names), what="the count of blocks"
        )
        assert engines.beside.metric("capstan_worker_kv_events_malformed_total") == 0


def test_a_salt_parts_what_is_told(engines: Engines) -> None:
    """The same prompt with a `cache_salt` is computed anew, and told under names of its own."""
    with listening(engines.inside.worker_port) as reader:
        plain = ask(engines.inside.url, "Where do I find the harbor master?")
        told(reader, plain, what="the prompt")
        salted = ask(engines.inside.url, "Where do I find the harbor master?", cache_salt="of a tenant")
        assert not salted & plain
        told(reader, salted, what="the salted prompt")


def test_an_answer_is_told_as_it_grows(engines: Engines) -> None:
    """The whole blocks of an answer follow those of its prompt."""
    with listening(engines.inside.worker_port) as reader:
        body = {"model": "tiny", "prompt": SYSTEM, "max_tokens": 40, "ignore_eos": True, "temperature": 0}
        answer = post_json(f"{engines.inside.url}/v1/completions", {**body, "return_token_ids": True})["choices"][0]
        names = block_names([*answer["prompt_token_ids"], *answer["token_ids"][:-1]], BLOCK_TOKENS, before=root_name())
        assert len(names) > len(answer["prompt_token_ids"]) // BLOCK_TOKENS
        told(reader, set(names), what="the answer")


def test_what_is_put_out_and_what_is_reset_is_told(engines: Engines) -> None:
    """With room for few blocks the prompts before are removed; a reset of the prefix cache clears."""
    with listening(engines.beside.worker_port) as reader:
        first = ask(engines.beside_url, "first")
        told(reader, first, what="the first prompt")
        for number in range(40):
            latest = ask(engines.beside_url, "last", system=f"{number}. {SYSTEM}")
            if not first <= reader.names:
                break
        wait_until(lambda: any(change.removed for change in reader.changes), what="what is put out")
        told(reader, latest, what="the last prompt")
        assert len(reader.names) < BLOCKS
        request = urllib.request.Request(f"{engines.beside_url}/reset_prefix_cache", method="POST")  # noqa: S310
        urllib.request.urlopen(request, timeout=20).close()  # noqa: S310
        # vLLM publishes what it does not compute together with the next step.
        anew = ask(engines.beside_url, "first")
        told(reader, anew, what="the first prompt again")
        assert any(change.cleared for change in reader.changes)
        assert len(reader.names) <= len(anew) + 1


def test_a_sidecar_that_begins_late_asks_for_what_it_missed(engines: Engines) -> None:
    """A worker that was not there when blocks were stored has vLLM tell them again."""
    known = ask(engines.beside_url, "What was said before anybody listened?")
    addresses = engines.beside.process.args
    assert isinstance(addresses, list)
    flags = addresses[addresses.index("--engine") :]
    engines.beside.stop()
    with worker("sidecar", flags) as again, listening(again.worker_port) as reader:
        told(reader, known, what="what was stored before")


def test_a_reader_keeps_no_engine_from_ending(engines: Engines) -> None:
    """A worker with vLLM inside drains and ends with 0 while somebody listens, whose stream ends whole."""
    with listening(engines.inside.worker_port) as reader:
        assert engines.inside.stop(seconds=240) == 0
        assert reader.ended.wait(60)
