"""What would break what Capstan relies on is a fault: arguments, variables and patches, whatever the spelling."""

from typing import Any

import pytest

from capstan_operator.api.kinds import Model
from capstan_operator.desired.engine import build_engine, vllm_arguments
from capstan_operator.desired.faults import find_doubts, find_faults
from capstan_operator.desired.template_wiring import environment_of
from support.plainmodels import SETTINGS, make_model

IMAGES = {"OpenAICompatible": {"image": "registry.example.com/server:1"}}
OWN_IMAGE = {"type": "vLLM", "version": "v0.18.0"}


def with_arguments(engine: str | dict[str, Any], *words: str, **spec: Any) -> Model:
    """Give a model whose engine has these arguments."""
    chosen = {"type": engine, **IMAGES.get(engine, {})} if isinstance(engine, str) else engine
    return make_model(engine={**chosen, "args": list(words)}, **spec)


def faults_of(model: Model) -> dict[str, str]:
    """Give what is wrong, by field."""
    return {fault.field: fault.message for fault in find_faults(model)}


@pytest.mark.parametrize(
    ("engine", "words", "option", "instead"),
    [
        ("vLLM", ["--host", "127.0.0.1"], "--host", "port 8000"),
        ("vLLM", ["--port", "9000"], "--port", "port 8000"),
        ("vLLM", ["--port=9000"], "--port", "port 8000"),
        ("vLLM", ["--port"], "--port", "port 8000"),
        ("vLLM", ["--port", "8000", "--port", "9000"], "--port", "port 8000"),
        ("vLLM", ["--served-model-name", "mine"], "--served-model-name", "spec.model.servedName"),
        ("vLLM", ["--served_model_name=mine"], "--served-model-name", "spec.model.servedName"),
        ("vLLM", ["--served-model", "mine"], "--served-model-name", "spec.model.servedName"),
        ("vLLM", ["--served", "mine"], "--served-model-name", "spec.model.servedName"),
        ("vLLM", ["--served-model-name", "llama", "mine"], "--served-model-name", "spec.model.servedName"),
        ("vLLM", ["--no-served-model-name"], "--served-model-name", "spec.model.servedName"),
        ("vLLM", ["--api-key", "sk-x"], "--api-key", "gateway"),
        ("vLLM", ["--api_key=sk-x"], "--api-key", "gateway"),
        ("vLLM", ["--uds", "/run/socket"], "--uds", "port 8000"),
        ("vLLM", ["--root-path", "/x"], "--root-path", "prefix"),
        ("vLLM", ["--ssl-keyfile", "/x", "--ssl-certfile", "/y"], "--ssl-*", "plain HTTP"),
        ("vLLM", ["--ssl_ca_certs=/x"], "--ssl-*", "plain HTTP"),
        ("vLLM", ["--ssl", "/x"], "--ssl-*", "plain HTTP"),
        ("vLLM", ["-p", "9000"], "--port", "port 8000"),
        ("vLLM", ["--model", "other/model"], "--model", "spec.model.source"),
        ("vLLM", ["--headless"], "--headless", "OpenAI API"),
        ("vLLM", ["-asc", "2"], "--api-server-count", "spec.engine.version"),
        ("vLLM", ["-n", "2"], "--nnodes", "one pod"),
        ("vLLM", ["--runner", "pooling"], "--runner", "spec.model.task"),
        (OWN_IMAGE, ["--port", "9000"], "--port", "port 8000"),
        (OWN_IMAGE, ["--host=localhost"], "--host", "port 8000"),
        ("SGLang", ["--model", "other/model"], "--model-path", "spec.model.source"),
        ("SGLang", ["--served-model-n", "mine"], "--served-model-name", "spec.model.servedName"),
        ("SGLang", ["--port=30000"], "--port", "port 8000"),
        ("SGLang", ["--admin-api-key", "x"], "--api-key", "gateway"),
        ("SGLang", ["--is-embedding"], "--is-embedding", "spec.model.task"),
        ("TGI", ["--hostname", "::"], "--hostname", "port 8000"),
        ("TGI", ["-p", "80"], "--port", "port 8000"),
        ("TGI", ["-p80"], "--port", "port 8000"),
        ("TGI", ["-p=80"], "--port", "port 8000"),
        ("TGI", ["--model-id=other/model"], "--model-id", "spec.model.source"),
        ("Simulator", ["--worker-port", "9001"], "--worker-port", "worker"),
        ("Simulator", ["--model", "mine"], "--model", "spec.model.servedName"),
        ("Simulator", ["--grace-seconds", "1"], "--grace-seconds", "totalSeconds"),
        ("Simulator", ["--grace", "1"], "--grace-seconds", "totalSeconds"),
        ("Simulator", ["--task", "embed"], "--task", "spec.model.task"),
        ("OpenAICompatible", ["--port", "8080"], "--port", "port 8000"),
        ("OpenAICompatible", ["--host", "127.0.0.1"], "--host", "port 8000"),
        ("OpenAICompatible", ["-p", "9000"], "-p", "port 8000"),
        ("OpenAICompatible", ["--api-key", "x"], "--api-key", "gateway"),
        ("OpenAICompatible", ["--served-model-name", "mine"], "--served-model-name", "spec.model.servedName"),
    ],
)
def test_what_capstan_says_itself_cannot_be_contradicted(
    engine: str | dict[str, Any], words: list[str], option: str, instead: str
) -> None:
    """An option that moves, renames or locks the engine is refused in every spelling, with what to use instead."""
    found = faults_of(with_arguments(engine, *words))
    path, message = next(iter(found.items()))
    assert path.startswith("spec.engine.args[")
    assert message.startswith(f"must not set {option}: ")
    assert instead in message
    assert "sk-x" not in message


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ("vLLM", ["--host", "0.0.0.0", "--port", "8000"]),
        ("vLLM", ["--served-model-name", "llama", "--model=example/model"]),
        ("vLLM", ["--max-model-len", "4096", "--trust-remote-code", "-tp=1"]),
        ("vLLM", ["--enable-chunked-prefill", "false", "--chat-template={{ messages }} x"]),
        ("vLLM", ["--hf-overrides", '{"a": 1}', "--seed", "-1"]),
        ("vLLM", ["--stop", "-1", "--task", "generate", "--runner", "generate"]),
        (OWN_IMAGE, ["--api-server-count", "2", "--host", "0.0.0.0"]),
        ("SGLang", ["--mem-fraction-static=0.85", "--model-path", "example/model"]),
        ("TGI", ["--max-concurrent-requests=64", "-p", "8000", "--hostname=0.0.0.0"]),
        ("Simulator", ["--no-such-option", "50"]),
        ("Simulator", ["--alias", "other", "--startup-seconds", "1", "--prefix-cache", "off", "--port=8000"]),
        ("OpenAICompatible", ["-m", "/models/x.gguf", "-p", "you are kind", "--host", "0.0.0.0", "--port", "8000"]),
        ("OpenAICompatible", ["serve", "--alias", "x", "--served-model-name", "llama", "other", "--host", "::"]),
        ("OpenAICompatible", ["-c", "exec server --port 8000"]),
        ("OpenAICompatible", ["--po", "9000"]),
        ("TGI", ["--served", "x"]),
    ],
)
def test_what_contradicts_nothing_is_let_through(engine: str | dict[str, Any], words: list[str]) -> None:
    """Ordinary arguments, and those that repeat what Capstan says, are no faults."""
    assert faults_of(with_arguments(engine, *words)) == {}


