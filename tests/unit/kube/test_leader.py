"""The leader lease, by a clock that jumps: who may begin, who has to stop, and what the lease then says."""

import asyncio
import time
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from capstan_operator.errors import LeaseLost
from capstan_operator.kube.errors import Conflict, Forbidden, Unavailable
from capstan_operator.kube.leader import LEASE_NAME, Leader, Timing, lease_name
from capstan_operator.resources.resource import Manifest
from fakes.apply_kube import ApplyKube
from support.virtualtime import run_virtually

TIMING = Timing(duration=15.0, renew_deadline=10.0, retry=2.0)


def leader(kube: ApplyKube, identity: str = "me", timing: Timing = TIMING) -> Leader:
    """Give a candidate."""
    return Leader(kube, namespace="ns", identity=identity, timing=timing)


def lease_of(kube: ApplyKube) -> dict[str, Any]:
    """Give what the lease says."""
    found = kube.find("Lease", LEASE_NAME)
    assert found is not None
    return dict(found["spec"])


def held_by(holder: str, **spec: Any) -> Manifest:
    """Give a lease that somebody holds."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": LEASE_NAME, "namespace": "ns"},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, **spec},
    }


async def seconds(work: Coroutine[Any, Any, Any]) -> float:
    """Give how long something takes."""
    loop = asyncio.get_running_loop()
    before = loop.time()
    await work
    return loop.time() - before


def test_a_lease_that_nobody_holds_is_taken_at_once() -> None:
    """The first candidate makes the lease and holds it without a wait, for as long as its timing says."""
    kube = ApplyKube()
    candidate = leader(kube)
    assert not candidate.holds
    assert run_virtually(seconds(candidate.acquire())) == 0
    assert candidate.holds
    spec = lease_of(kube)
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == ("me", 15, 1)
    assert spec["acquireTime"] == spec["renewTime"]


def test_installs_of_two_classes_wait_for_nobody() -> None:
    """Each class has a lease of its own, so that both lead from one namespace."""
    kube = ApplyKube()
    plain, blue = (
        Leader(kube, namespace="ns", identity=name or "plain", name=lease_name(name), timing=TIMING)
        for name in ("", "blue")
    )
    run_virtually(plain.acquire())
    assert run_virtually(seconds(blue.acquire())) == 0
    assert plain.holds
    assert lease_of(kube)["holderIdentity"] == "plain"


def test_a_lease_shorter_than_a_second_is_one_second() -> None:
    """The API takes whole seconds, and none of them would mean: good for nothing."""
    kube = ApplyKube()
    run_virtually(leader(kube, timing=Timing(duration=0.3, renew_deadline=0.2, retry=0.05)).acquire())
    assert lease_of(kube)["leaseDurationSeconds"] == 1


@pytest.mark.parametrize(("says", "waits"), [(15, 16), (4, 4), (None, 16)])
def test_a_lease_that_rests_is_taken_after_its_duration(says: int | None, waits: float) -> None:
    """A candidate waits for what the lease itself says, by its own clock, and looks every two seconds."""
    kube = ApplyKube()
    kube.put(held_by("other", leaseDurationSeconds=says, leaseTransitions=6, acquireTime="2026-01-01T00:00:00Z"))
    assert run_virtually(seconds(leader(kube).acquire())) == waits
    assert lease_of(kube)["holderIdentity"] == "me"
    assert lease_of(kube)["leaseTransitions"] == 7
    assert lease_of(kube)["acquireTime"] == lease_of(kube)["renewTime"]


def test_a_lease_that_is_renewed_is_never_taken() -> None:
    """Each write of the holder starts the wait anew, however old the times are that it wrote."""
    kube = ApplyKube()

    async def scenario() -> None:
        waiting = asyncio.create_task(leader(kube).acquire())
        for number in range(20):
            kube.put(held_by("other", renewTime=f"1970-01-01T00:00:{number:02}Z"))
            await asyncio.sleep(14)
            assert not waiting.done()
        waiting.cancel()

    run_virtually(scenario())
    assert lease_of(kube)["holderIdentity"] == "other"


def test_a_restarted_container_has_its_lease_still() -> None:
    """The same identity begins at once; that is no transition, and the time of acquiring stays."""
    kube = ApplyKube()
    kube.put(held_by("me", acquireTime="2026-01-01T00:00:00Z", leaseTransitions=3))
    assert run_virtually(seconds(leader(kube).acquire())) == 0
    spec = lease_of(kube)
    assert (spec["acquireTime"], spec["leaseTransitions"]) == ("2026-01-01T00:00:00Z", 3)
    assert spec["renewTime"] > spec["acquireTime"]


def test_a_lease_without_a_time_of_acquiring_gets_one() -> None:
    """Whoever wrote the lease by hand may have left it out."""
    kube = ApplyKube()
    kube.put(held_by("me"))
    run_virtually(leader(kube).acquire())
    assert lease_of(kube)["acquireTime"] == lease_of(kube)["renewTime"]


def test_times_are_those_of_utc_wherever_the_operator_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kubernetes takes RFC 3339 with microseconds, and shows them to everybody in UTC."""
    kube = ApplyKube()
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        run_virtually(leader(kube).acquire())
    finally:
        monkeypatch.undo()
        time.tzset()
    written = datetime.strptime(lease_of(kube)["renewTime"], "%Y-%m-%dT%H:%M:%S.%f%z")
    assert abs(datetime.now(UTC) - written) < timedelta(hours=1)


