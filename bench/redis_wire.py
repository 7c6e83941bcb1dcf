"""What one call of a script in Redis costs a process: microseconds of CPU, by client. `python bench/redis_wire.py`.

Each client runs the same EVALSHA (two keys, seven arguments, a reply of four numbers) from one process, at 1 and 32
calls under way at once, against one redis-server of the script's own; by turns, three rounds, the median. CPU is that
of the client's process alone: user and system. The ratios of one run can be believed, its numbers less.
redis-py with hiredis is the same library with `hiredis` beside it; coredis and valkey-glide are left out where they
are not installed.
"""

import asyncio
import hashlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "gateway"))

SCRIPT = """
local t = redis.call('TIME')
local a = tonumber(redis.call('HGET', KEYS[1], 'n') or '0') + tonumber(ARGV[1])
local b = tonumber(redis.call('HGET', KEYS[2], 'n') or '0') + tonumber(ARGV[2])
redis.call('HSET', KEYS[1], 'n', a)
redis.call('HSET', KEYS[2], 'n', b)
return {1, a, b, tonumber(t[1])}
"""
SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
KEYS = ["capstan:l1:{0123456789abcdef}:one", "capstan:l1:{0123456789abcdef}:two"]
ARGS = ["1", "2", "30000", "0123456789abcdef0123", "60000", "100", "0"]
CLIENTS = ("wire", "redis-py", "redis-py+hiredis", "coredis", "valkey-glide")
Call = Callable[[], Awaitable[object]]


async def _wire(port: int) -> Call:
    from capstan_gateway.stores.wire import Connection, pack

    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: Connection(seconds=1.0), "127.0.0.1", port)

    async def call() -> object:
        return await connection.call(pack(("EVALSHA", SHA, 2, *KEYS, *ARGS)))

    return call


async def _redis_py(port: int, parser: object) -> Call:
    from redis.asyncio import BlockingConnectionPool, Connection, Redis

    pool = BlockingConnectionPool(
        host="127.0.0.1", port=port, max_connections=32, parser_class=parser, connection_class=Connection, protocol=2
    )
    client = Redis(connection_pool=pool)

    async def call() -> object:
        return await client.evalsha(SHA, 2, *KEYS, *ARGS)

    return call


async def _coredis(port: int) -> Call:
    import coredis

    client = coredis.Redis(host="127.0.0.1", port=port, decode_responses=False)
    await client.__aenter__()

    async def call() -> object:
        return await client.evalsha(SHA, keys=KEYS, args=ARGS)

    return call


async def _glide(port: int) -> Call:
    from glide import GlideClient, GlideClientConfiguration, NodeAddress

    client = await GlideClient.create(GlideClientConfiguration([NodeAddress("127.0.0.1", port)]))
    words = ["EVALSHA", SHA, "2", *KEYS, *ARGS]

    async def call() -> object:
        return await client.custom_command(words)

    return call


async def _client(name: str, port: int) -> Call:
    if name == "wire":
        return await _wire(port)
    if name.startswith("redis-py"):
        from redis._parsers import _AsyncHiredisParser, _AsyncRESP2Parser

        return await _redis_py(port, _AsyncHiredisParser if name.endswith("hiredis") else _AsyncRESP2Parser)
    return await (_coredis if name == "coredis" else _glide)(port)


async def _measure(name: str, port: int, calls: int) -> None:
    """Print microseconds of CPU and of wall time per call, at 1 and at 32 under way."""
    call = await _client(name, port)
    await call()
    for concurrency in (1, 32):

        async def work(times: int) -> None:
            for _ in range(times):
                await call()

        began, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        await asyncio.gather(*(work(calls // concurrency) for _ in range(concurrency)))
        wall, now = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
        cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
        print(name, concurrency, cpu / calls * 1e6, wall / calls * 1e6, flush=True)


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        uvloop.run(_measure(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
        os._exit(0)  # Some clients leave threads behind.
    calls = int(sys.argv[1]) if sys.argv[1:] else 6000
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        socket = 17640
        server = subprocess.Popen(
            ["redis-server", "--port", str(socket), "--save", "", "--dir", folder], stdout=subprocess.DEVNULL
        )
        try:
            time.sleep(0.5)
            subprocess.run(["redis-cli", "-p", str(socket), "SCRIPT", "LOAD", SCRIPT], check=True, capture_output=True)
            for turn in range(3):
                for name in CLIENTS if turn % 2 == 0 else CLIENTS[::-1]:
                    said = subprocess.run(
                        [sys.executable, __file__, "--one", name, str(socket), str(calls)],
                        capture_output=True, text=True, check=False,
                    )  # fmt: skip
                    for line in said.stdout.splitlines():
                        _, concurrency, cpu, wall = line.split()
                        found.setdefault((name, int(concurrency)), []).append((float(cpu), float(wall)))
        finally:
            server.kill()
    print("| client | calls at once | CPU us a call | of ours | wall us a call |\n| --- | ---: | ---: | ---: | ---: |")
    for (name, concurrency), numbers in sorted(found.items(), key=lambda item: (item[0][1], CLIENTS.index(item[0][0]))):
        cpu, wall = (statistics.median(one[i] for one in numbers) for i in (0, 1))
        ours = statistics.median(one[0] for one in found["wire", concurrency])
        print(f"| {name} | {concurrency} | {cpu:.0f} | {cpu / ours:.2f} | {wall:.0f} |")


if __name__ == "__main__":
    main()