@pytest.mark.parametrize(
    ("words", "index", "says"),
    [
        (["--max-model-len 8192", "--trust-remote-code"], 0, "one string"),
        (["--seed", "1", "-tp 2"], 2, "one string"),
        (["--seed\t1"], 0, "one string"),
        ([" --seed", "1"], 0, "white space"),
        (["--seed ", "1"], 0, "white space"),
        (["8192"], 0, "without its option"),
        ([""], 0, "without its option"),
        (["--seed=1", "8192"], 1, "without its option"),
        (["--seed", "1", ""], 2, "without its option"),
        (["--trust-remote-code", "8192"], 1, "without its option"),
        (["--no-enable-prefix-caching", "4"], 1, "without its option"),
        (["vllm serve a/b --seed 1"], 0, "without its option"),
        (["--seed", "1", "--", "x"], 2, "not `--`"),
        (["--max-model-len"], 0, "one value"),
        (["--max-model-len", "--trust-remote-code"], 0, "one value"),
        (["--max_model_len", "1", "2"], 0, "one value"),
    ],
)
def test_words_that_no_parser_understands_are_told(words: list[str], index: int, says: str) -> None:
    """Two words in one string, a value without its option and an empty word are refused where they stand."""
    assert says in faults_of(with_arguments("vLLM", *words))[f"spec.engine.args[{index}]"]


