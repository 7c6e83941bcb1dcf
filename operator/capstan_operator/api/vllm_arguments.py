"""The twenty arguments of vLLM that are used most, and where a manifest says them.

Counted in the vLLM models of KubeAI's catalog (kubeai-project/kubeai, charts/models/values.yaml), the fields of vLLM
production-stack's chart (vllm-project/production-stack, helm/values.yaml) and the recipes of vLLM's own project
(vllm-project/recipes), in November 2026. What Capstan says itself (--host, --port), what no recent release knows any
more (--disable-log-requests, --num-scheduler-steps) and what is the default of all of them (--enable-chunked-prefill)
is left out.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class VllmArgument:
    """One argument, and the field that says it."""

    option: str
    """As `vllm serve` calls it."""
    field: str | None
    """Path of the field; None: it passes through `spec.engine.args`."""
    note: str = ""
    """What is particular about it: one sentence, or nothing."""


MOST_USED: Final = (
    VllmArgument("--model", "spec.model.source", "hf://ORG/NAME, or another place."),
    VllmArgument("--served-model-name", "spec.model.servedName", "vLLM itself gets the name of the LLMModel."),
    VllmArgument("--max-model-len", "spec.serving.contextWindow", "The gateway counts on it too."),
    VllmArgument("--gpu-memory-utilization", "spec.engine.gpuMemoryUtilization"),
    VllmArgument("--tensor-parallel-size", "spec.parallelism.tensor", "Default: all GPUs of the replica."),
    VllmArgument("--max-num-batched-tokens", "spec.engine.maxNumBatchedTokens"),
    VllmArgument("--kv-cache-dtype", "spec.engine.kvCache.dtype"),
    VllmArgument("--max-num-seqs", "spec.engine.maxNumSeqs"),
    VllmArgument("--enable-prefix-caching", "spec.engine.kvCache.prefixCaching", "false: --no-enable-prefix-caching."),
    VllmArgument("--tool-call-parser", "spec.engine.toolCallParser", "With it --enable-auto-tool-choice."),
    VllmArgument("--reasoning-parser", "spec.engine.reasoningParser", "vLLM from v0.9.0 on."),
    VllmArgument("--trust-remote-code", "spec.engine.trustRemoteCode"),
    VllmArgument("--quantization", "spec.engine.quantization"),
    VllmArgument("--dtype", "spec.engine.dtype"),
    VllmArgument("--speculative-config", "spec.engine.speculative", "vLLM from v0.8.2 on."),
    VllmArgument("--pipeline-parallel-size", "spec.parallelism.pipeline"),
    VllmArgument("--lora-modules", "spec.adapters", "With it --enable-lora."),
    VllmArgument("--enforce-eager", None),
    VllmArgument("--enable-expert-parallel", None),
    VllmArgument("--chat-template", None, "The file may come from `spec.engine.files`."),
)
"""The most used one first."""
