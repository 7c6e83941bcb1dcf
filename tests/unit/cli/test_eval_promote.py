"""`capstan eval promote`: bad answers become cases, each prompt once, and nothing of the user's is rewritten."""

import json
from pathlib import Path
from typing import Any

import pytest

from capstan_contract.feedback import Feedback, Label, Source
from capstan_contract.samples import Sample, Turn
from capstan_evaluation.suites.load import load_suite
from capstan_operator.cli.main import main

SUITE = """\
# What we ask.
name: support
data:
  - file: promoted.jsonl   # grows by `capstan eval promote`
defaults:
  system: Be polite.
  criteria: The answer is right.
cases:
  - {id: own, prompt: What is 2 and 2?}
"""


class Folder:
    """A suite, and files around it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.suite = path / "suite.yaml"
        self.suite.write_text(SUITE)
        self.data = path / "promoted.jsonl"

    def write(self, name: str, *rows: Any) -> str:
        """Write lines of JSON."""
        (self.path / name).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        return str(self.path / name)

    def feedback(self, *ids: str, label: Label = Label.BAD) -> str:
        """Write what was said of these answers."""
        said = [
            Feedback(
                at=1, id=id, requestId=f"r-{id}", model="a", score=0.0, label=label, comment="bad",
                source=Source.USER, tenant="red",
            ).model_dump(mode="json")
            for id in ids
        ]  # fmt: skip
        return self.write("feedback.jsonl", *said)

    def promote(self, *words: str) -> int:
        """Run it."""
        return main(["eval", "promote", *words, "--suite", str(self.suite)])


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A suite of one case."""
    return Folder(tmp_path)