def test_variables_are_put_in_before_arguments_are_judged() -> None:
    """`$(NAME)` counts as the value that the kubelet will put in."""
    env = [{"name": "X", "value": "9000"}, {"name": "WHOLE", "value": "--port=9000"}]
    for words in (["--port", "$(X)"], ["--seed", "1", "$(WHOLE)"], ["--port", "$(UNKNOWN)"]):
        engine = {"type": "SGLang", "args": words, "env": env}
        assert "must not set --port" in str(faults_of(make_model(engine=engine))), words


SECRET = {"secretKeyRef": {"name": "s", "key": "k"}}


@pytest.mark.parametrize(
    ("words", "env"),
    [
        (["--middleware", "x", "$(A)", "9000"], {"B": "--port", "A": "$(B)"}),
        (["--middleware", "x", "$(A)=9000"], {"C": "po", "B": "--$(C)rt", "A": "$(B)"}),
        (["--po$(A)=9000"], {"A": "rt"}),
        (["--port", "$(A)"], {"B": "8000", "A": "$(B)"}),
    ],
)
def test_variables_are_put_into_variables(words: list[str], env: dict[str, str]) -> None:
    """A variable that names those before it counts as what the kubelet makes of it, however deep."""
    variables = [{"name": name, "value": value} for name, value in env.items()]
    found = str(faults_of(make_model(engine={"type": "vLLM", "args": words, "env": variables})))
    assert ("must not set --port" in found) == ("9000" in words[-1]), found
    # In another order a variable is not known when it is named: then its text stays, which is no option.
    assert "must not set --port" not in str(
        faults_of(make_model(engine={"args": ["--middleware", "x", "y$(A)"], "env": variables[::-1]}))
    )


@pytest.mark.parametrize(
    ("words", "index", "says"),
    [
        (["$(P)"], 0, "may be any option"),
        (["--middleware", "x", "$(P)"], 2, "may be any option"),
        (["--middleware=x", "$(P)"], 1, "without its option"),
        (["--middleware", "x", "$(UNDEFINED)"], 2, "may be any option"),
        (["--middleware", "x", "$(P)y"], 2, "may be any option"),
        (["--trust-remote-code", "$(P)"], 1, "without its option"),
        (["--po$(P)=9000"], 0, "name of an option"),
        (["--$(P)", "9000"], 0, "name of an option"),
        (["--seed", "-$(P)"], 1, "name of an option"),
        (["--middleware", "$(P)", "$(P)"], 2, "may be any option"),
        (["--middleware", "x", "$(A)"], 2, "may be any option"),
    ],
)
@pytest.mark.parametrize("engine", ["vLLM", "SGLang", "TGI", "Simulator"])
def test_a_variable_that_is_not_known_can_be_no_option(engine: str, words: list[str], index: int, says: str) -> None:
    """A value from a Secret, or of a variable that the manifest does not set, stands where it can be a value only."""
    if engine == "Simulator" and "trust" in words[0]:
        words = ["--allow-fault-headers", *words[1:]]
    env = [{"name": "P", "valueFrom": SECRET}, {"name": "A", "value": "$(P)"}]
    found = faults_of(make_model(engine={"type": engine, "args": words, "env": env}))
    assert says in found[f"spec.engine.args[{index}]"]


