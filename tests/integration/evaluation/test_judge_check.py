"""`capstan eval judge-check` with scripted judges of known bias, on what people said of real pairs."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from capstan_evaluation.judges.labels import Pair, read_pairs
from capstan_operator.cli.main import main
from fakes.judge_server import Says, judge_server
from support.needs import need_data

REFERENCE = {
    "mtbench_human_processed.json": 0.695,
    "llmeval2_human.json": 0.610,
    "faireval_human.json": 0.591,
    "llmbar_natural.json": 0.560,
    "llmbar_adv_neighbor.json": 0.119,
    "llmbar_adv_gptinst.json": 0.130,
    "llmbar_adv_manual.json": 0.174,
    "llmbar_adv_gptout.json": 0.447,
}
"""The share of pairs in which people preferred the longer answer."""


def files(*names: str) -> list[Path]:
    """Files of the data set."""
    folder = need_data("llmbar_human_pref")
    return [folder / name for name in names or sorted(REFERENCE)]


def labels(paths: list[Path]) -> dict[tuple[str, str, str], int]:
    """What people said, by the texts in the order of the file."""
    pairs = [pair for path in paths for pair in read_pairs(path.read_text(), str(path))]
    return {(pair.question, pair.first, pair.second): pair.label for pair in pairs}


class Person:
    """Says what people said, as long as `lot` is not below `share`; else what its liking says."""

    def __init__(self, paths: list[Path], liking: Says, share: float) -> None:
        self._labels, self._liking, self._share = labels(paths), liking, share

    def __call__(self, texts: list[str]) -> str:
        question, first, second = texts
        if lot(*sorted(texts)) < self._share:
            return self._liking(texts)
        label = self._labels.get((question, first, second))
        if label is None:
            label = 3 - self._labels[question, second, first]
        return ("first", "second")[label - 1]


def lot(*texts: str) -> float:
    """A number from 0 to 1 that is always the same for the same texts."""
    return int.from_bytes(hashlib.sha256("\0".join(texts).encode()).digest()[:6]) / 2**48


def first(texts: list[str]) -> str:
    """Like what is shown first."""
    return "first"


def longer(texts: list[str]) -> str:
    """Like what is longer."""
    return "first" if len(texts[1]) > len(texts[2]) else "second"


def check(capsys: pytest.CaptureFixture[str], paths: list[Path], says: Says, *words: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the JSON of a check."""
    with judge_server(says) as url:
        code = main(["eval", "judge-check", *map(str, paths), "--judge", "j", "--url", url, "--json", *words])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, found


def test_longer_wins(capsys: pytest.CaptureFixture[str]) -> None:
    """How the judge that prefers the longer answer does is told of every file, as it was published."""
    words = ["eval", "judge-check", *map(str, files())]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["files"]
    assert {one["file"]: round(one["longerWins"]["agreement"]["share"], 3) for one in told} == REFERENCE
    assert main(words) == 0
    assert "mtbench_human_processed.json    200  69.5% (62.8% to 75.5%)" in capsys.readouterr().out


