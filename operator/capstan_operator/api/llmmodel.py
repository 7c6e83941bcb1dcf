"""LLMModel: one model that is served, on GPUs of this cluster, by a hosted API or by other LLMModels."""

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field, StringConstraints

from capstan_contract.config import (
    Capability,
    Dispatch,
    HostedTools,
    MaxTokens,
    ReasoningHistory,
    SystemMessages,
    Task,
    ToolIds,
)
from capstan_operator.api.backends import Cascade as Cascade
from capstan_operator.api.backends import External as External
from capstan_operator.api.backends import Router as Router
from capstan_operator.api.evaluation import EvaluationSpec as EvaluationSpec
from capstan_operator.api.kvcache import KVCacheSpec as KVCacheSpec
from capstan_operator.api.kvcache import KVIsolation as KVIsolation
from capstan_operator.api.parts import Condition as Condition
from capstan_operator.api.parts import ConfigMapKeyRef as ConfigMapKeyRef
from capstan_operator.api.parts import EnvSource as EnvSource
from capstan_operator.api.parts import EnvVar as EnvVar
from capstan_operator.api.parts import LabelValues
from capstan_operator.api.parts import SecretKeyRef as SecretKeyRef
from capstan_operator.api.parts import Toleration as Toleration
from capstan_operator.api.patterns import (
    ADAPTER_SOURCE,
    EXTENDED_RESOURCE,
    IMAGE,
    PARSER,
    QUANTIZATION,
    REVISION,
    SHARE,
    SOURCE,
    TAG,
    TOKENIZER,
)
from capstan_operator.api.pods import EngineFile as EngineFile
from capstan_operator.api.pods import EnvFromSource as EnvFromSource
from capstan_operator.api.pods import PodsSpec as PodsSpec
from capstan_operator.api.pods import ResourceClaim as ResourceClaim
from capstan_operator.api.policies import PolicyInForce
from capstan_operator.api.queueing import QueueSpec as QueueSpec
from capstan_operator.api.rollout import RolloutSpec as RolloutSpec
from capstan_operator.api.rollout import RolloutStatus
from capstan_operator.api.rollout import RolloutStrategy as RolloutStrategy
from capstan_operator.api.rules import (
    answers,
    cache,
    engine,
    evaluation,
    kvcache,
    names,
    placement,
    pods,
    queueing,
    rollout,
    scaling,
    serving,
    sources,
    speculative,
)
from capstan_operator.api.scaling import Scaling as Scaling
from capstan_operator.api.schema import (
    AS_SET,
    CpuQuantity,
    Dollars,
    ObjectName,
    Part,
    Quantity,
    Rule,
    ServedName,
    SubdomainName,
    bounded_list,
    free_form,
    listed_by,
    object_schema,
)
from capstan_operator.api.speculative import NGramWindow as NGramWindow
from capstan_operator.api.speculative import SpeculativeMethod as SpeculativeMethod
from capstan_operator.api.speculative import SpeculativeSpec as SpeculativeSpec


class EngineType(StrEnum):
    """The servers that a model can run on."""

    VLLM = "vLLM"
    TGI = "TGI"
    SGLANG = "SGLang"
    OPENAI_COMPATIBLE = "OpenAICompatible"
    SIMULATOR = "Simulator"


class WeightType(StrEnum):
    """What weights are computed with."""

    AUTO = "auto"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


class ModelSource(Part):
    """Which model, and under which names it is served."""

    source: Annotated[str, StringConstraints(min_length=6, max_length=512, pattern=SOURCE)] | None = None
    """Where the weights are: hf://ORG/NAME, pvc://CLAIM/PATH, s3://BUCKET/PATH, gs://BUCKET/PATH (Google Cloud),
    oss://BUCKET/PATH (Alibaba Cloud) or oci://IMAGE. Required unless `external`, `router` or `cascade` is set, or the
    engine is OpenAICompatible and its image has the weights."""
    servedName: ServedName | None = None
    """The name that clients ask for. Default: the name of the LLMModel. It can change at any time without a restart.
    Not `auto`, which is the gateway's own."""
    aliases: tuple[ServedName, ...] = bounded_list(16, json_schema_extra=AS_SET)
    """Further names that clients may ask for."""
    revision: Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=REVISION)] | None = None
    """Branch, tag or commit of an hf:// source."""
    task: Task = Field(default=Task.CHAT, strict=False)
    """What the model does. It cannot change."""

    rules: ClassVar[tuple[Rule, ...]] = (*sources.MODEL_SOURCE, *names.MODEL_SOURCE, *answers.MODEL_SOURCE)