def test_a_variable_that_is_not_known_may_be_a_value() -> None:
    """After its option, in the same word as its option, or within a text; `$$(P)` is a text; any in a free program."""
    env = [{"name": "P", "valueFrom": SECRET}]
    words = [
        "--middleware",
        "$(P)",
        "--chat-template=$(P)",
        "--seed",
        "1",
        "--hf-overrides",
        "{$(P)}",
        "--stop",
        "$$(P)",
    ]
    assert faults_of(make_model(engine={"args": words, "env": env})) == {}
    free = {"type": "OpenAICompatible", **IMAGES["OpenAICompatible"], "env": env}
    assert faults_of(make_model(engine={**free, "args": ["serve", "x", "$(P)", "-$(P)"]})) == {}


def test_a_template_changes_what_variables_are_worth() -> None:
    """A variable that a patch of the template sets or replaces counts as what it is then."""

    def faults(word: str, *patch: dict[str, Any]) -> str:
        engine = {"args": ["--middleware", "x", word, "9000"], "env": [{"name": "B", "value": "y"}]}
        template = {"spec": {"containers": [{"name": "engine", "env": list(patch)}]}}
        return str(faults_of(make_model(engine=engine, template=template)))

    assert faults("$(B)") == "{}"
    assert "must not set --port" in faults("$(B)", {"name": "B", "value": "--port"})
    assert "may be any option" in faults("$(B)", {"name": "B", "value": None, "valueFrom": SECRET})
    assert "must not set --port" in faults("$(C)", {"name": "D", "value": "--port"}, {"name": "C", "value": "$(D)"})


@pytest.mark.parametrize(
    ("engine", "name", "value"),
    [
        ("TGI", "PROMETHEUS_PORT", "8000"),
        ("TGI", "MASTER_PORT", "8001"),
        ("vLLM", "MASTER_PORT", "8000"),
        ("vLLM", "VLLM_NIXL_SIDE_CHANNEL_PORT", "8001"),
        ("SGLang", "MASTER_PORT", "8000"),
        ("OpenAICompatible", "UVICORN_PORT", "9000"),
        ("OpenAICompatible", "UVICORN_HOST", "127.0.0.1"),
        ("OpenAICompatible", "LLAMA_ARG_API_PREFIX", "/x"),
        ("OpenAICompatible", "LLAMA_ARG_HOST", "$(HERE)"),
        ("OpenAICompatible", "LLAMA_ARG_HOST", "$(SECRET)"),
        ("vLLM", "VLLM_API_KEY", "x"),
        ("vLLM", "VLLM_PORT", "9000"),
        ("vLLM", "CAPSTAN_WORKER_PORT", "9000"),
        ("Simulator", "CAPSTAN_WORKER_GRACE_SECONDS", "1"),
        ("TGI", "PORT", "80"),
        ("TGI", "HOSTNAME", "127.0.0.1"),
        ("TGI", "MODEL_ID", "other/model"),
        ("TGI", "API_KEY", "x"),
        ("TGI", "NUM_SHARD", "4"),
        ("OpenAICompatible", "PORT", "8080"),
        ("OpenAICompatible", "CAPSTAN_MODEL_PATH", "/x"),
    ],
)
def test_variables_cannot_say_it_either(engine: str, name: str, value: str) -> None:
    """A variable that does what a refused option does is refused, by value and by reference."""
    before = [{"name": "HERE", "value": "127.0.0.1"}, {"name": "SECRET", "valueFrom": SECRET}]
    for variable in ({"name": name, "value": value}, {"name": name, "valueFrom": SECRET}):
        model = make_model(engine={"type": engine, **IMAGES.get(engine, {}), "env": [*before, variable]})
        assert f"must not be {name}: " in faults_of(model)["spec.engine.env[2].name"]