def test_a_lease_that_was_made_meanwhile_stays_with_who_took_it() -> None:
    """Two candidates find no lease: the slower one makes an empty one, and gives up nothing of what the other holds."""
    kube = ApplyKube()

    def overtake(verb: str, kind: str, name: str) -> None:
        if verb == "apply":
            kube.before = lambda *_: None
            kube.put(held_by("other"), manager="capstan-operator")

    kube.before = overtake
    assert run_virtually(seconds(leader(kube).acquire())) >= 15


def test_of_two_candidates_only_one_wins() -> None:
    """Somebody who takes the lease between our look and our write keeps it: our write carries the version we saw."""
    kube = ApplyKube()
    kube.put(held_by(""))

    def sneak(verb: str, kind: str, name: str) -> None:
        if verb == "apply":
            kube.before = lambda *_: None
            kube.put(held_by("other"), manager="capstan-operator")

    kube.before = sneak
    assert run_virtually(seconds(leader(kube).acquire())) >= 15


def test_a_candidate_outlives_an_api_server_that_does_not_answer() -> None:
    """Errors are waited out: two seconds each, for reading and for writing."""
    kube = ApplyKube()
    kube.answer("get", Unavailable("no answer"), Unavailable("no answer"))
    kube.answer("apply", None, Unavailable("no answer"))
    assert run_virtually(seconds(leader(kube).acquire())) == 6


class SlowWrites(ApplyKube):
    """Answers the first writes of a lease that is there late."""

    def __init__(self, *seconds: float, blocking: bool = False) -> None:
        super().__init__()
        self.put(held_by(""))
        self._seconds = list(seconds)
        self._blocking = blocking

    async def apply(self, manifest: Manifest, **fields: Any) -> Manifest:
        """Write, and answer when it is time."""
        written = await super().apply(manifest, **fields)
        if self._seconds and self._blocking:
            loop = asyncio.get_running_loop()
            now = loop.time() + self._seconds.pop(0)
            loop.time = lambda: now  # type: ignore[method-assign]
        elif self._seconds:
            await asyncio.sleep(self._seconds.pop(0))
        return written


class NotedFence:
    """Notes for how long the process was let live."""

    def __init__(self) -> None:
        self.extended: list[float] = []

    def extend(self, seconds: float) -> None:
        """See Fence."""
        self.extended.append(seconds)

    def disarm(self) -> None:
        """See Fence."""


@pytest.mark.parametrize("late", [5.5, 9.0, 14.0, 3600.0])
def test_a_lease_whose_writing_took_long_is_written_again_before_it_counts(late: float) -> None:
    """An API server that fails over answers a write late or never: the candidate looks again, begins with the whole
    time before it, and is still there for its renewals."""
    kube, fence = SlowWrites(late), NotedFence()

    async def scenario() -> None:
        candidate = Leader(kube, namespace="ns", identity="me", timing=TIMING, fence=fence)
        assert await seconds(candidate.acquire()) == 5 + 2
        assert fence.extended == [TIMING.fence]
        keeping = asyncio.create_task(candidate.keep())
        await asyncio.sleep(30)
        assert not keeping.done()
        assert min(fence.extended) > 0
        keeping.cancel()

    run_virtually(scenario())
    assert lease_of(kube)["leaseTransitions"] == 1


