"""Where the gateway's own microseconds go: a request's CPU time in this process, layer by layer, without a network.

    python bench/gateway_profile.py [--rounds 25]

Real layers between two fake sockets, which hand bytes over in the loop's next turn: 32 connections, each with one
request at a time. Every line adds a layer to the one before, so the differences are what the layers cost. What the
kernel takes for the real sockets is not in it: that is the CPU time of `make bench` less the last line here.
"""

import argparse
import asyncio
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, cast

import uvloop
from gateway_mock import JSON_ANSWER, STREAM_ANSWER
from gateway_rivals import UPSTREAM_PORT

from capstan_contract.caches import CacheBody, cache_entry
from capstan_contract.config import GatewayConfig, ModelEntry, Price, StaticBackend
from capstan_contract.limits import (
    MOST_NANO_DOLLARS,
    BudgetRule,
    LimitRule,
    Per,
    Period,
    PeriodType,
    RateLimitBody,
    Unit,
    rate_limit_entry,
)
from capstan_contract.sharding import split_config
from capstan_gateway.__main__ import GC_THRESHOLDS
from capstan_gateway.composition import Gateway
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.routing.port import Call
from capstan_gateway.serving.client_connection import ClientConnection
from capstan_gateway.serving.exchange import Exchange
from capstan_gateway.serving.listener import Listener
from capstan_gateway.serving.service import Handler, Service, ServingLimits
from capstan_gateway.settings import Settings
from capstan_gateway.surface import api_listener
from capstan_gateway.upstream.connection import Connection
from capstan_gateway.upstream.pool import Pool

CONNECTIONS = 32
REQUESTS = 40
"""For each connection, between two readings of the clock."""
PATH = b"/v1/chat/completions"
LINES = b"content-type: application/json\r\naccept: application/json\r\nx-request-id: profile\r\n"
WHOLE = 64 * 1024 * 1024
PROMPT = "Say something about foxes and dogs, please, in one short sentence and without any further explanation."


class FakeSocket(asyncio.Transport):
    """Takes what is written; nothing is ever in its buffer."""

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        """Stay open."""

    def abort(self) -> None:
        """Stay open."""


class EngineSocket(FakeSocket):
    """Answers every request in the loop's next turn."""

    def __init__(self, loop: asyncio.AbstractEventLoop, answer: bytes) -> None:
        self._loop, self._answer = loop, answer
        self.connection: Connection | None = None

    def write(self, data: Any) -> None:  # noqa: ARG002 - every request gets the same
        assert self.connection is not None
        self._loop.call_soon(self.connection.data_received, self._answer)

    def abort(self) -> None:
        assert self.connection is not None
        self._loop.call_soon(self.connection.connection_lost, None)


class ClientSocket(FakeSocket):
    """Notices the end of an answer."""

    def __init__(self, end: bytes) -> None:
        self._end = end
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def write(self, data: Any) -> None:
        if data.endswith(self._end):
            self.answered.set_result(None)


MUCH = 1_000_000_000
GOVERNED = {
    "requests": (
        LimitRule(name="r", per=Per.KEY, unit=Unit.REQUESTS, amount=MUCH, windowMillis=60_000, burst=MUCH),
        LimitRule(name="c", per=Per.TEAM, unit=Unit.CONCURRENCY, amount=MUCH),
    ),
    "tokens": (
        LimitRule(name="r", per=Per.KEY, unit=Unit.REQUESTS, amount=MUCH, windowMillis=60_000, burst=MUCH),
        LimitRule(name="t", per=Per.TEAM, unit=Unit.TOKENS, amount=MUCH, windowMillis=60_000, burst=MUCH),
    ),
}
"""The limits of a model of that name; `tokens` has a budget too."""
CACHED = "cached"
BUDGET = BudgetRule(name="b", per=Per.TENANT, nanoDollars=MOST_NANO_DOLLARS, period=Period(type=PeriodType.MONTH))


