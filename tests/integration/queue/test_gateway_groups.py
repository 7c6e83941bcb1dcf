"""Queued requests on a Redis of several servers."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from capstan_contract.config import Timeouts
from capstan_contract.queue.names import queue_prefix
from capstan_gateway.stores.cluster import slot_of
from support.gateway import entry
from support.queue_taker import frame, queue_worker, reply
from support.queue_worker import ScriptedEngine, consumer
from support.queued import QUEUED, gateway_of
from support.redis_groups import redis_cluster, sentinel_group
from support.wait import eventually

pytestmark = pytest.mark.redis
PATIENT = Timeouts(totalSeconds=240)
ANSWER = b"".join([frame("one "), frame("two", "stop"), b"data: [DONE]\n\n"])


async def text_of(client: Any, model: str) -> str:
    """Give what a model says."""
    messages: Any = [{"role": "user", "content": "hello"}]
    stream = await client.chat.completions.create(model=model, messages=messages, stream=True)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


async def test_a_cluster(tmp_path: Path) -> None:
    """In a Redis Cluster each model's queue is in one slot, and models' queues are on several nodes."""
    names = [f"model-{number}" for number in range(4)]
    assert len({slot_of(queue_prefix(f"test/{name}")) * 3 // 16384 for name in names}) > 1
    with redis_cluster(tmp_path) as servers:
        url = f"redis+cluster://127.0.0.1:{servers[0].port}"
        models = [entry(name, queue=QUEUED, timeouts=PATIENT) for name in names]
        async with gateway_of(url, tmp_path, *models) as gateway, gateway.client() as client:
            for name in names:
                async with consumer(url, ScriptedEngine(at_once=ANSWER), model=f"test/{name}"):
                    assert await text_of(client, name) == "one two"


async def test_a_master_is_lost(tmp_path: Path) -> None:
    """What waits when the master is lost is taken from the one that has taken its place."""
    with sentinel_group(tmp_path) as group:
        model = entry("chat", queue=QUEUED, timeouts=PATIENT)
        async with gateway_of(group.url, tmp_path, model) as gateway, gateway.client() as client:
            asking = asyncio.create_task(text_of(client, "chat"))
            with group.replica.client() as replica:
                await eventually(lambda: bool(list(replica.scan_iter("*:entry:*"))), what="the entry at the replica")
            group.master.kill()
            async with queue_worker(group.replica.port, reply):
                assert await asking == "one two three"
