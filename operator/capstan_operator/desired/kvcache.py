"""What `spec.engine.kvCache` is in the words of each engine. Pure.

Options of vLLM 0.32 (`vllm serve --help=CacheConfig`), SGLang (docs.sglang.io, server arguments) and TGI 3 (launcher).
"""

import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from capstan_operator.api.kvcache import KVCacheSpec, KVCacheType
from capstan_operator.api.llmmodel import Engine, LLMModelSpec
from capstan_operator.desired.arguments import Option, option, read_command_line, silent
from capstan_operator.desired.quantity import parse_quantity
from capstan_operator.desired.releases import is_before
from capstan_operator.resources.resource import Fault

LMCACHE: Final = json.dumps({"kv_connector": "LMCacheConnectorV1", "kv_role": "kv_both"}, separators=(",", ":"))
"""vLLM's `--kv-transfer-config` for LMCache in the engine's own process."""
FIRST_SALTED: Final = (0, 9)
"""The first version of vLLM that knows `cache_salt`; earlier ones ignore it without a word."""
FIRST_TELLING: Final = (0, 9)
"""No version of vLLM before this one knows `--kv-events-config`."""
EVENTS_PORT: Final = 5557
"""Where vLLM tells the worker beside it, in its pod alone, which blocks it holds. vLLM's own default."""
REPLAY_PORT: Final = 5558
"""Where it tells again what the worker has missed."""
FIRST_OFFLOADING: Final = (0, 11)
"""No version of vLLM before this one knows `--kv-offloading-size`; they end at their start."""
_ISOLATION: Final = "spec.engine.kvCache.isolation"
_EVENTS: Final = "spec.engine.kvCache.events"
_DATA_PARALLEL: Final = ("--data-parallel-size", "-dp", "--data-parallel-size-local", "-dpl")
_CONNECTORS: Final = ("--kv-transfer-config", "--kv-offloading-backend")
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


def sidecar_events(engine: Engine) -> tuple[str, ...]:
    """Give the arguments by which the worker beside vLLM listens to it."""
    if not engine.tells_blocks:
        return ()
    return ("--kv-events", _here(EVENTS_PORT), "--kv-events-replay", _here(REPLAY_PORT))


def published_events(engine: Engine) -> list[Option]:
    """Give the option by which vLLM tells the worker beside it which blocks it holds."""
    if not engine.tells_blocks:
        return []
    return [option("--kv-events-config", events_config(_here(EVENTS_PORT), _here(REPLAY_PORT)))]


def _here(port: int) -> str:
    return f"tcp://127.0.0.1:{port}"


def events_config(events: str, replay: str) -> str:
    """Give vLLM's `--kv-events-config`: it publishes its events to one address, and tells again at the other one.

    It keeps fewer batches to tell again than the 1,000 messages beyond which its socket drops what is not yet sent.
    """
    said = {
        "enable_kv_cache_events": True, "publisher": "zmq", "endpoint": events, "replay_endpoint": replay,
        "buffer_steps": 900,
    }  # fmt: skip
    return json.dumps(said, separators=(",", ":"))


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
    if cache.prefixCaching is None:
        return ours
    return [*ours, (silent if cache.prefixCaching else option)("--disable-radix-cache")]


def tgi_options(cache: KVCacheSpec | None) -> list[Option]:
    """Give TGI's options."""
    if cache is None:
        return []
    ours = [] if cache.memoryShare is None else [option("--cuda-memory-fraction", cache.memoryShare)]
    if cache.dtype is None:
        return ours
    dtype = _TGI_TYPES.get(cache.dtype)
    return [*ours, silent("--kv-cache-dtype") if dtype is None else option("--kv-cache-dtype", dtype)]


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
    if spec.engine.tells_blocks:
        yield from _event_faults(spec.engine)
    if cache.offload is None:
        return
    if cache.connector is None and is_before(spec.engine, FIRST_OFFLOADING):
        yield Fault("spec.engine.kvCache.offload", "must not be set before v0.11.0 of vLLM, which cannot do it")
    limit = parse_quantity(spec.resources.memory) if spec.resources.memory else None
    if limit is not None and gibibytes(cache.offload.cpu) * _GIBIBYTE >= limit:
        yield Fault("spec.engine.kvCache.offload.cpu", "must be less than `spec.resources.memory`, which it is part of")


def _isolation_faults(engine: Engine) -> Iterator[Fault]:
    if is_before(engine, FIRST_SALTED):
        yield Fault(_ISOLATION, "must not be Tenant before v0.9.0 of vLLM, which would mix the tenants")
    given = {one.flag for one in read_command_line(engine.args).options}
    # NB: vLLM takes the beginning of an option for it, where no other one begins so.
    if any(flag.startswith("--kv-") and name.startswith(flag) for flag in given for name in _CONNECTORS):
        yield Fault(_ISOLATION, "must not be Tenant beside a connector in `args`, which may mix the tenants")


def _event_faults(engine: Engine) -> Iterator[Fault]:
    if is_before(engine, FIRST_TELLING):
        yield Fault(_EVENTS, "must not be true before v0.9.0 of vLLM, which tells nobody which blocks it holds")
    given = {option.flag: option.values for option in read_command_line(engine.args).options}
    if "--no-enable-prefix-caching" in given or given.get("--prefix-cache") == ("off",):
        yield Fault(_EVENTS, "must not be true beside an option in `args` that turns the prefix cache off")
    if any(given.get(flag, ("1",)) != ("1",) for flag in _DATA_PARALLEL):
        yield Fault(_EVENTS, "must not be true with a data parallel size in `args`: each rank has blocks of its own")


def gibibytes(size: str) -> int:
    """Give a size in whole GiB, as the schema allows it: 64Gi, 1Ti."""
    return int(size[:-2]) * (1024 if size.endswith("Ti") else 1)


def _valued(cache: KVCacheSpec, *, memory: str, dtype: str, block: str) -> Iterator[Option]:
    for flag, value in ((memory, cache.memoryShare), (dtype, cache.dtype), (block, cache.blockSize)):
        if value is not None:
            yield option(flag, str(value))
