"""300 clients that upload 30 MB each and never finish: the process stays small, and serves everybody else."""

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest

from fakes.openai_upstream import FakeUpstream
from support.gateway import entry
from support.gateway_process import gateway_process

CLIENTS = 300
SIZE = 30_000_000
MEBIBYTE = 1024 * 1024
BUDGET = 256 * MEBIBYTE
BESIDE = 192 * MEBIBYTE
"""What the process itself, its connections and the allocator may take beside the budget."""
BODY = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "x" * 1000}]}).encode()
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
BEGINNING = b'{"model":"chat","messages":[{"role":"user","content":"'


def resident(pid: int) -> int:
    """Give the memory of a process, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


async def upload(port: int, framing: bytes, statuses: Counter[bytes]) -> None:
    """Send all of a body but its end, as fast as it is taken, until there is an answer; note its status."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=65536)
    writer.write(HEAD + framing + b"\r\n\r\n")
    sending = asyncio.create_task(send(writer, chunked=framing.startswith(b"transfer")))
    try:
        async with asyncio.timeout(120):
            statuses[(await reader.readline())[9:12]] += 1
    except ConnectionError:
        statuses[b"reset"] += 1
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        writer.close()


async def send(writer: asyncio.StreamWriter, *, chunked: bool) -> None:
    """Send the body."""
    piece, sent = b"x" * 65536, 0
    while sent < SIZE - 2 * len(piece):
        data = piece if sent else BEGINNING
        writer.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
        sent += len(data)
        await writer.drain()


async def ask(port: int) -> bytes:
    """Ask an ordinary question on a connection of its own; give the status."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HEAD + b"content-length: %d\r\nconnection: close\r\n\r\n" % len(BODY) + BODY)
    async with asyncio.timeout(60):
        said = await reader.read(-1)
    writer.close()
    return said[9:12]


@pytest.mark.parametrize("framing", [b"content-length: %d" % SIZE, b"transfer-encoding: chunked"])
async def test_uploads_that_never_finish(tmp_path: Path, framing: bytes) -> None:
    """Memory stays within the budget and what the process takes itself; others are served; who has no room is told."""
    async with FakeUpstream() as upstream:
        flags = ("--memory-bytes", str(BUDGET))
        context = gateway_process(tmp_path, [entry("chat", upstream.url)], *flags)
        running = await asyncio.to_thread(context.__enter__)
        try:
            port = int(running.url.rsplit(":", 1)[1])
            statuses: Counter[bytes] = Counter()
            uploads = [asyncio.create_task(upload(port, framing, statuses)) for _ in range(CLIENTS)]
            most, served = 0, 0
            while not all(task.done() for task in uploads):
                assert await ask(port) == b"200"
                served += 1
                most = max(most, resident(running.process.pid))
                await asyncio.sleep(0.05)
            await asyncio.gather(*uploads)
            assert served
            assert most < BUDGET + BESIDE
            assert statuses[b"503"] > CLIENTS / 2, statuses
            # Those that had room did not come to their end in time.
            assert set(statuses) <= {b"503", b"408", b"413", b"reset"}
            assert await asyncio.to_thread(running.metric, "gateway_memory_held_bytes") == 0
        finally:
            await asyncio.to_thread(context.__exit__, None, None, None)