# NB: put together out here, because in the class `speculative` is a field.
_ENGINE_RULES = (*engine.ENGINE, *pods.ENGINE, *kvcache.ENGINE, *speculative.ENGINE)


class Engine(Part):
    """The server that runs the model."""

    type: EngineType = Field(default=EngineType.VLLM, strict=False)
    """vLLM, TGI and SGLang are started with the arguments they need; OpenAICompatible is any image that speaks the
    OpenAI API on port 8000; Simulator answers without a model."""
    image: Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=IMAGE)] | None = None
    """Container image. Default: the image that the operator is configured with for this type."""
    version: Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=TAG)] | None = None
    """Tag of the default image. Not together with `image`."""
    args: tuple[Annotated[str, StringConstraints(max_length=2048)], ...] = bounded_list(64)
    """Further arguments of the engine, after those that Capstan writes; on a conflict yours win. What Capstan relies on
    (where the engine listens, what it calls the model, keys, TLS) cannot be set: see docs/engines.md."""
    env: tuple[EnvVar, ...] = bounded_list(64, json_schema_extra=listed_by("name"))
    """Environment variables of the engine's container. Those that do what a refused argument does are refused too."""
    envFrom: tuple[EnvFromSource, ...] = bounded_list(16)
    """Further variables: all keys of ConfigMaps and Secrets of the namespace. `env` wins, as what Capstan sets does;
    what Capstan relies on must not be among them."""
    files: tuple[EngineFile, ...] = bounded_list(16, json_schema_extra=listed_by("path"))
    """Files of the engine's container, from ConfigMaps and Secrets of the namespace. Pods have them as they were when
    they started."""
    quantization: Annotated[str, StringConstraints(min_length=2, max_length=64, pattern=QUANTIZATION)] | None = None
    """How weights are quantized, as the engine calls it: fp8, awq, gptq, ... Default: as the weights say. A model whose
    weights are not quantized is, by some methods, when it is loaded. vLLM's and SGLang's --quantization, TGI's
    --quantize."""
    dtype: WeightType | None = Field(default=None, strict=False)
    """What weights and activations are computed with. Default: auto, as the weights say. TGI does not know float32, and
    takes nothing but auto beside `quantization`."""
    gpuMemoryUtilization: Annotated[str, StringConstraints(min_length=1, max_length=8, pattern=SHARE)] | None = None
    """How much of each GPU's memory the engine takes, weights and KV cache together: vLLM's --gpu-memory-utilization,
    SGLang's --mem-fraction-static (which leaves the activations out), TGI's --cuda-memory-fraction. The same as
    `kvCache.memoryShare`."""
    maxNumSeqs: int | None = Field(default=None, ge=1, le=65536)
    """Most requests that a replica computes at once; further ones wait in it. vLLM's --max-num-seqs, SGLang's
    --max-running-requests."""
    maxNumBatchedTokens: int | None = Field(default=None, ge=1, le=100_000_000)
    """Most tokens of one step: larger prompts are computed in parts. vLLM's --max-num-batched-tokens, SGLang's
    --chunked-prefill-size, TGI's --max-batch-prefill-tokens."""
    trustRemoteCode: bool | None = None
    """Whether the engine runs Python code that comes with the weights. Whoever can change those can then run anything
    in the pod: name a commit as `model.revision` beside it. Default: false."""
    toolCallParser: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=PARSER)] | None = None
    """Which form of tool calls the model writes, as the engine calls it: hermes, llama3_json, mistral, ... With vLLM it
    switches --enable-auto-tool-choice on."""
    reasoningParser: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=PARSER)] | None = None
    """How the model marks what it thinks, as the engine calls it: deepseek_r1, qwen3, ..."""
    speculative: SpeculativeSpec | None = None
    """Speculative decoding: several tokens in one step of the model. vLLM from v0.8.2 on, SGLang and TGI."""
    kvCache: KVCacheSpec | None = None
    """What the engine keeps of prompts that it has computed. The same in `args` wins. A change makes new pods."""

    rules: ClassVar[tuple[Rule, ...]] = _ENGINE_RULES

    @property
    def isolates(self) -> bool:
        """Whether tenants are kept apart in its KV cache."""
        return self.kvCache is not None and self.kvCache.isolation is KVIsolation.TENANT

    @property
    def tells_blocks(self) -> bool:
        """Whether it tells which blocks its KV cache holds."""
        return self.kvCache is not None and self.kvCache.events is True