def test_ordinary_variables_are_let_through() -> None:
    """Variables of the libraries are the user's, also those that say what Capstan says."""
    env = [
        {"name": "HF_TOKEN", "value": "x"},
        {"name": "PYTHONPATH", "value": "/x"},
        {"name": "HF_HOME", "value": "/x"},
    ]
    assert faults_of(make_model(engine={"env": env})) == {}
    env = [
        {"name": "P", "value": "8000"},
        {"name": "PORT", "value": "$(P)"},
        {"name": "PROMETHEUS_PORT", "value": "9100"},
    ]
    assert faults_of(make_model(engine={"type": "TGI", "env": env})) == {}
    patch = {"containers": [{"name": "engine", "env": [{"name": "PROMETHEUS_PORT", "value": "9100"}]}]}
    assert faults_of(make_model(engine={"type": "TGI"}, template={"spec": patch})) == {}


def test_a_cache_is_not_passed_by() -> None:
    """With a claim for the weights, no variable sends them elsewhere."""
    env = [{"name": "HF_HOME", "value": "/data/hf"}]
    assert "lost with the pod" in str(faults_of(make_model(cache={"size": "1Gi"}, engine={"env": env})))
    inside = [{"name": "HF_HOME", "value": "/var/lib/capstan/weights/hf"}]
    assert faults_of(make_model(cache={"size": "1Gi"}, engine={"env": inside})) == {}


@pytest.mark.parametrize(
    ("engine", "words", "gpus", "fits"),
    [
        ("vLLM", ["--tensor-parallel-size", "4"], 2, False),
        ("vLLM", ["-tp=4"], 2, False),
        ("vLLM", ["--tensor-parallel", "4"], 2, False),
        ("vLLM", ["--tensor_parallel_size=2"], 2, True),
        ("vLLM", ["-pp", "2"], 2, False),
        ("vLLM", ["-tp", "1", "-pp", "2"], 2, True),
        ("vLLM", ["-tp", "2", "-dp", "2"], 2, False),
        ("vLLM", ["-tp", "1"], 2, True),
        ("vLLM", ["-tp", "4"], 0, True),
        ("SGLang", ["--tp", "4"], 2, False),
        ("SGLang", ["--tp", "2", "--dp", "2"], 2, False),
        ("SGLang", ["--tp", "2", "--dp", "2", "--enable-dp-attention"], 2, True),
        ("TGI", ["--num-shard=4"], 2, False),
        ("TGI", ["--num-shard", "2"], 2, True),
    ],
)
def test_a_replica_is_spread_over_no_more_gpus_than_it_has(
    engine: str, words: list[str], gpus: int, fits: bool
) -> None:
    """Tensor times pipeline times data parallel size is at most the replica's number of GPUs."""
    found = faults_of(with_arguments(engine, *words, resources={"gpus": gpus}))
    assert (found == {}) == fits, found
    assert fits or "more GPUs than `spec.resources.gpus`" in str(found)


def test_adapters_stay_known_to_the_engine() -> None:
    """Options that replace the adapters of the manifest are refused; the simulator's add to them."""
    adapters = [{"name": "sql", "source": "hf://a/sql"}]
    found = faults_of(with_arguments("vLLM", "--lora-modules", "x=y", adapters=adapters))
    assert "spec.adapters" in str(found)
    assert faults_of(with_arguments("vLLM", "--lora-modules", "x=y")) == {}
    model = with_arguments("Simulator", "--alias", "more", adapters=adapters)
    assert model.spec is not None
    arguments = build_engine(model, model.spec, SETTINGS).args
    assert [arguments[at + 1] for at, word in enumerate(arguments) if word == "--alias"] == ["sql", "more"]


