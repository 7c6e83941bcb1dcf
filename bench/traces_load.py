"""Requests of public traces, shortened: what stands in them is when requests came, and how long they were.

Azure's of 2023 (code, conversations) and Mooncake's of FAST'25 (conversations, synthetic), from ../shared/data. A part
of each is taken: a stretch of time, and of the requests in it a share, drawn by a seed. Mooncake's are drawn by
conversation, so that what shares a prefix stays together.
"""

import csv
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import orjson
from prefix_replay import BLOCK_TOKENS, block_text

DATA: Final = Path(__file__).resolve().parents[2] / "shared/data"
TRACE_BLOCK: Final = 512
PROMPT_SCALE: Final = TRACE_BLOCK // BLOCK_TOKENS
"""So many tokens of a prompt in the trace are one here."""
ANSWER_SCALE: Final = 8
"""The same of answers: the time between two of them is that of so many."""
MODEL: Final = "m"


@dataclass(frozen=True)
class Engine:
    """What a simulated engine is like, in the time and the tokens of the trace."""

    places: int
    prefill: float
    """Tokens of prompts a second."""
    first_ms: float = 200.0
    token_ms: float = 50.0


@dataclass(frozen=True)
class Trace:
    """A part of a trace, and the engines that are to bear it."""

    name: str
    file: str
    begin: float
    """Seconds from the start of the trace."""
    share: float
    """Of the requests."""
    engine: Engine


TRACES: Final = {
    "azure-code": Trace(
        "Azure 2023, code", "azure_llm_trace_2023/AzureLLMInferenceTrace_code.csv", 180, 0.25, Engine(2, 2000)
    ),
    "azure-conv": Trace(
        "Azure 2023, conversations", "azure_llm_trace_2023/AzureLLMInferenceTrace_conv.csv", 1500, 0.2, Engine(5, 4000)
    ),
    "mooncake-conv": Trace(
        "Mooncake, conversations", "mooncake_traces/conversation_trace.jsonl", 600, 0.3, Engine(5, 8000)
    ),
    "mooncake-synth": Trace("Mooncake, synthetic", "mooncake_traces/synthetic_trace.jsonl", 300, 0.35, Engine(4, 8000)),
}


@dataclass(frozen=True)
class Row:
    """A request as it stands in a trace."""

    at: float
    prompt: int
    answer: int
    blocks: tuple[int, ...] = ()


@dataclass(frozen=True)
class Request:
    """A request as it is sent."""

    at: float
    """Seconds from the start, of the trace's time."""
    body: bytes
    tokens: int
    """Of the answer, as it is asked for."""
    prefill: float
    """Seconds that an engine takes to read all of the prompt, of the trace's time."""


def requests_of(trace: Trace, seconds: float, seed: int) -> list[Request]:
    """Give so many seconds of a trace as requests. The same seed gives the same requests."""
    return [_request(number, row, trace) for number, row in rows_of(trace, seconds, seed)]


def rows_of(trace: Trace, seconds: float, seed: int) -> list[tuple[int, Row]]:
    """Give the rows of so many seconds of a trace that are drawn, with their numbers."""
    rows = _azure(DATA / trace.file) if trace.file.endswith(".csv") else _mooncake(DATA / trace.file)
    salt = random.Random(seed).getrandbits(32)
    taken = []
    for number, row in enumerate(rows):
        if row.at >= trace.begin + seconds:
            break
        if row.at >= trace.begin and _is_drawn(row.blocks[:2] or (number,), salt, trace.share):
            taken.append((number, row))
    return taken


def _is_drawn(what: tuple[int, ...], salt: int, share: float) -> bool:
    return random.Random(hash((salt, *what))).random() < share  # Of numbers alone a hash is always the same.


def _request(number: int, row: Row, trace: Trace) -> Request:
    # What has no blocks of its own in the trace shares nothing with others.
    names = row.blocks or tuple((number + 1) * 1000 + i for i in range(max(row.prompt // TRACE_BLOCK, 1)))
    answer = max(round(row.answer / ANSWER_SCALE), 2)
    body = {
        "model": MODEL, "stream": True, "max_tokens": answer, "min_tokens": answer, "ignore_eos": True,
        "messages": [{"role": "user", "content": "".join(block_text(name) for name in names)}],
    }  # fmt: skip
    return Request(row.at - trace.begin, orjson.dumps(body), answer, row.prompt / trace.engine.prefill)


def _azure(path: Path) -> Iterator[Row]:
    first = None
    with path.open() as lines:
        for row in csv.DictReader(lines):
            at = datetime.fromisoformat(row["TIMESTAMP"][:26])
            first = first or at
            yield Row((at - first).total_seconds(), int(row["ContextTokens"]), int(row["GeneratedTokens"]))


def _mooncake(path: Path) -> Iterator[Row]:
    with path.open() as lines:
        for line in lines:
            row = json.loads(line)
            yield Row(row["timestamp"] / 1000, row["input_length"], row["output_length"], tuple(row["hash_ids"]))
