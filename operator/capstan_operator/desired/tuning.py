"""What the plain fields of `spec.engine` are in the words of each engine. Pure.

Options of vLLM 0.32 (`vllm serve --help=all`), SGLang (docs.sglang.io, server arguments) and TGI 3 (launcher).
"""

from capstan_operator.api.llmmodel import Engine, WeightType
from capstan_operator.desired.arguments import Option, option
from capstan_operator.desired.speculative import sglang_speculation, tgi_speculation, vllm_speculation


def vllm_tuning(engine: Engine) -> list[Option]:
    """Give vLLM's options."""
    ours = [
        *_valued("--quantization", engine.quantization, "-q"),
        *_valued("--dtype", engine.dtype),
        *_valued("--gpu-memory-utilization", engine.gpuMemoryUtilization, "--device-memory-utilization"),
        *_valued("--max-num-seqs", engine.maxNumSeqs),
        *_valued("--max-num-batched-tokens", engine.maxNumBatchedTokens),
        *_switched("--trust-remote-code", engine.trustRemoteCode),
        *_valued("--tool-call-parser", engine.toolCallParser),
        *_valued("--reasoning-parser", engine.reasoningParser),
    ]
    return [*ours, *vllm_speculation(engine.speculative)]


def sglang_tuning(engine: Engine) -> list[Option]:
    """Give SGLang's options."""
    ours = [
        *_valued("--quantization", engine.quantization),
        *_valued("--dtype", engine.dtype),
        *_valued("--mem-fraction-static", engine.gpuMemoryUtilization),
        *_valued("--max-running-requests", engine.maxNumSeqs),
        *_valued("--chunked-prefill-size", engine.maxNumBatchedTokens),
        *_switched("--trust-remote-code", engine.trustRemoteCode),
        *_valued("--tool-call-parser", engine.toolCallParser),
        *_valued("--reasoning-parser", engine.reasoningParser),
    ]
    return [*ours, *sglang_speculation(engine.speculative)]


def tgi_tuning(engine: Engine) -> list[Option]:
    """Give TGI's options. It has no word for `auto`: that is what it does when nothing is said."""
    ours = [
        *_valued("--quantize", engine.quantization),
        *_valued("--dtype", None if engine.dtype is WeightType.AUTO else engine.dtype),
        *_valued("--cuda-memory-fraction", engine.gpuMemoryUtilization),
        *_valued("--max-batch-prefill-tokens", engine.maxNumBatchedTokens),
        *_switched("--trust-remote-code", engine.trustRemoteCode),
    ]
    return [*ours, *tgi_speculation(engine.speculative)]


def simulator_tuning(engine: Engine) -> list[Option]:
    """Give the simulator's options."""
    return _valued("--concurrency", engine.maxNumSeqs)


def _valued(flag: str, value: object, *also: str) -> list[Option]:
    return [] if value is None else [option(flag, str(value), also=also)]


def _switched(flag: str, said: bool | None) -> list[Option]:
    return [option(flag)] if said else []
