"""Gateways, workers, engines and a Redis as processes of this machine, each of which a test may break.

    clients ──► gateway 1, 2 ──proxy──► Redis ◄──proxy── worker `a` (a simulator that takes queued work)
                    │                                    worker `b` (a sidecar) ──► engine `b` (a simulator)
                    └──► engines of `a` and `b`, for what is sent directly

Redis is set as the chart sets it where the queue is on: an append-only file, written each second, and `noeviction`.
What engines begin and end stands in `Ledger`.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import redis

from capstan_contract.config import Dispatch, ModelEntry, ModelQueue, Timeouts
from support.gateway import entry, write_config
from support.keys import key_entry
from support.ledger_worker import LEDGER
from support.needs import ROOT
from support.ports import free_port
from support.redis_server import RedisServer
from support.shifted_clock import ShiftedClock
from support.tcp_proxy import TcpProxy
from support.wait import wait_until
from support.worker import get

QUEUED, DIRECT = "queued", "direct"
"""The models: the same engines answer both."""
ENGINE: Final = "sim"
"""What the engines call their model."""
TENANTS: Final = ("anna", "ben", "clara", "dora")
TOTAL_SECONDS: Final = 30.0
"""The deadline of a request."""
SILENT_SECONDS: Final = 12.0
"""How long an engine may say nothing to a request that it was sent."""
HUNG_SECONDS: Final = 6.0
CHART_REDIS: Final = (
    "--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--maxmemory", "256mb",
    "--maxmemory-policy", "noeviction",
)  # fmt: skip
PACE: Final = ("--concurrency", "8", "--ttft-ms", "50", "--tpot-ms", "20")


_ALIASES: Final = ("--alias", QUEUED, "--alias", DIRECT)


class Part:
    """A process that may be killed, stopped in the middle, and started again where it was."""

    def __init__(
        self, name: str, command: Sequence[str], *, log: Path, ready: str, environ: Mapping[str, str] | None = None
    ) -> None:
        """`ready` is the URL that answers 200 when it is."""
        self.name = name
        self._command = command
        self._log = log
        self._ready = ready
        self._environ = {**os.environ, **(environ or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def up(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    async def start(self, *, wait: bool = True) -> None:
        """Begin, and wait until it is ready, unless told otherwise."""
        await asyncio.to_thread(self._begin)
        if wait:
            await self.is_ready()

    async def is_ready(self) -> None:
        """Wait until it is ready."""
        await asyncio.to_thread(wait_until, self._is_ready, every=0.1, what=f"the readiness of {self.name}")

    def kill(self) -> None:
        """End it at once: it says nothing to anybody."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=60)

    def pause(self) -> None:
        """Stop it in the middle: its connections stay."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on after a pause."""
        self._signal(signal.SIGCONT)

    @property
    def log(self) -> str:
        """What it has said."""
        return self._log.read_text() if self._log.exists() else ""

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, number)

    def _begin(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, env=self._environ)

    def _is_ready(self) -> bool:
        if not self.up:
            raise RuntimeError(f"{self.name} ended: {self.log[-3000:]}")
        return get(self._ready)[0] == 200


@dataclass
class Times:
    """When engines had a request, by the clock of `time.monotonic`."""

    begun: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    """Those that came to their end."""
    left: list[float] = field(default_factory=list)


