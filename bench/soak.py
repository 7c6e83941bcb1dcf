"""A long mixed load on one gateway process: what it leaks, and which requests fail that should not.

    python bench/soak.py [--minutes 30] [--clients 12] [--reload-seconds 5] [--bare]

Simulated engines, everything on this machine's loopback. Clients send whole answers, streams, requests that they
abandon, wrong requests, requests to engines that fail before the first byte (somebody else must answer) and to one
that breaks its streams (the error must be told); half of them make a connection for each request. Meanwhile the config
is replaced every few seconds, and models come and go.

The gateway is a test build (tests/support/shaped_gateway.py) with layers in the shape of policies: limits that open and
close, guards that block and rewrite requests and filter streams with windows that they hold back, a cache with single
flight whose askers come in bursts, and leave. `--bare` is the gateway as it is released, without them.

A line a minute, with the gateway's resident memory; at the end how much that grows an hour, by the second half of the
run, when caches and pools have filled. The last line says OK or FAILED. It fails, with exit code 1, when a request got
anything but what it should, when a config was not taken, or when tasks, requests in flight, sockets, bytes of the
memory budget, what layers opened, objects of requests, slots, flights, or the engines' own requests do not return to
where they were before.
"""

import argparse
import asyncio
import itertools
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from capstan_contract.config import ModelEntry, Timeouts  # noqa: E402
from support.gateway import entry  # noqa: E402
from support.gateway_process import NO_PROBES, GatewayProcess, gateway_process, sample  # noqa: E402
from support.shaped_gateway import FORBIDDEN, SAID, SAYS, SECRET  # noqa: E402
from support.traffic import fault_of  # noqa: E402
from support.worker import Worker, get, simulator  # noqa: E402

CHAT = "/v1/chat/completions"
KINDS = {"json": 40, "stream": 35, "flaky": 10, "abandoned": 6, "wrong": 5, "broken": 4}
SHAPED = {**KINDS, "guarded": 15, "cached": 10, "burst": 5, "blocked": 3, "limited": 5}
"""Share of each kind of request."""
SAMPLE_SECONDS = 10.0
SETTLE_SECONDS = 60.0
ENGINE_FAULTS = ["500;probability=0.05", "reset;probability=0.05", "503;probability=0.03", "429;probability=0.02"]
WRONG: tuple[tuple[int, Any], ...] = (
    (404, {"model": "nobody", "messages": [{"role": "user", "content": "x"}]}),
    (400, {"model": "main", "messages": []}),
    (400, {"model": "main"}),
    (400, b"{not json"),
)


class Unexpected(Exception):
    """A request that got something else than it should."""


@dataclass(frozen=True)
class Sample:
    """What one look at the gateway's process shows."""

    at: float
    rss: float
    fds: float
    sockets: float
    tasks: float
    in_flight: float
    budget: float
    """Bytes."""
    open: float
    """What layers have opened, slots and flights."""
    objects: float
    """Of requests."""


LEAKS = ("tasks", "in_flight", "sockets", "fds", "budget", "open", "objects")


@dataclass
class Tally:
    """What became of the requests."""

    done: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    reloads: int = 0


def models(engines: dict[str, Worker], number: int) -> list[ModelEntry]:
    """Give the config's models; those of the next number differ a little."""
    timeouts = Timeouts(firstTokenSeconds=30, idleSeconds=30, totalSeconds=60 + number % 7)
    options: dict[str, Any] = {"upstreamName": "sim", "timeouts": timeouts, "generation": number + 1}
    one, two, flaky, broken, slow = (engines[name].url for name in ("one", "two", "flaky", "broken", "slow"))
    extra = [entry(f"extra-{number % 50}-{index}", one, **options) for index in range(number % 5)]
    return [
        entry("main", one, two, **options),
        entry("flaky", flaky, one, **options, fallbacks=("main",)),
        entry("backed", flaky, **options, fallbacks=("main",)),
        entry("broken", broken, **options),
        entry("guarded", one, slow, **options),
        entry("guarded-flaky", flaky, **options, fallbacks=("guarded",)),
        entry("cached", one, two, **options),
        entry("limited", one, **options),
        *extra,
    ]