AFFINITY = ("nodeAffinity", "podAffinity", "podAntiAffinity")


class Resources(Part):
    """What one replica needs, and where it may run."""

    gpus: int = Field(default=0, ge=0, le=64)
    """GPUs of one replica: request and limit of `gpuResource`."""
    gpuResource: Annotated[str, StringConstraints(min_length=3, max_length=253, pattern=EXTENDED_RESOURCE)] = (
        "nvidia.com/gpu"
    )
    """The extended resource that counts GPUs, such as nvidia.com/gpu, amd.com/gpu or nvidia.com/mig-3g.20gb."""
    claims: tuple[ResourceClaim, ...] = bounded_list(8, json_schema_extra=listed_by("name"))
    """Devices of the engine by Dynamic Resource Allocation, beside `gpus` or in their place; how many GPUs they are is
    not known, so `parallelism` says it. Needs Kubernetes 1.34, or the feature gate DynamicResourceAllocation."""
    cpu: CpuQuantity | None = None
    """CPU request of one replica, such as 4 or 500m."""
    memory: Quantity | None = None
    """Memory request and limit of one replica, such as 32Gi."""
    sharedMemory: Quantity | None = None
    """Size of /dev/shm, in memory. Default: 2Gi when a replica has more than one GPU, else 256Mi."""
    nodeSelector: LabelValues = Field(default_factory=dict)
    """Labels that the node must have."""
    tolerations: tuple[Toleration, ...] = bounded_list(32)
    """Taints that the pods tolerate; the taint named like `gpuResource` is tolerated without asking."""
    affinity: Annotated[dict[str, Any], free_form(*AFFINITY)] | None = Field(
        default=None, json_schema_extra=object_schema(*AFFINITY)
    )
    """Affinity as in a pod."""
    runtimeClassName: SubdomainName | None = None
    """RuntimeClass of the pods, such as nvidia."""
    priorityClassName: SubdomainName | None = None
    """PriorityClass of the pods."""

    rules: ClassVar[tuple[Rule, ...]] = placement.RESOURCES


class Parallelism(Part):
    """How one replica is spread over its GPUs; tensor times pipeline must be its number of GPUs when there are any."""

    tensor: int | None = Field(default=None, ge=1, le=64)
    """Tensor parallel size. Default: all GPUs of the replica divided by `pipeline`."""
    pipeline: int = Field(default=1, ge=1, le=64)
    """Pipeline parallel size."""


class PriceTierSpec(Part):
    """What tokens cost in requests with much input, as decimal numbers in strings. What is not said is as below it."""

    aboveInputTokens: int = Field(ge=1, le=100_000_000)
    """It holds for all tokens of requests whose input, cached or not, is larger than this."""
    inputPerMillion: Dollars | None = None
    """Input tokens."""
    cachedInputPerMillion: Dollars | None = None
    """Input tokens that came from a cache."""
    cacheWritePerMillion: Dollars | None = None
    """Input tokens that are written into a cache."""
    cacheWriteHourPerMillion: Dollars | None = None
    """Those that are kept there for an hour."""
    audioInputPerMillion: Dollars | None = None
    """Input tokens that are sound."""
    outputPerMillion: Dollars | None = None
    """Output tokens."""
    reasoningPerMillion: Dollars | None = None
    """Output tokens that are thoughts."""
    audioOutputPerMillion: Dollars | None = None
    """Output tokens that are sound."""


