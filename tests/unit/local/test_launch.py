"""How engines are started on this machine."""

from pathlib import Path
from typing import Any

from capstan_operator.api.kinds import Model
from capstan_operator.api.llmmodel import EngineType
from capstan_operator.api.parse import parse_model
from capstan_operator.local.launch import (
    Choices,
    Launch,
    NotHere,
    engine_command,
    on_chosen_engine,
    plan_launch,
    wanted_replicas,
)

VLLM = Choices(python="python", vllm_python="vllm-python")


def _model(**spec: Any) -> Model:
    spec = {"model": {"source": "hf://org/name"}, **spec}
    parsed = parse_model(
        {"apiVersion": "capstan.dev/v1alpha1", "kind": "LLMModel", "metadata": {"name": "m"}, "spec": spec}
    )
    assert parsed.faults == ()
    return parsed


def _launch_of(parsed: Model, choices: Choices = VLLM) -> Launch:
    launch = plan_launch(parsed, choices)
    assert isinstance(launch, Launch)
    return launch


def test_a_rename_does_not_change_the_launch() -> None:
    """Served name, aliases, price and timeouts are the gateway's business: the engine goes on."""
    renamed = _model(
        model={"source": "hf://org/name", "servedName": "other", "aliases": ["more"]},
        serving={"price": {"inputPerMillion": "1"}, "timeouts": {"totalSeconds": 30}},
    )
    assert _launch_of(renamed) == _launch_of(_model())


def test_what_the_engine_sees_changes_the_launch() -> None:
    """Arguments, environment, prefixes and the context window restart the engine."""
    plain = _launch_of(_model())
    for spec in (
        {"engine": {"args": ["--seed", "1"]}},
        {"engine": {"env": [{"name": "A", "value": "b"}]}},
        {"prefixes": [{"name": "p", "system": "You are kind."}]},
        {"serving": {"contextWindow": 1024}},
    ):
        assert _launch_of(_model(**spec)) != plain


def test_whoever_asks_for_events_gets_a_worker_that_tells() -> None:
    """The worker is told to, of vLLM and of the simulator, and to change it restarts the engine."""
    for engine in ("vLLM", "Simulator"):
        quiet, telling = (
            _launch_of(_model(engine={"type": engine, "kvCache": {"events": events}})) for events in (False, True)
        )
        assert quiet != telling
        words = engine_command(telling, port=1, worker_port=2, prefixes=None)
        assert words[words.index("--kv-events") + 1] == "on"
        assert "--" not in words[: words.index("--kv-events")]
        assert "--kv-events" not in engine_command(quiet, port=1, worker_port=2, prefixes=None)


def test_vllm_gets_the_arguments_that_its_pod_would_get() -> None:
    """The arguments are the operator's, with the hub's name of the model first and the LLMModel's name as served."""
    command = engine_command(
        _launch_of(_model(serving={"contextWindow": 512})), port=1, worker_port=2, prefixes=Path("/p.json")
    )
    assert command[:4] == ["vllm-python", "-m", "capstan_worker", "vllm"]
    assert command[command.index("--prefixes") + 1] == "/p.json"
    engine = command[command.index("--") + 1 :]
    assert engine[0] == "org/name"
    assert engine[engine.index("--served-model-name") + 1] == "m"
    assert engine[engine.index("--max-model-len") + 1] == "512"


def test_the_simulator_listens_where_we_say() -> None:
    """A port or host among the user's arguments is overruled, because it is meant for a pod."""
    simulated = _model(engine={"type": "Simulator", "args": ["--port", "8000", "--host", "0.0.0.0"]})
    command = engine_command(_launch_of(simulated), port=1, worker_port=2, prefixes=None)
    assert command[:4] == ["python", "-m", "capstan_worker", "simulator"]
    assert "--prefixes" not in command
    positions = [index for index, word in enumerate(command) if word == "--port"]
    assert command[positions[-1] + 1] == "1"
    assert "127.0.0.1" in command[command.index("0.0.0.0") :]


def test_engines_that_need_a_cluster_say_so() -> None:
    """TGI, SGLang and arbitrary images do not run here; the reason names what does."""
    for engine in ({"type": "TGI"}, {"type": "SGLang"}, {"type": "OpenAICompatible", "image": "x"}):
        reason = plan_launch(_model(engine=engine), VLLM)
        assert isinstance(reason, NotHere)
        assert str(engine["type"]) in reason.reason
        assert "Simulator" in reason.reason


