"""Work in the background that fails."""

import asyncio
import logging
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.life.jobs import DEFAULT, Job, Jobs, RestartSettings, pause_after
from support.virtualtime import run_virtually

FAST = RestartSettings(first_seconds=1.0, most_seconds=8.0, well_seconds=60.0, most_failures=4)


def rng(seed: int = 1) -> Random:
    """Jitter."""
    return Random(seed)  # noqa: S311


@given(st.integers(1, 7), st.integers())
def test_pauses_double_have_jitter_and_an_end(failures: int, seed: int) -> None:
    """Each pause is within half of its doubled length, and no longer than the longest."""
    pause = pause_after(failures, DEFAULT, rng(seed))
    wanted = min(DEFAULT.most_seconds, DEFAULT.first_seconds * 2 ** (failures - 1))
    assert pause is not None
    assert wanted / 2 <= pause <= wanted * 1.5


def test_after_enough_failures_in_a_row_the_process_is_given_up() -> None:
    """The last failure has no pause."""
    assert pause_after(DEFAULT.most_failures, DEFAULT, rng()) is None


def test_replicas_are_not_given_up_together() -> None:
    """What fails in every replica from the same second on ends them over many seconds."""

    def total(seed: int) -> float:
        jitter = rng(seed)
        return sum(pause_after(number, DEFAULT, jitter) or 0.0 for number in range(1, DEFAULT.most_failures))

    ends = sorted(total(seed) for seed in range(20))
    assert ends[-1] - ends[0] > 20.0
    assert ends[0] > 30.0


class Flaky:
    """A job that fails at once so many times, and then works."""

    def __init__(self, failures: int, *, works: float = 0.0) -> None:
        self.left = failures
        self.works = works
        self.begun: list[float] = []

    async def run(self) -> None:
        """Fail, or work for ever."""
        self.begun.append(asyncio.get_running_loop().time())
        if self.left:
            self.left -= 1
            await asyncio.sleep(self.works)
            raise LookupError("a bug")
        await asyncio.Event().wait()


async def _watch(*jobs: Job, seconds: float, settings: RestartSettings = FAST) -> tuple[Jobs, list[str]]:
    failed: list[str] = []
    unhandled: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    watched = Jobs(rng=rng(), on_failure=failed.append, settings=settings)
    task = asyncio.create_task(watched.run(jobs))
    await asyncio.sleep(seconds)
    task.cancel()
    (ended,) = await asyncio.gather(task, return_exceptions=True)
    assert ended is None or isinstance(ended, asyncio.CancelledError)
    assert unhandled == []
    return watched, failed


def test_a_job_that_fails_is_begun_anew_and_disturbs_no_other() -> None:
    """It comes back after its pauses; the failure is counted, shown, and forgotten when it has worked for a while."""
    flaky, steady = Flaky(2), Flaky(0)
    jobs = (Job("flaky", flaky.run), Job("steady", steady.run))
    watched, failed = run_virtually(_watch(*jobs, seconds=30))
    assert (len(flaky.begun), len(steady.begun)) == (3, 1)
    assert failed == ["flaky", "flaky"]
    assert watched.failing == ("flaky: LookupError",)
    assert watched.given_up is None
    gaps = [later - sooner for sooner, later in zip(flaky.begun, flaky.begun[1:], strict=False)]
    assert 0.5 <= gaps[0] <= 1.5
    assert 1.0 <= gaps[1] <= 3.0
    watched, _ = run_virtually(_watch(Job("flaky", Flaky(2).run), seconds=100))
    assert watched.failing == ()


def test_a_job_that_keeps_failing_gives_the_process_up_and_the_others_go_on() -> None:
    """Then nothing begins it anew, and who listens is told."""
    broken, steady = Flaky(1000), Flaky(0)
    watched, failed = run_virtually(_watch(Job("broken", broken.run), Job("steady", steady.run), seconds=100))
    assert watched.given_up == "broken"
    assert watched.is_given_up.is_set()
    assert len(failed) == len(broken.begun) == FAST.most_failures
    assert len(steady.begun) == 1


def test_a_job_whose_work_was_cancelled_by_somebody_else_is_begun_anew() -> None:
    """It has not been told to end: to leave it out would end it for ever, and nobody would know."""
    begun = 0

    async def job() -> None:
        nonlocal begun
        begun += 1
        if begun == 1:
            work = asyncio.create_task(asyncio.sleep(3600))
            asyncio.get_running_loop().call_soon(work.cancel)
            await work
        await asyncio.Event().wait()

    watched, failed = run_virtually(_watch(Job("job", job), seconds=10))
    assert (begun, failed) == (2, ["job"])
    assert watched.failing == ("job: CancelledError",)


def test_failures_that_are_far_apart_never_give_the_process_up() -> None:
    """A job that has worked for long enough has not failed again."""
    flaky = Flaky(20, works=61.0)
    watched, failed = run_virtually(_watch(Job("flaky", flaky.run), seconds=3000))
    assert len(failed) == 20
    assert watched.given_up is None
    pauses = [later - sooner - 61.0 for sooner, later in pairwise(flaky.begun)]
    assert all(0.5 <= pause <= 1.5 for pause in pauses), "each time it is the first pause"


async def test_cancelling_ends_all_jobs() -> None:
    """Also one that waits to begin anew."""
    watched = Jobs(rng=rng(), settings=FAST)
    task = asyncio.create_task(watched.run([Job("a", Flaky(1).run), Job("b", Flaky(0).run)]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not [other for other in asyncio.all_tasks() if other.get_name() in ("a", "b")]


def test_a_job_with_nothing_to_do_is_no_failure() -> None:
    """It returns, and is not begun anew."""
    begun = 0

    async def nothing() -> None:
        nonlocal begun
        begun += 1

    watched, failed = run_virtually(_watch(Job("nothing", nothing), seconds=100))
    assert (begun, failed, watched.failing) == (1, [], ())


def test_a_job_that_ends_after_it_failed_is_well() -> None:
    """It has nothing more to do, and is not shown as failing."""
    left = 1

    async def fails_once() -> None:
        nonlocal left
        if left:
            left -= 1
            raise LookupError("a bug")

    watched, failed = run_virtually(_watch(Job("once", fails_once), seconds=10))
    assert (failed, watched.failing) == (["once"], ())


def test_what_is_told_of_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    """Which job, how often in a row, with its traceback, and when it begins anew; never is None."""
    with caplog.at_level(logging.ERROR):
        run_virtually(_watch(Job("broken", Flaky(1000).run), seconds=100))
    told = [record.__dict__ for record in caplog.records]
    assert [(one["job"], one["failures"]) for one in told] == [("broken", number) for number in range(1, 5)]
    assert [one["exc_info"][0] for one in told] == [LookupError] * 4
    *pauses, last = [one["retry_seconds"] for one in told]
    assert last is None
    for pause, wanted in zip(pauses, (1.0, 2.0, 4.0), strict=True):
        assert wanted / 2 <= pause <= wanted * 1.5
        assert pause == round(pause, 2) != round(pause)
