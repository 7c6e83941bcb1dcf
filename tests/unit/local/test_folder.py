"""The folder keeps what was right."""

from pathlib import Path

from capstan_operator.local.folder import Folder, Reading


def _write(path: Path, name: str, *, served: str | None = None, extra: str = "") -> None:
    lines = ["apiVersion: capstan.dev/v1alpha1", "kind: LLMModel", f"metadata: {{name: {name}}}", "spec:"]
    lines += [f"  model: {{source: 'hf://a/b', servedName: {served or name}}}", extra]
    path.write_text("\n".join(lines) + "\n")


def _names(reading: Reading) -> dict[str, str | None]:
    return {model.key.name: model.spec.model.servedName if model.spec else None for model in reading.models}


def test_a_broken_file_counts_as_it_was(tmp_path: Path) -> None:
    """A fault is told with file, line and field, and only that file's last good content stays in its place."""
    _write(tmp_path / "a.yaml", "a")
    _write(tmp_path / "b.yaml", "b")
    folder = Folder(tmp_path)
    assert _names(folder.read()) == {"a": "a", "b": "b"}
    _write(tmp_path / "a.yaml", "a", served="renamed", extra="  replicas: -1")
    _write(tmp_path / "b.yaml", "b", served="other")
    reading = folder.read()
    assert _names(reading) == {"a": "a", "b": "other"}
    [(subject, sentence)] = reading.news
    assert subject == "error"
    assert f"{tmp_path / 'a.yaml'}:6" in sentence
    assert "`spec.replicas`" in sentence
    assert "still served" in sentence


def test_faults_are_told_once_and_their_end_too(tmp_path: Path) -> None:
    """The same fault is not repeated at every save; when all are gone that is told."""
    _write(tmp_path / "a.yaml", "a")
    folder = Folder(tmp_path)
    folder.read()
    (tmp_path / "a.yaml").write_text("{")
    assert len(folder.read().news) == 1
    assert folder.read().news == ()
    _write(tmp_path / "a.yaml", "a")
    assert folder.read().news == (("manifests", "are right again"),)


def test_a_file_that_is_being_written_counts_as_it_was(tmp_path: Path) -> None:
    """Editors empty a file before they write it; that is not the deletion of its models."""
    _write(tmp_path / "a.yaml", "a")
    folder = Folder(tmp_path)
    folder.read()
    (tmp_path / "a.yaml").write_text("")
    assert _names(folder.read()) == {"a": "a"}


def test_a_deleted_file_takes_its_models_with_it(tmp_path: Path) -> None:
    """Removing the file removes the model, also when the file was broken before."""
    _write(tmp_path / "a.yaml", "a")
    _write(tmp_path / "b.yaml", "b")
    folder = Folder(tmp_path)
    folder.read()
    (tmp_path / "a.yaml").write_text("{")
    folder.read()
    (tmp_path / "a.yaml").unlink()
    assert _names(folder.read()) == {"b": "b"}


def test_a_file_that_is_wrong_from_the_start_gives_what_is_right_in_it(tmp_path: Path) -> None:
    """Of a file that was never right, the sound models are served."""
    _write(tmp_path / "a.yaml", "a")
    good = (tmp_path / "a.yaml").read_text()
    _write(tmp_path / "a.yaml", "b", extra="  replicas: -1")
    (tmp_path / "a.yaml").write_text(good + "---\n" + (tmp_path / "a.yaml").read_text())
    reading = Folder(tmp_path).read()
    assert _names(reading) == {"a": "a"}
    assert "document 2" in reading.news[0][1]


def test_one_file_is_a_folder_too(tmp_path: Path) -> None:
    """With -f FILE only that file counts, and its folder is watched so that a replaced file is noticed."""
    _write(tmp_path / "a.yaml", "a")
    _write(tmp_path / "b.yaml", "b")
    folder = Folder(tmp_path / "a.yaml")
    assert _names(folder.read()) == {"a": "a"}
    assert folder.watched == tmp_path
    assert folder.holds(tmp_path / "a.yaml")
    assert not folder.holds(tmp_path / "b.yaml")


def _write_prompt(path: Path, text: str) -> None:
    metadata = "metadata: {name: prompts}"
    (path / "prompts.yaml").write_text(f"apiVersion: v1\nkind: ConfigMap\n{metadata}\ndata: {{rules: '{text}'}}\n")


def _prompts(reading: Reading) -> dict[str, str]:
    [model] = reading.models
    assert model.spec is not None
    return model.spec.prompts


def test_a_prompt_of_a_config_map_follows_its_file(tmp_path: Path) -> None:
    """The file is one of the manifests: nothing is said of it; when it is gone, that is told, and the text stays."""
    source = "{configMapKeyRef: {name: prompts, key: rules}}"
    _write(tmp_path / "a.yaml", "a", extra=f"  prefixes: [{{name: house, systemFrom: {source}}}]")
    _write_prompt(tmp_path, "Be kind.")
    folder = Folder(tmp_path)
    reading = folder.read()
    assert (_prompts(reading), reading.news) == ({"house": "Be kind."}, ())
    _write_prompt(tmp_path, "Be brief.")
    assert _prompts(folder.read()) == {"house": "Be brief."}
    (tmp_path / "prompts.yaml").unlink()
    reading = folder.read()
    assert _prompts(reading) == {"house": "Be brief."}
    [(severity, sentence)] = reading.news
    assert severity == "warning"
    assert "names a ConfigMap that is in none of these manifests" in sentence
    _write_prompt(tmp_path, "Be kind.")
    reading = folder.read()
    assert (_prompts(reading), reading.news) == ({"house": "Be kind."}, (("manifests", "are right again"),))
