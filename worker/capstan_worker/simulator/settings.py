"""What can be set on a simulator: fixed at its start (`SimulatorSettings`), or turned while it runs (`Dials`)."""

import argparse
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from capstan_worker.errors import UsageError
from capstan_worker.simulator.blocks import BLOCK_SIZE, blocks_for
from capstan_worker.simulator.faults import Fault, parse_fault

TASKS = ("chat", "completion", "embed", "classify", "score")
DEFAULT_BLOCKS = 8192


@dataclass(frozen=True)
class Dials:
    """What may change while the simulator runs; over HTTP the names are in camelCase."""

    ttft_ms: float = 0.0
    """Milliseconds from being admitted to the first token, besides the prefill."""
    prefill_tokens_per_second: float = 0.0
    """Prompt tokens per second that are not in the prefix cache; 0: at once."""
    tpot_ms: float = 0.0
    """Milliseconds per further token."""
    jitter: float = 0.0
    """Both vary by at most this share, always in the same way for the same request."""
    batch_slowdown: float = 0.0
    """With a full batch a token takes this much longer: 1 means twice as long."""
    concurrency: int = 64
    """Requests that run at once; the others wait."""
    answer_tokens: int = 48
    """Mean length of an answer."""
    prefix_cache: bool = True
    accepting: bool = True
    """False: the port is closed and every connection is reset."""
    healthy: bool = True
    """False: /health and /readyz say 503."""
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True)
class SimulatorSettings:
    """What is fixed at the start."""

    model: str
    aliases: tuple[str, ...] = ()
    """Further names, as LoRA adapters have them."""
    task: str = "chat"
    host: str = "127.0.0.1"
    port: int = 8000
    context_window: int = 32768
    kv_blocks: int = DEFAULT_BLOCKS
    """Blocks of 16 tokens."""
    embedding_size: int = 384
    labels: tuple[str, ...] = ("LABEL_0", "LABEL_1")
    startup_seconds: float = 0.0
    """How long "loading the model" takes."""
    seed: int = 0
    keep_alive_seconds: float = 5.0
    """An idle connection is closed after this, as by vLLM."""
    chunk_tokens: int = 1
    """Tokens per event of a stream."""
    allow_fault_headers: bool = False
    dials: Dials = dataclasses.field(default_factory=Dials)


def add_simulator_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the simulator's own flags."""
    fixed, dials = SimulatorSettings(model=""), Dials()
    add = parser.add_argument
    add("--alias", action="append", default=[], metavar="NAME", help="a further model name (repeatable)")
    add("--context-window", type=int, default=fixed.context_window, help="tokens of prompt and answer together")
    add("--kv-blocks", type=int, help=f"KV cache size in blocks of {BLOCK_SIZE} tokens")
    add("--prefix-cache", choices=("on", "off"), default="on", help="cache KV blocks of prompts (default on)")
    add("--ttft-ms", type=float, default=dials.ttft_ms, help="milliseconds to the first token, besides the prefill")
    add("--prefill-tokens-per-second", type=float, default=0.0, help="speed of the prefill; 0: at once")
    add("--tpot-ms", type=float, default=dials.tpot_ms, help="milliseconds per further token")
    add("--jitter", type=float, default=0.0, help="the two times vary by at most this share, from 0 to 1")
    add("--batch-slowdown", type=float, default=0.0, help="with a full batch a token takes this share longer")
    add("--concurrency", type=int, default=dials.concurrency, help="requests that run at once; others wait")
    add("--answer-tokens", type=int, default=dials.answer_tokens, help="mean length of an answer")
    add("--chunk-tokens", type=int, default=fixed.chunk_tokens, help="tokens per streamed event")
    add("--embedding-size", type=int, default=fixed.embedding_size, help="length of an embedding")
    add("--label", action="append", default=[], metavar="LABEL", help="a label of classify (repeatable)")
    add("--startup-seconds", type=float, default=0.0, help="how long loading the model takes")
    add("--keep-alive-seconds", type=float, default=fixed.keep_alive_seconds, help="idle connections are closed then")
    add("--seed", type=int, default=0, help="changes answers, jitter and the draw of faults")
    add("--fault", action="append", default=[], metavar="FAULT", help="NAME[;param=value]..., see docs/simulator.md")
    add("--allow-fault-headers", action="store_true", help="obey the header x-simulator-fault of a request")


