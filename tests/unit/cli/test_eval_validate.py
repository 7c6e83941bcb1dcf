"""`capstan eval validate`."""

from pathlib import Path

import pytest

from capstan_operator.cli.main import main


def test_sound_suite(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A sound suite is told in one line: what it asks, what scores, and what it needs."""
    path = tmp_path / "s.yaml"
    path.write_text(
        "name: s\ndefaults: {repeats: 2, criteria: It is polite., checks: [{type: Exact}, {type: Similarity}]}\n"
        "cases: [{id: a, turns: [One?, Two?], expected: x}, {id: b, prompt: x, expected: x}]\n"
    )
    assert main(["eval", "validate", str(path)]) == 0
    said = capsys.readouterr().out
    assert f"{path}: s: 2 cases, 6 requests; exact, similarity, judge:it-is-polite" in said
    assert "needs a judge and a model of embeddings; margin 0.05; " in said


def test_faults(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """All faults of all suites are told, those too that only scorers know; nothing that a terminal obeys is printed."""
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("name: s\nmargin: 2\ncases: [{id: a, prompt: x, chicks: 1}]\n")
    second.write_text(
        "name: s\ncases:\n- {id: a, prompt: x, expected: none, checks: [{type: Numeric}]}\n"
        "- {id: b, prompt: x, checks: [{type: JsonSchema, jsonSchema: {type: objekt}}]}\n"
    )
    assert main(["eval", "validate", str(first), str(second), str(tmp_path / "c\x1b.yaml")]) == 1
    said = capsys.readouterr().err
    assert "`margin`: must be less than 1" in said
    assert "case a: `chicks`: is not a field; did you mean checks?" in said
    assert "case a: `checks[0] (numeric)`: needs a number in `expected`, or `value`" in said
    assert "case b: `checks[0] (jsonSchema)`: `jsonSchema` is no JSON Schema, at type" in said
    assert "cannot be read: No such file" in said
    assert "\x1b" not in said


def test_as_configmap(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """As a cluster would read it, data must be beside the suite."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text("prompt\nx\n")
    path = tmp_path / "s.yaml"
    path.write_text("name: s\ndata: [{file: data/a.csv}]\n")
    assert main(["eval", "validate", str(path)]) == 0
    assert main(["eval", "validate", "--as-configmap", str(path)]) == 1
    assert "must be a key of the ConfigMap, and no path" in capsys.readouterr().err
