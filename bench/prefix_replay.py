"""Does prefix affinity find the engines' prefix caches? A replay of the Mooncake trace through the gateway.

    trace ──► this process ──► capstan-gateway (own process) ──► 4 simulators with prefix caches

The same requests at the same times go through the gateway four times, each time with empty caches: by the blocks that
the engines tell, with its prefix affinity, with its plain balancing by load, and in turns. A second workload of short
questions behind one system prompt shows what affinity costs where there is nothing to gain. What a block of 512 tokens
is in the trace is a block of 32 here; times are shortened by `--speed`. The trace is `conversation_trace.jsonl` of
https://github.com/kvcache-ai/Mooncake.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import orjson
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from capstan_contract.config import GatewayConfig, ModelEntry, StaticBackend
from capstan_contract.sharding import split_config
from capstan_gateway.process import listen
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.port import Call, DispatchedResponse, DispatchPort
from capstan_gateway.routing.registry import EndpointRegistry
from capstan_gateway.settings import Settings
from capstan_gateway.surface import api_listener
from capstan_gateway.upstream.errors import UpstreamError
from capstan_gateway.upstream.http1 import Http1Client
from capstan_gateway.upstream.port import Endpoint
from capstan_worker.simulator.tokens import TOKEN, split, token_id

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from support.ports import free_port

TRACE: Final = Path(__file__).resolve().parent.parent.parent / "shared/data/mooncake_traces/conversation_trace.jsonl"
EVENTS: Final = "events"
ASKED: Final = "events, engine's tokens"
TEMPLATE: Final = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}<|assistant|>"
MODEL: Final = "bench/m"
POLICIES: Final = (EVENTS, "affinity", "least load", "round robin")
KNOWN: Final = "known.json"
ENGINES: Final = 4
BLOCK_TOKENS: Final = 32
PREFILL: Final = 6000
SIMULATOR: Final = (
    "--ttft-ms=5", f"--prefill-tokens-per-second={PREFILL}", "--tpot-ms=4", "--concurrency=16", "--kv-blocks=8192",
    "--context-window=32768", "--kv-events=on",
)  # fmt: skip


FAILURES: Final[set[object]] = set()


@dataclass(frozen=True)
class Request:
    """One request of a workload."""

    at: float
    """Seconds from the start."""
    body: bytes


@dataclass(frozen=True)
class Result:
    """What one workload was like with one policy."""

    policy: str
    hit_ratio: float
    first_tokens: tuple[float, ...]
    failed: int
    spread: float
    """Requests of the busiest engine, over their mean."""
    known: Mapping[str, float]
    """How many requests went by what was known of their blocks; empty where nobody looks."""

    def quantile(self, share: float) -> float:
        """Milliseconds to the first token."""
        return statistics.quantiles(self.first_tokens, n=100, method="inclusive")[round(share * 100) - 1] * 1000


# --- workloads --------------------------------------------------------------------------------------------------------


def block_text(number: int) -> str:
    """Give a text of BLOCK_TOKENS tokens that is this block's own."""
    return "".join(f" {(number * 2654435761 + i * 40503) & 0xFFFFFF:06x}" for i in range(BLOCK_TOKENS))


def chat(*messages: tuple[str, str]) -> bytes:
    """Give the body of a streamed chat request for eight tokens."""
    said = [{"role": role, "content": content} for role, content in messages]
    return orjson.dumps({"model": "m", "messages": said, "stream": True, "max_tokens": 8})


def conversations(count: int, speed: float) -> tuple[list[Request], float]:
    """Give the first requests of the trace, and the share of their blocks that came before in the same place."""
    seen: set[int] = set()
    hits = blocks = 0
    requests = []
    with TRACE.open() as lines:
        for _, line in zip(range(count), lines, strict=False):
            row = json.loads(line)
            numbers = row["hash_ids"]
            known = next((i for i, number in enumerate(numbers) if number not in seen), len(numbers))
            seen.update(numbers)
            hits, blocks = hits + known, blocks + len(numbers)
            text = "".join(block_text(number) for number in numbers)
            requests.append(Request(row["timestamp"] / 1000 / speed, chat(("user", text))))
    return requests, hits / blocks


def short_questions(count: int, rate: float) -> list[Request]:
    """Give questions of a dozen words behind a system prompt of some hundred, at random times."""
    rng = random.Random(7)
    system = "".join(block_text(number) for number in range(4))
    at, requests = 0.0, []
    for number in range(count):
        at += rng.expovariate(rate)
        requests.append(Request(at, chat(("system", system), ("user", block_text(1000 + number)[:80]))))
    return requests


# --- the gateway with each policy -------------------------------------------------------------------------------------