def test_a_recipe_is_honoured_where_the_worker_listens() -> None:
    """`--host 0.0.0.0 --port 8000` does not reach the worker a second time, which would refuse it."""
    model = with_arguments("vLLM", "--host", "0.0.0.0", "--seed", "1", "--port=8000")
    assert model.spec is not None
    assert vllm_arguments(model.spec, name="llama", path="x")[-2:] == ["--seed", "1"]
    arguments = build_engine(model, model.spec, SETTINGS).args
    assert not {"--host", "--port=8000"} & set(arguments[arguments.index("--") :])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--port", "8000"], "can be left out"),
        (["--config", "/x.yaml"], "cannot read"),
        (["--conf=/x.yaml"], "cannot read"),
        (["--lora-modules", "x=y"], "spec.adapters"),
        (["--seed", "1", "--seed", "2"], "the last one counts"),
        (["--max-model-len", "10"], "spec.serving.contextWindow"),
    ],
)
def test_what_is_hardly_meant_is_a_doubt_and_no_fault(words: list[str], says: str) -> None:
    """What works and is still hardly meant is told by validate, and built."""
    model = with_arguments("vLLM", *words, serving={"contextWindow": 100})
    assert find_faults(model) == ()
    assert says in str([doubt.message for doubt in find_doubts(model)])


def test_ordinary_arguments_leave_no_doubt() -> None:
    """Nothing is said of arguments that are as they should be; a window as large as the manifest's is."""
    words = ("--max-model-len", "100", "--seed", "1", "--no-enable-prefix-caching")
    assert find_doubts(with_arguments("vLLM", *words, serving={"contextWindow": 100})) == ()


ENGINE: dict[str, Any] = {"name": "engine"}


@pytest.mark.parametrize(
    ("patch", "path"),
    [
        ({"containers": [{**ENGINE, "command": ["sh"]}]}, "containers[0].command"),
        ({"containers": [{**ENGINE, "command": None}]}, "containers[0].command"),
        ({"containers": [{**ENGINE, "args": ["--x"]}]}, "containers[0].args"),
        ({"containers": [{"name": "a"}, {**ENGINE, "args": None}]}, "containers[1].args"),
        ({"containers": [{**ENGINE, "ports": [{"containerPort": 8000, "name": "web"}]}]}, "containers[0].ports"),
        ({"containers": [{**ENGINE, "ports": [{"containerPort": 8000, "$patch": "delete"}]}]}, "containers[0].ports"),
        ({"containers": [{**ENGINE, "ports": [{"containerPort": 9000, "name": "http"}]}]}, "containers[0].ports"),
        ({"containers": [{"name": "a", "ports": [{"containerPort": 8001}]}]}, "containers[0].ports"),
        ({"containers": [{**ENGINE, "lifecycle": {"preStop": {"exec": {"command": ["x"]}}}}]}, "lifecycle.preStop"),
        ({"containers": [{**ENGINE, "lifecycle": {"$patch": "delete"}}]}, "lifecycle.preStop"),
        ({"containers": [{**ENGINE, "readinessProbe": None}]}, "readinessProbe"),
        ({"containers": [{**ENGINE, "env": [{"name": "VLLM_API_KEY", "value": "x"}]}]}, "containers[0].env"),
        ({"containers": [{**ENGINE, "envFrom": [{"secretRef": {"name": "s"}}]}]}, "containers[0].envFrom"),
        (
            {"containers": [{**ENGINE, "envFrom": [{"prefix": "VLLM_", "secretRef": {"name": "s"}}]}]},
            "containers[0].envFrom",
        ),
        ({"containers": [{**ENGINE, "env": [{"name": "MASTER_PORT", "value": "8000"}]}]}, "containers[0].env"),
        ({"containers": [{**ENGINE, "$patch": "replace", "image": "x"}]}, "containers[0].command"),
        ({"containers": [{**ENGINE, "$patch": "delete"}]}, "containers[0]"),
        ({"containers": None}, "containers"),
        ({"$patch": "delete"}, "containers"),
        ({"$retainKeys": ["volumes"]}, "containers"),
        ({"initContainers": [{"name": "worker", "args": ["x"]}]}, "initContainers[0].args"),
        ({"initContainers": [{"name": "worker", "command": ["x"]}]}, "initContainers[0].command"),
        (
            {"initContainers": [{"name": "worker", "env": [{"name": "CAPSTAN_DRAIN_TOKEN", "value": "x"}]}]},
            "initContainers[0].env",
        ),
        ({"initContainers": [{"name": "worker", "restartPolicy": None}]}, "initContainers[0].restartPolicy"),
        ({"initContainers": [{"name": "worker", "$patch": "delete"}]}, "initContainers[0]"),
    ],
)
def test_a_template_cannot_take_the_wiring_away(patch: dict[str, Any], path: str) -> None:
    """Whatever way of a merge is taken, the start, the ports, the hook and the worker stay, or it is a fault."""
    found = faults_of(make_model(engine=OWN_IMAGE, template={"spec": patch}))
    assert any(field.startswith("spec.template.spec.") and field.endswith(path) for field in found), found


