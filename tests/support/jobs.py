"""What `.ci/run` makes beside the tests: images, environments, programs. Who needs one of them waits for it.

CAPSTAN_TEST_JOBS names a folder in which each job that has come to its end leaves an empty file of its name, and the
first that fails one called `failed`. Without it nothing is made beside the tests, and nobody waits.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

import pytest

from support.wait import wait_until

Job = Literal["images", "previous", "vllm", "agents", "clients", "browser"]
SECONDS: Final = 1200.0
"""What a slow network may take, with all that is tried again."""


def wait_for_job(job: Job, *, seconds: float = SECONDS) -> bool:
    """Wait until a job is over, and say whether there is one; without any, what it makes is the test's own to make.

    The running test fails when a job has failed, or at the end of the time.

    The test's own time limit stands still meanwhile.
    """
    folder = os.environ.get("CAPSTAN_TEST_JOBS")
    if not folder:
        return False

    def is_over() -> bool:
        if (Path(folder) / job).exists():
            return True
        if (Path(folder) / "failed").exists():
            pytest.fail(f"what is made beside the tests has failed, and '{job}' is not there")
        return False

    with _without_limit():
        wait_until(is_over, seconds=seconds, every=0.5, what=f"the job '{job}' beside the tests")
    return True


@contextmanager
def _without_limit() -> Iterator[None]:
    """Stop the timer of pytest-timeout, and let it go on with what was left of it."""
    left = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *left)
