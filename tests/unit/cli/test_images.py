"""`capstan images`: what an install and its models pull."""

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from capstan_operator.cli.main import main
from support.helm import CHART, render
from support.kubernetes import program
from support.needs import ROOT

REGISTRY = "air.example.com:5000/mirror"
VALUES: dict[str, Any] = {"image": {"registry": REGISTRY}, "redis": {"enabled": True}}
OWN = [f"{REGISTRY}/{part}:{yaml.safe_load((CHART / 'Chart.yaml').read_text())['appVersion']}" for part in
       ("gateway", "operator", "worker")]  # fmt: skip
SETS = ROOT / "tests/golden/chart/values"
REDIS = yaml.safe_load((CHART / "values.yaml").read_text())["redis"]["image"]["tag"]


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the environment do not reach the tests."""
    for name in os.environ:
        if name.startswith("CAPSTAN_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file with what `helm template` gives for VALUES."""
    path = tmp_path_factory.mktemp("rendered") / "all.yaml"
    path.write_text(yaml.safe_dump_all(render(VALUES)))
    return str(path)


def _printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["images", *words]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def _refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["images", *words]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_a_set_of_values_and_manifests(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """helm renders the chart with the values; models run what that operator would give them; nothing else is listed."""
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump({"redis": VALUES["redis"], "image": {"registry": "other.example.com"}}))
    chart = ["--chart", str(CHART), "--helm", program("helm"), "--values", str(values)]
    words = [*chart, "--set", f"image.registry={REGISTRY}", str(ROOT / "examples" / "tgi.yaml")]
    tgi = f"{REGISTRY}/huggingface/text-generation-inference:3.3.7"
    redis = f"{REGISTRY}/library/redis:{REDIS}"
    assert _printed(capsys, *words).splitlines() == sorted([*OWN, tgi, redis])


