"""What `spec.engine.kvCache` is in the words of each engine. Pure.

Options of vLLM 0.32 (`vllm serve --help=CacheConfig`), SGLang (docs.sglang.io, server arguments) and TGI 3 (launcher).
"""

import json
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from capstan_operator.api.kvcache import KVCacheSpec, KVCacheType
from capstan_operator.api.llmmodel import Engine, LLMModelSpec
from capstan_operator.desired.arguments import Option, is_given, option
from capstan_operator.desired.quantity import parse_quantity
from capstan_operator.resources.resource import Fault

LMCACHE: Final = json.dumps({"kv_connector": "LMCacheConnectorV1", "kv_role": "kv_both"}, separators=(",", ":"))
"""vLLM's `--kv-transfer-config` for LMCache in the engine's own process."""
FIRST_SALTED: Final = (0, 9)
"""The first version of vLLM that knows `cache_salt`; earlier ones ignore it without a word."""
FIRST_OFFLOADING: Final = (0, 11)
"""No version of vLLM before this one knows `--kv-offloading-size`; they end at their start."""
_VERSION: Final = re.compile(r"v?(\d+)\.(\d+)(\.|$)")
_ISOLATION: Final = "spec.engine.kvCache.isolation"
_GIBIBYTE: Final = 1024**3
_TGI_TYPES: Final[Mapping[KVCacheType, str]] = MappingProxyType(
    {KVCacheType.FP8_E4M3: "fp8_e4m3fn", KVCacheType.FP8_E5M2: "fp8_e5m2"}
)


def vllm_options(cache: KVCacheSpec | None) -> list[Option]:
    """Give vLLM's options."""
    if cache is None:
        return []
    ours = [*_valued(cache, memory="--gpu-memory-utilization", dtype="--kv-cache-dtype", block="--block-size")]
    if cache.prefixCaching is not None:
        ours.append(option("--enable-prefix-caching" if cache.prefixCaching else "--no-enable-prefix-caching"))
    if cache.connector is not None:
        ours.append(option("--kv-transfer-config", LMCACHE))
    elif cache.offload is not None:
        # A connector of the user's takes the place of the one that this option stands for.
        ours.append(option("--kv-offloading-size", str(gibibytes(cache.offload.cpu)), also=("--kv-transfer-config",)))
    return ours


def vllm_environment(cache: KVCacheSpec | None) -> dict[str, str]:
    """Give the variables by which LMCache, in vLLM's process, is told how much memory it may take."""
    if cache is None or cache.connector is None or cache.offload is None:
        return {}
    return {"LMCACHE_LOCAL_CPU": "True", "LMCACHE_MAX_LOCAL_CPU_SIZE": str(gibibytes(cache.offload.cpu))}


def sglang_options(cache: KVCacheSpec | None) -> list[Option]:
    """Give SGLang's options. Its radix cache is on unless it is told otherwise."""
    if cache is None:
        return []
    ours = [*_valued(cache, memory="--mem-fraction-static", dtype="--kv-cache-dtype", block="--page-size")]
    return ours if cache.prefixCaching is not False else [*ours, option("--disable-radix-cache")]


def tgi_options(cache: KVCacheSpec | None) -> list[Option]:
    """Give TGI's options."""
    if cache is None:
        return []
    ours = [] if cache.memoryShare is None else [option("--cuda-memory-fraction", cache.memoryShare)]
    dtype = _TGI_TYPES.get(cache.dtype) if cache.dtype else None
    return ours if dtype is None else [*ours, option("--kv-cache-dtype", dtype)]


def simulator_options(cache: KVCacheSpec | None) -> list[Option]:
    """Give the simulator's options."""
    if cache is None:
        return []
    ours = [option("--kv-events", "on")] if cache.events else []
    if cache.prefixCaching is not None:
        ours.append(option("--prefix-cache", "on" if cache.prefixCaching else "off"))
    return ours


def find_kv_faults(spec: LLMModelSpec) -> Iterator[Fault]:
    """Give what cannot be: blocks in more memory than a replica has, tenants apart where they cannot be."""
    cache = spec.engine.kvCache
    if cache is None:
        return
    if spec.engine.isolates:
        yield from _isolation_faults(spec.engine)
    if cache.offload is None:
        return
    if cache.connector is None and _is_before(spec.engine, FIRST_OFFLOADING):
        yield Fault("spec.engine.kvCache.offload", "must not be set before v0.11.0 of vLLM, which cannot do it")
    limit = parse_quantity(spec.resources.memory) if spec.resources.memory else None
    if limit is not None and gibibytes(cache.offload.cpu) * _GIBIBYTE >= limit:
        yield Fault("spec.engine.kvCache.offload.cpu", "must be less than `spec.resources.memory`, which it is part of")


def _isolation_faults(engine: Engine) -> Iterator[Fault]:
    if _is_before(engine, FIRST_SALTED):
        yield Fault(_ISOLATION, "must not be Tenant before v0.9.0 of vLLM, which would mix the tenants")
    if is_given("--kv-transfer-config", engine.args) or is_given("--kv-offloading-backend", engine.args):
        yield Fault(_ISOLATION, "must not be Tenant beside a connector in `args`, which may mix the tenants")


def _is_before(engine: Engine, first: tuple[int, int]) -> bool:
    """Whether the manifest says a version that is older than this one."""
    version = _VERSION.match(engine.version or "")
    return version is not None and (int(version[1]), int(version[2])) < first


def gibibytes(size: str) -> int:
    """Give a size in whole GiB, as the schema allows it: 64Gi, 1Ti."""
    return int(size[:-2]) * (1024 if size.endswith("Ti") else 1)


def _valued(cache: KVCacheSpec, *, memory: str, dtype: str, block: str) -> Iterator[Option]:
    for flag, value in ((memory, cache.memoryShare), (dtype, cache.dtype), (block, cache.blockSize)):
        if value is not None:
            yield option(flag, str(value))
