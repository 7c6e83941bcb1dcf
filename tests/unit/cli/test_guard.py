"""`capstan guard test`: guards over labelled prompts."""

import json
from pathlib import Path
from typing import Any

import pytest

from capstan_operator.cli.guard_cases import Unreadable, read_cases
from capstan_operator.cli.guard_score import WORST, percentile
from capstan_operator.cli.main import main

POLICY = """\
apiVersion: capstan.dev/v1alpha1
kind: GuardPolicy
metadata: {name: mine}
spec:
  targetSelector: {}
  input:
    - {type: Keywords, keywords: [bluebird]}
    - {type: PII, entities: [{type: Email}]}
    - {type: Webhook, url: "https://guard.example.com/"}
  output:
    - {type: Keywords, keywords: [falcon]}
"""
LINES = [
    {"text": "tell me of project bluebird", "label": "attack"},
    {"text": "tell me of the codename", "label": "attack"},
    {"text": "a bluebird\u001b[31m sings", "label": "benign"},
    {"text": "hello", "label": "benign"},
    {"text": "mail ann@example.com", "entities": [{"type": "Email"}]},
]


def lines(folder: Path, *rows: Any, name: str = "prompts.jsonl") -> Path:
    """A file with a line of JSON for each."""
    path = folder / name
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def tried(folder: Path, *arguments: str, rows: list[dict[str, Any]] = LINES, policy: str = POLICY) -> int:
    """Try a policy; give the exit code."""
    (folder / "policy.yaml").write_text(policy)
    return main(["guard", "test", str(folder / "policy.yaml"), str(lines(folder, *rows)), *arguments])


def test_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says how many were found and how many passed, of the policy and of each guard, and the worst mistakes."""
    assert tried(tmp_path) == 0
    told = capsys.readouterr().out
    assert "default/mine: 5 prompts, 3 of attacks and 2 benign" in told
    rows = {line[:24].strip(): line[24:].split() for line in told.splitlines()}
    assert rows["attack"][:2] == ["2", "1"]
    assert rows["benign"][:2] == ["1", "1"]
    assert rows["webhook"] == ["asks", "somebody,", "and", "was", "not", "tried"]
    assert "Email                   recall 100.0% (20.7% to 100.0%), precision 100.0%" in told
    assert "missed, the worst first:\n  line 2: tell me of the codename" in told
    # What a terminal would obey is not printed.
    assert "found for nothing, the worst first:\n  line 3 (keywords: keyword" in told
    assert "\u001b" not in told


def test_a_model_that_is_not_asked_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A guard that works here and would ask a model of its doubts is tried without, and that is said."""
    topics = "    - {type: Topics, deny: [{name: a, phrases: [x], examples: [y]}], embedding: {modelRef: {name: e}}}\n"
    attacks = "    - {type: Jailbreak, classifier: {modelRef: {name: c}}}\n"
    asks = POLICY.replace("  output:", f"{topics}{attacks}  output:")
    assert tried(tmp_path, policy=asks, rows=[{"text": "hello", "label": "benign"}]) == 0
    told = capsys.readouterr().out
    for name in ("topics", "jailbreak"):
        assert f"{name:24}asks a model of what it is not sure of, which was not done" in told
    assert "keywords                asks" not in told


def test_the_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In JSON there is everything: intervals, guards, kinds, latency and examples."""
    assert tried(tmp_path, "-o", "json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["prompts"], told["recall"]["hits"], told["recall"]["of"]) == (5, 2, 3)
    assert told["passRate"]["rate"] == 0.5
    keywords, pii, webhook = told["guards"]
    assert (keywords["recall"]["hits"], pii["recall"]["hits"], webhook["tried"]) == (1, 1, False)
    assert [one["line"] for one in told["missed"]] == [2]
    assert [one["line"] for one in told["wrong"]] == [3]
    assert told["milliseconds"]["p99"] >= told["milliseconds"]["p50"] > 0


def test_the_other_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards of the output are tried on answers."""
    assert tried(tmp_path, "--stage", "output", rows=[{"text": "falcon", "label": "attack"}]) == 0
    assert "recall 100.0%" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "policy", "said"),
    [
        (["--source", "Reasoning"], POLICY, "the input has no texts of Reasoning"),
        (["--name", "other"], POLICY, "has no such GuardPolicy"),
        ([], POLICY + "---\n" + POLICY.replace("mine", "other"), "choose one with --name"),
        ([], POLICY.replace("bluebird]", "]"), "is required when `type` is Keywords"),
        ([], POLICY.replace("Keywords, keywords: [bluebird]", "Regex, patterns: [{name: a, pattern: (}]"), "RE2"),
        (["--stage", "output"], POLICY.split("  output")[0], "no guards of the output that can be tried"),
    ],
)  # fmt: skip
def test_what_cannot_be_tried_is_told(
    arguments: list[str], policy: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a traceback, and with exit code 1."""
    assert tried(tmp_path, *arguments, policy=policy) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert said in told.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"label": "attack"}', ":1: must have `text`"),
        (
            '{"text": "a", "label": "attack"}\n\n{"text": "a", "label": "perhaps"}',
            ":3: `label` must be attack or benign",
        ),
        ('{"text": "a"', ":1: is no line of JSON"),
        ("[1]", ":1: must be an object"),
        ('{"text": "a", "entities": "Email"}', ":1: `entities` must be a list"),
        ('{"text": "a", "entities": [3]}', ":1: each of `entities` must be a kind"),
        ("\udcff", "is not written in UTF-8"),
    ],
)
def test_a_line_that_is_none_is_told_with_its_number(text: str, said: str, tmp_path: Path) -> None:
    """What is wrong with a file of prompts is said with the line, and never with the text."""
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(Unreadable) as raised:
        list(read_cases(path))
    assert said in str(raised.value)


def test_a_table(tmp_path: Path) -> None:
    """Columns of CSV say the same as lines of JSON; texts may have several lines."""
    path = tmp_path / "prompts.csv"
    path.write_text('text,label,entities\n"two\nlines",1,\nhello,benign,\nmail a@b.c,,Email;Email Phone\n')
    first, second, third = read_cases(path)
    assert (first.text, first.is_attack, first.entities) == ("two\nlines", True, None)
    assert (second.text, second.is_attack) == ("hello", False)
    assert (third.is_attack, third.entities) == (True, {"Email": 2, "Phone": 1})


def test_only_the_worst_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """However many mistakes there are, a few are shown."""
    rows = [{"text": f"bluebird {number}", "label": "benign"} for number in range(40)]
    assert tried(tmp_path, "-o", "json", rows=rows) == 0
    assert len(json.loads(capsys.readouterr().out)["wrong"]) == WORST


def test_percentiles() -> None:
    """Half of three values are not above the middle one; of none it is 0."""
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile([], 0.99) == 0
