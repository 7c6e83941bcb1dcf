"""Images and versions of the engine, and what each type of engine can be told."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from capstan_operator.api.rules.able import listed, only_for, value_of
from capstan_operator.api.schema import Rule

ABLE: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "quantization": ("vLLM", "SGLang", "TGI"),
        "dtype": ("vLLM", "SGLang", "TGI"),
        "gpuMemoryUtilization": ("vLLM", "SGLang", "TGI"),
        "maxNumSeqs": ("vLLM", "SGLang", "Simulator"),
        "maxNumBatchedTokens": ("vLLM", "SGLang", "TGI"),
        "trustRemoteCode": ("vLLM", "SGLang", "TGI"),
        "toolCallParser": ("vLLM", "SGLang"),
        "reasoningParser": ("vLLM", "SGLang"),
        "speculative": ("vLLM", "SGLang", "TGI"),
    }
)
"""Which engines know what a field says, under any name. Of others Capstan knows no option that does it."""
TGI_DTYPES: Final = ("auto", "float16", "bfloat16")
TGI_QUANTIZATIONS: Final = (
    *("awq", "bitsandbytes", "bitsandbytes-fp4", "bitsandbytes-nf4", "compressed-tensors", "eetq", "exl2", "fp8"),
    *("gptq", "marlin"),
)
"""All that the launcher of TGI 3 takes as --quantize, which gets no new ones any more."""

ENGINE = (
    Rule(
        cel="!has(self.image) || !has(self.version)",
        message="must not be set together with `image`, which has a tag of its own",
        holds=lambda self: self.image is None or self.version is None,
        field_path=".version",
    ),
    Rule(
        cel="self.type != 'OpenAICompatible' || has(self.image)",
        message="is required when `type` is OpenAICompatible",
        holds=lambda self: self.type != "OpenAICompatible" or self.image is not None,
        field_path=".image",
    ),
    Rule(
        cel="self.type != 'Simulator' || !has(self.version)",
        message="must not be set when `type` is Simulator, which comes with the worker's image",
        holds=lambda self: self.type != "Simulator" or self.version is None,
        field_path=".version",
    ),
    *(only_for(field, engines) for field, engines in ABLE.items()),
    Rule(
        cel=f"self.type != 'TGI' || !has(self.dtype) || self.dtype in {listed(TGI_DTYPES)}",
        message=f"must be one of {', '.join(TGI_DTYPES)} when `type` is TGI",
        holds=lambda self: self.type != "TGI" or self.dtype is None or self.dtype in TGI_DTYPES,
        field_path=".dtype",
    ),
    Rule(
        cel=f"self.type != 'TGI' || !has(self.quantization) || self.quantization in {listed(TGI_QUANTIZATIONS)}",
        message=f"must be one of {', '.join(TGI_QUANTIZATIONS)} when `type` is TGI",
        holds=lambda self: self.type != "TGI" or self.quantization is None or self.quantization in TGI_QUANTIZATIONS,
        field_path=".quantization",
    ),
    Rule(
        cel="self.type != 'TGI' || !has(self.dtype) || !has(self.quantization) || self.dtype == 'auto'",
        message="must not be set together with `quantization` when `type` is TGI, which refuses the two",
        holds=lambda self: (
            self.type != "TGI" or self.quantization is None or self.dtype is None or self.dtype == "auto"
        ),
        field_path=".dtype",
    ),
    Rule(
        cel="self.type != 'vLLM' || !has(self.maxNumSeqs) || !has(self.maxNumBatchedTokens)"
        " || self.maxNumBatchedTokens >= self.maxNumSeqs",
        message="must be greater than or equal to `maxNumSeqs` when `type` is vLLM, which refuses less",
        holds=lambda self: (
            self.type != "vLLM"
            or self.maxNumSeqs is None
            or self.maxNumBatchedTokens is None
            or self.maxNumBatchedTokens >= self.maxNumSeqs
        ),
        field_path=".maxNumBatchedTokens",
    ),
    Rule(
        cel="!has(self.gpuMemoryUtilization) || double(self.gpuMemoryUtilization) > 0.0",
        message="must be greater than 0",
        holds=lambda self: self.gpuMemoryUtilization is None or float(self.gpuMemoryUtilization) > 0,
        field_path=".gpuMemoryUtilization",
    ),
    Rule(
        cel="!has(self.gpuMemoryUtilization) || !has(self.kvCache) || !has(self.kvCache.memoryShare)",
        message="must not be set together with `kvCache.memoryShare`, which says the same",
        holds=lambda self: self.gpuMemoryUtilization is None or value_of(self, "kvCache.memoryShare") is None,
        field_path=".gpuMemoryUtilization",
    ),
)
