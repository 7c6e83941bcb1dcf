"""Runs that have a name."""

from pathlib import Path

import pytest

from capstan_evaluation.records import Answer, Result, RunHeader
from capstan_evaluation.runs.baselines import list_baselines, load_baseline, set_baseline
from capstan_evaluation.runs.files import BadRun, RunWriter
from capstan_operator.cli.main import main

HEADER = RunHeader(id="one", suite="maths", suiteHash="ab", target="llama", cases=1, repeats=1, began="2026-01-01")


def a_run(path: Path, target: str = "llama", *, over: bool = True) -> Path:
    """The file of a run."""
    with RunWriter(path, HEADER.model_copy(update={"target": target})) as writer:
        if over:
            writer.result(Result(case="a", request="r", answer=Answer(text="4")))
    return path


def test_a_baseline_is_a_copy(tmp_path: Path) -> None:
    """What happens to the run's file later changes no baseline, and setting it again replaces it."""
    run = a_run(tmp_path / "run.jsonl")
    set_baseline(tmp_path / "b", "main", run)
    run.unlink()
    assert load_baseline(tmp_path / "b", "main").header.target == "llama"
    set_baseline(tmp_path / "b", "main", a_run(tmp_path / "other.jsonl", "qwen"))
    assert [one.header and one.header.target for one in list_baselines(tmp_path / "b")] == ["qwen"]
    assert len(list((tmp_path / "b").iterdir())) == 1


def test_half_a_run_is_no_baseline(tmp_path: Path) -> None:
    """A run that is not over takes no name, and the one before keeps it."""
    set_baseline(tmp_path, "main", a_run(tmp_path / "run"))
    with pytest.raises(BadRun, match="not over"):
        set_baseline(tmp_path, "main", a_run(tmp_path / "half", over=False))
    assert load_baseline(tmp_path, "main").results


@pytest.mark.parametrize("name", ["", "../up", "A", "a/b", ".hidden", "a-", "x" * 64])
def test_what_is_no_name_is_refused(tmp_path: Path, name: str) -> None:
    """A name is one file of the directory, and nothing else."""
    with pytest.raises(BadRun, match="no name of a baseline"):
        load_baseline(tmp_path, name)


def test_the_command_sets_and_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`capstan eval baseline` says what there is, and what cannot be read, and 2 for what cannot be done."""
    folder = str(tmp_path / "b")
    assert main(["eval", "baseline", "set", "main", str(a_run(tmp_path / "run")), "--dir", folder]) == 0
    (tmp_path / "b" / "odd.jsonl").write_text("x\n")
    capsys.readouterr()
    assert main(["eval", "baseline", "list", "--dir", folder]) == 0
    out = capsys.readouterr().out
    assert "main  maths" in out
    assert "is no run" in out
    assert main(["eval", "baseline", "set", "main", str(tmp_path / "none"), "--dir", folder]) == 2
    assert "error:" in capsys.readouterr().err
