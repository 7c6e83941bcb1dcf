"""How each type of engine is started: one function per type gives image, command, arguments and environment."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from capstan_contract.config import Task
from capstan_contract.names import ENGINE_PORT, WORKER_PORT
from capstan_operator.api.kinds import Model
from capstan_operator.api.llmmodel import Engine, EngineType, KVCacheSpec, LLMModelSpec
from capstan_operator.desired import kvcache
from capstan_operator.desired.arguments import Option, is_given, merge_arguments, option, positional, without_options
from capstan_operator.desired.image_names import split_image
from capstan_operator.desired.naming import upstream_name
from capstan_operator.desired.tuning import sglang_tuning, simulator_tuning, tgi_tuning, vllm_tuning
from capstan_operator.desired.volumes import BUCKETS, HF_HOME, PREFIXES_PATH, Source, model_source, parse_source
from capstan_operator.settings import BuildSettings

WORKER_COMMAND: Final = "capstan-worker"
GRACE_MARGIN_SECONDS: Final = 30
"""From the end of the last stream to the end of the pod."""
POOLING_TASKS: Final[Mapping[Task, tuple[str, ...]]] = {
    Task.EMBED: ("--runner", "pooling", "--convert", "embed"),
    Task.CLASSIFY: ("--runner", "pooling", "--convert", "classify"),
    # Cross-encoders score by classifying, the others by comparing embeddings: vLLM sees which of the two it has.
    Task.SCORE: ("--runner", "pooling"),
}


@dataclass(frozen=True)
class EngineContainer:
    """What is particular to a type of engine in its container."""

    image: str
    args: tuple[str, ...]
    command: tuple[str, ...] = ()
    """Empty: the image's own entry point."""
    env: Mapping[str, str] = field(default_factory=dict)
    in_process: bool = False
    """Whether the worker is in this container; otherwise it is a sidecar."""
    health_path: str | None = "/health"
    """Where the engine itself says that it lives; None: its port is all that is known. Unused in process."""


def build_engine(model: Model, spec: LLMModelSpec, settings: BuildSettings) -> EngineContainer:
    """Say how the engine of a model is started."""
    return _BUILDERS[spec.engine.type](model, spec, settings)


def is_in_process(spec: LLMModelSpec) -> bool:
    """Say whether the engine runs in the worker's own process, in the worker's image."""
    engine = spec.engine
    if engine.type is EngineType.VLLM:
        return engine.image is None and engine.version is None
    return engine.type is EngineType.SIMULATOR


def model_path(spec: LLMModelSpec) -> str:
    """Give what the engine is told to load; "" when the model has no source."""
    source = model_source(spec)
    return source.path if source else ""


def vllm_arguments(spec: LLMModelSpec, *, name: str, path: str, addresses: tuple[Option, ...] = ()) -> list[str]:
    """Give the arguments of `vllm serve`: the model first, then ours, then the user's, which win.

    Without `addresses` it is the worker that listens, and refuses to be told twice where.
    """
    users = spec.engine.args if addresses else without_options(("--host", "--port"), spec.engine.args)
    ours = [
        positional(path, flag="--model"),
        option("--served-model-name", name),
        *addresses,
        *_vllm_parallelism(spec),
        *_vllm_task(spec),
        *_vllm_model(spec, model_source(spec), path),
        *_vllm_adapters(spec),
        *options_of_fields(spec.engine),
    ]
    if spec.engine.toolCallParser or is_given("--tool-call-parser", users):
        # Which parser fits depends on the model, so it is never guessed; but the one is useless without the other.
        ours.append(option("--enable-auto-tool-choice"))
    return merge_arguments(ours, users)


def options_of_fields(engine: Engine) -> list[Option]:
    """Give what the fields of an engine say in its own words, and silent options where it does so by itself."""
    found = _FIELDS.get(engine.type)
    return [*found[0](engine.kvCache), *found[1](engine)] if found else []


