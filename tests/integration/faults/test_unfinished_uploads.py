"""300 clients that upload 30 MB each and never finish: the process stays small, and serves everybody else."""

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest

from fakes.openai_upstream import FakeUpstream
from support.gateway import entry
from support.gateway_process import GatewayProcess, gateway_process
from support.wait import wait_until

CLIENTS = 300
SIZE = 30_000_000
MEBIBYTE = 1024 * 1024
BUDGET = 256 * MEBIBYTE
BESIDE = 192 * MEBIBYTE
"""What the process itself, its connections and the allocator may take beside the budget."""
PATIENCE = 180.0
"""Seconds for one wait: no promise, only so that the test ends. All of it takes a few seconds on an idle machine."""
BODY = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "x" * 1000}]}).encode()
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
BEGINNING = b'{"model":"chat","messages":[{"role":"user","content":"'


def most_resident(pid: int) -> int:
    """Give the most memory that a process ever had, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def held(running: GatewayProcess) -> float:
    """Give what the gateway says that it holds."""
    return running.metric("gateway_memory_held_bytes")


async def upload(port: int, framing: bytes, opened: list[asyncio.StreamWriter]) -> bytes:
    """Send all of a body but its end, as fast as it is taken.

    Gives the status of an answer; `standing` when all was taken and none came: the connection then stays open.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=65536)
    opened.append(writer)
    writer.write(HEAD + framing + b"\r\n\r\n")
    sending = asyncio.create_task(send(writer, chunked=framing.startswith(b"transfer")))
    answer = asyncio.create_task(reader.readline())
    try:
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait((sending, answer), return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and sending.exception() is None and not answer.done():
                return b"standing"
            return (await answer)[9:12] or b"closed"
    except ConnectionError:
        return b"reset"
    finally:
        sending.cancel()
        answer.cancel()
        await asyncio.gather(sending, answer, return_exceptions=True)


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
    async with asyncio.timeout(PATIENCE):
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
        opened: list[asyncio.StreamWriter] = []
        try:
            port = int(running.url.rsplit(":", 1)[1])
            uploads = [asyncio.create_task(upload(port, framing, opened)) for _ in range(CLIENTS)]
            while not all(task.done() for task in uploads):
                assert await ask(port) == b"200"
            assert await ask(port) == b"200"  # Also while those that had room hold it.
            statuses = Counter([task.result() for task in uploads])
            # There was no room, or it was too slow when others had none.
            assert statuses[b"503"] > 0, statuses
            assert statuses[b"503"] + statuses[b"408"] > CLIENTS / 2, statuses
            assert set(statuses) <= {b"503", b"413", b"408", b"standing", b"reset"}
            assert most_resident(running.process.pid) < BUDGET + BESIDE
            for writer in opened:
                writer.close()
            await asyncio.to_thread(wait_until, lambda: held(running) == 0, what="the release of what they held")
        finally:
            for writer in opened:
                writer.close()
            await asyncio.to_thread(context.__exit__, None, None, None)
