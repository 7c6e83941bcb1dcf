"""The runner by itself: who asks and who scores are fakes."""

import errno
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from capstan_evaluation.records import Answer, Result, RunHeader, Score
from capstan_evaluation.runs.files import RunWriter
from capstan_evaluation.runs.runner import MOST_FAILURES, Ending, Runner
from capstan_evaluation.suites.load import load_suite_texts
from capstan_evaluation.suites.suite import Case

CASES = 3 * MOST_FAILURES
SUITE = load_suite_texts(
    {"suite.yaml": json.dumps({"name": "s", "cases": [{"id": f"c{n}", "prompt": str(n)} for n in range(CASES)]})}
)
HEADER = RunHeader(id="one", suite="s", suiteHash=SUITE.suiteHash, target="t", cases=CASES, repeats=1)


class Target:
    """Fails where it is told to."""

    def __init__(self, *fails: int) -> None:
        self.fails = fails

    async def chat(self, document: Mapping[str, Any], *, repeat: int = 0) -> Answer:
        """See `Chat`."""
        failed = int(document["messages"][-1]["content"]) in self.fails
        return Answer(error="http_400") if failed else Answer(text="x")


class Unscored:
    """Gives no score."""

    async def score(self, case: Case, answer: Answer, repeat: int) -> tuple[Score, ...]:
        """See `CaseScorer`."""
        return ()


class FullDisk(RunWriter):
    """Has no room for results."""

    def result(self, result: Result) -> None:
        """See `RunWriter`."""
        raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_full_disk_is_an_error_of_the_disk(tmp_path: Path) -> None:
    """However many workers there are, what a file cannot take is told as the OSError that it is."""
    with FullDisk(tmp_path / "a.jsonl", HEADER) as writer, pytest.raises(OSError, match="No space left"):
        await Runner(suite=SUITE, target=Target(), scorer=Unscored(), writer=writer, concurrency=4).run()


async def test_failures_in_a_row_end_a_run_and_others_do_not(tmp_path: Path) -> None:
    """As many failures with an answer between them are no target that has failed; in a row they are one."""
    scattered, row = range(0, CASES, 2), range(5, 5 + MOST_FAILURES)
    for fails, ending, results in ((scattered, Ending.OVER, CASES), (row, Ending.FAILED, 5 + MOST_FAILURES)):
        with RunWriter(tmp_path / f"{ending}.jsonl", HEADER) as writer:
            runner = Runner(suite=SUITE, target=Target(*fails), scorer=Unscored(), writer=writer, concurrency=1)
            assert await runner.run() is ending
            assert len(writer.log.results) == results
