"""What differs between engines: where they say that they are well, and how they say how much they have to do."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class EngineKind(StrEnum):
    """The values of `spec.engine.type` that have a sidecar."""

    VLLM = "vLLM"
    TGI = "TGI"
    SGLANG = "SGLang"
    OPENAI_COMPATIBLE = "OpenAICompatible"


@dataclass(frozen=True)
class Gauges:
    """Metrics that together say how many requests an engine has."""

    running: str
    waiting: str
    memory: tuple[str, ...] = ()
    """Share of the KV cache in use, from 0 to 1, by the names that releases have given it."""


GAUGES: Mapping[EngineKind, Gauges] = {
    EngineKind.VLLM: Gauges(
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
    ),
    EngineKind.TGI: Gauges("tgi_batch_current_size", "tgi_queue_size"),
    EngineKind.SGLANG: Gauges("sglang:num_running_reqs", "sglang:num_queue_reqs", ("sglang:token_usage",)),
}
"""An engine that is not here tells nothing; its open connections are counted instead."""
PULSES: Final = (
    "vllm:generation_tokens_total",
    "vllm:prompt_tokens_total",
    "sglang:generation_tokens_total",
    "sglang:prompt_tokens_total",
    "tgi_batch_inference_count",
)
"""Counters that grow as long as an engine computes."""


def sum_metric(text: str, name: str) -> float | None:
    """Add up all series of one metric in Prometheus' text format; None when there is none."""
    total: float | None = None
    for line in text.splitlines():
        if not line.startswith(name):
            continue
        rest = line[len(name) :]
        if rest[:1] not in ("{", " ", "\t"):
            continue
        value = (rest[rest.rindex("}") + 1 :] if "}" in rest else rest).split()
        if value:
            total = (total or 0.0) + float(value[0])
    return total


def count_in_flight(text: str, gauges: Gauges) -> int | None:
    """Give running and waiting requests; None when the metrics do not say."""
    running = sum_metric(text, gauges.running)
    if running is None:
        return None
    return round(running + (sum_metric(text, gauges.waiting) or 0.0))