@pytest.mark.parametrize("key", ["capstan.dev/model", "app.kubernetes.io/managed-by", "capstan.dev/anything"])
def test_a_template_cannot_take_our_labels(key: str) -> None:
    """A label of Capstan's with another value is refused; the same value is let through."""
    found = faults_of(make_model(template={"metadata": {"labels": {key: "other"}}}))
    assert key in found["spec.template.metadata.labels"]
    assert faults_of(make_model(template={"metadata": {"labels": {"capstan.dev/model": "llama", "team": "a"}}})) == {}


@pytest.mark.parametrize(
    "patch",
    [
        {"hostNetwork": True, "nodeSelector": {"a": "b"}, "serviceAccountName": "x"},
        {
            "containers": [
                {**ENGINE, "readinessProbe": {"periodSeconds": 1}, "startupProbe": None, "livenessProbe": None}
            ]
        },
        {"containers": [{**ENGINE, "readinessProbe": {"httpGet": None, "exec": {"command": ["x"]}}}]},
        {"containers": [{**ENGINE, "ports": [{"containerPort": 9000, "name": "extra"}]}]},
        {"containers": [{**ENGINE, "envFrom": [{"prefix": "MY_", "configMapRef": {"name": "c"}}]}]},
        {"containers": [{"name": "beside", "image": "x", "envFrom": [{"configMapRef": {"name": "c"}}]}]},
        {"containers": [{**ENGINE, "ports": [{"containerPort": 8000, "hostPort": 8000}]}]},
        {"containers": [{**ENGINE, "image": "x", "lifecycle": {"postStart": {"exec": {"command": ["x"]}}}}]},
        {"containers": [{"name": "beside", "image": "x", "ports": [{"containerPort": 9000}]}]},
        {"initContainers": [{"name": "worker", "image": "x", "resources": {"limits": {"cpu": "1"}}}]},
        {"initContainers": [{"name": "first", "image": "x"}], "volumes": [{"name": "v", "emptyDir": {}}]},
    ],
)
def test_everything_else_in_a_template_is_the_users(patch: dict[str, Any]) -> None:
    """Placement, probes, mounts, further containers and images may be patched."""
    assert faults_of(make_model(engine=OWN_IMAGE, template={"spec": patch})) == {}


def test_a_server_of_the_users_may_have_a_command() -> None:
    """With engine OpenAICompatible the command is the user's; the arguments have a field of their own."""
    engine = {"type": "OpenAICompatible", "image": "x"}
    command = {"spec": {"containers": [{**ENGINE, "command": ["server"]}]}}
    assert faults_of(make_model(engine=engine, template=command)) == {}
    arguments = {"spec": {"containers": [{**ENGINE, "args": ["--x"]}]}}
    assert "spec.template.spec.containers[0].args" in faults_of(make_model(engine=engine, template=arguments))


def test_a_variable_is_worth_what_the_container_says() -> None:
    """Nothing where it says nothing; what comes from elsewhere, or is no text, is not known."""
    variables = [
        {"name": "A"},
        {"name": "B", "value": "x"},
        {"name": "C", "value": 5},
        {"name": "D", "value": "y", "valueFrom": SECRET},
        {"name": "E", "value": None, "valueFrom": None},
    ]
    assert environment_of({"env": variables}) == [("A", ""), ("B", "x"), ("C", None), ("D", None), ("E", "")]
