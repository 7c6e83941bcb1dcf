"""`capstan feedback export`: pages become lines, each opinion once."""

import json
from pathlib import Path

import pytest

from capstan_contract.feedback import Feedback, FeedbackPage, Label
from capstan_operator.cli import feedback
from capstan_operator.cli.admin_source import Question, Refused, Told
from capstan_operator.cli.main import main


def said(id: str, label: Label = Label.BAD, *, at: int = 1, model: str = "a") -> Feedback:
    """Give an opinion."""
    return Feedback(at=at, id=id, model=model, asked="ab", tenant="red", score=0.0, label=label)


def page(*data: Feedback, source: str = "redis", following: int | None = None) -> bytes:
    """Give a page."""
    return FeedbackPage(source=source, data=data, next=following).model_dump_json().encode()


def test_pages_are_read_to_the_last(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Every page of a shared store is asked for once, of any replica; what is asked for is chosen."""
    pages = {"0": page(said("1"), said("2", Label.GOOD), following=7), "7": page(said("3", model="other"))}
    monkeypatch.setattr(feedback, "fetch", lambda _, question: pages[question.query["after"]])
    words = ["feedback", "export", "--url", "http://127.0.0.1:1"]
    assert main(words) == 0
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == ["1", "2", "3"]
    assert main([*words, "--label", "bad", "--model", "a", "-o", str(tmp_path / "f")]) == 0
    assert [json.loads(line)["id"] for line in (tmp_path / "f").read_text().splitlines()] == ["1"]
    assert main([*words, "--model", "ab"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_without_redis_each_replica_is_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What replicas keep for themselves is put together, the newest opinion of each answer, by time."""
    kept = {"x": [said("1", at=1), said("2", at=4)], "y": [said("1", Label.GOOD, at=3), said("3", at=2)]}

    def one_at_a_time(replica: str, question: Question) -> bytes:
        after = int(question.query["after"])
        more = after + 1 < len(kept[replica])
        return page(*kept[replica][after : after + 1], source="memory", following=after + 1 if more else None)

    monkeypatch.setattr(feedback, "fetch", lambda _, question: one_at_a_time("x", question))
    monkeypatch.setattr(
        feedback, "fetch_each", lambda _, question: [Told(name, one_at_a_time(name, question)) for name in kept]
    )
    assert main(["feedback", "export", "--url", "http://127.0.0.1:1"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["id"], one["label"]) for one in found] == [("3", "bad"), ("1", "good"), ("2", "bad")]


@pytest.mark.parametrize(("status", "words"), [(404, "--feedback-answers"), (401, "admin key")])
def test_a_refusal_is_explained(
    status: int, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the admin key, or where no feedback is taken, one line says what to do."""

    def refuse(*_: object) -> bytes:
        raise Refused(status, b"{}", "no")

    monkeypatch.setattr(feedback, "fetch", refuse)
    assert main(["feedback", "export", "--url", "http://127.0.0.1:1"]) == 1
    assert words in capsys.readouterr().err
