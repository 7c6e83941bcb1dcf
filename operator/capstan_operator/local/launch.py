"""How the engine of a model is started on this machine, or why it cannot be. Pure."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from capstan_contract.config import Task
from capstan_operator.api.kinds import Model
from capstan_operator.api.llmmodel import Engine, EngineType, LLMModelSpec
from capstan_operator.desired import replicas
from capstan_operator.desired.brought import Brought
from capstan_operator.desired.engine import simulator_arguments, vllm_arguments
from capstan_operator.desired.faults import judge_faults
from capstan_operator.desired.queueing import queue_variables
from capstan_operator.settings import BuildSettings

MOST_REPLICAS = 4
"""A manifest for a cluster may ask for many replicas; this machine starts no more than these."""
HINT_VLLM = "make vllm-venv makes an environment with vLLM for the CPU; then add --vllm-python .venv-vllm/bin/python"


@dataclass(frozen=True)
class Launch:
    """How to start one engine. Two equal launches are the same engine, so what compares unequal restarts it."""

    engine: EngineType
    python: str
    """The interpreter that runs the worker."""
    model: str
    """The name that the engine knows the model by."""
    task: Task
    arguments: tuple[str, ...] = ()
    """Of `vllm serve`, or of `capstan-worker simulator`."""
    environment: tuple[tuple[str, str], ...] = ()
    events: bool = False
    """Whether vLLM tells its worker which blocks it holds."""
    prefixes: tuple[tuple[str, str], ...] = ()
    """(name, system message) of the prompts to keep warm."""
    files: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)
    """(path in the container, content) of files that its arguments and variables name."""
    drain_seconds: float = field(default=600.0, compare=False)
    """How long its last requests may take when it is replaced."""

    @property
    def title(self) -> str:
        """What a person calls it."""
        return "the simulator" if self.engine is EngineType.SIMULATOR else str(self.engine.value)

    @property
    def ready_seconds(self) -> float:
        """How long it may take to become ready."""
        return 60.0 if self.engine is EngineType.SIMULATOR else 1800.0


@dataclass(frozen=True)
class NotHere:
    """Why a model has no engine on this machine."""

    reason: str


@dataclass(frozen=True)
class Choices:
    """What the command line says about engines."""

    engine: EngineType | None = None
    """Run every model that has one on this engine instead of its own, without its own arguments."""
    engine_arguments: tuple[str, ...] = ()
    """Arguments for `engine`."""
    weights: Mapping[str, str] = field(default_factory=dict)
    """Folder with the weights, by name of the model."""
    python: str = sys.executable
    vllm_python: str | None = None
    """An interpreter that has vLLM; None when there is none."""
    redis_url: str | None = field(default=None, repr=False)
    """The Redis with the models' queues; None: there are none."""


def on_chosen_engine(model: Model, choices: Choices) -> Model:
    """Give the model with the engine that the command line asks for instead of its own."""
    if choices.engine is None or model.spec is None or not model.spec.has_engine:
        return model
    engine = Engine(type=choices.engine, args=choices.engine_arguments, env=model.spec.engine.env)
    return replace(model, judged=None, spec=model.spec.model_copy(update={"engine": engine}))