def tensor_parallel_size(spec: LLMModelSpec) -> int:
    """Give the tensor parallel size: what the user says, or all GPUs of a replica divided by the pipeline's stages."""
    return spec.parallelism.tensor or max(1, spec.resources.gpus // spec.parallelism.pipeline)


def worker_options(spec: LLMModelSpec) -> tuple[str, ...]:
    """Give the options that every kind of worker has."""
    prefixes = ("--prefixes", PREFIXES_PATH) if spec.prefixes else ()
    grace = ("--grace-seconds", str(grace_seconds(spec)))
    return ("--host", "0.0.0.0", "--worker-port", str(WORKER_PORT), *prefixes, *grace)


def grace_seconds(spec: LLMModelSpec) -> int:
    """Give how long a pod may take to go away: the longest answer, and something to spare.

    The worker is told the whole of it, because it stops waiting a little before the end, and never before the longest
    answer is complete.
    """
    return spec.serving.timeouts.totalSeconds + GRACE_MARGIN_SECONDS


def sidecar_arguments(model: Model, spec: LLMModelSpec) -> tuple[str, ...]:
    """Give the arguments of the worker beside an engine that is not ours."""
    what = ("--engine", spec.engine.type.value, "--engine-url", f"http://127.0.0.1:{ENGINE_PORT}")
    asked = ("--model", upstream_name(model), "--task", spec.model.task.value)
    return ("sidecar", *what, *asked, *worker_options(spec), *kvcache.sidecar_events(spec.engine))


def _vllm_parallelism(spec: LLMModelSpec) -> list[Option]:
    ours = []
    if (tensor := tensor_parallel_size(spec)) > 1:
        ours.append(option("--tensor-parallel-size", str(tensor), also=("-tp",)))
    if spec.parallelism.pipeline > 1:
        ours.append(option("--pipeline-parallel-size", str(spec.parallelism.pipeline), also=("-pp",)))
    return ours


def _vllm_task(spec: LLMModelSpec) -> list[Option]:
    pooling = POOLING_TASKS.get(spec.model.task)
    if pooling is None:
        return [option("--enable-prompt-tokens-details")]
    # NB: the old --task says what the two say together, and vLLM refuses a mixture.
    return [option(*pooling[at : at + 2], also=("--task",)) for at in range(0, len(pooling), 2)]


def _vllm_model(spec: LLMModelSpec, source: Source | None, path: str) -> list[Option]:
    ours = []
    if spec.model.revision and source and source.scheme == "hf":
        ours.append(option("--revision", spec.model.revision))
    # NB: on a person's machine the path may be a folder that takes the bucket's place.
    if source and source.scheme in BUCKETS and path == source.path:
        ours.append(option("--load-format", "runai_streamer"))
    if spec.serving.contextWindow:
        ours.append(option("--max-model-len", str(spec.serving.contextWindow)))
    return ours


def _vllm_adapters(spec: LLMModelSpec) -> list[Option]:
    if not spec.adapters:
        return []
    return [option("--enable-lora"), option("--lora-modules", *_adapter_pairs(spec))]


def simulator_arguments(spec: LLMModelSpec) -> list[str]:
    """Give the arguments that tell the simulator what the model is like: its window, the names of its adapters."""
    adapters = [word for adapter in spec.adapters for word in ("--alias", adapter.name)]
    window = [option("--context-window", str(spec.serving.contextWindow))] if spec.serving.contextWindow else []
    # NB: --alias adds a name, so the user's takes the place of none of ours.
    return [*adapters, *merge_arguments([*window, *options_of_fields(spec.engine)], spec.engine.args)]


def _adapter_pairs(spec: LLMModelSpec) -> list[str]:
    return [f"{adapter.name}={parse_source(adapter.source).path}" for adapter in spec.adapters]


def _build_vllm(model: Model, spec: LLMModelSpec, settings: BuildSettings) -> EngineContainer:
    name, path = model.key.name, model_path(spec)
    env = {"VLLM_NO_USAGE_STATS": "1", **kvcache.vllm_environment(spec.engine.kvCache)}
    engine = spec.engine
    if is_in_process(spec):
        events = ("--kv-events", "on") if engine.tells_blocks else ()
        worker = ("vllm", "--port", str(ENGINE_PORT), *worker_options(spec), *events, "--")
        return EngineContainer(
            image=settings.worker_image,
            command=(WORKER_COMMAND,),
            args=(*worker, *vllm_arguments(spec, name=name, path=path)),
            env=env,
            in_process=True,
        )
    where = [option("--host", "0.0.0.0"), option("--port", str(ENGINE_PORT))]
    addresses = (*where, *kvcache.published_events(engine))
    return EngineContainer(
        image=engine.image or f"{settings.vllm_image}:{engine.version}",
        command=("vllm", "serve"),
        args=tuple(vllm_arguments(spec, name=name, path=path, addresses=addresses)),
        env=env,
    )


def _build_simulator(model: Model, spec: LLMModelSpec, settings: BuildSettings) -> EngineContainer:
    ours = (
        "--model",
        model.key.name,
        "--task",
        spec.model.task.value,
        "--port",
        str(ENGINE_PORT),
        *worker_options(spec),
    )
    options = [option(ours[at], ours[at + 1]) for at in range(0, len(ours), 2)]
    return EngineContainer(
        image=spec.engine.image or settings.worker_image,
        command=(WORKER_COMMAND,),
        args=("simulator", *merge_arguments(options, simulator_arguments(spec))),
        in_process=True,
    )


def _build_tgi(_: Model, spec: LLMModelSpec, settings: BuildSettings) -> EngineContainer:
    ours = [
        option("--model-id", model_path(spec)),
        option("--hostname", "0.0.0.0"),
        option("--port", str(ENGINE_PORT), also=("-p",)),
    ]
    if spec.model.revision:
        ours.append(option("--revision", spec.model.revision))
    if (tensor := tensor_parallel_size(spec)) > 1:
        ours.append(option("--num-shard", str(tensor)))
    if spec.serving.contextWindow:
        ours.append(option("--max-total-tokens", str(spec.serving.contextWindow)))
    ours += options_of_fields(spec.engine)
    adapters = {"LORA_ADAPTERS": ",".join(_adapter_pairs(spec))} if spec.adapters else {}
    return EngineContainer(
        image=_image(spec, settings.tgi_image),
        args=tuple(merge_arguments(ours, spec.engine.args)),
        env={"HUGGINGFACE_HUB_CACHE": f"{HF_HOME}/hub", **adapters},
    )


def _build_sglang(model: Model, spec: LLMModelSpec, settings: BuildSettings) -> EngineContainer:
    ours = [
        option("--model-path", model_path(spec), also=("--model",)),
        option("--served-model-name", model.key.name),
        option("--host", "0.0.0.0"),
        option("--port", str(ENGINE_PORT)),
        option("--enable-metrics"),
        option("--enable-cache-report"),
    ]
    if (tensor := tensor_parallel_size(spec)) > 1:
        ours.append(option("--tp-size", str(tensor), also=("--tp", "--tensor-parallel-size")))
    if spec.parallelism.pipeline > 1:
        ours.append(option("--pp-size", str(spec.parallelism.pipeline), also=("--pp", "--pipeline-parallel-size")))
    if spec.model.task in POOLING_TASKS:
        ours.append(option("--is-embedding"))
    if spec.model.revision:
        ours.append(option("--revision", spec.model.revision))
    if spec.serving.contextWindow:
        ours.append(option("--context-length", str(spec.serving.contextWindow)))
    if spec.adapters:
        ours += [option("--enable-lora"), option("--lora-paths", *_adapter_pairs(spec))]
    ours += options_of_fields(spec.engine)
    return EngineContainer(
        image=_image(spec, settings.sglang_image),
        command=("python3", "-m", "sglang.launch_server"),
        args=tuple(merge_arguments(ours, spec.engine.args)),
    )


def _build_compatible(_: Model, spec: LLMModelSpec, __: BuildSettings) -> EngineContainer:
    source = model_source(spec)
    # A bucket goes by the name that the user gave it: the server may know a scheme that no other engine does.
    path = spec.model.source if source and source.scheme in BUCKETS else model_path(spec)
    return EngineContainer(
        image=spec.engine.image or "",
        args=spec.engine.args,
        env={"CAPSTAN_MODEL_PATH": path} if path else {},
        health_path=None,
    )


def _image(spec: LLMModelSpec, default: str) -> str:
    """Give the user's image, or the default one with the user's tag."""
    if spec.engine.image:
        return spec.engine.image
    if spec.engine.version is None:
        return default
    return f"{split_image(default).repository}:{spec.engine.version}"


_FIELDS: Final[
    Mapping[EngineType, tuple[Callable[[KVCacheSpec | None], list[Option]], Callable[[Engine], list[Option]]]]
] = MappingProxyType(
    {
        EngineType.VLLM: (kvcache.vllm_options, vllm_tuning),
        EngineType.SIMULATOR: (kvcache.simulator_options, simulator_tuning),
        EngineType.TGI: (kvcache.tgi_options, tgi_tuning),
        EngineType.SGLANG: (kvcache.sglang_options, sglang_tuning),
    }
)
_BUILDERS: Final[Mapping[EngineType, Callable[[Model, LLMModelSpec, BuildSettings], EngineContainer]]] = (
    MappingProxyType(
        {
            EngineType.VLLM: _build_vllm,
            EngineType.SIMULATOR: _build_simulator,
            EngineType.TGI: _build_tgi,
            EngineType.SGLANG: _build_sglang,
            EngineType.OPENAI_COMPATIBLE: _build_compatible,
        }
    )
)
