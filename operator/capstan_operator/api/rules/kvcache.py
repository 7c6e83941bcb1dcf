"""What each type of engine can be told of its KV cache."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from capstan_operator.api.rules.able import listed, only_for
from capstan_operator.api.rules.cel import empty
from capstan_operator.api.schema import Rule

ABLE: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "prefixCaching": ("vLLM", "SGLang", "Simulator"),
        "memoryShare": ("vLLM", "SGLang", "TGI"),
        "dtype": ("vLLM", "SGLang", "TGI"),
        "blockSize": ("vLLM", "SGLang"),
        "offload": ("vLLM",),
        "connector": ("vLLM",),
        "isolation": ("vLLM", "Simulator"),
        "events": ("vLLM", "Simulator"),
    }
)
"""Which engines know what a field says, under any name. Of others Capstan knows no option that does it."""
DTYPES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "SGLang": ("auto", "bfloat16", "fp8_e4m3", "fp8_e5m2"),
        "TGI": ("auto", "fp8_e4m3", "fp8_e5m2"),
    }
)
"""The types of values of engines that do not know all of them."""
BLOCK_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def _dtype(engine: str, known: tuple[str, ...]) -> Rule:
    return Rule(
        cel=f"self.type != '{engine}' || !has(self.kvCache) || !has(self.kvCache.dtype)"
        f" || self.kvCache.dtype in {listed(known)}",
        message=f"must be one of {', '.join(known)} when `type` is {engine}",
        holds=lambda self: self.type != engine or _dtype_of(self) is None or _dtype_of(self) in known,
        field_path=".kvCache.dtype",
    )


def _dtype_of(engine: Any) -> str | None:
    return engine.kvCache.dtype if engine.kvCache else None


ENGINE = (
    *(only_for(f"kvCache.{field}", engines) for field, engines in ABLE.items()),
    *(_dtype(engine, known) for engine, known in DTYPES.items()),
    Rule(
        cel="!has(self.kvCache) || !has(self.kvCache.connector) || has(self.image) || has(self.version)",
        message="must not be set without `image` or `version`: the worker's own image has no LMCache",
        holds=lambda self: (
            self.kvCache is None or self.kvCache.connector is None or self.image is not None or self.version is not None
        ),
        field_path=".kvCache.connector",
    ),
)

SPEC = (
    Rule(
        cel=f"{empty('prefixes')} || !has(self.engine.kvCache) || !has(self.engine.kvCache.isolation)"
        " || self.engine.kvCache.isolation == 'None'",
        message="must not be set together with `engine.kvCache.isolation: Tenant`: no tenant would find them warm",
        holds=lambda self: not self.prefixes or not self.engine.isolates,
        field_path=".prefixes",
    ),
    Rule(
        cel="!has(self.engine.kvCache) || !has(self.engine.kvCache.events) || !self.engine.kvCache.events"
        " || self.model.task in ['chat', 'completion']",
        message="must not be true unless `model.task` is chat or completion",
        holds=lambda self: not self.engine.tells_blocks or self.model.task in ("chat", "completion"),
        field_path=".engine.kvCache.events",
    ),
    Rule(
        cel="self.model.task != 'transcribe' || !has(self.engine.kvCache) || !has(self.engine.kvCache.isolation)"
        " || self.engine.kvCache.isolation == 'None'",
        message="must not be Tenant when `model.task` is transcribe: engines take no salt with sound",
        holds=lambda self: self.model.task != "transcribe" or not self.engine.isolates,
        field_path=".engine.kvCache.isolation",
    ),
)

KV_CACHE = (
    Rule(
        cel="!has(self.memoryShare) || double(self.memoryShare) > 0.0",
        message="must be greater than 0",
        holds=lambda self: self.memoryShare is None or float(self.memoryShare) > 0,
        field_path=".memoryShare",
    ),
    Rule(
        cel="!has(self.connector) || !has(self.isolation) || self.isolation == 'None'",
        message="must not be Tenant together with `connector`: LMCache does not part its blocks by tenants",
        holds=lambda self: self.connector is None or self.isolation in (None, "None"),
        field_path=".isolation",
    ),
    Rule(
        cel="!has(self.events) || !self.events || !has(self.prefixCaching) || self.prefixCaching",
        message="must not be true together with `prefixCaching: false`: no block would be kept to tell of",
        holds=lambda self: self.events is not True or self.prefixCaching is not False,
        field_path=".events",
    ),
    Rule(
        cel=f"!has(self.blockSize) || self.blockSize in {list(BLOCK_SIZES)}",
        message=f"must be one of {', '.join(map(str, BLOCK_SIZES))}",
        holds=lambda self: self.blockSize is None or self.blockSize in BLOCK_SIZES,
        field_path=".blockSize",
    ),
)