class LeastLoad:
    """The gateway's dispatcher without its affinity."""

    def __init__(self, inner: DispatchPort) -> None:
        self._inner = inner

    async def dispatch(self, call: Call) -> DispatchedResponse:
        """Implement DispatchPort."""
        call.affinity = None
        return await self._inner.dispatch(call)

    def again(self, call: Call, answer: DispatchedResponse, why: str) -> bool:
        """Implement DispatchPort."""
        return self._inner.again(call, answer, why)


class RoundRobin:
    """One endpoint after the other, whatever their load."""

    def __init__(self, inner: DispatchPort) -> None:
        self._inner = inner
        self._registry = EndpointRegistry()
        self._sets: list[EndpointSet] = []
        self._turn = 0

    async def dispatch(self, call: Call) -> DispatchedResponse:
        """Implement DispatchPort."""
        if not self._sets:
            self._sets = [EndpointSet(self._registry, [endpoint]) for endpoint in call.endpoints.endpoints]
        call.affinity = None
        call.endpoints = self._sets[self._turn % len(self._sets)]
        self._turn += 1
        return await self._inner.dispatch(call)

    def again(self, call: Call, answer: DispatchedResponse, why: str) -> bool:
        """Implement DispatchPort."""
        return self._inner.again(call, answer, why)


def ship_tokenizer(folder: Path, workloads: Iterable[Sequence[Request]]) -> None:
    """Write the simulators' tokenizer into a folder, as it would be shipped with the gateway: with the words of these
    workloads, because the simulators' own has no vocabulary."""
    words = {"[UNK]": 0}
    for requests in workloads:
        for request in requests:
            for message in orjson.loads(request.body)["messages"]:
                for mark in (f"<|{message['role']}|>", "<|end|>", "<|assistant|>"):
                    words[mark] = token_id(mark)
                words.update((word, token_id(word)) for word in split(message["content"]))
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))  # noqa: S106 - a word of the vocabulary
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(TOKEN.pattern), "isolated")
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    (folder / "tokenizer_config.json").write_bytes(orjson.dumps({"chat_template": TEMPLATE}))


async def serve(policy: str, port: int, directory: Path, tokenizers: Path) -> None:
    """Be the gateway with this policy, until killed."""
    from capstan_gateway.composition import Gateway

    settings = Settings(
        port=port, config_dir=directory, insecure_no_auth=True, log_level="warning", hedge_percent=0, probe_seconds=0,
        tokenizers_dir=tokenizers if policy == EVENTS else None,
    )  # fmt: skip
    gateway = Gateway(settings, rng=random.Random(1))
    wrap = {"least load": LeastLoad, "round robin": RoundRobin}.get(policy)
    if wrap is not None:
        gateway.deps = replace(gateway.deps, dispatcher=wrap(gateway.deps.dispatcher))
    async with gateway.running():
        while policy == EVENTS and gateway.deps.counters.of(MODEL) is None:  # noqa: ASYNC110 - once, at the start
            await asyncio.sleep(0.1)
        await listen(api_listener(gateway), settings, port)
        while True:
            await asyncio.sleep(0.25)
            runtime = gateway.current()
            held = None if runtime is None else runtime.models["m"].endpoints.held
            if held is not None:
                known = {"blocks": held.exact, "beginning": held.beginnings, "estimate": held.estimated}
                (directory / KNOWN).write_bytes(orjson.dumps(known))


# --- processes --------------------------------------------------------------------------------------------------------


@contextmanager
def process(*arguments: str, ready: str) -> Iterator[None]:
    """Run a Python process until the block ends."""
    running = subprocess.Popen([sys.executable, *arguments], stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while get(ready) is None:
            if running.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"did not start: {' '.join(arguments)}")
            time.sleep(0.1)
        yield
    finally:
        running.kill()
        running.wait()


def get(url: str) -> str | None:
    """Give the body of a 200; None for anything else."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - http only
            return str(response.read().decode())
    except OSError:
        return None


def metric(port: int, name: str) -> float:
    """Give the sum of a metric's series of a simulator."""
    lines = (get(f"http://127.0.0.1:{port}/metrics") or "").splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.partition("{")[0].split(" ")[0] == name)


def write_config(directory: Path, ports: Mapping[int, int], *, events: bool) -> None:
    """Write the config of one model at these engines, by their ports; with `events` their workers are listened to."""
    workers = {f"http://127.0.0.1:{port}": f"http://127.0.0.1:{worker}" for port, worker in ports.items()}
    backend = StaticBackend(urls=tuple(workers), workers=workers)
    entry = ModelEntry(id=MODEL, generation=1, servedName="m", upstreamName="m", backend=backend, kvEvents=events)
    for name, text in split_config(GatewayConfig.build((entry,))).items():
        (directory / name).write_text(text)


# --- one run ----------------------------------------------------------------------------------------------------------


