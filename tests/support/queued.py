"""Gateways on a Redis, with models whose requests wait there."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from capstan_contract.config import Dispatch, ModelEntry, ModelQueue, Timeouts
from support.gateway import RunningGateway, entry, running_gateway
from support.queue_taker import QueueWorker
from support.redis_server import RedisServer

ASKED: Any = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}
SOON = Timeouts(totalSeconds=120)
QUEUED = ModelQueue(dispatch=Dispatch.QUEUE)


@asynccontextmanager
async def gateway_of(
    store: RedisServer | str, folder: Path, *models: ModelEntry, **settings: Any
) -> AsyncIterator[RunningGateway]:
    """Run a gateway on this Redis, or the one at this URL; without models it has one that is always queued."""
    served = models or (entry("chat", queue=QUEUED, timeouts=SOON),)
    url = store if isinstance(store, str) else store.url
    async with running_gateway(folder, *served, redis_url=url, **settings) as gateway:
        yield gateway


async def lose(store: RedisServer, worker: QueueWorker) -> None:
    """Let a worker be gone, and its leases over."""
    await worker.die()
    seen = store.client()
    for key in seen.scan_iter("*work:*"):
        for one in seen.xpending_range(key, "workers", "-", "+", 10):
            seen.xclaim(key, "workers", worker.name, 0, [one["message_id"]], idle=60_000, justid=True)
