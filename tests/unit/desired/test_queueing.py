"""A model's queue: what its pods and the gateway are told of it, and of which models they are told nothing."""

from typing import Any

import pytest

from capstan_contract.config import Dispatch, ModelQueue
from capstan_operator.desired.compile import compile_gateway
from capstan_operator.desired.naming import owner_of_credential
from capstan_operator.desired.pod import build_template
from capstan_operator.desired.queueing import InstalledQueue, installed_queue
from capstan_operator.settings import BuildSettings, load_settings
from capstan_process.settings import SettingsError
from capstan_worker.__main__ import parse_arguments, read
from capstan_worker.queue.settings import QueueSettings
from support.plainmodels import make_model

QUEUE = BuildSettings(
    queue_redis_url="redis://capstan-worker@redis:6379/0", queue_worker_secret="queue-worker", queue_seal_secret="seal"
)
ENGINES: list[dict[str, Any]] = [
    {"type": "vLLM"}, {"type": "vLLM", "version": "v0.11.0"}, {"type": "Simulator"}, {"type": "SGLang"},
    {"type": "OpenAICompatible", "image": "llama.cpp:server"},
]  # fmt: skip


def _containers(spec: dict[str, Any], settings: BuildSettings) -> dict[str, list[dict[str, Any]]]:
    model = make_model(**spec)
    assert model.spec is not None
    pod = build_template(model, model.spec, settings)[0]["spec"]
    return {one["name"]: one["env"] for one in (*pod["containers"], *pod.get("initContainers", ()))}


def _ours(variables: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in variables if one["name"].startswith(("CAPSTAN_WORKER_",))}


@pytest.mark.parametrize("engine", ENGINES)
def test_pods_without_a_queue_are_as_they_were(engine: dict[str, Any]) -> None:
    """Neither an installation without a queue nor `dispatch: Direct` changes anything of a pod: nothing restarts."""
    plain = build_template(make_model(engine=engine), make_model(engine=engine).spec, BuildSettings())
    said = make_model(engine=engine, dispatch="Auto", queue={"places": 3})
    assert build_template(said, said.spec, BuildSettings()) == plain
    direct = make_model(engine=engine, dispatch="Direct")
    assert build_template(direct, direct.spec, QUEUE) == plain


@pytest.mark.parametrize("engine", ENGINES)
def test_the_worker_is_told_where_the_queue_is(engine: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever container the worker is in has the variables, as the worker reads them; what is secret only by name,
    and a pod starts where that is not there."""
    containers = _containers({"engine": engine, "queue": {"places": 3}}, QUEUE)
    where = "engine" if len(containers) == 1 else "worker"
    variables = _ours(containers[where])
    for name, variable in variables.items():
        if "value" in variable:
            monkeypatch.setenv(name, variable["value"])
    settings = read(QueueSettings, parse_arguments(["simulator"]))
    assert (settings.redis_url, settings.queue_model) == (QUEUE.queue_redis_url, "team/llama")
    assert (settings.queue_places, settings.queue_sealed) == (3, True)
    for name, secret, key in (("REDIS_PASSWORD", "queue-worker", "password"), ("QUEUE_SECRET", "seal", "seal-key")):
        reference = variables[f"CAPSTAN_WORKER_{name}"]["valueFrom"]["secretKeyRef"]
        assert reference == {"name": secret, "key": key, "optional": True}
    if where == "worker":
        assert not _ours(containers["engine"])


def test_what_a_user_says_of_a_variable_wins() -> None:
    """As with every other variable of ours that is not reserved."""
    engine = {"type": "Simulator", "env": [{"name": "CAPSTAN_WORKER_QUEUE_PLACES", "value": "9"}]}
    found = [
        one
        for one in _containers({"engine": engine, "queue": {"places": 3}}, QUEUE)["engine"]
        if one["name"] == "CAPSTAN_WORKER_QUEUE_PLACES"
    ]
    assert found == [{"name": "CAPSTAN_WORKER_QUEUE_PLACES", "value": "9"}]


def test_the_gateway_is_told_how_much_waits() -> None:
    """What the manifest says, by value, and else the defaults; an engine that tells nothing has few places."""
    said = make_model(dispatch="Queue", queue={"maxEntries": 5, "maxBytes": "2Mi", "maxWaitSeconds": 7, "places": 3})
    (entry,) = compile_gateway([said], queue=InstalledQueue()).config.models
    assert entry.queue == ModelQueue(
        dispatch=Dispatch.QUEUE, places=3, maxEntries=5, maxBytes=2 << 20, maxWaitSeconds=7
    )
    (entry,) = compile_gateway([make_model()], queue=InstalledQueue()).config.models
    assert entry.queue == ModelQueue()
    unknown = make_model(engine={"type": "OpenAICompatible", "image": "x"})
    (entry,) = compile_gateway([unknown], queue=InstalledQueue()).config.models
    assert entry.queue is not None
    assert entry.queue.places == 8


def test_an_engine_that_batches_nothing_is_asked_for_several_at_once() -> None:
    """Its worker is told how many go together, and the gateway that so many more have a place."""
    said = {
        "engine": {"type": "OpenAICompatible", "image": "x"}, "model": {"task": "embed"},
        "queue": {"batch": {"size": 32, "milliseconds": 20}},
    }  # fmt: skip
    variables = _ours(_containers(said, QUEUE)["worker"])
    assert variables["CAPSTAN_WORKER_QUEUE_BATCH_SIZE"]["value"] == "32"
    assert variables["CAPSTAN_WORKER_QUEUE_BATCH_MILLISECONDS"]["value"] == "20"
    (entry,) = compile_gateway([make_model(**said)], queue=InstalledQueue()).config.models
    assert entry.queue == ModelQueue(places=64)


def test_the_gateway_is_told_of_no_queue_that_nobody_takes_from() -> None:
    """Without a queue in the installation, with `dispatch: Direct`, and of models that have no pods of ours."""
    external = {"url": "https://api.example.com/v1"}
    models = [
        (make_model(queue={"maxEntries": 5}), None),
        (make_model(dispatch="Direct"), InstalledQueue("seal")),
        (make_model(model={}, external=external), InstalledQueue("seal")),
    ]
    for model, queue in models:
        compiled = compile_gateway([model], queue=queue)
        assert "queue" not in compiled.config.models[0].model_dump()
        assert not any(secret == "seal" for _, secret, _ in compiled.credentials.values())


def test_the_gateway_gets_what_seals_the_entries() -> None:
    """It is copied from the model's own namespace, where its pods have it from, to a file of the model's own."""
    model = make_model()
    compiled = compile_gateway([model], queue=installed_queue(QUEUE))
    (entry,) = compiled.config.models
    assert entry.queue is not None
    assert compiled.credentials == {entry.queue.secretFile: ("team", "seal", "seal-key")}
    assert owner_of_credential(str(entry.queue.secretFile))[0] == model.key


def test_a_password_in_the_url_is_refused() -> None:
    """It would stand in the spec of every pod."""
    with pytest.raises(SettingsError, match="CAPSTAN_QUEUE_REDIS_URL must be without a password") as error:
        load_settings({"CAPSTAN_QUEUE_REDIS_URL": "redis://user:hunter2@redis"})
    assert "hunter2" not in str(error.value)
    assert load_settings({"CAPSTAN_QUEUE_REDIS_URL": ""}).build.queue_redis_url == ""
