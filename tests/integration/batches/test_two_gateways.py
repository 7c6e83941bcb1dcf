"""Two gateways as processes of their own, and one of them is killed while it works on a batch."""

import asyncio
import json
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fakes.openai_upstream import FakeUpstream, Received, Wire, completion
from support.gateway import entry
from support.gateway_process import GatewayProcess, gateway_process
from support.redis_server import RedisServer, redis_server
from support.wait import eventually

pytestmark = pytest.mark.redis
LINES, UNTIL = 1500, 1100
"""More than are flushed at once, so that both objects and Redis have answers when the gateway is killed, which is when
the engine has been asked for so many of them."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own."""
    with redis_server(tmp_path) as running:
        yield running


async def test_a_gateway_that_is_killed_is_followed(tmp_path: Path, server: RedisServer) -> None:
    """A batch whose gateway is killed is completed by another one: each line is in the output once, and none is asked
    again but those that were being asked at that moment."""
    asked, killed = Counter[str](), asyncio.Event()

    async def respond(request: Received, wire: Wire) -> None:
        text = request.document["messages"][-1]["content"]
        asked[text] += 1
        if asked.total() > UNTIL:
            await killed.wait()
        choice = {"index": 0, "message": {"role": "assistant", "content": f"<{text}>"}, "finish_reason": "stop"}
        await wire.json(completion("m", choices=[choice]))

    async with FakeUpstream(respond) as upstream:
        flags = (
            "--redis-url", server.url, "--redis-seconds", "10", "--redis-limit-seconds", "10",
            "--files-url", f"file://{tmp_path}/files", "--batch-concurrency", "8",
        )  # fmt: skip
        folders = tmp_path / "one", tmp_path / "two"
        for folder in folders:
            folder.mkdir()
        models = [entry("m", upstream.url)]
        with ExitStack() as stack:
            runs = [
                await asyncio.to_thread(stack.enter_context, gateway_process(folder, models, *flags))
                for folder in folders
            ]
            await _killed(runs, asked, killed)


async def _killed(runs: list[GatewayProcess], asked: Counter[str], killed: asyncio.Event) -> None:
    async with runs[0].client() as first, runs[1].client() as second:
        clients = [first, second]
        lines = [
            {"custom_id": f"line-{one}", "method": "POST", "url": "/v1/chat/completions",
             "body": {"model": "m", "messages": [{"role": "user", "content": str(one)}]}}
            for one in range(LINES)
        ]  # fmt: skip
        data = b"".join(json.dumps(one).encode() + b"\n" for one in lines)
        file = await first.files.create(file=("in.jsonl", data), purpose="batch")
        batch = await first.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        await eventually(lambda: asked.total() > UNTIL, seconds=240, what="the greater part of the batch")
        works = [await asyncio.to_thread(run.metric, "gateway_batches_running") for run in runs]
        assert sorted(works) == [0, 1]
        runs[works.index(1)].process.send_signal(signal.SIGKILL)
        killed.set()
        left = clients[works.index(0)]
        async with asyncio.timeout(240):
            while (over := await left.batches.retrieve(batch.id)).status != "completed":  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        content = await left.files.content(over.output_file_id or "")
        answers = [json.loads(one) for one in content.text.splitlines()]
    assert sorted(one["custom_id"] for one in answers) == sorted(f"line-{one}" for one in range(LINES))
    for one in answers:
        text = one["response"]["body"]["choices"][0]["message"]["content"]
        assert text == f"<{one['custom_id'].removeprefix('line-')}>"
    assert (over.request_counts.completed, over.request_counts.failed, over.error_file_id) == (LINES, 0, None)
    assert sum(times - 1 for times in asked.values()) <= 8