class PriceSpec(Part):
    """US dollars per million tokens, and per minute of sound, as decimal numbers in strings ("0.15")."""

    inputPerMillion: Dollars = "0"
    """Input tokens."""
    cachedInputPerMillion: Dollars | None = None
    """Input tokens that the engine had in its prefix cache. Default: as `inputPerMillion`."""
    cacheWritePerMillion: Dollars | None = None
    """Input tokens that a hosted API writes into its cache, which Anthropic charges more for. Default: as
    `inputPerMillion`."""
    cacheWriteHourPerMillion: Dollars | None = None
    """Those that are kept there for an hour. Default: as `cacheWritePerMillion`."""
    audioInputPerMillion: Dollars | None = None
    """Input tokens that are sound. Default: as `inputPerMillion`."""
    audioInputPerMinute: Dollars | None = None
    """Each minute of sound that a model of the task `transcribe` hears, beside its tokens: what APIs charge that count
    none."""
    outputPerMillion: Dollars = "0"
    """Output tokens."""
    reasoningPerMillion: Dollars | None = None
    """Output tokens that are thoughts. Default: as `outputPerMillion`."""
    audioOutputPerMillion: Dollars | None = None
    """Output tokens that are sound. Default: as `outputPerMillion`."""
    tiers: tuple[PriceTierSpec, ...] = bounded_list(8, json_schema_extra=listed_by("aboveInputTokens"))
    """What requests with much input cost."""

    rules: ClassVar[tuple[Rule, ...]] = serving.PRICE


class TimeoutsSpec(Part):
    """Deadlines of a request, in seconds."""

    firstTokenSeconds: int = Field(default=120, ge=1, le=3600)
    """From dispatch to the first token."""
    idleSeconds: int = Field(default=60, ge=1, le=3600)
    """Between two tokens."""
    totalSeconds: int = Field(default=600, ge=1, le=86400)
    """The whole request; also how long a pod may take to finish its streams when it is stopped."""


class Serving(Part):
    """How the gateway offers the model."""

    capabilities: tuple[Annotated[Capability, Field(strict=False)], ...] = bounded_list(8, json_schema_extra=AS_SET)
    """What the model can do beyond text."""
    contextWindow: int | None = Field(default=None, ge=1, le=100_000_000)
    """Most tokens of prompt and answer together; also the engine's --max-model-len."""
    maxOutputTokens: int | None = Field(default=None, ge=1, le=100_000_000)
    """Most tokens of one answer."""
    tokenizer: Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=TOKENIZER)] | None = None
    """Which of the tokenizers that were shipped with the gateway counts its prompts: a folder there, or the beginning
    of files' names. Default: that of the model's namespace and name, and of OpenAI's models their own. Where there is
    none engines count, or prompts are estimated."""
    price: PriceSpec | None = None
    """What tokens cost."""
    weight: int = Field(default=100, ge=0, le=1_000_000)
    """Share among models that could answer the same request."""
    fallbacks: tuple[ServedName, ...] = bounded_list(8)
    """Served names to try, in order, when this model cannot answer: of models of the same namespace, or of the one
    that Capstan is installed in."""
    timeouts: TimeoutsSpec = Field(default_factory=TimeoutsSpec)
    """Deadlines."""

    rules: ClassVar[tuple[Rule, ...]] = serving.SERVING


