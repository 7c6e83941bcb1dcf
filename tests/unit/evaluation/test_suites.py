"""Suites as they are read: defaults filled in, data joined, every fault with its place."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from capstan_evaluation.errors import SuiteInvalid
from capstan_evaluation.suites.checks import name_of
from capstan_evaluation.suites.load import load_mounted_suite, load_suite, load_suite_texts
from capstan_evaluation.suites.suite import Case, Suite


def read(suite: Mapping[str, Any], **files: str) -> Suite:
    """The suite of a ConfigMap; `a_jsonl` is the key a.jsonl."""
    texts = {name.replace("_", "."): text for name, text in files.items()}
    return load_suite_texts({"suite.yaml": yaml.safe_dump(dict(suite), sort_keys=False), **texts})


def faults(suite: Mapping[str, Any] | str, **files: str) -> list[str]:
    """What is wrong with a suite."""
    texts = {name.replace("_", "."): text for name, text in files.items()}
    text = suite if isinstance(suite, str) else yaml.safe_dump(dict(suite), sort_keys=False)
    with pytest.raises(SuiteInvalid) as caught:
        load_suite_texts({"suite.yaml": text, **texts})
    return [str(fault) for fault in caught.value.faults]


def lines(*rows: object) -> str:
    """Rows as lines of JSON."""
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def one(suite: Suite) -> Case:
    """The only case."""
    (case,) = suite.cases
    return case


CASE = {"id": "a", "prompt": "Two and two?"}


def test_nearest_setting_counts() -> None:
    """What a case says counts before its data's file, and that before the defaults; tags are added."""
    suite = read(
        {
            "name": "s",
            "defaults": {"temperature": 0.5, "maxTokens": 10, "repeats": 2, "tags": ["all"], "system": "Be brief."},
            "data": [{"file": "a.jsonl", "maxTokens": 20, "repeats": 3, "tags": "file"}],
        },
        a_jsonl=lines({**CASE, "repeats": 4, "tags": ["own", "all"]}),
    )
    case = one(suite)
    assert (case.temperature, case.maxTokens, case.repeats) == (0.5, 20, 4)
    assert case.tags == ("own", "all", "file")
    assert case.conversation() == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Two and two?"},
    ]


def test_checks_of_the_nearest_level() -> None:
    """Checks and criteria of a level take the place of all those of the levels below."""
    suite = read(
        {
            "name": "s",
            "defaults": {"checks": [{"type": "Length", "maxWords": 3}], "criteria": "The answer is polite."},
            "cases": [CASE, {**CASE, "id": "b", "criteria": [{"criterion": "It rhymes.", "name": "rhyme"}]}],
        }
    )
    assert [[name_of(check) for check in case.checks] for case in suite.cases] == [
        ["length", "judge:the-answer-is-polite"],
        ["judge:rhyme"],
    ]
    assert suite.scorers == ("length", "judge:the-answer-is-polite", "judge:rhyme")


def test_turns() -> None:
    """Each turn is asked in the conversation that the answers before it are part of."""
    case = one(read({"name": "s", "cases": [{"id": 7, "turns": ["One?", {"prompt": "Two?", "expected": 2}]}]}))
    assert case.id == "7"
    assert case.expected == "2"
    assert case.conversation(["1"]) == [
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "Two?"},
    ]
    with pytest.raises(ValueError, match="all are answered"):
        case.conversation(["1", "2"])


def test_checks_of_a_turn() -> None:
    """A check of the defaults is left out of cases that have no such turn; one of the case must fit."""
    suite = {"name": "s", "defaults": {"checks": [{"type": "Refusal", "turn": 2}]}, "cases": [CASE]}
    assert one(read(suite)).checks == ()
    (fault,) = faults({"name": "s", "cases": [{**CASE, "checks": [{"type": "Refusal", "turn": 2}]}]})
    assert fault == "suite.yaml:5: case a: `checks`: `turn` must be at most 1, as many as the case has"


