"""What the plain fields of `spec.engine` are in the words of each engine. Pure.

Options of vLLM 0.32 (`vllm serve --help=all`), SGLang (docs.sglang.io, server arguments) and TGI 3 (launcher).
"""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from capstan_operator.api.llmmodel import Engine, EngineType, WeightType
from capstan_operator.api.rules.engine import ABLE
from capstan_operator.desired.arguments import Option, gives, option, read_command_line, silent
from capstan_operator.desired.releases import is_before
from capstan_operator.desired.speculative import (
    find_speculation_faults,
    sglang_speculation,
    tgi_speculation,
    vllm_speculation,
)
from capstan_operator.resources.resource import Fault

FIRST_REASONING: Final = (0, 9)
"""Before it vLLM wants --enable-reasoning beside --reasoning-parser, which later releases do not know."""
QUANTIZATIONS: Final[Mapping[EngineType, frozenset[str]]] = MappingProxyType(
    {
        EngineType.VLLM: frozenset(
            {
                *("aqlm", "auto-round", "auto_awq", "auto_gptq", "awq", "awq_marlin", "bitblas", "bitsandbytes"),
                *("compressed-tensors", "deepseek_v4_fp8", "deepspeedfp", "experts_int8", "fbgemm_fp8", "fp8"),
                *("fp8_per_block", "fp8_per_channel", "fp8_per_tensor", "fp_quant", "gguf", "gpt_oss_mxfp4", "gptq"),
                *(
                    "gptq_bitblas",
                    "gptq_marlin",
                    "gptq_marlin_24",
                    "hqq",
                    "humming",
                    "inc",
                    "int8_per_channel_weight_only",
                ),
                *(
                    "ipex",
                    "marlin",
                    "modelopt",
                    "modelopt_fp4",
                    "modelopt_mixed",
                    "modelopt_mxfp8",
                    "moe_wna16",
                    "mxfp4",
                ),
                *("mxfp8", "neuron_quant", "nvfp4_per_token", "online", "petit_nvfp4", "ptpc_fp8", "qqq", "quark"),
                *("rtn", "torchao", "tpu_int8"),
            }
        ),
        EngineType.SGLANG: frozenset(
            {
                *("auto-round", "awq", "awq_marlin", "bitsandbytes", "blockwise_int8", "compressed-tensors", "fp8"),
                *("gguf", "gptq", "gptq_marlin", "marlin", "modelopt", "modelopt_fp4", "modelopt_fp8", "modelslim"),
                *("moe_wna16", "mxfp4", "mxfp8", "petit_nvfp4", "qoq", "quark", "quark_int4fp8_moe", "w4afp8"),
                *("w8a8_fp8", "w8a8_int8"),
            }
        ),
    }
)
"""Methods that any release is known to have had. A newer release, or a plugin, may have others."""


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
        *([silent("--dtype")] if engine.dtype is WeightType.AUTO else _valued("--dtype", engine.dtype)),
        *_valued("--cuda-memory-fraction", engine.gpuMemoryUtilization),
        *_valued("--max-batch-prefill-tokens", engine.maxNumBatchedTokens),
        *_switched("--trust-remote-code", engine.trustRemoteCode),
    ]
    return [*ours, *tgi_speculation(engine.speculative)]


def simulator_tuning(engine: Engine) -> list[Option]:
    """Give the simulator's options."""
    return _valued("--concurrency", engine.maxNumSeqs)


def find_tuning_faults(engine: Engine) -> Iterator[Fault]:
    """Give what the engine's release, where the manifest says one, is known not to know."""
    if engine.type is not EngineType.VLLM:
        return
    if engine.reasoningParser is not None and is_before(engine, FIRST_REASONING):
        message = "must not be set before v0.9.0 of vLLM, which wants --enable-reasoning too: give the two in `args`"
        yield Fault("spec.engine.reasoningParser", message)
    yield from find_speculation_faults(engine)


def find_tuning_doubts(engine: Engine) -> Iterator[Fault]:
    """Give what can be built and is hardly meant: words that no engine is known to have, and fields without effect."""
    known = QUANTIZATIONS.get(engine.type)
    if known is not None and engine.quantization is not None and engine.quantization not in known:
        message = f"is no method that a release of {engine.type} is known to have: it ends at its start, unless a newer"
        yield Fault("spec.engine.quantization", f"{message} one, or a plugin, has it")
    yield from _overruled(engine)


def _overruled(engine: Engine) -> Iterator[Fault]:
    """Find options of the user that take the place of what a field says."""
    options = _OPTIONS.get(engine.type)
    said = [field for field in ABLE if getattr(engine, field) is not None] if options else []
    for field in said:
        alone = Engine.model_construct(type=engine.type, **{field: getattr(engine, field)})
        spellings = [flag for one in options(alone) for flag in one.spellings] if options else []
        for given in read_command_line(engine.args).options:
            if gives(given, spellings):
                message = f"takes the place of what `spec.engine.{field}` says, which can be left out"
                yield Fault(f"spec.engine.args[{given.index}]", message)


_OPTIONS: Final[Mapping[EngineType, Callable[[Engine], list[Option]]]] = MappingProxyType(
    {
        EngineType.VLLM: vllm_tuning,
        EngineType.SGLANG: sglang_tuning,
        EngineType.TGI: tgi_tuning,
        EngineType.SIMULATOR: simulator_tuning,
    }
)


def _valued(flag: str, value: object, *also: str) -> list[Option]:
    return [] if value is None else [option(flag, str(value), also=also)]


def _switched(flag: str, said: bool | None) -> list[Option]:
    if said is None:
        return []
    # NB: older releases have no word for the contrary.
    return [option(flag) if said else silent(flag)]
