"""The KV cache of an engine: what it has computed of prompts, and keeps for the next one that begins alike."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from capstan_operator.api.patterns import SHARE, WHOLE_GIBIBYTES
from capstan_operator.api.rules import kvcache
from capstan_operator.api.schema import Part, Rule


class KVCacheType(StrEnum):
    """What keys and values are kept as."""

    AUTO = "auto"
    BFLOAT16 = "bfloat16"
    FP8 = "fp8"
    FP8_E4M3 = "fp8_e4m3"
    FP8_E5M2 = "fp8_e5m2"


class KVConnector(StrEnum):
    """What keeps blocks outside of the engine."""

    LMCACHE = "LMCache"


class KVIsolation(StrEnum):
    """Who takes over what of whom."""

    NONE = "None"
    TENANT = "Tenant"


class KVOffload(Part):
    """Where blocks go that the GPU has no room for."""

    cpu: Annotated[str, StringConstraints(min_length=3, max_length=6, pattern=WHOLE_GIBIBYTES)]
    """Memory of the pod for blocks, of all GPUs of a replica together. It must be less than `resources.memory`."""


class KVCacheSpec(Part):
    """What the engine keeps of prompts that it has computed. What is not set is as the engine has it."""

    prefixCaching: bool | None = None
    """Whether a prompt takes over what an earlier one with the same beginning has left. Default: as the engine has it,
    which is true."""
    memoryShare: Annotated[str, StringConstraints(min_length=1, max_length=8, pattern=SHARE)] | None = None
    """How much of each GPU's memory the engine takes, weights and KV cache together: vLLM's --gpu-memory-utilization,
    SGLang's --mem-fraction-static (which leaves the activations out), TGI's --cuda-memory-fraction."""
    dtype: KVCacheType | None = Field(default=None, strict=False)
    """What keys and values are kept as. SGLang does not know fp8, TGI neither fp8 nor bfloat16."""
    blockSize: int | None = Field(default=None, ge=1, le=256)
    """Tokens of a block, a power of two: vLLM's --block-size, SGLang's --page-size. Which ones there are depends on the
    hardware too."""
    offload: KVOffload | None = None
    """Keep blocks that the GPU has no room for. vLLM only."""
    connector: KVConnector | None = Field(default=None, strict=False)
    """LMCache: blocks go to LMCache, which must be in the engine's image, and with `offload` may take so much memory.
    Without it vLLM keeps them itself. vLLM only, with `image` or `version`."""
    isolation: KVIsolation | None = Field(default=None, strict=False)
    """Tenant: what the engine has computed for one tenant is never taken over for another one, so that no answer tells
    by its speed what others have asked. vLLM from v0.9.0 on, and the Simulator; not with `connector` or
    `spec.prefixes`. Default: None, all tenants share."""
    events: bool | None = None
    """Whether the engine tells which blocks it holds, so that the gateway sends a prompt to the replica that has most
    of it computed, and does not estimate it. vLLM from v0.9.0 on, and the Simulator; only for the tasks chat and
    completion, and not with `prefixCaching: false`. Default: false."""

    rules: ClassVar[tuple[Rule, ...]] = kvcache.KV_CACHE