class CompatibilitySpec(Part):
    """How requests are written for a model that does not take all that clients say. What is not set is as the kind of
    backend needs it: see docs/gateway.md."""

    systemMessages: Annotated[SystemMessages, Field(strict=False)] | None = None
    """What becomes of system and developer messages behind the first turn, which many chat templates refuse. First:
    they join the first one. AsUser: each is a user's turn, marked as a reminder of the system, and keeps its place, so
    that the engine's prefix cache holds. Anywhere: they stay."""
    reasoningHistory: Annotated[ReasoningHistory, Field(strict=False)] | None = None
    """Whether what the model thought in earlier turns goes back to it. Pass: as `reasoning_content`, which DeepSeek,
    Kimi and Qwen want. Drop: never."""
    maxTokens: Annotated[MaxTokens, Field(strict=False)] | None = None
    """What becomes of a request for more tokens than `serving.maxOutputTokens`. Clamp: it gets as many as there may be.
    Refuse: an error that says so. Default: Clamp."""
    hostedTools: Annotated[HostedTools, Field(strict=False)] | None = None
    """What becomes of tools that only a hosted API runs, such as web_search. Drop: the model does without, and the
    response header `x-capstan-dropped-tools` names them. Refuse: an error that names them. Default: Drop."""
    toolIds: Annotated[ToolIds, Field(strict=False)] | None = None
    """Which ids of tool calls the model takes, in conversations that another one may have begun. OpenAI: letters,
    digits, `_` and `-`, at most 40. Mistral: nine letters and digits. Kimi: `functions.<name>:<number>`, counted
    through the conversation. What does not fit is written anew, in a call and in its result alike. Default: OpenAI for
    that provider, for Anthropic its own form; for all others each id goes out as it came."""


class WeightsCache(Part):
    """Where downloaded weights stay: an existing claim, or one that the operator makes. Without it, in the pod."""

    claimName: SubdomainName | None = None
    """An existing PersistentVolumeClaim of the namespace. Not together with `size`."""
    size: Quantity | None = None
    """Size of a claim to make. It can grow, never shrink."""
    storageClassName: SubdomainName | None = None
    """StorageClass of the claim to make. It cannot change."""
    accessMode: Literal["ReadWriteOnce", "ReadWriteMany"] = "ReadWriteOnce"
    """Access mode of the claim to make; several replicas on several nodes need ReadWriteMany. It cannot change."""
    retain: bool | None = None
    """What becomes of the claim to make. true: it stays when `cache` is removed and when the LLMModel is deleted, and
    one of the same name takes it up again. false: it is deleted with either, and the weights with it. Default: it stays
    when `cache` is removed, and goes with the LLMModel."""

    rules: ClassVar[tuple[Rule, ...]] = cache.CACHE


class AdapterSpec(Part):
    """A LoRA adapter on top of the model."""

    name: ObjectName
    """Name of the adapter in this LLMModel."""
    source: Annotated[str, StringConstraints(min_length=6, max_length=512, pattern=ADAPTER_SOURCE)]
    """Where the adapter's weights are."""
    servedName: ServedName | None = None
    """The name that clients ask for. Default: SERVEDNAME:NAME."""

    rules: ClassVar[tuple[Rule, ...]] = sources.ADAPTER


MOST_PROMPT_CHARACTERS: Final = 32768
"""Of one shared prompt."""


class PromptSource(Part):
    """Where the text of a shared prompt is."""

    configMapKeyRef: ConfigMapKeyRef
    """A ConfigMap's key. It is read again about every half minute."""