async def send(client: Http1Client, gateway: Endpoint, request: Request, started: float, first: list[float]) -> bool:
    """Send one request in its time; False when it failed."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(max(0.0, started + request.at - loop.time()))
    began = time.perf_counter()
    try:
        response = await client.send(
            gateway, method=b"POST", path=b"/v1/chat/completions", body=request.body,
            headers=((b"content-type", b"application/json"),),
        )  # fmt: skip
        await response.wait_body()
        seconds = time.perf_counter() - began
        await response.read(1 << 20)
    except UpstreamError as error:
        FAILURES.add(str(error))
        return False
    if response.status != 200:
        FAILURES.add(response.status)
        return False
    first.append(seconds)
    return True


async def replay(port: int, requests: Sequence[Request]) -> tuple[tuple[float, ...], int]:
    """Send a workload; give the times to the first token, and how many failed."""
    client = Http1Client()
    gateway = Endpoint(id="gateway", host="127.0.0.1", port=port)
    started = asyncio.get_running_loop().time() + 0.2
    first: list[float] = []
    try:
        done = await asyncio.gather(*(send(client, gateway, request, started, first) for request in requests))
    finally:
        await client.aclose()
    return tuple(first), done.count(False)


def measure(policy: str, requests: Sequence[Request], tokenizers: Path) -> Result:
    """Run one workload with one policy, on new engines and a new gateway, which may use these tokenizers."""
    ports = [free_port() for _ in range(ENGINES)]
    workers = [free_port() for _ in range(ENGINES)]
    gateway = free_port()
    with tempfile.TemporaryDirectory(prefix="capstan-bench-") as folder, ExitStack() as stack:
        directory = Path(folder)
        write_config(directory, dict(zip(ports, workers, strict=True)), events=policy in (EVENTS, ASKED))
        for port, worker in zip(ports, workers, strict=True):
            flags = ("--model=m", f"--port={port}", f"--worker-port={worker}", *SIMULATOR)
            command = ("-m", "capstan_worker", "simulator", *flags)
            stack.enter_context(process(*command, ready=f"http://127.0.0.1:{worker}/readyz"))
        command = (__file__, "--serve", policy, str(gateway), folder, str(tokenizers))
        stack.enter_context(process(*command, ready=f"http://127.0.0.1:{gateway}/readyz"))
        first, failed = asyncio.run(replay(gateway, requests))
        if FAILURES:
            print(f"failures: {sorted(map(str, FAILURES))}")
        queries = [metric(port, "vllm:prefix_cache_queries_total") for port in workers]
        hits = [metric(port, "vllm:prefix_cache_hits_total") for port in workers]
        served = [metric(port, "vllm:request_success_total") for port in workers]
        known = orjson.loads((directory / KNOWN).read_bytes()) if policy in (EVENTS, ASKED) else {}
    spread = max(served) / statistics.mean(served) if sum(served) else 0.0
    return Result(policy, sum(hits) / max(sum(queries), 1.0), first, failed, spread, known)


def show(title: str, results: Sequence[Result]) -> None:
    """Print a table."""
    print(f"\n{title}\n\n| policy | prefix hits | TTFT p50 | TTFT p90 | busiest engine | failed |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for result in results:
        print(
            f"| {result.policy} | {result.hit_ratio:.1%} | {result.quantile(0.5):.0f} ms | "
            f"{result.quantile(0.9):.0f} ms | {result.spread:.2f}x | {result.failed} |"
        )
    for result in results:
        if result.known:
            print(f"\n{result.policy}: requests by what was known of their blocks: {dict(result.known)}")


def main(arguments: Sequence[str]) -> int:
    """Run the comparison, or be one of its gateways."""
    if arguments[:1] == ["--serve"]:
        asyncio.run(serve(arguments[1], int(arguments[2]), Path(arguments[3]), Path(arguments[4])))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1600, help="how much of the trace")
    parser.add_argument("--speed", type=float, default=14.0, help="how much faster than it was")
    parser.add_argument("--policies", nargs="+", choices=(*POLICIES, ASKED), default=POLICIES, help="which to compare")
    parser.add_argument("--questions", type=int, default=400, help="short ones, 50 a second")
    options: Any = parser.parse_args(arguments)
    if not TRACE.is_file():
        print(f"error: the trace is not here: {TRACE}", file=sys.stderr)
        return 1
    trace, possible = conversations(options.requests, options.speed)
    questions = short_questions(options.questions, 50.0)
    with tempfile.TemporaryDirectory(prefix="capstan-bench-tokenizers-") as folder:
        tokenizers = Path(folder)
        if EVENTS in options.policies:
            ship_tokenizer(tokenizers / MODEL, (trace, questions))
        print(f"{len(trace)} requests in {trace[-1].at:.0f} s, {ENGINES} simulators, {os.cpu_count()} cores, "
              f"load average {os.getloadavg()[0]:.1f}; one unbounded cache would hit {possible:.1%}")  # fmt: skip
        for title, requests in (
            ("Mooncake conversations", trace),
            ("Short questions behind one system prompt", questions),
        ):
            show(title, [measure(policy, requests, tokenizers) for policy in options.policies])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
