"""Folders of manifests: what is found, and what is said about it."""

import os
from pathlib import Path

import pytest

from capstan_operator.manifests import reading
from capstan_operator.manifests.collect import Manifests, collect, load_manifests
from capstan_operator.manifests.documents import Severity
from capstan_operator.manifests.reading import parse_text
from capstan_operator.resources.resource import ObjectKey

MODEL = """\
apiVersion: capstan.dev/v1alpha1
kind: LLMModel
metadata: {name: NAME}
spec:
  model:
    source: hf://org/name
"""


def model(name: str) -> str:
    """A sound manifest."""
    return MODEL.replace("NAME", name)


def read(text: str, *, file: str = "m.yaml", namespace: str = "default") -> Manifests:
    """Judge one file."""
    documents, diagnostics = parse_text(text, file=file)
    judged = collect(documents, namespace=namespace)
    return Manifests(judged.resources, judged.origins, judged.others, (*diagnostics, *judged.diagnostics))


def said(found: Manifests) -> list[str]:
    """The diagnostics, as they are printed."""
    return [str(diagnostic) for diagnostic in found.diagnostics]


def test_several_documents() -> None:
    """A file may hold several objects; empty documents count, and are nothing."""
    found = read(f"---\n{model('a')}---\n# nothing\n---\n{model('b')}")
    assert list(found.models) == [ObjectKey("default", "a"), ObjectKey("default", "b")]
    assert [document.number for document in found.origins.values()] == [1, 3]
    assert found.diagnostics == ()


def test_fault_has_file_line_document_and_field() -> None:
    """A diagnostic leads to the line of the field."""
    text = f"{model('a')}---\n{model('b')}  resources:\n    cpu: 500m\n    gpus: many\n"
    assert said(read(text)) == [
        "m.yaml:16: document 2: LLMModel default/b: `spec.resources.gpus`: must be a whole number without quotes"
    ]


def test_a_namespace_that_is_a_path_is_a_fault() -> None:
    """A namespace that leads out of a folder is reported with file, line and field; so is one from the command line."""
    text = model("a").replace("{name: a}", "\n  name: a\n  namespace: ../../evil")
    found = read(text)
    rule = "lower case letters, digits and '-', beginning and ending with a letter or digit"
    resource = "LLMModel ../../evil/a"
    assert said(found) == [f"m.yaml:5: document 1: {resource}: `metadata.namespace`: must be {rule}"]
    assert [judged.spec for judged in found.models.values()] == [None]
    assert [diagnostic.field for diagnostic in read(model("a"), namespace="../x").diagnostics] == ["metadata.namespace"]


def test_missing_field_points_to_its_parent() -> None:
    """A field that is not there has no line; the line is that of the nearest part around it."""
    assert said(read(model("a") + "  scaling:\n    min: 1\n")) == [
        "m.yaml:7: document 1: LLMModel default/a: `spec.scaling.max`: is required"
    ]


def test_yaml_fault_has_a_line() -> None:
    """Text that is not YAML is reported where it breaks; documents before it are still read."""
    found = read(f"{model('a')}---\nkind: a: b\n")
    assert list(found.models) == [ObjectKey("default", "a")]
    assert said(found) == ["m.yaml:8: document 2: is not YAML: mapping values are not allowed in this context"]


def test_repeated_key_is_a_fault() -> None:
    """YAML's last key would win silently."""
    found = read(model("a") + "  replicas: 1\n  replicas: 2\n")
    assert said(found) == ["m.yaml:8: document 1: has the key `replicas` twice in `spec`"]
    assert found.failed


def test_other_groups_are_passed_over() -> None:
    """Objects that are not ours are kept aside with a notice."""
    found = read(f"apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\n---\n{model('a')}")
    assert [document.manifest["kind"] for document in found.others] == ["Secret"]
    assert [diagnostic.severity for diagnostic in found.diagnostics] == [Severity.NOTICE]
    assert not found.failed


@pytest.mark.parametrize(
    ("version", "kind", "sentence"),
    [
        (
            "capstan.dev/v1alpha1",
            "LlmModel",
            "`kind`: must be LLMModel or CachePolicy or GuardPolicy or RateLimitPolicy",
        ),
        ("capstan.dev/v1", "LLMModel", "`apiVersion`: must be capstan.dev/v1alpha1"),
        ("capstan.dev", "LLMModel", "`apiVersion`: must be capstan.dev/v1alpha1"),
        ("v1alpha1", "LLMModel", "`apiVersion`: must be capstan.dev/v1alpha1"),
        ("capstan.de/v1alpha1", "LLMModel", "`apiVersion`: must be capstan.dev/v1alpha1"),
        ('""', "LLMModel", "`apiVersion`: is required, and must be a string"),
        ("v1", "5", "`kind`: is required, and must be a string"),
    ],
)
def test_wrong_kind(version: str, kind: str, sentence: str) -> None:
    """A slip in kind or apiVersion of one of ours is an error that says what is allowed."""
    found = read(f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: a}}\n")
    assert [line.split(": ", 2)[2].removeprefix(f"{kind} default/a: ") for line in said(found)] == [sentence]
    assert found.failed


