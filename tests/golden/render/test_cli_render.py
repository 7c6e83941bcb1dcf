"""`capstan render` prints what the operator would write, byte for byte the same every time.

Write the expected file again, and look at the difference, with: UPDATE_GOLDEN=1 pytest tests/golden/render
"""

import json
import os
import random
from pathlib import Path

import pytest
import yaml

from capstan_contract.reading import join_config
from capstan_operator.cli.main import main
from capstan_operator.desired.diff import needs_apply
from support.needs import ROOT

HERE = Path(__file__).parent
EXPECTED = HERE / "quickstart.yaml"
QUICKSTART = ROOT / "examples" / "quickstart"


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the environment do not reach the tests."""
    for name in os.environ:
        if name.startswith("CAPSTAN_"):
            monkeypatch.delenv(name)


def _render(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["render", *arguments]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_the_quickstart_renders_as_expected(capsys: pytest.CaptureFixture[str]) -> None:
    """The output is the golden file."""
    output = _render(capsys, str(QUICKSTART))
    if os.environ.get("UPDATE_GOLDEN"):
        EXPECTED.write_text(output)
    assert output == EXPECTED.read_text()


def test_the_order_of_files_does_not_matter(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever the order in which manifests are named, the bytes are the same."""
    files = [str(path) for path in QUICKSTART.iterdir()]
    expected = _render(capsys, *files)
    for seed in range(5):
        random.Random(seed).shuffle(files)  # noqa: S311  (an order, not a secret)
        assert _render(capsys, *files) == expected


def test_what_is_printed_is_what_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    """Read back, the objects need no apply where they are live already, and the gateway's config has its hash."""
    documents = list(yaml.safe_load_all(_render(capsys, str(QUICKSTART), "--namespace", "team")))
    assert [document["kind"] for document in documents] == ["Service", "Deployment"] * 2 + ["ConfigMap"]
    assert {document["metadata"]["namespace"] for document in documents[:-1]} == {"team"}
    assert not any(needs_apply(document, document) for document in documents)
    config = join_config(documents[-1]["data"])
    assert [entry.id for entry in config.models] == ["team/chat", "team/embed"]


def test_settings_come_from_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator's own variables say which images and namespaces are rendered."""
    monkeypatch.setenv("CAPSTAN_WORKER_IMAGE", "registry.example/worker:1")
    monkeypatch.setenv("CAPSTAN_NAMESPACE", "platform")
    documents = list(yaml.safe_load_all(_render(capsys, str(QUICKSTART))))
    assert documents[1]["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example/worker:1"
    assert documents[-1]["metadata"]["namespace"] == "platform"


def test_with_a_fault_nothing_is_printed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A fault goes to standard error with file, line and field, and half a result is never printed."""
    text = (QUICKSTART / "chat.yaml").read_text()
    (tmp_path / "chat.yaml").write_text(text.replace("contextWindow: 2048", "contextWindow: 0"))
    (tmp_path / "embed.yaml").write_text((QUICKSTART / "embed.yaml").read_text())
    assert main(["render", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"{tmp_path}/chat.yaml:" in captured.err
    assert "`spec.serving.contextWindow`" in captured.err


def test_a_wrong_setting_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that cannot be used is an error that names it."""
    monkeypatch.setenv("CAPSTAN_WORKERS", "many")
    assert main(["render", str(QUICKSTART)]) == 1
    assert "CAPSTAN_WORKERS must be a whole number" in capsys.readouterr().err


def test_members_that_are_elsewhere_are_warned_of(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A router whose members may be in the cluster is left out of what is printed, and a warning says so."""
    router = {"metadata": {"name": "front"}, "spec": {"router": {"members": [{"name": "elsewhere"}]}}}
    manifest = {"apiVersion": "capstan.dev/v1alpha1", "kind": "LLMModel", **router}
    (tmp_path / "front.yaml").write_text(yaml.safe_dump(manifest))
    assert main(["render", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert ": warning: document 1: LLMModel default/front: `spec.router.members[0].name`: names" in captured.err
    [config_map] = yaml.safe_load_all(captured.out)
    assert join_config(config_map["data"]).models == ()


def test_policies_are_in_the_config(capsys: pytest.CaptureFixture[str]) -> None:
    """The gateway's config that is printed has the policies of the manifests, and the models name them."""
    output = _render(capsys, str(ROOT / "examples" / "protected-model.yaml"))
    (config,) = [found for found in yaml.safe_load_all(output) if found["metadata"]["name"].endswith("gateway-config")]
    written = json.loads(config["data"]["config.json"])
    assert [entry["id"] for entry in written["policies"]] == ["RateLimitPolicy/default/protect-reasoner"]
    assert [entry["policies"] for entry in written["models"]] == [["RateLimitPolicy/default/protect-reasoner"]]


def test_steps_change_nothing_of_the_first_apply(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A new model has no canary: the objects are those of the same model without steps, all of them stable."""
    model = {
        "apiVersion": "capstan.dev/v1alpha1",
        "kind": "LLMModel",
        "metadata": {"name": "rolled"},
        "spec": {"model": {"source": "hf://org/name"}, "replicas": 2},
    }
    steps = {"steps": [{"weight": 5}], "gate": {"suites": [{"configMap": "answers"}]}}
    file = tmp_path / "model.yaml"
    file.write_text(json.dumps(model))
    plain = _render(capsys, str(file))
    file.write_text(json.dumps({**model, "spec": {**model["spec"], "rollout": steps}}))  # type: ignore[dict-item]
    assert _render(capsys, str(file)) == plain
    assert "canary" not in plain
