"""CPU time of one upstream call: our client beside a bare socket and aiohttp, in one run, before the same mock.

    python bench/gateway_upstream.py [--seconds 3] [--concurrency 1 32]

Client on core 0, mock on core 1. What counts is the CPU time of the client's process per call (the kernel's part
included), because that is what a call costs the gateway; wall time depends on the mock as well. Rounds of the three
alternate, and the table gives medians and their ratio.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import aiohttp
import uvloop
from gateway_mock import JSON_ANSWER, STREAM_ANSWER

from capstan_gateway.upstream.http1 import Http1Client
from capstan_gateway.upstream.port import Endpoint

HERE = Path(__file__).parent
BODY = b'{"model":"bench","messages":[{"role":"user","content":"Say something about foxes and dogs, please."}]}'
STREAM_BODY = BODY[:-1] + b',"stream":true}'
HEADERS = [(b"content-type", b"application/json"), (b"x-request-id", b"req-0123456789abcdef")]
ROUNDS = 5
Call = Callable[[bytes], Awaitable[None]]


class Bare(asyncio.Protocol):
    """The floor: the same bytes over the same loop, nothing parsed, the end known in advance."""

    def __init__(self) -> None:
        self.left = 0
        self.waiter: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.left -= len(data)
        if self.left <= 0 and self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


async def measure(call: Call, body: bytes, concurrency: int, seconds: float) -> float:
    """Give the CPU microseconds per call."""
    count = 0
    ends = time.perf_counter() + seconds

    async def caller() -> None:
        nonlocal count
        while time.perf_counter() < ends:
            await call(body)
            count += 1

    began = time.process_time()
    await asyncio.gather(*(caller() for _ in range(concurrency)))
    return (time.process_time() - began) / count * 1e6


async def run(port: int, seconds: float, concurrencies: list[int]) -> None:
    client = Http1Client()
    endpoint = Endpoint(id="mock", host="127.0.0.1", port=port)
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    headers = {name.decode(): value.decode() for name, value in HEADERS}

    async def ours(body: bytes) -> None:
        response = await client.send(
            endpoint, method=b"POST", path=b"/v1/chat/completions", headers=HEADERS, body=body, repeatable=True
        )
        while await response.receive():
            pass

    async def theirs(body: bytes) -> None:
        async with session.post(url, data=body, headers=headers) as response:
            async for _ in response.content.iter_any():
                pass

    loop = asyncio.get_running_loop()
    free: list[Bare] = []
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    )

    async def bare(body: bytes) -> None:
        connection = free.pop() if free else (await loop.create_connection(Bare, "127.0.0.1", port))[1]
        connection.left = len(JSON_ANSWER) if body is BODY else len(STREAM_ANSWER)
        connection.waiter = loop.create_future()
        connection.transport.write(head % len(body) + body)
        await connection.waiter
        free.append(connection)

    print(f"{'call':<24}{'socket µs':>10}{'ours µs':>10}{'aiohttp µs':>12}{'aiohttp/ours':>14}")
    for name, body in (("JSON", BODY), ("64-chunk stream", STREAM_BODY)):
        for concurrency in concurrencies:
            floor: list[float] = []
            mine: list[float] = []
            other: list[float] = []
            for _ in range(ROUNDS):
                floor.append(await measure(bare, body, concurrency, seconds / ROUNDS))
                mine.append(await measure(ours, body, concurrency, seconds / ROUNDS))
                other.append(await measure(theirs, body, concurrency, seconds / ROUNDS))
            f, a, b = statistics.median(floor), statistics.median(mine), statistics.median(other)
            print(f"{name + ', c=' + str(concurrency):<24}{f:>10.1f}{a:>10.1f}{b:>12.1f}{b / a:>14.1f}")
    for connection in free:
        connection.transport.close()
    await session.close()
    await client.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=3.0, help="per client and row")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--port", type=int, default=18090)
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    mock = subprocess.Popen(
        [sys.executable, str(HERE / "gateway_mock.py"), str(arguments.port)],
        stdout=subprocess.PIPE,
        preexec_fn=lambda: os.sched_setaffinity(0, {cores[-1]}),
    )
    try:
        assert mock.stdout is not None
        assert mock.stdout.readline().strip() == b"ready"
        uvloop.run(run(arguments.port, arguments.seconds, arguments.concurrency))
    finally:
        mock.terminate()
        mock.wait()


if __name__ == "__main__":
    main()