def test_judge_that_agrees(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A judge that says nearly always what people say may gate, shows no bias, and its check is written to a file."""
    paths = files("mtbench_human_processed.json", "llmbar_natural.json")
    person = Person(paths, lambda texts: "first" if texts[1] < texts[2] else "second", 0.1)
    code, found = check(capsys, paths, person, "--output", str(tmp_path / "check.json"))
    assert (code, found["mayGate"]) == (0, True)
    assert found["all"]["agreement"]["share"] > 0.9
    assert found["all"]["kappaLow"] > 0.6
    assert not found["all"]["position"]["bias"]["found"]
    assert not found["all"]["length"]["bias"]["found"]
    assert found["all"]["couldNotTell"]["hits"] == 0
    beside = {one["file"]: round(one["longerWins"]["agreement"]["share"], 3) for one in found["files"]}
    assert beside == {path.name: REFERENCE[path.name] for path in paths}
    assert json.loads((tmp_path / "check.json").read_text()) == found


def test_planted_position_bias(capsys: pytest.CaptureFixture[str]) -> None:
    """A judge that takes the first answer in a fifth of the pairs is found out, and those pairs are in no agreement."""
    paths = files("mtbench_human_processed.json", "llmbar_adv_neighbor.json")
    code, found = check(capsys, paths, Person(paths, first, 0.2))
    position = found["all"]["position"]
    assert position["bias"]["found"]
    assert position["second"] == 0
    assert 0.05 < position["bias"]["value"] < 0.15
    assert position["bias"]["low"] > 0
    assert found["all"]["couldNotTell"]["hits"] == position["first"] == found["all"]["contradicted"]
    assert found["all"]["agreement"]["share"] == 1.0
    assert not found["all"]["length"]["bias"]["found"]
    assert code == 0


def test_planted_length_bias(capsys: pytest.CaptureFixture[str]) -> None:
    """A judge that takes the longer answer in a fifth of the pairs is found out where people do not like length."""
    paths = files("llmbar_adv_neighbor.json", "llmbar_adv_gptinst.json")
    _, found = check(capsys, paths, Person(paths, longer, 0.2))
    length = found["all"]["length"]
    assert length["bias"]["found"]
    assert 0.1 < length["bias"]["value"] < 0.25
    assert length["agreementWherePeopleLikeLonger"]["share"] == 1.0
    assert length["agreementWherePeopleLikeShorter"]["high"] < 0.9
    assert length["correlation"] > length["peopleCorrelation"] + 0.1
    assert not found["all"]["position"]["bias"]["found"]


def test_judge_that_likes_length_only(capsys: pytest.CaptureFixture[str]) -> None:
    """A judge that is the trivial one agrees as that one does, and may not gate, whatever its agreement seems."""
    paths = files("mtbench_human_processed.json")
    with judge_server(longer) as url:
        code = main(["eval", "judge-check", str(paths[0]), "--judge", "j", "--url", url])
    said = capsys.readouterr().out
    assert code == 1
    assert "This judge may inform, and may not gate: kappa is 0." in said
    assert "likes length otherwise than people" in said
    assert "no liking for a place is seen" in said


def test_few_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a few pairs hardly anything is known: a judge may not gate by them."""
    paths = files("mtbench_human_processed.json")
    code, found = check(capsys, paths, Person(paths, first, 0), "--limit", "50")
    assert (code, found["mayGate"], found["reason"]) == (1, False, "it decided 50 pairs; at least 100 are needed")


def test_judge_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    """A judge that gives no answers ends the check with its own exit code, and is not asked for ever."""
    seen: list[dict[str, Any]] = []
    (path,) = files("mtbench_human_processed.json")
    with judge_server(first, status=401, seen=seen) as url:
        assert main(["eval", "judge-check", str(path), "--judge", "j", "--url", url]) == 4
    assert len(seen) < 100
    assert "pairs in a row had no answer; the last one: the judge: invalid_api_key" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--judge", "j"], "--judge needs --url"),
        (["--judge", "j", "--url", "ftp://x"], "must be http://HOST"),
        (["--judge", "j", "--url", "http://x", "--minimum-kappa", "2"], "must be from 0 to 1"),
        (["--judge", "j", "--url", "http://x", "--concurrency", "0"], "must be from 1 to"),
        (["--limit", "0"], "must be at least 1"),
    ],
)
def test_misuse(capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], said: str) -> None:
    """A wrong command line is told, and nobody is asked."""
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps([{"input": "a", "output_1": "b", "output_2": "c", "label": 1}]))
    assert main(["eval", "judge-check", str(path), *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", "{", "a.json:1: is no JSON"),
        ("a.json", "{}", "must be a JSON array"),
        ("a.json", "[]", "has no pairs"),
        ("a.json", '[{"input": "a", "output_1": "b", "output_2": "c"}]', "item 1: `label` must be 1, 2, or 0"),
        ("a.jsonl", '{"input": "a", "output_1": "b", "label": 1}', "a.jsonl:1: `output_2` must be a text"),
        ("a.csv", "input,output_1,output_2,label\na,b,c,3\n", "a.csv:2: `label` must be 1, 2, or 0"),
    ],
)
def test_files_that_hold_something_else(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, text: str, said: str
) -> None:
    """A file that holds no labelled pairs is told with the place."""
    (tmp_path / name).write_text(text)
    assert main(["eval", "judge-check", str(tmp_path / name)]) == 2
    assert said in capsys.readouterr().err


def test_pairs_of_every_format() -> None:
    """Arrays, lines and tables say the same."""
    row = {"input": "a", "output_1": "b", "output_2": "c", "label": 2}
    expected = [Pair("a", "b", "c", 2)]
    assert read_pairs(json.dumps([row]), "a.json") == expected
    assert read_pairs(json.dumps(row), "a.jsonl") == expected
    assert read_pairs("input,output_1,output_2,label\na,b,c,2\n", "a.csv") == expected