class Prefix(Part):
    """A shared start of prompts that every replica computes before it becomes ready."""

    name: ObjectName
    """Name of the prefix in this LLMModel."""
    system: Annotated[str, StringConstraints(min_length=1, max_length=MOST_PROMPT_CHARACTERS)] | None = None
    """The system message (for task completion: the beginning of the prompt)."""
    systemFrom: PromptSource | None = None
    """Take it from a ConfigMap of the namespace, which several LLMModels may share: at most 32768 characters."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="has(self.system) != has(self.systemFrom)",
            message="must have exactly one of `system` and `systemFrom`",
            holds=lambda self: (self.system is None) != (self.systemFrom is None),
        ),
    )


# NB: put together out here, because in the class `scaling` and `serving` are fields.
_SPEC_RULES = (
    *sources.SPEC,
    *answers.SPEC,
    *placement.SPEC,
    *serving.SPEC,
    *names.SPEC,
    *kvcache.SPEC,
    *speculative.SPEC,
    *queueing.SPEC,
    *scaling.SPEC,
    *rollout.SPEC,
    *evaluation.SPEC,
)


class LLMModelSpec(Part):
    """What the user wants. `model.source` and `resources.gpus` are enough."""

    className: ObjectName | None = None
    """Which install of Capstan works on this LLMModel: the one with this class name (`operator.className` of its
    chart). Default: the one without a class name. A change hands the LLMModel over with all its objects: the former
    install stops touching it and deletes nothing, and its gateway stops serving it; the new one takes the objects over.
    """
    model: ModelSource = Field(default_factory=ModelSource)
    """Which model, and under which names."""
    profile: ObjectName | None = None
    """Name of a profile that the platform team keeps in the install's namespace: what the manifest does not say of its
    nodes, resources and engine is as the profile says. See docs/profiles.md. A changed profile makes new pods."""
    engine: Engine = Field(default_factory=Engine)
    """The server that runs it."""
    external: External | None = None
    """A hosted API instead of an engine."""
    router: Router | None = None
    """Other LLMModels instead of an engine: one of them answers each request."""
    cascade: Cascade | None = None
    """Other LLMModels instead of an engine: they are asked in order until an answer is good enough."""
    resources: Resources = Field(default_factory=Resources)
    """What one replica needs."""
    parallelism: Parallelism = Field(default_factory=Parallelism)
    """How one replica is spread over its GPUs."""
    pods: PodsSpec | None = None
    """Labels, annotations, account and pull secrets of the pods."""
    replicas: int = Field(default=1, ge=0, le=1000)
    """Number of replicas. Without effect beside `scaling`, unless `scaling.strategy` is External: then a change of it,
    as `kubectl scale llmmodel` makes it, is passed on to the Deployment once, and whoever scales that is left alone."""
    scaling: Scaling | None = None
    """Leave the number of replicas to a scaler, within bounds."""
    rollout: RolloutSpec | None = None
    """How the pods are replaced when their template changes."""
    serving: Serving = Field(default_factory=Serving)
    """How the gateway offers it."""
    compatibility: CompatibilitySpec | None = None
    """How requests are written for it."""
    dispatch: Annotated[Dispatch, Field(strict=False)] | None = None
    """Which way requests come to a replica. Auto: directly as long as one that is ready has a free place, else by the
    queue. Queue: by the queue, which is fair between tenants, as long as Redis and workers are there. Direct: never by
    it. Without a queue in the installation (`queue.enabled` of the chart) always directly. To and from Direct makes new
    pods. Default: Auto."""
    queue: QueueSpec | None = None
    """How many requests may wait, and for how long. Not with `dispatch: Direct`."""
    cache: WeightsCache | None = None
    """Where downloaded weights stay."""
    adapters: tuple[AdapterSpec, ...] = bounded_list(32, json_schema_extra=listed_by("name"))
    """LoRA adapters."""
    prefixes: tuple[Prefix, ...] = bounded_list(8, json_schema_extra=listed_by("name"))
    """Shared prompts to keep warm. Requests may begin with one by its name."""
    evaluation: EvaluationSpec | None = None
    """Have a share of the answers judged. Default: nothing is stored, and nothing is judged."""
    template: Annotated[dict[str, Any], free_form("metadata", "spec")] | None = Field(
        default=None, json_schema_extra=object_schema("metadata", "spec")
    )
    """A strategic merge patch for the pod template (metadata and spec), applied last. The engine's container is called
    `engine`. What Capstan relies on must stay: see docs/engines.md."""

    rules: ClassVar[tuple[Rule, ...]] = _SPEC_RULES

    @property
    def is_virtual(self) -> bool:
        """Whether other LLMModels answer."""
        return self.router is not None or self.cascade is not None

    @property
    def rollouts(self) -> RolloutSpec:
        """How pods are replaced, with the defaults where nothing is said.

        NB: `rollout` itself has no default: an API server would write it into every LLMModel, and an operator of a
        release that does not know the field would then find each of them faulty.
        """
        return self.rollout or RolloutSpec()

    @property
    def prompts(self) -> dict[str, str]:
        """The texts of the prefixes by name: those in the spec, and those that were read from ConfigMaps."""
        return {prefix.name: prefix.system for prefix in self.prefixes if prefix.system is not None}

    @property
    def has_engine(self) -> bool:
        """Whether pods of this model answer: it is neither hosted nor virtual."""
        return self.external is None and not self.is_virtual


class ScalingStatus(Part):
    """What the operator has decided about the number of replicas."""

    desired: int | None = Field(default=None, ge=0)
    """How many there should be."""
    reason: Annotated[str, StringConstraints(max_length=64)] | None = None
    """Why that was changed last: ScalingUp, ScalingDown, Woken, Idle, Preempted, or DemandUnknown for a change of
    the bounds."""
    lastScaleTime: Annotated[str, StringConstraints(max_length=64)] | None = None
    """When."""
    idleSince: Annotated[str, StringConstraints(max_length=64)] | None = None
    """Since when nothing was asked of the model."""
    preemptedBy: Annotated[str, StringConstraints(max_length=320)] | None = None
    """Namespace and name of the LLMModel for which it gives way."""


class StartFailureStatus(Part):
    """Why no replica comes up."""

    reason: Annotated[str, StringConstraints(max_length=64)]
    """As in Available: ImagePullFailed, InsufficientGPU, CrashLoop, ..."""
    since: Annotated[str, StringConstraints(max_length=64)]
    """Since when none is ready."""


class LLMModelStatus(Part):
    """What is."""

    observedGeneration: int | None = Field(default=None, ge=0)
    """The newest generation that the operator has dealt with."""
    conditions: tuple[Condition, ...] = bounded_list(16, json_schema_extra=listed_by("type"))
    """Accepted, WeightsReady, Available, Progressing, Degraded, Ready; with `scaling` ScalingActive and ScalingLimited
    as well."""
    replicas: int | None = Field(default=None, ge=0)
    """Pods that exist."""
    readyReplicas: int | None = Field(default=None, ge=0)
    """Pods of the newest template that are ready."""
    selector: Annotated[str, StringConstraints(max_length=1024)] | None = None
    """Label selector of the pods, for autoscalers."""
    servedName: Annotated[str, StringConstraints(max_length=128)] | None = None
    """The name under which the gateway serves it."""
    endpoint: Annotated[str, StringConstraints(max_length=512)] | None = None
    """Where clients find it."""
    priceSource: Annotated[str, StringConstraints(max_length=320)] | None = None
    """Where its price comes from: Spec (`spec.serving.price`), "Table PROVIDER/NAME" (the price table of the install
    namespace), or Unknown, which is never taken for free. Virtual models have none."""
    policies: tuple[PolicyInForce, ...] = bounded_list(16)
    """The policies that are in force on it."""
    scaling: ScalingStatus | None = None
    """With `spec.scaling`, unless somebody else scales."""
    startFailure: StartFailureStatus | None = None
    """Why none of the replicas that are wanted comes up, when that has lasted: requests that would wait for one get an
    error."""
    rollout: RolloutStatus | None = None
    """With `spec.rollout.steps`: how the last change of the pods stands."""


class Metadata(Part):
    """The part of the metadata that has rules."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=253)]
    """Name of the resource, and the beginning of the names of everything that belongs to it."""

    rules: ClassVar[tuple[Rule, ...]] = names.METADATA


class LLMModel(Part):
    """A model that is served, on GPUs of this cluster, by a hosted API or by other LLMModels."""

    apiVersion: Literal["capstan.dev/v1alpha1"] = "capstan.dev/v1alpha1"
    """Version of this schema."""
    kind: Literal["LLMModel"] = "LLMModel"
    """Kind of the resource."""
    metadata: Metadata
    """Standard metadata of the object."""
    spec: LLMModelSpec
    """What the user wants."""

    rules: ClassVar[tuple[Rule, ...]] = (*names.ROOT, *evaluation.ROOT)