def test_columns_templates_and_joins() -> None:
    """Fields come from columns, paths into them, what an expression finds in them, templates, and joined files."""
    suite = read(
        {
            "name": "s",
            "data": [
                {
                    "file": "q.csv",
                    "idPrefix": "q-",
                    "columns": {
                        "id": "number",
                        "prompt": {"template": "{{{question}}} Why?"},
                        "expected": {"column": "answer", "regex": "#### (.+)"},
                        "tags": ["kind", "level"],
                    },
                    "join": {"file": "r.jsonl", "key": "number", "columns": {"cluster": "from.0.name"}},
                }
            ],
        },
        q_csv='number,question,answer,kind,level\n1,"Who, me?","so #### 3\n#### 4",a;b,\n2,Why?,#### 5,,hard\n',
        r_jsonl=lines({"number": "1", "from": [{"name": "book"}]}),
    )
    first, second = suite.cases
    assert (first.id, first.expected, first.tags, first.cluster) == ("q-1", "4", ("a", "b"), "book")
    assert first.conversation()[0]["content"] == "{Who, me?} Why?"
    assert (second.id, second.tags, second.cluster) == ("q-2", ("hard",), "")


def test_rows_that_are_cases() -> None:
    """Without columns a row has the fields of a case; ids are numbers of rows where there are none."""
    suite = read({"name": "s", "data": [{"file": "a.csv"}]}, a_csv="prompt,weight,tags\nHi,2.5,x;y\nHo,,\n")
    assert [(case.id, case.weight, case.tags) for case in suite.cases] == [("1", 2.5, ("x", "y")), ("2", 1.0, ())]


def test_sample_and_limit() -> None:
    """A sample is the same for the same seed, in the order of the file, and mostly so when rows are added."""

    def ids(count: int, **share: Any) -> list[str]:
        rows = lines(*({"id": str(number), "prompt": "x"} for number in range(count)))
        return [case.id for case in read({"name": "s", "data": [{"file": "a.jsonl", **share}]}, a_jsonl=rows).cases]

    assert ids(9, limit=2) == ["0", "1"]
    drawn = ids(200, sample={"n": 50, "seed": 3})
    assert drawn == ids(200, sample={"n": 50, "seed": 3}) == sorted(drawn, key=int)
    assert drawn != ids(200, sample={"n": 50, "seed": 4})
    assert len(set(drawn) & set(ids(220, sample={"n": 50, "seed": 3}))) > 35
    assert len(ids(5, sample={"n": 50})) == 5


def test_all_faults_at_once() -> None:
    """Every fault is told, with file, line, case, field and what is allowed."""
    text = """\
name: s
margin: 2
nam: x
defaults: {checks: [{type: Like}, {type: Contains, al: [a]}, {type: Regex, pattern: "(a"}]}
cases:
- {id: a, prompt: x, repeats: 0}
- {id: b}
"""
    assert faults(text) == [
        "suite.yaml:2: `margin`: must be less than 1",
        "suite.yaml:4: `defaults.checks[0]`: needs `type`, one of Exact, Normalised, Contains, Regex, Numeric, "
        "JsonSchema, Refusal, Similarity, Length, Latency, Function, Judge, Pairwise",
        "suite.yaml:4: `defaults.checks[1].al`: is not a field; did you mean all?",
        "suite.yaml:4: `defaults.checks[2]`: `pattern` is no expression that can be used: RE2 does not take it "
        "(missing ))",
        "suite.yaml:3: `nam`: is not a field; did you mean name?",
        "suite.yaml:6: case a: `repeats`: must be at least 1",
        "suite.yaml:7: case b: needs one of prompt, messages, turns; it has none",
    ]


def test_faults_of_rows() -> None:
    """A fault in a row names the data's file, its line, and the case."""
    found = faults(
        {
            "name": "s",
            "data": [
                {"file": "a.jsonl", "columns": {"id": "n", "prompt": "q", "expected": {"column": "a", "regex": "#(.)"}}}
            ],
        },
        a_jsonl=lines(
            {"n": 1, "q": "x", "a": "#1"},
            {"n": 2, "q": "x", "a": ""},
            {"n": 3, "a": "#1"},
            {"n": 1, "q": "y", "a": "#"},
        ),
    )
    assert found == [
        "a.jsonl:2: `regex` matches nowhere in the column a",
        "a.jsonl:3: has no column q",
        "a.jsonl:4: `regex` matches nowhere in the column a",
    ]
    assert faults({"name": "s", "data": [{"file": "a.jsonl"}]}, a_jsonl=lines({**CASE, "weigth": 1}, CASE, CASE)) == [
        "a.jsonl:1: case a: `weigth`: is not a field; did you mean weight?",
        "a.jsonl:3: case a: `id`: is the id of another case: each needs one of its own (`idPrefix` for files of data)",
    ]
    assert faults({"name": "s", "data": [{"file": "a.jsonl"}]}, a_jsonl='{"id": "a", "prompt": "x"}\n[1]\n') == [
        "a.jsonl:2: must be a JSON object"
    ]