@pytest.mark.parametrize("late", [TIMING.fence, 20.0])
def test_an_answer_that_is_worth_nothing_any_more_is_no_lease(late: float) -> None:
    """A loop that was blocked sees answer and deadline at once: the fence is never told to end the process for it."""
    kube, fence = SlowWrites(late, blocking=True), NotedFence()

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        loop.time = lambda: now  # type: ignore[method-assign]
        candidate = Leader(kube, namespace="ns", identity="me", timing=TIMING, fence=fence)
        with pytest.raises(TimeoutError):
            await candidate._hold(held_by(""), taking=True)
        assert not candidate.holds
        assert fence.extended == []

    asyncio.run(scenario())


def test_the_holder_renews_at_its_pace() -> None:
    """Every two seconds one write, and nothing but the time of renewal changes."""
    kube = ApplyKube()

    async def scenario() -> None:
        holder = leader(kube)
        await holder.acquire()
        before, writes = lease_of(kube), len(kube.calls)
        keeping = asyncio.create_task(holder.keep())
        await asyncio.sleep(20.5)
        assert kube.calls[writes:] == [("apply", "Lease", LEASE_NAME)] * 10
        after = lease_of(kube)
        assert after.pop("renewTime") > before.pop("renewTime")
        assert after == before
        keeping.cancel()

    run_virtually(scenario())


def test_who_never_acquired_has_nothing_to_keep() -> None:
    """Keeping without a lease is the loss of it."""
    with pytest.raises(LeaseLost, match=r"^the lease was never acquired$"):
        run_virtually(leader(ApplyKube()).keep())


def test_the_holder_stops_before_anybody_else_may_begin() -> None:
    """It gives up ten seconds after its last good write began, which is before the fifteen of the lease are over."""
    kube = ApplyKube()

    async def scenario() -> None:
        holder = leader(kube)
        await holder.acquire()
        kube.answer("apply", None, *[Unavailable("no answer")] * 100)
        loop = asyncio.get_running_loop()
        began, calls = loop.time(), len(kube.calls)
        with pytest.raises(LeaseLost, match="not renewed for 10 s"):
            await holder.keep()
        # One good renewal after two seconds, and from four seconds on one that fails each second.
        assert len(kube.calls) - calls == 9
        # The renewal after two seconds was the last good one.
        assert loop.time() - began == pytest.approx(12)
        assert not holder.holds

    run_virtually(scenario())


def test_an_outage_shorter_than_the_deadline_is_survived() -> None:
    """A holder that can write again in time goes on, with the whole deadline before it."""
    kube = ApplyKube()

    async def scenario() -> None:
        holder = leader(kube)
        await holder.acquire()
        keeping = asyncio.create_task(holder.keep())
        for _ in range(3):
            kube.answer("apply", *[Unavailable("no answer")] * 6)
            await asyncio.sleep(20)
            assert not keeping.done()
        assert holder.holds
        keeping.cancel()

    run_virtually(scenario())


def test_a_lease_that_somebody_else_took_is_lost_at_once() -> None:
    """The holder does not write over another one, and says who it is."""
    kube = ApplyKube()

    async def scenario() -> None:
        holder = leader(kube)
        await holder.acquire()
        kube.put(held_by("other"))
        with pytest.raises(LeaseLost, match="held by 'other'"):
            await holder.keep()
        assert not holder.holds
        assert lease_of(kube)["holderIdentity"] == "other"

    run_virtually(scenario())


def test_another_writer_that_left_the_lease_ours_is_no_loss() -> None:
    """Somebody set a label: the holder reads the lease anew and renews it."""
    kube = ApplyKube()

    async def scenario() -> None:
        holder = leader(kube)
        await holder.acquire()
        labelled = {**held_by("me"), "metadata": {"name": LEASE_NAME, "namespace": "ns", "labels": {"a": "b"}}}
        del labelled["spec"]
        kube.put(labelled)
        keeping = asyncio.create_task(holder.keep())
        await asyncio.sleep(5)
        assert not keeping.done()
        assert holder.holds
        keeping.cancel()

    run_virtually(scenario())
    found = kube.find("Lease", LEASE_NAME)
    assert found is not None
    assert found["metadata"]["labels"] == {"a": "b"}