class Load:
    """The clients."""

    def __init__(self, url: str, tally: Tally, stop: asyncio.Event, kinds: dict[str, int]) -> None:
        self._url = url
        self._kinds = kinds
        self._tally = tally
        self._stop = stop

    async def client(self, number: int) -> None:
        """Send one request after the other until the end."""
        rng = random.Random(number)
        connector = aiohttp.TCPConnector(force_close=number % 2 == 0)
        timeout = aiohttp.ClientTimeout(total=90)
        async with aiohttp.ClientSession(self._url, connector=connector, timeout=timeout) as http:
            while not self._stop.is_set():
                kind = rng.choices(tuple(self._kinds), tuple(self._kinds.values()))[0]
                try:
                    await getattr(self, f"_{kind}")(http, rng)
                except (Unexpected, aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                    self._tally.failed[f"{kind}: {type(error).__name__}: {str(error)[:160]}"] += 1
                    await asyncio.sleep(0.1)  # a client that fails at once must not fill the machine with failures
                else:
                    self._tally.done[kind] += 1

    async def _json(self, http: aiohttp.ClientSession, rng: random.Random) -> None:
        await self._whole(http, _body("main", rng))

    async def _stream(self, http: aiohttp.ClientSession, rng: random.Random) -> None:
        await self._whole(http, _body("main", rng, stream=True))

    async def _flaky(self, http: aiohttp.ClientSession, rng: random.Random) -> None:
        await self._whole(http, _body(rng.choice(("flaky", "backed")), rng, stream=rng.random() < 0.5))

    async def _guarded(self, http: aiohttp.ClientSession, rng: random.Random) -> None:
        body = _body(rng.choice(("guarded", "guarded-flaky")), rng, stream=rng.random() < 0.7, max_tokens=60)
        body["messages"][0]["content"] += f" {SECRET}"
        await self._checked(http, body)

    async def _cached(self, http: aiohttp.ClientSession, rng: random.Random) -> None:
        await self._checked(http, _body("cached", rng, stream=rng.random() < 0.5))

    async def _burst(self, http: aiohttp.ClientSession, rng: random.Random) -> None:
        """Ask for the same some times at once; some leave."""
        body = _body("cached", rng, stream=rng.random() < 0.5, max_tokens=60)
        body["user"], body["messages"][0]["content"] = "u", f"the same {rng.randrange(200)}"
        asking = [asyncio.create_task(self._checked(http, body)) for _ in range(4)]
        await asyncio.sleep(rng.random() * 0.02)
        leaving = asking[: rng.randrange(5)]
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        await asyncio.gather(*asking[len(leaving) :])

    async def _blocked(self, http: aiohttp.ClientSession, rng: random.Random) -> None:
        body = _body(rng.choice(("guarded", "cached")), rng, stream=rng.random() < 0.5)
        body["messages"][0]["content"] += f" {FORBIDDEN}"
        async with http.post(CHAT, json=body) as response:
            document = await response.json()
        if response.status != 400 or document["error"]["code"] != "content_filter":
            raise Unexpected(f"status {response.status} instead of a block")

    async def _limited(self, http: aiohttp.ClientSession, rng: random.Random) -> None:
        body = _body("limited", rng, stream=rng.random() < 0.5)
        async with http.post(CHAT, json=body) as response:
            fault = fault_of(response.status, await response.text(), streamed=body["stream"])
        if fault and response.status != 429:
            raise Unexpected(fault)

    async def _checked(self, http: aiohttp.ClientSession, body: dict[str, Any]) -> None:
        text = await self._whole(http, body)
        said = text if not body["stream"] else _said(text)
        if SAID in said or SAYS not in said:
            raise Unexpected(f"an answer that was not checked: {said[:100]}")

    async def _whole(self, http: aiohttp.ClientSession, body: dict[str, Any]) -> str:
        async with http.post(CHAT, json=body) as response:
            text = await response.text()
            fault = fault_of(response.status, text, streamed=body["stream"])
        if fault:
            raise Unexpected(fault)
        return text

    async def _abandoned(self, http: aiohttp.ClientSession, rng: random.Random) -> None:
        body = _body("main", rng, stream=True, max_tokens=400)
        if rng.random() < 0.3:
            asking = asyncio.create_task(self._whole(http, body))
            await asyncio.sleep(rng.random() * 0.02)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            return
        async with http.post(CHAT, json=body) as response:
            for _ in range(rng.randrange(1, 20)):
                await response.content.readline()
            response.close()

    async def _wrong(self, http: aiohttp.ClientSession, rng: random.Random) -> None:
        status, body = rng.choice(WRONG)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with http.post(CHAT, data=data, headers={"content-type": "application/json"}) as response:
            document = await response.json()
        if response.status != status or set(document["error"]) != {"message", "type", "param", "code"}:
            raise Unexpected(f"status {response.status} instead of {status}")

    async def _broken(self, http: aiohttp.ClientSession, rng: random.Random) -> None:
        async with http.post(CHAT, json=_body("broken", rng, stream=True)) as response:
            text = await response.text()
        told = response.status >= 500 if response.status != 200 else '"error"' in text and text.endswith("[DONE]\n\n")
        if not told:
            raise Unexpected(f"status {response.status}, and a broken stream ended quietly")


def _body(model: str, rng: random.Random, *, stream: bool = False, max_tokens: int = 24) -> dict[str, Any]:
    content = f"{rng.getrandbits(64):x} " * rng.randrange(1, 60)
    return {
        "model": model, "messages": [{"role": "user", "content": content}], "max_tokens": max_tokens,
        "stream": stream, "user": f"u{rng.randrange(1_000_000)}", "ignore_eos": True,
    }  # fmt: skip


def _said(text: str) -> str:
    frames = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    return "".join(choice["delta"].get("content") or "" for chunk in frames for choice in chunk["choices"])


def look(gateway: GatewayProcess) -> Sample:
    """Look at the gateway's process."""
    text = get(f"{gateway.url}/metrics")[1]
    sockets = 0
    for link in Path(f"/proc/{gateway.process.pid}/fd").iterdir():
        try:
            sockets += os.readlink(link).startswith("socket:")
        except FileNotFoundError:
            continue  # it was closed meanwhile
    return Sample(
        time.monotonic(),
        sample(text, "process_resident_memory_bytes") / 1e6,
        sample(text, "process_open_fds"),
        sockets,
        sample(text, "gateway_asyncio_tasks"),
        sample(text, "gateway_inflight_requests") + sample(text, "gateway_queue_depth"),
        sample(text, "gateway_memory_held_bytes"),
        sample(text, "shaped_open"),
        sample(text, "shaped_objects"),
    )


async def reload(gateway: GatewayProcess, engines: dict[str, Worker], every: float, tally: Tally) -> None:
    """Replace the config again and again; each one must be taken."""
    for number in itertools.count(1):
        await asyncio.sleep(every)
        try:
            await asyncio.to_thread(gateway.configure, models(engines, number))
            tally.reloads += 1
        except AssertionError as error:
            tally.failed[f"reload: {error}"] += 1


async def watch(gateway: GatewayProcess, tally: Tally, samples: list[Sample], began: float) -> None:
    """Look at the gateway now and then, and say every minute what there is."""
    print(
        f"{'min':>5} {'requests':>9} {'failed':>7} {'reloads':>8} {'RSS MB':>8} {'fds':>5} {'tasks':>6} "
        f"{'in flight':>10} {'budget':>9} {'open':>6} {'objects':>8}"
    )
    minute = 1
    while True:
        await asyncio.sleep(SAMPLE_SECONDS)
        seen = await asyncio.to_thread(look, gateway)
        samples.append(seen)
        if seen.at - began >= minute * 60:
            minute += 1
            print(
                f"{(seen.at - began) / 60:5.1f} {tally.done.total():9} {tally.failed.total():7} {tally.reloads:8} "
                f"{seen.rss:8.1f} {seen.fds:5.0f} {seen.tasks:6.0f} {seen.in_flight:10.0f} "
                f"{seen.budget:9.0f} {seen.open:6.0f} {seen.objects:8.0f}",
                flush=True,
            )


async def put_under_load(
    gateway: GatewayProcess, engines: dict[str, Worker], options: argparse.Namespace, tally: Tally
) -> list[Sample]:
    """Run clients, reloads and the watch for the time that was asked for."""
    stop, samples, began = asyncio.Event(), list[Sample](), time.monotonic()
    load = Load(gateway.url, tally, stop, KINDS if options.bare else SHAPED)
    others = [
        asyncio.create_task(reload(gateway, engines, options.reload_seconds, tally)),
        asyncio.create_task(watch(gateway, tally, samples, began)),
    ]
    clients = [asyncio.create_task(load.client(number)) for number in range(options.clients)]
    try:
        done, _ = await asyncio.wait([*clients, *others], timeout=options.minutes * 60, return_when="FIRST_COMPLETED")
        for task in done:
            task.result()  # none ends by itself, so this raises
        stop.set()
        await asyncio.wait_for(asyncio.gather(*clients), 120)
    finally:
        for task in (*others, *clients):
            task.cancel()
        await asyncio.gather(*others, *clients, return_exceptions=True)
    return samples


def settle(gateway: GatewayProcess, engines: dict[str, Worker], before: Sample) -> tuple[Sample, list[str]]:
    """Wait until everything is as before; give the last look, and what is not."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        after = look(gateway)
        left = [
            f"{name}: {getattr(after, name):.0f}, before {getattr(before, name):.0f}"
            for name in LEAKS
            if getattr(after, name) > getattr(before, name)
        ]
        for name, engine in engines.items():
            running = engine.metric("vllm:num_requests_running") + engine.metric("vllm:num_requests_waiting")
            left += [f"engine '{name}' still works on {running:.0f} requests"] if running else []
        if not left or time.monotonic() > deadline:
            return after, left
        time.sleep(1)


def slope(samples: list[Sample], name: str) -> float:
    """Change per hour, by least squares over the second half, when caches and pools have filled."""
    kept = samples[len(samples) // 2 :]
    if len(kept) < 2:
        return 0.0
    times = [one.at for one in kept]
    values = [float(getattr(one, name)) for one in kept]
    middle, mean = sum(times) / len(kept), sum(values) / len(kept)
    above = sum((at - middle) * (value - mean) for at, value in zip(times, values, strict=True))
    return 3600 * above / sum((at - middle) ** 2 for at in times)


def report(before: Sample, samples: list[Sample], after: Sample, tally: Tally, seconds: float) -> None:
    """Print the tables."""
    print(f"\n{'':10} {'before':>8} {'median':>8} {'most':>8} {'after':>8} {'slope/h':>9}   (of the second half)")
    for name in ("rss", *LEAKS):
        values = sorted(getattr(one, name) for one in samples) or [0.0]
        print(
            f"{name:10} {getattr(before, name):8.1f} {values[len(values) // 2]:8.1f} {values[-1]:8.1f} "
            f"{getattr(after, name):8.1f} {slope(samples, name):+9.1f}"
        )
    print(f"\nRSS {before.rss:.1f} MB before, {after.rss:.1f} after; {slope(samples, 'rss'):+.1f} MB an hour")
    kinds = ", ".join(f"{kind} {tally.done[kind]}" for kind in SHAPED if tally.done[kind])
    print(f"{tally.done.total()} requests as they should be ({tally.done.total() / seconds:.0f}/s): {kinds}")
    print(f"{tally.reloads} configs taken\n{tally.failed.total()} failures")
    for what, count in tally.failed.most_common(20):
        print(f"  {count} times {what}")


def verdict(tally: Tally, left: list[str]) -> list[str]:
    """Say in short what makes the run a failure; nothing: it is none."""
    wrong = [f"{tally.failed.total()} requests or reloads failed"] if tally.failed else []
    wrong += [] if tally.done else ["no request was answered"]
    return [*wrong, *(f"leaked: {what}" for what in left)]


def soak(options: argparse.Namespace, folder: Path) -> int:
    """Run everything; give the exit code."""
    with ExitStack() as stack:
        faults = {"flaky": ENGINE_FAULTS, "broken": ["die;after=5;probability=0.5", "truncate;after=5"]}
        environ = {**NO_PROBES, "PYTHONPATH": os.pathsep.join((str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")))}
        module = "capstan_gateway" if options.bare else "support.shaped_gateway"
        engines = {
            name: stack.enter_context(
                simulator("--ttft-ms", "4", "--tpot-ms", "1", *(f"--fault={fault}" for fault in faults.get(name, ())))
            )
            for name in ("one", "two", "flaky", "broken", "slow")
        }
        engines["slow"].turn(tpotMs=40)
        gateway = stack.enter_context(gateway_process(folder, models(engines, 0), environ=environ, module=module))
        look(gateway)  # so that the connection of the first look is not part of what was there before
        before, tally, began = look(gateway), Tally(), time.monotonic()
        samples = asyncio.run(put_under_load(gateway, engines, options, tally))
        seconds = time.monotonic() - began
        gateway.configure(models(engines, 0))
        after, left = settle(gateway, engines, before)
        report(before, samples, after, tally, seconds)
        wrong = verdict(tally, left)
        print(f"\nFAILED: {'; '.join(wrong)}" if wrong else "\nOK: no request failed and nothing leaked")
        return 1 if wrong else 0


def main() -> int:
    parser = argparse.ArgumentParser(description="A long mixed load on one gateway process.")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--reload-seconds", type=float, default=5)
    parser.add_argument("--bare", action="store_true", help="without layers in the shape of policies")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="capstan-soak-") as folder:
        return soak(options, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