@pytest.mark.parametrize("name", sorted(path.name for path in SETS.glob("*.yaml")))
def test_the_chart_refuses_nothing_for_what_a_cluster_may_lack(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Values that need kinds of others, such as an HTTPRoute, list their images as all others do: no cluster is
    asked."""
    chart = ["--chart", str(CHART), "--helm", program("helm"), "--values", str(SETS / name)]
    assert len(_printed(capsys, *chart).splitlines()) > len(OWN)


def test_without_manifests_every_engine_is_there(capsys: pytest.CaptureFixture[str], rendered: str) -> None:
    """Who has no manifests yet mirrors what models run by default, whichever engine they choose."""
    found = _printed(capsys, "--rendered", rendered).splitlines()
    engines = ("huggingface/text-generation-inference:3.3.7", "lmsysorg/sglang:v0.5.20", f"library/redis:{REDIS}")
    assert found == sorted([*OWN, *(f"{REGISTRY}/{engine}" for engine in engines)])


def test_json_says_who_and_where_from(capsys: pytest.CaptureFixture[str], rendered: str, tmp_path: Path) -> None:
    """An image of others has the place where it is published, one of ours and one that a manifest names have none; each
    has who runs it, those of objects that are not ours too."""
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "mine"},
        "spec": {"template": {"spec": {
            "initContainers": [{"name": "a", "image": "mine.example.com/a:1"}],
            "containers": [{"name": "b", "image": f"{REGISTRY}/vllm/vllm-openai@sha256:{'0' * 64}"}],
            "volumes": [{"name": "w", "image": {"reference": "mine.example.com/weights:1"}}],
        }}},
    }  # fmt: skip
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    found = json.loads(_printed(capsys, "--rendered", rendered, "-n", "team", "-o", "json", str(tmp_path)))["images"]
    by_name = {item["image"]: item for item in found}
    assert by_name[f"{REGISTRY}/library/redis:{REDIS}"] == {
        "image": f"{REGISTRY}/library/redis:{REDIS}",
        "source": f"docker.io/library/redis:{REDIS}",
        "usedBy": ["StatefulSet capstan-system/capstan-redis"],
    }
    vllm = by_name[f"{REGISTRY}/vllm/vllm-openai@sha256:{'0' * 64}"]
    assert vllm["source"] == f"docker.io/vllm/vllm-openai@sha256:{'0' * 64}"
    assert by_name["mine.example.com/a:1"] == {
        "image": "mine.example.com/a:1", "source": None, "usedBy": ["Job team/mine"],
    }  # fmt: skip
    assert by_name["mine.example.com/weights:1"]["usedBy"] == ["Job team/mine"]
    assert by_name[OWN[2]] == {"image": OWN[2], "source": None, "usedBy": ["models"]}


def test_standard_input(capsys: pytest.CaptureFixture[str], rendered: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What helm has printed may come by a pipe."""
    expected = _printed(capsys, "--rendered", rendered)
    monkeypatch.setattr("sys.stdin", io.StringIO(Path(rendered).read_text()))
    assert _printed(capsys, "--rendered", "-") == expected


def test_profiles_of_the_chart_count(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A model that names a profile of the chart runs the image that it has; one that nobody has is an error. Without
    manifests any profile may be named, as any engine may be chosen."""
    path, model = tmp_path / "chart.yaml", tmp_path / "model.yaml"
    path.write_text(
        yaml.safe_dump_all(render({**VALUES, "profiles": {"amd": {"engines": {"vLLM": {"image": "mine/rocm:1"}}}}}))
    )
    spec = {"model": {"source": "hf://org/name"}, "resources": {"gpus": 1}, "profile": "amd"}
    manifest = {"apiVersion": "capstan.dev/v1alpha1", "kind": "LLMModel", "metadata": {"name": "a"}, "spec": spec}
    model.write_text(yaml.safe_dump(manifest))
    assert "mine/rocm:1" in _printed(capsys, "--rendered", str(path), str(model)).splitlines()
    assert "names the profile 'amd'" in _refused(capsys, str(model))
    found = json.loads(_printed(capsys, "--rendered", str(path), "-o", "json"))["images"]
    assert [one["usedBy"] for one in found if one["image"] == "mine/rocm:1"] == [["profile amd"]]
    model.write_text(yaml.safe_dump({**manifest, "spec": {"model": spec["model"]}}))
    assert "mine/rocm:1" not in _printed(capsys, "--rendered", str(path), str(model))


def test_manifests_alone(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a chart the operator's settings say which images, as for `capstan render`."""
    monkeypatch.setenv("CAPSTAN_WORKER_IMAGE", "mine.example.com/worker:1")
    assert _printed(capsys, str(ROOT / "examples" / "quickstart")) == "mine.example.com/worker:1\n"


def test_what_cannot_be_known_is_an_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """No helm, values that the chart refuses, a file that is not there, is no YAML or no chart of ours, and faulty
    manifests each say so, and no list is printed that would be too short."""
    chart = ["--chart", str(CHART)]
    assert "nohelm cannot be run" in _refused(capsys, *chart, "--helm", "nohelm")
    refused = _refused(capsys, *chart, "--helm", program("helm"))
    assert "image.registry is needed" in refused
    assert "--debug" not in refused
    assert "cannot be read" in _refused(capsys, "--rendered", str(tmp_path / "absent"))
    (tmp_path / "bad").write_text("a: b: c")
    assert "is no YAML" in _refused(capsys, "--rendered", str(tmp_path / "bad"))
    (tmp_path / "other").write_text("kind: Pod")
    assert "has no operator in it" in _refused(capsys, "--rendered", str(tmp_path / "other"))
    (tmp_path / "model.yaml").write_text(
        "apiVersion: capstan.dev/v1alpha1\nkind: LLMModel\nmetadata: {name: a}\nspec: {}\n"
    )
    assert "model.yaml" in _refused(capsys, str(tmp_path / "model.yaml"))
    assert "nothing to look at" in _refused(capsys)
