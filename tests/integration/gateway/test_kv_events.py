"""Prompts go to the engine that has computed them, as the engines' workers tell it: real simulators, a real gateway."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from capstan_contract.config import LoraAdapter, ModelEntry, StaticBackend
from capstan_contract.kv_events import Change, block_names, root_name, write_change, write_head
from capstan_contract.requirements import TENANT_SALT
from support.gateway import RunningGateway, entry
from support.gateway import running_gateway as any_gateway
from support.rawserver import Peer, raw_server
from support.wait import eventually
from support.worker import Worker, post_json, simulator

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"
CHAT = "/v1/chat/completions"
Messages = list[dict[str, str]]
running_gateway = partial(any_gateway, kv_token_seconds=30.0)
"""One that waits for tokens as long as a busy machine takes."""


def conversation(number: int, *, turns: int = 1, words: int = 200) -> Messages:
    """Some turns of a conversation that begins as no other one."""
    return [
        {"role": "user" if turn % 2 == 0 else "assistant", "content": f"c{number}t{turn}w " * words}
        for turn in range(2 * turns - 1)
    ]


@contextmanager
def engines(*flags: Sequence[str]) -> Iterator[list[Worker]]:
    """Run a simulator that tells its blocks with each of these flags."""
    with ExitStack() as stack:
        yield [stack.enter_context(simulator("--kv-events", "on", *more, model="m")) for more in flags]


def model(*workers: Worker, **fields: Any) -> ModelEntry:
    """The model at these engines."""
    told = {worker.url: worker.worker_url for worker in workers}
    backend = StaticBackend(urls=tuple(told), workers=told)
    return entry("m", **{"backend": backend, "kvEvents": True, **fields})


def at(worker: Worker, messages: Messages) -> None:
    """An engine answers a conversation, of which no gateway knows."""
    post_json(worker.url + CHAT, {"model": "m", "messages": messages, "max_tokens": 1})


async def told(gateway: RunningGateway, *workers: Worker) -> None:
    """Wait until the gateway knows all that these workers tell."""

    def as_told() -> bool:
        gauge = gateway.gateway.kv_listening.blocks
        return gauge == sum(worker.metric("capstan_worker_kv_blocks") for worker in workers)

    def ready() -> bool:
        streams = gateway.metric("gateway_kv_event_streams", model="m")
        return streams == len(workers)

    await eventually(ready, what="the workers' snapshots")
    await eventually(as_told, what="what workers tell")


async def ask(gateway: RunningGateway, client: httpx2.AsyncClient, messages: Messages, **more: Any) -> None:
    """Ask the gateway for the next turn."""
    body = {"model": "m", "messages": messages, "max_tokens": 1, **more}
    response = await client.post(gateway.url + CHAT, json=body)
    assert response.status_code == 200, response.text


def served(worker: Worker) -> float:
    """How many requests an engine has answered."""
    return worker.metric("vllm:request_success_total")


def by(gateway: RunningGateway, what: str) -> float:
    """How many requests went by this."""
    return gateway.metric("gateway_kv_decisions_total", model="m", by=what)


async def test_conversations_go_on_where_their_blocks_are(tmp_path: Path) -> None:
    """Also those that a gateway has never seen, because another one sent them: no estimate can know that. And those
    that it learns of later, and after a config that changes something else."""
    with engines((), ()) as (one, other):
        for number in range(12):
            at(one if number < 6 else other, conversation(number))
        async with running_gateway(tmp_path, model(one, other)) as gateway, httpx2.AsyncClient(timeout=60) as client:
            await told(gateway, one, other)
            for number in range(6):
                await ask(gateway, client, conversation(number, turns=2))
            assert (served(one), served(other)) == (12, 6)
            for number in range(6, 12):
                await ask(gateway, client, conversation(number, turns=2))
            assert (served(one), served(other)) == (12, 12)
            for number in range(20, 26):
                at(other, conversation(number))
            await told(gateway, one, other)
            await gateway.configure(model(one, other, weight=50))
            for number in range(20, 26):
                await ask(gateway, client, conversation(number, turns=2))
            assert (served(one), served(other), by(gateway, "blocks")) == (12, 24, 18)
            hits = gateway.metric("gateway_kv_expected_hit_tokens_total", model="m")
            assert 0.2 < hits / gateway.metric("gateway_kv_prompt_tokens_total", model="m") < 0.8


async def test_an_engine_that_has_given_blocks_up_is_not_preferred(tmp_path: Path) -> None:
    """What both computed, and only one still has, goes to that one."""
    with engines(("--kv-blocks", "1024", "--context-window", "8192"), ()) as (small, large):
        for number in range(6):
            at(small, conversation(number))
            at(large, conversation(number))
        async with running_gateway(tmp_path, model(small, large)) as gateway, httpx2.AsyncClient(timeout=60) as client:
            for number in range(100, 110):
                at(small, conversation(number, words=1000))
            await told(gateway, small, large)
            before = served(small)
            for number in range(6):
                await ask(gateway, client, conversation(number, turns=2))
            assert (served(small) - before, served(large)) == (0, 12)


@pytest.mark.parametrize("kind", ["plain", "salt", "adapter"])
async def test_blocks_are_known_by_whom_they_are_for(tmp_path: Path, kind: str) -> None:
    """With the salt of a tenant and with an adapter, too: the second turn finds what the first one has computed."""
    with engines(("--alias", "lora"), ("--alias", "lora")) as workers:
        fields: dict[str, Any] = {"adapters": (LoraAdapter(servedName="l", upstreamName="lora"),)}
        if kind == "salt":
            fields |= {"tenantSalt": True, "requires": (TENANT_SALT,)}
        name = "l" if kind == "adapter" else "m"
        async with (
            running_gateway(tmp_path, model(*workers, **fields)) as gateway,
            httpx2.AsyncClient(timeout=60) as client,
        ):
            await told(gateway, *workers)
            await ask(gateway, client, conversation(1), model=name)
            await eventually(lambda: gateway.gateway.kv_listening.blocks, what="blocks")
            await told(gateway, *workers)
            assert gateway.metric("gateway_kv_expected_hit_tokens_total", model="m") == 0
            await ask(gateway, client, conversation(1, turns=2), model=name)
            hits = sum(worker.metric("vllm:prefix_cache_hits_total") for worker in workers)
            assert gateway.metric("gateway_kv_expected_hit_tokens_total", model="m") == hits > 100


async def test_equal_prompts_that_come_together_go_to_one_engine(tmp_path: Path) -> None:
    """Although no worker can have told their blocks yet; as many as the bound of load allows."""
    with engines(("--ttft-ms", "300"), ("--ttft-ms", "300")) as (one, other):
        async with running_gateway(tmp_path, model(one, other)) as gateway, httpx2.AsyncClient(timeout=60) as client:
            await told(gateway, one, other)
            await asyncio.gather(*(ask(gateway, client, conversation(1, words=2000), seed=n) for n in range(4)))
            assert sorted((served(one), served(other))) == [0, 4]


async def test_a_worker_that_is_lost_costs_no_request(tmp_path: Path) -> None:
    """What it told is not believed any longer: conversations go by the estimate, and all of them are answered."""
    lost = asyncio.Event()
    messages = [conversation(number) for number in range(8)]

    async def script(peer: Peer) -> None:
        await peer.request()
        if lost.is_set():
            peer.reset()
            return
        told_first = b"".join(write_head(16, [])) + b"".join(write_change(Change(stored=names)))
        await peer.send(HEAD, b"%x\r\n%b\r\n" % (len(told_first), told_first))
        await lost.wait()
        peer.reset()

    with engines((), ()) as (one, other):
        names: list[int] = []
        for said in messages:
            tokens = post_json(one.url + "/tokenize", {"model": "m", "messages": said})["tokens"]
            names += block_names(tokens, 16, before=root_name())
        async with raw_server(script) as worker:
            place = {one.url: f"http://127.0.0.1:{worker.port}"}
            backend = StaticBackend(urls=(one.url, other.url), workers=place)
            async with (
                running_gateway(tmp_path, model(backend=backend)) as gateway,
                httpx2.AsyncClient(timeout=60) as client,
            ):
                await eventually(lambda: gateway.gateway.kv_listening.blocks == len(names), what="blocks")
                for said in messages:
                    await ask(gateway, client, said)
                assert (served(one), served(other), by(gateway, "blocks")) == (8, 0, 8)
                lost.set()
                await eventually(lambda: not gateway.gateway.kv_listening.blocks, what="the loss")
                for said in messages:
                    await ask(gateway, client, said)
                assert (by(gateway, "blocks"), served(one) + served(other)) == (8, 16)


async def test_an_engine_that_dies_with_its_worker_is_left_for_the_others(tmp_path: Path) -> None:
    """The conversations that it has are answered by who is there."""
    with engines((), ()) as (one, other):
        for number in range(4):
            at(one, conversation(number))
        async with running_gateway(tmp_path, model(one, other)) as gateway, httpx2.AsyncClient(timeout=60) as client:
            await told(gateway, one, other)
            one.process.kill()
            for number in range(4):
                await ask(gateway, client, conversation(number, turns=2))
            assert served(other) == 4
            await eventually(lambda: gateway.metric("gateway_kv_event_streams", model="m") == 1, what="the loss")
            lost = {"model": "m", "reason": "unreachable"}
            await eventually(lambda: gateway.metric("gateway_kv_event_losses_total", **lost), what="word of it")


async def test_nothing_is_asked_for_a_model_whose_workers_do_not_tell(tmp_path: Path) -> None:
    """No stream, no tokens, no decision; as with a bound of no blocks."""
    with engines((), ()) as (one, other):
        for fields, settings in ({"kvEvents": False}, {}), ({}, {"kv_event_blocks": 0}):
            async with (
                running_gateway(tmp_path, model(one, other, **fields), **settings) as gateway,
                httpx2.AsyncClient(timeout=60) as client,
            ):
                await ask(gateway, client, conversation(1))
                assert by(gateway, "blocks") + by(gateway, "estimate") == 0
                assert gateway.gateway.store.runtime is not None
                assert gateway.gateway.store.runtime.models["m"].endpoints.held is None
        for worker in (one, other):
            assert worker.metric("capstan_worker_kv_event_readers") == 0
