"""Batches as the official client makes them, and an engine that answers what they ask."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai

from fakes.openai_upstream import FakeUpstream, Received, Wire, completion
from support.gateway import RunningGateway, entry, running_gateway
from support.redis_server import RedisServer
from support.wait import PATIENCE

ENDPOINT = "/v1/chat/completions"


class Engine:
    """An upstream that repeats what it is told, as slowly and as badly as a test wants."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked: list[str] = []
        self.closes_at = 0
        """With so many requests the gate closes, for the last of them as well; 0: it is the test's alone."""
        self.fails: dict[str, list[int]] = {}
        self.at_once = self.most_at_once = 0

    async def respond(self, request: Received, wire: Wire) -> None:
        """Answer one request."""
        text = request.document["messages"][-1]["content"]
        self.asked.append(text)
        if len(self.asked) == self.closes_at:
            self.gate.clear()
        failures = self.fails.get(text)
        if failures:
            await wire.json({"error": {"message": "no", "type": "server_error"}}, status=failures.pop(0))
            return
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.gate.wait()
            await asyncio.sleep(0.01)
        finally:
            self.at_once -= 1
        choice = {"index": 0, "message": {"role": "assistant", "content": f"<{text}>"}, "finish_reason": "stop"}
        await wire.json(completion("m", choices=[choice]))


@asynccontextmanager
async def gateway_on(
    tmp_path: Path, server: RedisServer, upstream: FakeUpstream, **settings: Any
) -> AsyncIterator[RunningGateway]:
    """Run a gateway with that Redis, and files in a directory."""
    given = {
        "redis_url": server.url, "redis_seconds": 10.0, "redis_limit_seconds": 10.0,
        "files_url": f"file://{tmp_path}/files", **settings,
    }  # fmt: skip
    async with running_gateway(tmp_path, entry("m", upstream.url), entry("n", upstream.url), **given) as running:
        yield running


def line(number: int, text: str | None = None, *, model: str = "m", **changed: Any) -> dict[str, Any]:
    """Give one line."""
    body = {"model": model, "messages": [{"role": "user", "content": text or f"say {number}"}]}
    return {"custom_id": f"line-{number}", "method": "POST", "url": ENDPOINT, "body": body, **changed}


def written(*lines: Any) -> bytes:
    """Write lines."""
    return b"".join((one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n" for one in lines)


async def begun(client: openai.AsyncOpenAI, *lines: Any, **options: Any) -> Any:
    """Upload these lines and make a batch of them."""
    file = await client.files.create(file=("in.jsonl", written(*lines)), purpose="batch")
    return await client.batches.create(input_file_id=file.id, endpoint=ENDPOINT, completion_window="24h", **options)


async def ended(client: openai.AsyncOpenAI, batch_id: str) -> Any:
    """Wait until a batch is over."""
    async with asyncio.timeout(2 * PATIENCE):
        while True:
            batch = await client.batches.retrieve(batch_id)
            if batch.status in ("completed", "failed", "expired", "cancelled"):
                return batch
            await asyncio.sleep(0.1)


async def results(client: openai.AsyncOpenAI, file_id: str | None) -> dict[str, Any]:
    """Give the lines of a file that a batch gave, by custom_id; each is there once."""
    if file_id is None:
        return {}
    content = await client.files.content(file_id)
    lines = [json.loads(one) for one in content.text.splitlines()]
    found = {one["custom_id"]: one for one in lines}
    assert len(found) == len(lines)
    return found