def write_config(folder: Path) -> None:
    """Write the config of a model that nothing governs, of two under limits, and of one with a cache."""
    backend = StaticBackend(urls=(f"http://127.0.0.1:{UPSTREAM_PORT}",))
    policies = [
        rate_limit_entry("bench", name, RateLimitBody(limits=limits, budgets=(BUDGET,) if name == "tokens" else ()))
        for name, limits in GOVERNED.items()
    ]
    models = [ModelEntry(id="bench/bench", servedName="bench", upstreamName="bench", backend=backend)]
    models += [
        ModelEntry(
            id=f"bench/{name}", servedName=name, upstreamName="bench", backend=backend, policies=(policy.id,),
            price=Price(inputPerMillion=1, outputPerMillion=2),
        )
        for name, policy in zip(GOVERNED, policies, strict=True)
    ]  # fmt: skip
    cache = cache_entry("bench", CACHED, CacheBody())
    policies.append(cache)
    models.append(
        ModelEntry(id=f"bench/{CACHED}", servedName=CACHED, upstreamName="bench", backend=backend, policies=(cache.id,))
    )
    for file, document in split_config(GatewayConfig.build(models, policies=policies)).items():
        (folder / file).write_text(document)


def request(stream: bool, model: str = "bench", most: int = 16) -> tuple[bytes, bytes]:
    """Give a body, and the whole request with it."""
    document = {"model": model, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": most}
    body = json.dumps({**document, "stream": True} if stream else document).encode()
    head = b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return body, head % (PATH, len(body)) + body


async def turn(listener: Listener, sent: bytes, end: bytes) -> float:
    """Give the CPU microseconds of one request at this listener."""
    loop = asyncio.get_running_loop()
    clients = []
    for _ in range(CONNECTIONS):
        connection, socket = ClientConnection(listener.service), ClientSocket(end)
        connection.connection_made(socket)
        clients.append((connection, socket))
    began = time.process_time()
    for _ in range(REQUESTS):
        for connection, socket in clients:
            socket.answered = loop.create_future()
            connection.data_received(sent)
        for _, socket in clients:
            if not socket.answered.done():
                await socket.answered
    used = time.process_time() - began
    for connection, _ in clients:
        connection.connection_lost(None)
    return used / (CONNECTIONS * REQUESTS) * 1e6


def layers(gateway: Gateway, model: ServedModel, body: bytes) -> dict[str, Handler]:
    """Give handlers that do more and more of the work."""
    endpoint = model.endpoints.states[0].endpoint
    loop = asyncio.get_running_loop()

    def answer(exchange: Exchange, body: bytes) -> None:
        exchange.respond(200, b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body), body)

    async def serve(exchange: Exchange) -> None:
        answer(exchange, await exchange.read_body(WHOLE))

    async def call_engine(exchange: Exchange) -> None:
        await exchange.read_body(WHOLE)
        response = await gateway.client.send(
            endpoint, method=b"POST", path=b"/chat/completions", headers=LINES, body=body,
            expires_at=loop.time() + 600, repeatable=True,
        )  # fmt: skip
        answer(exchange, await response.read(WHOLE))

    async def dispatch(exchange: Exchange) -> None:
        await exchange.read_body(WHOLE)
        call = Call(
            endpoints=model.endpoints, path=b"/chat/completions", headers=LINES, body=body,
            expires_at=loop.time() + 600, whole_bytes=WHOLE,
        )  # fmt: skip
        with closing(await gateway.deps.dispatcher.dispatch(call)) as response:
            answer(exchange, response.whole or b"")

    return {
        "serving: HTTP of the client, a task": serve,
        "+ upstream: HTTP of the engine": call_engine,
        "+ routing: choice, health, budget": dispatch,
    }