def test_same_kind_of_another_group_is_passed_over() -> None:
    """Somebody else's LLMModel is not ours."""
    assert not read("apiVersion: models.example.com/v1\nkind: LLMModel\nmetadata: {name: a}\n").failed


def test_duplicates_are_errors() -> None:
    """The same resource twice is an error that names the first place; other namespaces are other resources."""
    twin = model("a").replace("{name: a}", "{name: a, namespace: default}")
    elsewhere = model("a").replace("{name: a}", "{name: a, namespace: team}")
    found = read(f"{model('a')}---\n{twin}---\n{elsewhere}")
    assert said(found) == [
        "m.yaml:10: document 2: LLMModel default/a: `metadata.name`: is there twice; the first is in m.yaml:1"
    ]
    assert list(found.models) == [ObjectKey("default", "a"), ObjectKey("team", "a")]


def test_namespace_is_filled_in() -> None:
    """Objects that name no namespace get the one that was asked for."""
    found = read(model("a"), namespace="team")
    assert list(found.models) == [ObjectKey("team", "a")]


def test_list_is_taken_apart() -> None:
    """A List, as kubectl get -o yaml prints one, holds objects like any file."""
    items = "".join("- " + model(name).replace("\n", "\n  ").rstrip() + "\n" for name in ("a", "b"))
    found = read("apiVersion: v1\nkind: List\nitems:\n" + items + "  specs: 1\n- 5\n")
    assert list(found.models) == [ObjectKey("default", "a"), ObjectKey("default", "b")]
    assert said(found) == [
        "m.yaml:17: document 1: List: `items[2]`: must be an object",
        "m.yaml:16: document 1: LLMModel default/b: `specs`: is not a field; did you mean spec?",
    ]


def test_json_with_tabs() -> None:
    """JSON files may be indented with tabs."""
    head = '"apiVersion": "capstan.dev/v1alpha1",\n\t"kind": "LLMModel"'
    text = f'{{\n\t{head},\n\t"metadata": {{"name": "a"}},\n\t"spec": 1\n}}'
    assert said(read(text, file="m.json")) == ["m.json:5: document 1: LLMModel default/a: `spec`: must be an object"]


@pytest.mark.parametrize("text", ["- 1\n", "text\n", "5\n"])
def test_document_must_be_an_object(text: str) -> None:
    """A list or a scalar is no manifest."""
    assert said(read(text)) == ["m.yaml:1: document 1: must be an object with apiVersion and kind"]


def test_folder_is_read_recursively(tmp_path: Path) -> None:
    """Every .yaml, .yml and .json below a folder is read in the order of names; hidden ones and others are not."""
    for name in ("b.yaml", "a/c.yml", "a/d.json", ".hidden.yaml", ".git/e.yaml", "notes.txt"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(model(Path(name).stem.strip(".")))
    found = load_manifests([tmp_path])
    assert [key.name for key in found.models] == ["b", "c", "d"]
    assert found.diagnostics == ()


def test_named_file_is_read_whatever_its_suffix_and_once(tmp_path: Path) -> None:
    """A file that is named twice, or by itself and by its folder, is not a duplicate of itself."""
    file = tmp_path / "model.txt"
    file.write_text(model("a"))
    assert not load_manifests([file, file]).failed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"kind: \xff\n", "is not UTF-8"),
        (b"a: 1\n" * 50, "has more than 100 bytes"),
    ],
)
def test_unreadable_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str) -> None:
    """A file that cannot be read is an error of that file only."""
    monkeypatch.setattr(reading, "MOST_FILE_BYTES", 100)
    (tmp_path / "bad.yaml").write_bytes(content)
    found = load_manifests([tmp_path])
    assert [diagnostic.message for diagnostic in found.diagnostics] == [message]


def test_paths_without_manifests(tmp_path: Path) -> None:
    """A path that is not there, and a folder with nothing in it, are errors."""
    missing = tmp_path / "missing"
    assert said(load_manifests([missing, tmp_path])) == [
        f"{missing}: does not exist",
        f"{tmp_path}: has no file that ends in .yaml, .yml, .json",
    ]


def test_pipe_is_not_read(tmp_path: Path) -> None:
    """Reading a pipe would hang."""
    os.mkfifo(tmp_path / "pipe.yaml")
    assert [diagnostic.message for diagnostic in load_manifests([tmp_path]).diagnostics] == ["is not a regular file"]


def test_suites_beside_manifests() -> None:
    """A suite of `capstan eval` among manifests is told, and is no fault; an object without its head is one."""
    found = read(f"name: s\ncases: [{{id: a, prompt: x}}]\n---\n{model('a')}")
    assert said(found) == ["m.yaml:1: document 1: is a suite of `capstan eval`; passed over"]
    assert [one.severity for one in found.diagnostics] == [Severity.NOTICE]
    assert found.others == ()
    (fault,) = read("metadata: {name: a}\ndata: {a: b}\n").diagnostics
    assert fault.severity is Severity.ERROR
