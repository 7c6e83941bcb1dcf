"""Tests wait for what is made beside them, and only for that."""

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.jobs import wait_for_job
from support.wait import wait_until


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of the jobs that are over."""
    monkeypatch.setenv("CAPSTAN_TEST_JOBS", str(tmp_path))
    return tmp_path


def test_nobody_waits_where_nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the folder, as on a user's machine, every job counts as over."""
    monkeypatch.delenv("CAPSTAN_TEST_JOBS", raising=False)
    wait_for_job("vllm", seconds=0)


def test_another_job_is_not_the_one(jobs: Path) -> None:
    """Who waits does so until that job is over, and fails with its name when the time is."""
    (jobs / "agents").touch()
    wait_for_job("agents", seconds=0)
    with pytest.raises(AssertionError, match="'clients'"):
        wait_for_job("clients", seconds=0)


def test_a_job_that_failed_fails_who_waits(jobs: Path) -> None:
    """Whichever it was: the whole is lost. What was over before is there all the same."""
    (jobs / "images").touch()
    (jobs / "failed").touch()
    wait_for_job("images", seconds=0)
    with pytest.raises(pytest.fail.Exception, match="'previous' is not there"):
        wait_for_job("previous", seconds=60)


@pytest.fixture
def limit() -> Iterator[float]:
    """A time limit of the test's own, in seconds; that of before goes on afterwards."""
    before = signal.setitimer(signal.ITIMER_REAL, 200)
    yield 200
    signal.setitimer(signal.ITIMER_REAL, *before)


def test_the_time_limit_stands_still_for_who_waits(jobs: Path, limit: float) -> None:
    """No timer runs while a test waits, and then it goes on with what was left."""
    seen: list[float] = []

    def end() -> None:
        wait_until(lambda: signal.getitimer(signal.ITIMER_REAL)[0] == 0, seconds=30, what="the end of the timer")
        seen.append(signal.getitimer(signal.ITIMER_REAL)[0])
        (jobs / "vllm").touch()

    ending = threading.Thread(target=end)
    ending.start()
    wait_for_job("vllm", seconds=60)
    ending.join(timeout=60)
    assert seen == [0]
    assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= limit