@pytest.mark.parametrize(
    ("suite", "fault"),
    [
        ({"name": "s"}, "suite.yaml:1: needs `cases`, or `data` to read them from"),
        ({"cases": [CASE]}, "suite.yaml:1: `name`: is required"),
        ({"name": "s", "cases": [{"prompt": "x"}]}, "suite.yaml:3: `id`: is required"),
        ({"name": "s", "cases": [{**CASE, "messages": []}]}, "case a: `messages`: must have at least 1 items"),
        ({"name": "s", "cases": [{**CASE, "checks": [{"type": "Exact"}]}]}, "is required by the check exact"),
        (
            {"name": "s", "cases": [{**CASE, "checks": [{"type": "Refusal"}, {"type": "Refusal"}]}]},
            "has two of the name refusal: give one a `name`",
        ),
        ({"name": "s", "cases": [{**CASE, "prompt": 4}]}, "case a: `prompt`: must be a text"),
        ({"name": "s", "cases": [{**CASE, "id": "a\x1b[1m"}]}, "must be printable"),
        ({"name": "s", "data": [{"file": "b.jsonl"}]}, "b.jsonl: is no key of the ConfigMap"),
        ({"name": "s", "data": [{"file": "b.txt"}]}, "b.txt: has none of the suffixes"),
        (
            {"name": "s", "data": [{"file": "a.jsonl", "limit": 1, "sample": {"n": 1}}]},
            "takes limit or sample, not both",
        ),
        ({"name": "s", "data": [{"file": "a.jsonl", "columns": {"prompts": "q"}}]}, "has a key that is not allowed"),
    ],
)  # fmt: skip
def test_what_is_allowed(suite: dict[str, Any], fault: str) -> None:
    """Each fault is told in words that say what is allowed."""
    assert any(fault in found for found in faults(suite, a_jsonl=lines(CASE))), faults(suite, a_jsonl=lines(CASE))


def test_bombs() -> None:
    """A text that grows without bound when its aliases are written out is refused, and so is a deep one."""
    levels = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]\n" for n in range(1, 9))
    assert "with aliases written out" in faults(f"name: s\nl0: &l0 [x]\n{levels}")[0]
    assert "nest" in faults(f"name: s\ncases: {'[' * 5_000}{']' * 5_000}")[0]


def test_hash() -> None:
    """The hash is of what is asked and how it is scored: not of names, order, or what is concluded."""
    cases = [CASE, {**CASE, "id": "b"}]
    base = read({"name": "s", "cases": cases}).suiteHash
    assert base == read({"name": "t", "margin": 0.3, "description": "x", "cases": cases[::-1]}).suiteHash
    assert base == read({"name": "s", "data": [{"file": "a.jsonl"}]}, a_jsonl=lines(*cases)).suiteHash
    assert base != read({"name": "s", "cases": [CASE, {**CASE, "id": "b", "prompt": "x"}]}).suiteHash
    assert base != read({"name": "s", "rubric": {"version": "2"}, "cases": cases}).suiteHash
    assert base != read({"name": "s", "defaults": {"checks": [{"type": "Refusal"}]}, "cases": cases}).suiteHash


def test_paths_on_a_laptop_and_in_a_configmap(tmp_path: Path) -> None:
    """On a laptop data may be anywhere; in a mounted ConfigMap it is a key of it, and no path."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.jsonl").write_text(lines(CASE))
    (tmp_path / "suites").mkdir()
    path = tmp_path / "suites" / "suite.yaml"
    path.write_text("name: s\ndata: [{file: ../data/a.jsonl}]\n")
    assert one(load_suite(path)).id == "a"
    with pytest.raises(SuiteInvalid, match="must be a key of the ConfigMap, and no path"):
        load_mounted_suite(tmp_path / "suites")
    path.write_text("name: s\ndata: [{file: a.jsonl}]\n")
    (tmp_path / "suites" / "a.jsonl").symlink_to(tmp_path / "data" / "a.jsonl")  # as the kubelet mounts keys
    assert one(load_mounted_suite(tmp_path / "suites")).id == "a"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a folder and a text in another encoding are told as such."""
    with pytest.raises(SuiteInvalid, match="cannot be read: No such file"):
        load_suite(tmp_path / "suite.yaml")
    with pytest.raises(SuiteInvalid, match="cannot be read: Is a directory"):
        load_suite(tmp_path)
    (tmp_path / "suite.yaml").write_bytes(b"name: \xff")
    with pytest.raises(SuiteInvalid, match="is not written in UTF-8"):
        load_suite(tmp_path / "suite.yaml")
