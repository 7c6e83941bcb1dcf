"""The file of a run: what it keeps, what it refuses, and what a crash leaves of it."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_evaluation.records import Answer, Asked, Asking, Purpose, Result, RunHeader, Usage
from capstan_evaluation.runs.files import BadRun, RunWriter, load_run, read_log

HEADER = RunHeader(id="one", suite="maths", suiteHash="ab", target="llama", cases=2, repeats=1, began="2026-01-01")


def result(case: str, place: int = 0, **fields: object) -> Result:
    """A result whose answer took ten tokens."""
    answer = Answer(text="four\nor \u2028 five", usage=Usage(inputTokens=4, outputTokens=6, cost=0.25))
    return Result(case=case, place=place, request="r-" + case, answer=answer).model_copy(update=fields)


def test_a_run_is_read_in_the_order_of_its_suite(tmp_path: Path) -> None:
    """In whichever order answers came, the run is the same."""
    path = tmp_path / "runs" / "a.jsonl"
    with RunWriter(path, HEADER) as writer:
        writer.result(result("second", 1))
        writer.result(result("first", 0))
    assert [one.case for one in load_run(path).results] == ["first", "second"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_run_that_is_not_over_is_not_compared(tmp_path: Path) -> None:
    """Half a run is no run: its message says how much there is, and what goes on with it."""
    path = tmp_path / "a.jsonl"
    with RunWriter(path, HEADER) as writer:
        writer.result(result("first"))
    with pytest.raises(BadRun, match=r"1 of 2 results"):
        load_run(path)


def test_what_was_appended_is_there_after_any_cut(tmp_path: Path) -> None:
    """Cut at any byte, the file has each line that was whole, and goes on behind the last of them."""
    path = tmp_path / "a.jsonl"
    with RunWriter(path, HEADER) as writer:
        writer.result(result("first", 0))
        writer.result(result("second", 1))
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        with RunWriter(path, HEADER) as writer:
            assert len(writer.log.results) == max(0, whole[:cut].count(b"\n") - 1)
            for case, place in (("first", 0), ("second", 1)):
                if (case, 0) not in writer.log.results:
                    writer.result(result(case, place))
        assert path.read_bytes() == whole


@given(st.binary(max_size=40))
def test_what_cannot_be_read_at_the_end_is_torn(tail: bytes) -> None:
    """A tail of any bytes, zeros of a machine that lost its power included, costs no line before it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.jsonl")
        with RunWriter(path, HEADER) as writer:
            writer.result(result("first"))
        good = path.stat().st_size
        with path.open("ab") as file:
            file.write(tail)
        log, size = read_log(path)
        assert log is not None
        assert (list(log.results), size) == ([("first", 0)], good)


def test_damage_in_the_middle_is_told(tmp_path: Path) -> None:
    """A line that cannot be read before one that can is no torn one: nothing is cut, and the line is named."""
    path = tmp_path / "a.jsonl"
    with RunWriter(path, HEADER) as writer:
        writer.result(result("first"))
        writer.result(result("second", 1))
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = lines[0] + b'{"result": 5}\n' + lines[2]
    path.write_bytes(damaged)
    with pytest.raises(BadRun, match="line 2"):
        RunWriter(path, HEADER)
    assert path.read_bytes() == damaged


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"suiteHash": "cd"}, r"another suite, or another version of it \(ab, and not cd\)"),
        ({"target": "other"}, "another model"),
        ({"judge": "j"}, r"another judge \(none, and not j\)"),
        ({"repeats": 3}, "another number of repeats"),
        ({"results": 7}, "another number of repeats"),
        ({"embedder": "e"}, "another embedder"),
        ({"baseline": "b"}, "another baseline"),
        ({"mostTokens": 5}, "another length of answers"),
        ({"revision": "r"}, "another revision"),
        ({"url": "http://b"}, "another gateway"),
    ],
)
def test_a_run_of_something_else_is_refused(tmp_path: Path, change: dict[str, object], told: str) -> None:
    """Answers of two targets, suites or judges never stand in one file."""
    path = tmp_path / "a.jsonl"
    RunWriter(path, HEADER).close()
    before = path.read_bytes()
    with pytest.raises(BadRun, match=told):
        RunWriter(path, HEADER.model_copy(update=change))
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"# notes\n", b'{"a": 1}\n', b"\n"])
def test_a_file_that_is_no_run_is_left_alone(tmp_path: Path, content: bytes) -> None:
    """--out may name anything by mistake, and what is there is not cut off."""
    path = tmp_path / "notes.md"
    path.write_bytes(content)
    with pytest.raises(BadRun, match="is no run"):
        RunWriter(path, HEADER)
    assert path.read_bytes() == content


def test_one_writes_at_a_time(tmp_path: Path) -> None:
    """Two processes that append to one run would each pay for what the other has."""
    path = tmp_path / "a.jsonl"
    with RunWriter(path, HEADER), pytest.raises(BadRun, match="written by another process"):
        RunWriter(path, HEADER)
    RunWriter(path, HEADER).close()


def asked(name: str, **fields: object) -> Asked:
    """An ask of the target that took ten tokens."""
    usage = Usage(inputTokens=4, outputTokens=6, cost=0.25)
    one = Asked(purpose=Purpose.TARGET, model="llama", request=name, answer=Answer(text="4", usage=usage))
    return one.model_copy(update=fields)


def test_what_a_run_took_is_the_sum_of_its_asks(tmp_path: Path) -> None:
    """Results may share an ask, and a case may take several: asks are what is paid for."""
    path = tmp_path / "a.jsonl"
    with RunWriter(path, HEADER) as writer:
        writer.asked(asked("r-first"))
        writer.result(result("first"))
        writer.result(result("second", 1, request="r-first"))
        writer.asked(asked("j", purpose=Purpose.JUDGE, model="judge", answer=Answer(text="{}")))
        writer.asked(asked("failed", answer=Answer(error="timeout", usage=Usage(doubtTokens=70, doubtCost=0.5))))
    run = load_run(path)
    assert (run.target.asks, run.target.outputTokens, run.target.cost, run.target.unpriced) == (2, 6, 0.25, 0)
    assert (run.target.doubtTokens, run.target.doubtCost) == (70, 0.5)
    assert (run.judging.asks, run.judging.unpriced) == (1, 1)


def test_an_ask_whose_end_was_not_written_is_in_doubt(tmp_path: Path) -> None:
    """What a process that was killed had asked may have been paid for, and counts in full; what was answered, once."""
    path = tmp_path / "a.jsonl"
    begun = Asking(purpose=Purpose.TARGET, model="llama", request="r", tokens=100, cost=1.5)
    with RunWriter(path, HEADER) as writer:
        writer.asking(begun)
        assert (writer.log.target().doubtTokens, writer.log.target().doubtCost) == (100, 1.5)
    with RunWriter(path, HEADER) as writer:
        for _ in range(2):
            writer.asking(begun)
        assert writer.log.target().doubtTokens == 300
        writer.asked(asked("r", tries=2))
        assert (writer.log.target().doubtTokens, writer.log.target().outputTokens) == (100, 6)
    log, _ = read_log(path)
    assert log is not None
    assert log.target() == writer.log.target()