def test_a_holder_that_ends_in_order_leaves_the_lease_free() -> None:
    """The next candidate begins at once, counts a transition, and the one that left does not hold."""
    kube = ApplyKube()

    async def scenario() -> None:
        holder, next_one = leader(kube), leader(kube, "next")
        await holder.acquire()
        await holder.release()
        assert not holder.holds
        left = lease_of(kube)
        assert (left.get("holderIdentity"), left["leaseDurationSeconds"], bool(left["renewTime"])) == (None, 1, True)
        assert await seconds(next_one.acquire()) == 0
        await holder.release()  # has nothing to release, and must not
        assert lease_of(kube)["holderIdentity"] == "next"

    run_virtually(scenario())


@pytest.mark.parametrize("error", [Conflict("somebody wrote"), Unavailable("no answer")])
def test_a_release_that_fails_ends_all_the_same(error: Exception) -> None:
    """On its way out nothing can be done about it: the lease runs out by itself."""
    kube = ApplyKube()

    async def scenario() -> None:
        holder = leader(kube)
        await holder.acquire()
        kube.answer("apply", error)  # type: ignore[arg-type]
        await holder.release()
        assert not holder.holds

    run_virtually(scenario())


def test_a_release_that_hangs_is_given_up() -> None:
    """An API server that is silent does not keep the process from ending."""
    kube = ApplyKube()

    async def scenario() -> None:
        holder = leader(kube)
        await holder.acquire()

        async def hang(*_: Any, **__: Any) -> Manifest:
            await asyncio.sleep(3600)
            raise AssertionError("nobody waits for so long")

        kube.apply = hang  # type: ignore[method-assign]
        assert await seconds(holder.release()) == 2

    run_virtually(scenario())


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Give the warnings: what failed, and why."""
    found = [one for one in caplog.records if one.levelname == "WARNING"]
    return [(one.getMessage(), one.__dict__["error"]) for one in found]


def test_an_outage_is_said_once_while_it_is_the_same(caplog: pytest.LogCaptureFixture) -> None:
    """A log of hours of outage is one line; another error, or the same one after it was well, is said again."""
    kube = ApplyKube()
    away, other = Unavailable("away"), Unavailable("another")

    async def scenario() -> None:
        holder = leader(kube)
        kube.answer("get", away, away, other, away)
        await holder.acquire()
        keeping = asyncio.create_task(holder.keep())
        kube.answer("apply", away, away)
        await asyncio.sleep(7)
        kube.answer("apply", Conflict("somebody wrote"), Conflict("somebody wrote"))
        kube.answer("get", away, None)
        await asyncio.sleep(4)
        keeping.cancel()

    run_virtually(scenario())
    taking, renewing, reading = (f"could not {what} the leader lease" for what in ("read or take", "renew", "read"))
    assert said(caplog) == [
        (taking, "away"), (taking, "another"), (taking, "away"), (renewing, "away"), (reading, "away"),
    ]  # fmt: skip


def test_a_right_that_is_missing_is_said_as_what_it_is(caplog: pytest.LogCaptureFixture) -> None:
    """With verb, resource and namespace, for whoever mends the role."""
    kube = ApplyKube()
    words = 'User "op" cannot get resource "leases" in API group "coordination.k8s.io" in the namespace "ns"'
    kube.answer("get", Forbidden(words), Forbidden("a plugin says no"))
    run_virtually(leader(kube).acquire())
    first, second = (one.__dict__ for one in caplog.records if one.levelname == "WARNING")
    assert (first["verb"], first["resource"], first["namespace"]) == ("get", "leases.coordination.k8s.io", "ns")
    assert "verb" not in second


def test_a_lease_that_cannot_be_read_after_a_conflict_is_looked_at_each_second() -> None:
    """Until the deadline: whose it is decides whether the work goes on."""
    kube = ApplyKube()

    async def scenario() -> None:
        holder = leader(kube)
        await holder.acquire()
        kube.answer("apply", None, *[Conflict("somebody wrote")] * 100)
        kube.answer("get", *[Unavailable("no answer")] * 100)
        calls = len(kube.calls)
        with pytest.raises(LeaseLost, match="not renewed for 10 s"):
            await holder.keep()
        # One good renewal, and from four to eleven seconds a write and a look each second.
        assert len(kube.calls) - calls == 1 + 2 * 8

    run_virtually(scenario())