def test_bad_answers_become_cases(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    """Each with the tag, the prompt and what is known to be right; the suite's own file stays as it was, byte by byte,
    and what the cases come from is written apart."""
    prompts = folder.write(
        "p.jsonl",
        {"response_id": "1", "prompt": "Where is my order?", "expected": "In the post."},
        {"request_id": "r-2", "messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "Why?"}]},
    )
    assert folder.promote(folder.feedback("1", "2"), "--prompts", prompts) == 0
    assert folder.suite.read_text() == SUITE
    suite = load_suite(folder.suite)
    added = [case for case in suite.cases if "promoted" in case.tags]
    assert [case.turns[0].messages[-1].content for case in added] == ["Where is my order?", "Why?"]
    assert added[0].expected == "In the post."
    provenance = [
        json.loads(line) for line in (folder.path / "promoted.jsonl.provenance.jsonl").read_text().split("\n")[:2]
    ]
    assert [(one["case"], one["responseId"]) for one in provenance] == [(added[0].id, "1"), (added[1].id, "2")]
    assert "2 cases added" in capsys.readouterr().out


def test_each_prompt_is_asked_once(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    """A prompt that the suite asks already, by hand or promoted before, or that two answers were to, is one case."""
    prompts = folder.write(
        "p.jsonl", {"response_id": "1", "prompt": "Why?"}, {"response_id": "2", "prompt": "Why?"},
        {"response_id": "3", "prompt": "What is 2 and 2?"},
    )  # fmt: skip
    assert folder.promote(folder.feedback("1", "2", "3"), "--prompts", prompts) == 0
    assert "1 cases added" in capsys.readouterr().out
    before = folder.data.read_bytes()
    assert folder.promote(folder.feedback("1", "2", "3"), "--prompts", prompts) == 0
    assert "0 cases added" in capsys.readouterr().out
    assert folder.data.read_bytes() == before


def test_samples_have_texts(folder: Folder) -> None:
    """A request that was sampled is found by its id."""
    sample = Sample(
        id="r-1", model="n/a", prompt=(Turn(role="user", text="Whence?"),), answer="Hence.", at=1.0
    )  # fmt: skip
    samples = folder.write("s.jsonl", sample.model_dump(mode="json"))
    assert folder.promote(folder.feedback("1"), "--samples", samples) == 0
    assert "Whence?" in folder.data.read_text()


def test_ids_without_text_are_named(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is made up: whoever has the texts is told which are missing, and the others are cases all the same."""
    prompts = folder.write("p.jsonl", {"response_id": "1", "prompt": "Why?"})
    assert folder.promote(folder.feedback("1", "2"), "--prompts", prompts) == 1
    assert "known of 2:" in capsys.readouterr().err
    assert len(folder.data.read_text().splitlines()) == 1


def test_only_bad_answers_unless_others_are_asked_for(folder: Folder) -> None:
    """Good answers are no cases, unless somebody wants them."""
    prompts = folder.write("p.jsonl", {"response_id": "1", "prompt": "Why?"})
    good = folder.feedback("1", label=Label.GOOD)
    assert folder.promote(good, "--prompts", prompts) == 0
    assert not folder.data.exists()
    assert folder.promote(good, "--prompts", prompts, "--label", "good") == 0
    assert folder.data.exists()


def test_lines_are_added_behind_one_that_has_no_end(folder: Folder) -> None:
    """A file whose last line has no line break keeps that line."""
    folder.data.write_text('{"id": "first", "prompt": "One?"}')
    prompts = folder.write("p.jsonl", {"response_id": "1", "prompt": "Why?"})
    assert folder.promote(folder.feedback("1"), "--prompts", prompts) == 0
    assert json.loads(folder.data.read_text().splitlines()[0])["id"] == "first"
    assert len(load_suite(folder.suite).cases) == 3


def test_a_suite_that_would_be_faulty_is_left_alone(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    """What the suite's checks need and nobody has said is told, and nothing is written."""
    folder.suite.write_text(
        SUITE.replace("criteria: The answer is right.", "checks: [{type: Exact}]").replace(
            "What is 2 and 2?", "What is 2 and 2?, expected: four"
        )
    )
    prompts = folder.write("p.jsonl", {"response_id": "1", "prompt": "Why?"})
    assert folder.promote(folder.feedback("1"), "--prompts", prompts) == 2
    assert "expected" in capsys.readouterr().err
    assert not folder.data.exists()


@pytest.mark.parametrize(
    ("suite", "words"),
    [
        ("name: x\ncases: [{id: a, prompt: b}]\n", "promoted.jsonl"),
        ("name: x\ndata: [{file: a.jsonl}, {file: b.jsonl}]\n", "--data"),
        ("name: x\ndata: [{file: a.csv}]\n", "promoted.jsonl"),
        ("name: [\n", "suite.yaml"),
    ],
)
def test_where_cases_go_must_be_clear(
    suite: str, words: str, folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without one file of JSON lines in `data` it is said what to add, or how to choose."""
    folder.suite.write_text(suite)
    assert folder.promote(folder.feedback("1")) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "x"}, "response_id"),
        ({"response_id": "1"}, "`prompt`"),
        ({"response_id": "1", "messages": []}, "must end"),
        ({"response_id": "1", "messages": [{"role": "bot", "content": "x"}]}, "role"),
        ({"response_id": "1", "messages": [{"role": "assistant", "content": "x"}]}, "must end"),
        ({"response_id": "1", "prompt": "x", "expected": 4}, "expected"),
        ([], "object"),
    ],
)
def test_what_is_no_prompt_is_refused(row: Any, words: str, folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    """By file and line, and what is allowed."""
    assert folder.promote(folder.feedback("1"), "--prompts", folder.write("p.jsonl", row)) == 2
    err = capsys.readouterr().err
    assert "p.jsonl:1" in err
    assert words in err


def test_what_is_no_feedback_is_refused(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    """Another file than an export is named, with its line."""
    assert folder.promote(folder.write("f.jsonl", {"id": "x"})) == 2
    assert "f.jsonl:1" in capsys.readouterr().err