class Ledger:
    """What all engines have written down."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def file(self, name: str) -> Path:
        """Give the file of one engine."""
        return self._folder / f"ledger-{name}"

    def read(self) -> dict[str, Times]:
        """Give what became of each request."""
        found: dict[str, Times] = {}
        for file in self._folder.glob("ledger-*"):
            for line in file.read_text().splitlines():
                word, request_id, at = line.split(" ")
                times = found.setdefault(request_id, Times())
                {"begin": times.begun, "end": times.ended, "left": times.left}[word].append(float(at))
        return found


@dataclass
class Gateway:
    """A replica, and its way to Redis."""

    part: Part
    url: str
    proxy: TcpProxy
    kills: int = 0
    """How often it was killed."""

    def kill(self) -> None:
        """End it at once."""
        self.kills += 1
        self.part.kill()


@dataclass
class World:
    """All of it, running."""

    folder: Path
    redis: RedisServer
    gateways: list[Gateway]
    workers: dict[str, Part]
    engine: Part
    """Of worker `b`."""
    proxies: dict[str, TcpProxy]
    """Ways of workers to Redis."""
    ledger: Ledger
    clocks: dict[str, ShiftedClock]
    """Of Redis, a gateway and a worker; empty unless asked for."""

    def client(self) -> "redis.Redis":
        """Give a client that looks at Redis from outside."""
        return self.redis.client()

    def left(self) -> list[str]:
        """Give what is left in Redis of requests, by key."""
        with self.client() as client:
            names = ("entry:*", "own:*", "wait:*")
            found = [key.decode() for name in names for key in client.scan_iter(f"capstan:queue:*:{name}")]
            works = [key.decode() for key in client.scan_iter("capstan:queue:*:work:*")]
            return found + [key for key in works if client.xlen(key)]

    @property
    def parts(self) -> list[Part]:
        """All processes but Redis."""
        return [*(one.part for one in self.gateways), *self.workers.values(), self.engine]


def models(urls: Sequence[str]) -> list[ModelEntry]:
    """Give one model whose requests wait in the queue, and one that has none."""
    timeouts = Timeouts(firstTokenSeconds=SILENT_SECONDS, idleSeconds=SILENT_SECONDS, totalSeconds=TOTAL_SECONDS)
    queue = ModelQueue(dispatch=Dispatch.QUEUE)
    return [
        entry(QUEUED, *urls, upstreamName=ENGINE, timeouts=timeouts, queue=queue),
        entry(DIRECT, *urls, upstreamName=ENGINE, timeouts=timeouts),
    ]


@asynccontextmanager
async def world(
    folder: Path, *, clocks: bool = False, source: Callable[[Sequence[int]], Sequence[str]] | None = None,
    model: str = f"test/{QUEUED}", host: str = "127.0.0.1", ready: bool = True,
) -> AsyncIterator[World]:  # fmt: skip
    """Run it until the block ends.

    `source`, given the engines' ports, gives the flags that say where gateways have their config; without it they have
    `models` in a directory. `model` is whose queue workers take from. `host` is where engines listen. Unless `ready`,
    gateways need not be ready in the beginning.
    """
    async with AsyncExitStack() as stack:
        shifted = {name: ShiftedClock(_made(folder / name)) for name in (("redis", "1", "a") if clocks else ())}
        environ = {name: clock.environ for name, clock in shifted.items()}
        store = RedisServer(_made(folder / "store"), flags=CHART_REDIS, environ=environ.get("redis"))
        await asyncio.to_thread(store.start)
        stack.callback(_end_redis, store)
        ledger = Ledger(folder)
        proxies = {name: await stack.enter_async_context(TcpProxy(store.port)) for name in ("a", "b", "1", "2")}
        ports = {name: free_port() for name in ("a", "b")}
        started: list[Part] = []
        stack.callback(_end, started)

        def simulator(name: str, **queue: str) -> Part:
            worker_port = free_port()
            addresses = ["--port", str(ports[name]), "--worker-port", str(worker_port), "--host", host]
            return Part(
                f"engine {name}",
                _python("support.ledger_worker", "simulator", "--model", ENGINE, *_ALIASES, *addresses, *PACE),
                log=folder / f"engine-{name}.log", ready=f"http://127.0.0.1:{worker_port}/readyz",
                environ={**environ.get(name, {}), "PYTHONPATH": _path(), LEDGER: str(ledger.file(name)), **queue},
            )  # fmt: skip

        def queue(name: str) -> dict[str, str]:
            return {
                "CAPSTAN_WORKER_REDIS_URL": f"redis://127.0.0.1:{proxies[name].port}/0",
                "CAPSTAN_WORKER_QUEUE_MODEL": model,
                "CAPSTAN_WORKER_QUEUE_HUNG_SECONDS": str(HUNG_SECONDS),
                "CAPSTAN_WORKER_REDIS_SECONDS": "2",
            }

        first, engine = simulator("a", **queue("a")), simulator("b")
        beside_port = free_port()
        beside = Part(
            "worker b",
            _python(
                "capstan_worker", "sidecar", "--engine", "vLLM", "--engine-url", f"http://127.0.0.1:{ports['b']}",
                "--model", ENGINE, "--worker-port", str(beside_port), "--queue-places", "8",
            ),
            log=folder / "worker-b.log", ready=f"http://127.0.0.1:{beside_port}/readyz", environ=queue("b"),
        )  # fmt: skip
        gateways = []
        flags = _in_directory(folder, list(ports.values())) if source is None else source(list(ports.values()))
        for name in ("1", "2"):
            port = free_port()
            command = [
                "--port", str(port), "--redis-url", f"redis://127.0.0.1:{proxies[name].port}/0", "--log-level",
                "warning", "--gateways", "2", *flags,
            ]  # fmt: skip
            part = Part(
                f"gateway {name}", _python("capstan_gateway", *command), log=folder / f"gateway-{name}.log",
                ready=f"http://127.0.0.1:{port}/readyz", environ=environ.get(name),
            )  # fmt: skip
            gateways.append(Gateway(part, f"http://127.0.0.1:{port}", proxies[name]))
        made = World(folder, store, gateways, {"a": first, "b": beside}, engine, proxies, ledger, shifted)
        started += made.parts
        begun = {one.part.name for one in gateways}
        await asyncio.gather(*(part.start(wait=ready or part.name not in begun) for part in made.parts))
        yield made


def _in_directory(folder: Path, ports: Sequence[int]) -> Sequence[str]:
    config = _made(folder / "config")
    write_config(
        config, models([f"http://127.0.0.1:{port}" for port in ports]),
        keys=[key_entry(name, tenant=name) for name in TENANTS],
    )  # fmt: skip
    return ["--config-dir", str(config)]


def _python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def _path() -> str:
    return os.pathsep.join([str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])])


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def _end(parts: Sequence[Part]) -> None:
    for part in parts:
        part.go_on()
        part.kill()


def _end_redis(store: RedisServer) -> None:
    store.go_on()
    store.kill()