def answer_from(current: Callable[[], bytes]) -> None:
    """Have every connection to an engine be one in this process, which gives what is current when it is made."""
    loop = asyncio.get_running_loop()

    async def connect(pool: Pool, _: float) -> Connection:
        connection = Connection(pool.endpoint.id, pool._limits, pool)
        socket = EngineSocket(loop, current())
        socket.connection = connection
        connection.connection_made(socket)
        return connection

    Pool.connect = connect  # type: ignore[method-assign]


def print_beside_first(found: dict[str, list[float]]) -> None:
    """Print the lower quartile of each line's readings, of which the first one warmed up, and what it is above that of
    the first line."""
    print("| | CPU, us/request | more than the first line |\n| --- | ---: | ---: |")
    rows = [(name, statistics.quantiles(taken[1:], n=4)[0]) for name, taken in found.items()]
    for name, value in rows:
        print(f"| {name} | {value:.1f} | {value - rows[0][1]:+.1f} |")


async def measure(rounds: int) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        write_config(Path(folder))
        settings = Settings(
            config_dir=Path(folder),
            insecure_no_auth=True,
            log_level="warning",
            probe_seconds=0.0,
            max_connections=1 << 20,
        )
        gateway = Gateway(settings)
        answers = {"JSON": JSON_ANSWER, "64-chunk stream": STREAM_ANSWER}
        current = answers["JSON"]
        answer_from(lambda: current)
        limits = ServingLimits(max_head_bytes=65536, max_connections=1 << 20)
        async with gateway.running():
            while gateway.current() is None:  # noqa: ASYNC110 - it is nobody's business to tell
                await asyncio.sleep(0.01)
            runtime = gateway.current()
            assert runtime is not None
            model = runtime.models["bench"]
            body, sent = request(stream=False)
            table: list[tuple[str, Callable[[], Awaitable[float]]]] = [
                (name, partial(turn, Listener(Service({PATH: handler}, handler, limits)), sent, b"}"))
                for name, handler in layers(gateway, model, body).items()
            ]
            table.append(("+ pipeline: all of the gateway, JSON", partial(turn, api_listener(gateway), sent, b"}")))
            for name, what in (
                ("requests", "+ limits of requests and of what runs at once"),
                ("tokens", "+ limits of requests and tokens, and a budget, instead"),
            ):
                governed = request(stream=False, model=name)[1]
                table.append((what, partial(turn, api_listener(gateway), governed, b"}")))
            hit = request(stream=False, model=CACHED)[1]
            table.append(
                ("an answer out of the memory of a cache, instead", partial(turn, api_listener(gateway), hit, b"}"))
            )
            gc.set_threshold(*GC_THRESHOLDS)
            gc.freeze()
            before = 0.0
            print("| layers | CPU, us/request | more than the line above |\n| --- | ---: | ---: |")
            for name, take in table:
                value = await best(take, rounds)
                print(f"| {name} | {value:.1f} | {value - before:.1f} |")
                before = value
            for one in ("bench", *GOVERNED):  # What is idle would give the other answer.
                gateway.client.close_idle(runtime.models[one].endpoints.states[0].endpoint.id)
            current = answers["64-chunk stream"]
            before = 0.0
            for name, sent in (
                ("all of the gateway, a stream of 64 chunks in one read", request(stream=True)[1]),
                ("the same under limits and a budget, reserved as a whole", request(stream=True, model="tokens")[1]),
                ("the same, taken slice by slice", request(stream=True, model="tokens", most=4096)[1]),
                ("the stream out of the memory of a cache, instead", request(stream=True, model=CACHED)[1]),
            ):
                value = await best(partial(turn, api_listener(gateway), sent, b"0\r\n\r\n"), rounds)
                print(f"| {name} | {value:.1f} | {value - before:.1f} |")
                before = value


async def best(take: Callable[[], Awaitable[float]], rounds: int) -> float:
    """Give the lower quartile of several readings: what is above it is other work of the machine."""
    await take()
    return statistics.quantiles([await take() for _ in range(rounds)], n=4)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=25)
    uvloop.run(measure(cast(int, parser.parse_args().rounds)))


if __name__ == "__main__":
    main()
