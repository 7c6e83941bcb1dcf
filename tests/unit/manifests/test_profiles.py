"""Profiles in ConfigMaps of files: `capstan validate`, `render` and `up` merge them as the operator does."""

from pathlib import Path

from capstan_operator.cli.render import render
from capstan_operator.desired.faults import find_faults
from capstan_operator.local.folder import Folder
from capstan_operator.manifests.collect import Manifests, collect
from capstan_operator.manifests.documents import Severity
from capstan_operator.manifests.judge import judge_resources
from capstan_operator.manifests.profiles import with_profiles
from capstan_operator.manifests.reading import parse_text
from capstan_operator.resources.resource import ObjectKey
from capstan_operator.settings import Settings

MODEL = """\
apiVersion: capstan.dev/v1alpha1
kind: LLMModel
metadata: {name: a}
spec:
  model: {source: hf://org/name}
  profile: l4
  resources: {gpus: 1, nodeSelector: {own: x}}
---
"""


def config_map(data: str, *, name: str = "profiles", label: str = "app.kubernetes.io/component: profiles") -> str:
    """A ConfigMap with this data, which may be anything."""
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, labels: {{{label}}}}}\ndata: {data}\n---\n"


GOOD = config_map('{l4: "nodeSelector: {gpu: l4}\\nruntimeClassName: nvidia"}')


def read(text: str, missing: Severity = Severity.WARNING) -> Manifests:
    """Judge one file."""
    documents, _ = parse_text(text, file="m.yaml")
    return with_profiles(collect(documents), missing=missing)


def test_a_profile_is_taken_from_the_files() -> None:
    """Nothing is said of a ConfigMap that holds profiles; of another one that nobody looks at it."""
    found = read(MODEL + GOOD + config_map("{l4: x}", name="other", label="a: b"))
    spec = found.models[ObjectKey("default", "a")].spec
    assert spec is not None
    assert spec.resources.nodeSelector == {"gpu": "l4", "own": "x"}
    assert [(one.severity, one.resource) for one in found.diagnostics] == [
        (Severity.NOTICE, "ConfigMap default/other"),
    ]


def test_a_profile_that_no_file_has_may_be_in_the_cluster() -> None:
    """It is a warning for who checks manifests, and an error for who wants to see what would be written."""
    [said] = read(MODEL).diagnostics
    assert (said.severity, said.field, said.line) == (Severity.WARNING, "spec.profile", 6)
    assert "'l4', which is in none of these manifests" in said.message
    assert read(MODEL, Severity.ERROR).failed


def test_a_faulty_profile_is_told_where_it_stands_and_where_it_is_named() -> None:
    """The ConfigMap's line, and the manifest that cannot be used with it."""
    found = read(MODEL + config_map('{l4: "nodeSelectors: {}", other: "{}"}'))
    [said] = found.diagnostics
    assert (said.severity, said.resource, said.field, said.line) == (
        Severity.ERROR,
        "ConfigMap default/profiles",
        "data.l4",
        12,
    )
    assert [one.field for one in judge_resources(found)] == ["spec.profile"]


def test_two_profiles_of_one_name_are_a_warning() -> None:
    """Files have no age: the first by name counts, and the other one is said to have no effect."""
    found = read(MODEL + GOOD + config_map('{l4: ""}', name="z"))
    assert [(one.severity, one.resource) for one in found.diagnostics] == [
        (Severity.WARNING, "ConfigMap default/z"),
    ]
    assert find_faults(found.models[ObjectKey("default", "a")]) == ()


def test_render_says_which_profile_gives_what() -> None:
    """In a comment before the model's objects; a field of which the manifest has a part is marked."""
    text = render(read(MODEL + GOOD), Settings())
    comments = [line for line in text.splitlines() if line.startswith("# default/a")]
    assert comments == [
        "# default/a: the profile 'l4' of the ConfigMap 'profiles' gives resources.nodeSelector (in part),"
        " resources.runtimeClassName"
    ]
    assert "runtimeClassName: nvidia" in text


def test_a_folder_keeps_a_profile_that_was_right(tmp_path: Path) -> None:
    """One that becomes faulty counts as it was, and so does one whose file goes while a model names it."""
    (tmp_path / "model.yaml").write_text(MODEL)
    profiles = tmp_path / "profiles.yaml"
    profiles.write_text(GOOD)
    folder = Folder(tmp_path)

    def selector() -> dict[str, str]:
        [model] = folder.read().models
        assert model.spec is not None
        return model.spec.resources.nodeSelector

    assert selector() == {"gpu": "l4", "own": "x"}
    profiles.write_text(GOOD.replace("nodeSelector:", "nodeSelectors:"))
    assert selector() == {"gpu": "l4", "own": "x"}
    profiles.unlink()
    assert selector() == {"gpu": "l4", "own": "x"}
    profiles.write_text(GOOD.replace("gpu: l4", "gpu: new"))
    assert selector() == {"gpu": "new", "own": "x"}


def test_a_folder_keeps_a_model_that_a_profile_makes_faulty(tmp_path: Path) -> None:
    """It serves on as it was, what is wrong is told, and neither is said to be served that never was right."""
    (tmp_path / "model.yaml").write_text(MODEL)
    profiles = tmp_path / "profiles.yaml"
    profiles.write_text(GOOD)
    folder = Folder(tmp_path)
    (before,) = folder.read().models
    profiles.write_text(config_map('{l4: "engines: {vLLM: {args: [--api-key, x]}}"}'))
    (tmp_path / "new.yaml").write_text(MODEL.replace("{name: a}", "{name: b}"))
    reading = folder.read()
    assert reading.models == (before,)
    told = {sentence for severity, sentence in reading.news if severity == "error"}
    (of_old,) = (one for one in told if "LLMModel default/a" in one)
    (of_new,) = (one for one in told if "LLMModel default/b" in one)
    assert "must not set --api-key" in of_old
    assert of_old.endswith("(what was right before is still served)")
    assert "must not set --api-key" in of_new
    assert "still served" not in of_new
    profiles.write_text(GOOD)
    assert {model.key.name for model in folder.read().models} == {"a", "b"}


def test_a_folder_judges_a_model_with_its_profile(tmp_path: Path) -> None:
    """What a profile of another file makes good is no fault, and an edit of such a model is taken up."""
    (tmp_path / "profiles.yaml").write_text(
        config_map('{l4: "env: [{name: AWS_ENDPOINT_URL, value: https://s3.oss-cn-hangzhou.aliyuncs.com}]"}')
    )
    manifest = tmp_path / "model.yaml"
    folder = Folder(tmp_path)
    for source in ("hf://org/name", "oss://bucket/name", "oss://bucket/other"):
        manifest.write_text(MODEL.replace("hf://org/name", source))
        reading = folder.read()
        assert [model.spec and model.spec.model.source for model in reading.models] == [source]
        assert not [sentence for severity, sentence in reading.news if severity == "error"]
