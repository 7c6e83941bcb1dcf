"""Variables and files that engines have of ConfigMaps and Secrets: what is judged of them, and what cannot be seen."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from capstan_contract.config import Task
from capstan_operator.api.llmmodel import EngineType
from capstan_operator.api.parse import parse_model
from capstan_operator.desired.brought import Brought, bring, find_unseen_variables
from capstan_operator.local.folder import Folder
from capstan_operator.local.launch import Choices, Launch, NotHere, engine_command, engine_environment, plan_launch
from capstan_operator.manifests.brought import brought_by, with_brought
from capstan_operator.manifests.collect import Manifests, collect
from capstan_operator.manifests.documents import Severity
from capstan_operator.manifests.reading import parse_text

PATH = "/templates/chat.jinja"


def model(**engine: Any) -> dict[str, Any]:
    """Give an LLMModel with these fields of the engine."""
    return {
        "apiVersion": "capstan.dev/v1alpha1",
        "kind": "LLMModel",
        "metadata": {"name": "m"},
        "spec": {"model": {"source": "hf://org/name"}, "engine": engine},
    }


def config_map(name: str, **data: Any) -> dict[str, Any]:
    """Give a ConfigMap."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def secret(name: str, **fields: Any) -> dict[str, Any]:
    """Give a Secret."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, **fields}


def read(*documents: dict[str, Any]) -> Manifests:
    """Give manifests of one file."""
    found, faults = parse_text(yaml.safe_dump_all(documents), file="x.yaml")
    assert faults == []
    return with_brought(collect(found))


def only(manifests: Manifests) -> Brought:
    """Give what the only model's engine gets."""
    (found,) = brought_by(manifests).values()
    return found


def said(manifests: Manifests) -> list[tuple[Severity, str, str]]:
    """Give what is told of the model."""
    return [(one.severity, one.field, one.message) for one in manifests.diagnostics]


def test_variables_of_manifests_count_where_nobody_says_them() -> None:
    """With their prefix; `engine.env` wins, and so does what Capstan sets itself."""
    manifests = read(
        model(
            env=[{"name": "A_ONE", "value": "own"}],
            envFrom=[{"prefix": "A_", "configMapRef": {"name": "c"}}, {"secretRef": {"name": "s"}}],
        ),
        config_map("c", ONE="1", TWO="2"),
        secret("s", data={"HF_TOKEN": "aGlkZGVu"}, stringData={"HOME": "/elsewhere", "PLAIN": "p"}),
    )
    assert only(manifests).variables == (("A_TWO", "2"), ("HF_TOKEN", "hidden"), ("PLAIN", "p"))
    assert said(manifests) == []


@pytest.mark.parametrize(
    "source", [config_map("c", VLLM_API_KEY="tell-nobody"), secret("c", data={"VLLM_API_KEY": "dGVsbC1ub2JvZHk="})]
)
def test_a_variable_that_capstan_relies_on_is_refused_where_it_is_seen(source: dict[str, Any]) -> None:
    """As in `engine.env`; its value is told to nobody."""
    kind = "configMapRef" if source["kind"] == "ConfigMap" else "secretRef"
    ((severity, field, message),) = said(read(model(envFrom=[{kind: {"name": "c"}}]), source))
    assert (severity, field) == (Severity.ERROR, "spec.engine.envFrom[0]")
    assert message.startswith("must not bring VLLM_API_KEY: ")
    assert "tell-nobody" not in message


def test_what_is_in_no_manifest_is_told_of() -> None:
    """It may be in the cluster; what must not be in it is named. A Secret is rarely among manifests."""
    files = [
        {"path": PATH, "configMapKeyRef": {"name": "t", "key": "k"}},
        {"path": "/etc/key", "secretKeyRef": {"name": "s", "key": "k"}},
    ]
    sources = [{"prefix": "NCCL_", "configMapRef": {"name": "c"}}, {"secretRef": {"name": "s"}}]
    first, second, third = said(read(model(envFrom=sources, files=files)))
    assert first == (Severity.WARNING, "spec.engine.envFrom[0]", "names a ConfigMap that is in none of these manifests")
    assert second[:2] == (Severity.WARNING, "spec.engine.envFrom[1]")
    assert "VLLM_API_KEY" in second[2]
    assert third[:2] == (Severity.WARNING, "spec.engine.files[0]")