def plan_launch(model: Model, choices: Choices, brought: Brought = Brought()) -> Launch | NotHere | None:  # noqa: B008
    """Decide how the engine of a model is started; None when it has none because it is external, virtual or faulty.

    `brought` is what it has of ConfigMaps and Secrets.
    """
    spec = model.spec
    if spec is None or not spec.has_engine:
        return None
    if choices.engine and (faults := judge_faults(model)):
        return NotHere(f"--engine {choices.engine.value} with these arguments: {faults[0]}")
    engine = spec.engine.type
    # A variable whose value is in a Secret or a ConfigMap keeps the value that it has in Capstan's own environment.
    environment = (
        *_queue_environment(model, spec, choices),
        *brought.variables,
        *((variable.name, variable.value) for variable in spec.engine.env if variable.value is not None),
    )
    prefixes = tuple(spec.prompts.items())
    common = {
        "engine": engine,
        "model": model.key.name,
        "task": spec.model.task,
        "environment": environment,
        "prefixes": prefixes,
        "files": brought.files,
        "drain_seconds": float(spec.serving.timeouts.totalSeconds),
    }
    match engine:
        case EngineType.SIMULATOR:
            return Launch(python=choices.python, arguments=tuple(simulator_arguments(spec)), **common)  # type: ignore[arg-type]
        case EngineType.VLLM:
            weights = _weights(model.key.name, spec, choices)
            if isinstance(weights, NotHere):
                return weights
            draft = spec.engine.speculative.model if spec.engine.speculative else None
            if draft and not draft.startswith("hf://"):
                return NotHere("weights of `spec.engine.speculative.model` are fetched from hf:// alone in local mode")
            if choices.vllm_python is None:
                return NotHere(f"vLLM is not installed here: {HINT_VLLM}")
            arguments = tuple(vllm_arguments(spec, name=model.key.name, path=weights))
            if path := _file_that_is_not_here(spec, brought, arguments):
                return NotHere(f"the file {path} is of a ConfigMap or Secret that no manifest here has")
            events = spec.engine.tells_blocks
            return Launch(python=choices.vllm_python, arguments=arguments, events=events, **common)  # type: ignore[arg-type]
        case _:
            return NotHere(
                f"engine {engine.value} needs a cluster; on this machine only vLLM, Simulator and external models run"
            )


def wanted_replicas(spec: LLMModelSpec) -> int:
    """Give how many processes a model gets: those that it would begin with in a cluster, and never very many.

    Nobody scales it here, so one that would begin with none in a cluster, until it is asked for, has one.
    """
    wanted = replicas.wanted_replicas(spec, None)
    return min(wanted if spec.scaling is None else max(wanted, 1), MOST_REPLICAS)


def _file_that_is_not_here(spec: LLMModelSpec, brought: Brought, arguments: tuple[str, ...]) -> str | None:
    """Give the first file that an argument names, and of which nobody here knows what is in it."""
    known = {path for path, _ in brought.files}
    missing = (file.path for file in spec.engine.files if file.path not in known)
    return next((path for path in missing if any(_placed(word, {path: ""}) != word for word in arguments)), None)


def _placed(word: str, places: Mapping[str, str]) -> str:
    """Give an argument, or the value of a variable, with a file's place on this machine for its path in a container."""
    option, equals, value = word.partition("=")
    if equals and option.startswith("-") and value in places:
        return f"{option}={places[value]}"
    return places.get(word, word)


def engine_environment(launch: Launch, places: Mapping[str, str]) -> dict[str, str]:
    """Give the variables of a launch. `places` says where its files are on this machine."""
    return {name: _placed(value, places) for name, value in launch.environment}


def engine_command(
    launch: Launch, *, port: int, worker_port: int, prefixes: Path | None, places: Mapping[str, str] | None = None
) -> list[str]:
    """Give the command line of a launch. Where it listens is ours to say, so that comes after the user's arguments.
    `places` says where its files are on this machine."""
    arguments = [_placed(word, places or {}) for word in launch.arguments]
    where = ["--host", "127.0.0.1", "--port", str(port), "--worker-port", str(worker_port)]
    warm = ["--prefixes", str(prefixes)] if prefixes else []
    options = [*where, *warm, "--grace-seconds", f"{launch.drain_seconds:g}", "--settle-seconds", "0.3"]
    worker = [launch.python, "-m", "capstan_worker"]
    if launch.engine is EngineType.SIMULATOR:
        named = ["--model", launch.model, "--task", launch.task.value]
        return [*worker, "simulator", *arguments, *named, *options]
    events = ["--kv-events", "on"] if launch.events else []
    return [*worker, "vllm", *options, *events, "--", *arguments]


def _queue_environment(model: Model, spec: LLMModelSpec, choices: Choices) -> Iterator[tuple[str, str]]:
    """Say as in a cluster where the worker takes queued work from."""
    for variable in queue_variables(model, spec, BuildSettings(queue_redis_url=choices.redis_url or "")):
        yield str(variable["name"]), str(variable["value"])


def _weights(name: str, spec: LLMModelSpec, choices: Choices) -> str | NotHere:
    if name in choices.weights:
        return choices.weights[name]
    source = spec.model.source or ""
    if source.startswith("hf://"):
        return source.removeprefix("hf://")
    scheme = source.partition("://")[0]
    return NotHere(f"{scheme}:// weights are not fetched in local mode; name a folder: --weights {name}=PATH")
