"""The suites of docs/evaluation-suites.md and of examples/evaluation load as they stand."""

import re
from dataclasses import dataclass
from typing import Final

import pytest

from capstan_evaluation.scorers.build import find_faults
from capstan_evaluation.suites.checks import TYPES
from capstan_evaluation.suites.document import CaseDocument, DataDocument, Settings, SuiteDocument
from capstan_evaluation.suites.load import load_suite, load_suite_texts
from capstan_evaluation.suites.resolve import resolve_suite
from capstan_evaluation.suites.rows import Unreadable
from capstan_evaluation.suites.suite import Suite
from support.needs import DATA, ROOT, need_data

PAGE: Final = (ROOT / "docs" / "evaluation-suites.md").read_text(encoding="utf-8")
_BLOCK: Final = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SHARED: Final = "../shared/data/"


@dataclass(frozen=True)
class Block:
    """A fenced block of the page."""

    kind: str
    file: str
    text: str

    def __str__(self) -> str:
        return self.text.partition("\n")[0]


BLOCKS: Final = [Block(*found) for found in _BLOCK.findall(PAGE)]
SUITES: Final = [block for block in BLOCKS if block.kind == "yaml"]


def read(name: str) -> str:
    """The text of a file that an example names: of the page itself, or of the public data."""
    for block in BLOCKS:
        if block.file == name:
            return block.text
    if not name.startswith(_SHARED):
        raise Unreadable(0, "is not there")
    folder, _, file = name.removeprefix(_SHARED).partition("/")
    return (need_data(folder) / file).read_text(encoding="utf-8")


def load(block: Block) -> Suite:
    """The suite of a block."""
    return resolve_suite(block.text, file="example", read=read)


def test_there_are_examples() -> None:
    """The page has ten suites or more, and every type of check."""
    assert len(SUITES) >= 10
    used = {kind for kind in TYPES if any(f"type: {kind}" in block.text for block in SUITES)}
    assert used | {"Judge", "Regex"} == set(TYPES)


@pytest.mark.parametrize("block", SUITES, ids=str)
def test_examples_load(block: Block) -> None:
    """Each suite of the page is sound, and all of its cases have something that scores."""
    suite = load(block)
    assert all(case.checks for case in suite.cases)
    # Which functions are installed is another matter.
    assert [fault for fault in find_faults(suite) if "`function` is not there" not in fault.message] == []


def test_mt_bench_as_it_is() -> None:
    """MT-bench: 80 questions of two turns, 30 of which have reference answers for both."""
    (block,) = (block for block in SUITES if str(block) == "name: mt-bench")
    suite = load(block)
    assert [len(case.turns) for case in suite.cases] == [2] * 80
    referenced = [case for case in suite.cases if case.expected is not None]
    assert len(referenced) == 30
    assert all(turn.expected for case in referenced for turn in case.turns)
    assert {case.tags for case in referenced} == {("math",), ("reasoning",), ("coding",)}
    assert (suite.cases[0].id, suite.cases[0].tags) == ("81", ("writing",))


def test_gsm8k_as_it_is() -> None:
    """GSM8K: 400 of its problems by lot, whose answers are numbers that the scorer reads."""
    if not DATA.exists():
        need_data("gsm8k")
    suite = load_suite(ROOT / "examples" / "evaluation" / "gsm8k.yaml")
    assert len(suite.cases) == 400
    assert find_faults(suite) == []
    assert suite.suiteHash == load_suite(ROOT / "examples" / "evaluation" / "gsm8k.yaml").suiteHash
    (block,) = (block for block in SUITES if str(block) == "name: gsm8k")
    assert load(block).suiteHash == suite.suiteHash


def test_example_of_a_configmap() -> None:
    """The small example is self-contained: it loads as the one key of a ConfigMap."""
    text = (ROOT / "examples" / "evaluation" / "support.yaml").read_text(encoding="utf-8")
    suite = load_suite_texts({"suite.yaml": text})
    assert find_faults(suite) == []
    assert len(suite.cases) == 7


@pytest.mark.parametrize("kind", [SuiteDocument, CaseDocument, DataDocument, Settings])
def test_fields_are_documented(kind: type[Settings]) -> None:
    """Every field that may be written is on the page."""
    assert [name for name in kind.model_fields if f"`{name}`" not in PAGE] == []


def test_fields_of_checks_are_documented() -> None:
    """Every check is in the table, with all its fields."""
    from capstan_evaluation.suites import checks

    rows = {line.split("`")[1]: line for line in PAGE.split("\n") if line.startswith("| `") and line[3].isupper()}
    for name in TYPES:
        fields = getattr(checks, name).model_fields.keys() - {"type", "name", "turn"}
        assert [field for field in fields if f"`{field}`" not in rows[name]] == []