def test_a_key_that_is_not_there_is_refused() -> None:
    """Its pod could never be prepared."""
    files = [{"path": PATH, "configMapKeyRef": {"name": "t", "key": "k"}}]
    ((severity, field, _),) = said(read(model(files=files), config_map("t", other="x")))
    assert (severity, field) == (Severity.ERROR, "spec.engine.files[0]")


def test_the_condition_of_a_model_says_what_must_not_be_in_what_capstan_does_not_see() -> None:
    """Unless a prefix keeps every such variable away."""
    manifest = {**model(envFrom=[{"secretRef": {"name": "s"}}, {"prefix": "NCCL_", "secretRef": {"name": "s"}}])}
    parsed = parse_model({**manifest, "metadata": {"name": "m", "namespace": "ns"}})
    assert parsed.spec is not None
    (fault,) = find_unseen_variables(parsed, parsed.spec)
    assert fault.field == "spec.engine.envFrom[0]"
    assert "VLLM_PORT" in fault.message


def test_local_mode_starts_engines_with_variables_and_files_of_the_folder(tmp_path: Path) -> None:
    """A change of either starts them anew; a fault keeps what was right before."""
    engine = {
        "type": "Simulator",
        "args": ["--fault", PATH],
        "env": [{"name": "TEMPLATE", "value": PATH}],
        "envFrom": [{"configMapRef": {"name": "c"}}],
        "files": [{"path": PATH, "configMapKeyRef": {"name": "c", "key": "k"}}],
    }
    folder = Folder(tmp_path)
    launches = []
    for text in ("one", "two"):
        (tmp_path / "a.yaml").write_text(yaml.safe_dump_all([model(**engine), config_map("c", k=text, ONE=text)]))
        reading = folder.read()
        (found,) = reading.models
        launch = plan_launch(found, Choices(), reading.brought[found.key])
        assert isinstance(launch, Launch)
        assert dict(launch.environment) == {"ONE": text, "k": text, "TEMPLATE": PATH}
        assert launch.files == ((PATH, text.encode()),)
        launches.append(launch)
    assert launches[0] != launches[1]
    bad = config_map("c", k="x", CAPSTAN_WORKER_PORT="1")
    (tmp_path / "a.yaml").write_text(yaml.safe_dump_all([model(**engine), bad]))
    reading = folder.read()
    assert [one.key for one in reading.models] == [found.key]
    assert plan_launch(found, Choices(), reading.brought[found.key]) == launches[1]
    assert any("must not bring CAPSTAN_WORKER_PORT" in sentence for _, sentence in reading.news)


def test_arguments_and_variables_name_the_files_where_they_are_on_this_machine() -> None:
    """Alone or behind an option; nothing else is touched."""
    launch = Launch(
        engine=EngineType.VLLM,
        python="python",
        model="m",
        task=Task.CHAT,
        arguments=("--chat-template", PATH, f"--other={PATH}", f"text with {PATH}"),
        environment=(("A", PATH), ("B", "x")),
    )
    places = {PATH: "/state/files/0/chat.jinja"}
    command = engine_command(launch, port=1, worker_port=2, prefixes=None, places=places)
    there = places[PATH]
    assert command[command.index("--") + 1 :] == ["--chat-template", there, f"--other={there}", f"text with {PATH}"]
    assert engine_environment(launch, places) == {"A": there, "B": "x"}


def test_vllm_is_not_started_here_without_a_file_that_its_arguments_name() -> None:
    """The reason is told instead of a crash."""
    files = [{"path": PATH, "secretKeyRef": {"name": "s", "key": "k"}}]
    parsed = parse_model(
        {**model(files=files, args=["--chat-template", PATH]), "metadata": {"name": "m", "namespace": "ns"}}
    )
    planned = plan_launch(parsed, Choices(vllm_python="python"), bring(parsed, {}))
    assert isinstance(planned, NotHere)
    assert PATH in planned.reason