def read_simulator_settings(options: argparse.Namespace) -> SimulatorSettings:
    """Check the flags and freeze them. Raises UsageError."""
    blocks = options.kv_blocks or max(DEFAULT_BLOCKS, blocks_for(options.context_window))
    dials = Dials(
        ttft_ms=options.ttft_ms,
        prefill_tokens_per_second=options.prefill_tokens_per_second,
        tpot_ms=options.tpot_ms,
        jitter=options.jitter,
        batch_slowdown=options.batch_slowdown,
        concurrency=options.concurrency,
        answer_tokens=options.answer_tokens,
        prefix_cache=options.prefix_cache == "on",
        faults=tuple(parse_fault(text) for text in options.fault),
    )
    settings = SimulatorSettings(
        model=options.model,
        aliases=tuple(options.alias),
        task=options.task,
        host=options.host,
        port=options.port,
        context_window=options.context_window,
        kv_blocks=blocks,
        embedding_size=options.embedding_size,
        labels=tuple(options.label) or SimulatorSettings(model="").labels,
        startup_seconds=options.startup_seconds,
        seed=options.seed,
        keep_alive_seconds=options.keep_alive_seconds,
        chunk_tokens=options.chunk_tokens,
        allow_fault_headers=options.allow_fault_headers,
        dials=check_dials(dials),
    )
    return check_settings(settings)


def check_settings(settings: SimulatorSettings) -> SimulatorSettings:
    """Give them back when they can be used. Raises UsageError."""
    for name in ("context_window", "kv_blocks", "embedding_size", "chunk_tokens"):
        if getattr(settings, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be at least 1")
    for name in ("startup_seconds", "keep_alive_seconds"):
        if getattr(settings, name) < 0:
            raise UsageError(f"--{name.replace('_', '-')} must be 0 or more")
    if settings.context_window > settings.kv_blocks * BLOCK_SIZE:
        raise UsageError(
            f"--context-window {settings.context_window} needs {blocks_for(settings.context_window)} blocks; "
            f"--kv-blocks is {settings.kv_blocks}"
        )
    return settings


def check_dials(dials: Dials) -> Dials:
    """Give them back when they can be used. Raises UsageError that names the dial and what is allowed."""
    for name in ("ttft_ms", "prefill_tokens_per_second", "tpot_ms", "batch_slowdown"):
        if not 0 <= getattr(dials, name) < 1e9:
            raise UsageError(f"{_camel(name)} must be 0 or more")
    if not 0 <= dials.jitter <= 1:
        raise UsageError("jitter must be from 0 to 1")
    for name in ("concurrency", "answer_tokens"):
        if getattr(dials, name) < 1:
            raise UsageError(f"{_camel(name)} must be at least 1")
    return dials


def turn_dials(dials: Dials, changes: Mapping[str, Any]) -> Dials:
    """Apply changes as they come over HTTP. Raises UsageError."""
    known = {_camel(field.name): field.name for field in dataclasses.fields(Dials)}
    turned: dict[str, Any] = {}
    for key, value in changes.items():
        if key not in known:
            raise UsageError(f"'{key}' is not known; known are {', '.join(known)}")
        turned[known[key]] = _convert(key, value, getattr(dials, known[key]))
    return check_dials(dataclasses.replace(dials, **turned))


def show_dials(dials: Dials) -> dict[str, Any]:
    """Give the dials as they go over HTTP."""
    shown = {_camel(field.name): getattr(dials, field.name) for field in dataclasses.fields(Dials)}
    return {**shown, "faults": [fault.text for fault in dials.faults]}


def _convert(key: str, value: Any, present: Any) -> Any:
    if key == "faults":
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise UsageError("faults must be a list of texts such as '500;first=3'")
        return tuple(parse_fault(item) for item in value)
    if isinstance(present, bool):
        if not isinstance(value, bool):
            raise UsageError(f"{key} must be true or false")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{key} must be a number")
    if isinstance(present, int) and value != int(value):
        raise UsageError(f"{key} must be a whole number")
    return type(present)(value)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