def test_without_vllm_the_reason_says_what_to_do() -> None:
    """The message names the command that makes vLLM available."""
    reason = plan_launch(_model(), Choices(vllm_python=None))
    assert isinstance(reason, NotHere)
    assert "make vllm-venv" in reason.reason


def test_weights_that_guess_come_from_hugging_face_here() -> None:
    """No folder is named for them, so a claim of the cluster is told, and the model is not started."""
    for source, started in (("hf://a/heads", True), ("pvc://drafts/heads", False)):
        guessing = _model(engine={"type": "vLLM", "speculative": {"method": "EAGLE", "model": source, "tokens": 3}})
        planned = plan_launch(guessing, VLLM)
        assert isinstance(planned, NotHere) != started


def test_weights_of_a_cluster_need_a_folder_here() -> None:
    """pvc:// and the like are served from the folder that --weights names, and not without it."""
    there = _model(model={"source": "pvc://claim/path"})
    reason = plan_launch(there, VLLM)
    assert isinstance(reason, NotHere)
    assert "--weights m=PATH" in reason.reason
    here = _launch_of(there, Choices(vllm_python="vllm-python", weights={"m": "/weights"}))
    assert here.arguments[0] == "/weights"


def test_a_folder_in_the_place_of_a_bucket_is_not_streamed() -> None:
    """The folder is read as any other one, by a vLLM that may have no streamer."""
    here = _launch_of(
        _model(model={"source": "gs://bucket/path"}), Choices(vllm_python="vllm-python", weights={"m": "/weights"})
    )
    assert here.arguments[0] == "/weights"
    assert "--load-format" not in here.arguments


def test_the_command_line_can_choose_another_engine() -> None:
    """--engine replaces type and arguments of every engine, and leaves external models alone."""
    choices = Choices(engine=EngineType.VLLM, engine_arguments=("--enforce-eager",), vllm_python="vllm-python")
    simulated = _model(engine={"type": "Simulator", "args": ["--ttft-ms", "5"]})
    launch = _launch_of(on_chosen_engine(simulated, choices), choices)
    assert launch.engine is EngineType.VLLM
    assert "--enforce-eager" in launch.arguments
    assert "--ttft-ms" not in launch.arguments
    external = parse_model(
        {
            "apiVersion": "capstan.dev/v1alpha1",
            "kind": "LLMModel",
            "metadata": {"name": "m"},
            "spec": {"external": {"url": "https://api.example.com/v1"}},
        }
    )
    assert on_chosen_engine(external, choices) == external
    assert plan_launch(external, choices) is None


def test_replicas_are_bounded_by_the_machine() -> None:
    """A manifest made for a cluster starts a few processes here; with an autoscaler it starts at least one."""
    for spec, count in (({"replicas": 2}, 2), ({"replicas": 0}, 0), ({"replicas": 64}, 4)):
        parsed = _model(**spec)
        assert parsed.spec is not None
        assert wanted_replicas(parsed.spec) == count
    scaled = _model(scaling={"min": 0, "max": 8})
    assert scaled.spec is not None
    assert wanted_replicas(scaled.spec) == 1


def test_arguments_of_the_command_line_are_judged_too() -> None:
    """What no manifest may say to an engine, --engine-arg may not either; the reason names the option."""
    choices = Choices(engine=EngineType.SIMULATOR, engine_arguments=("--worker-port=1",))
    reason = plan_launch(on_chosen_engine(_model(), choices), choices)
    assert isinstance(reason, NotHere)
    assert "must not set --worker-port" in reason.reason


def test_queued_work_is_taken_where_there_is_a_redis() -> None:
    """A worker is told where the queue is and whose, as in a cluster; of one that is never queued nothing changes."""
    queued = Choices(python="python", vllm_python="vllm-python", redis_url="redis://:pw@localhost/0")
    variables = dict(_launch_of(_model(queue={"places": 2}), queued).environment)
    assert variables == {
        "CAPSTAN_WORKER_REDIS_URL": "redis://:pw@localhost/0",
        "CAPSTAN_WORKER_QUEUE_MODEL": "default/m",
        "CAPSTAN_WORKER_QUEUE_PLACES": "2",
    }
    assert _launch_of(_model(dispatch="Direct"), queued) == _launch_of(_model())
    assert "pw" not in repr(queued)
