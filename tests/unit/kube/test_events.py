"""Events: one per transition, a count for what repeats, and never a reason to wait or to fail."""

import asyncio
import re
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from capstan_operator.kube import events
from capstan_operator.kube.errors import Forbidden, Unavailable
from capstan_operator.kube.events import MOST_NOTE, PATIENCE, EventRecorder, Subject
from capstan_operator.resources.api_resource import EVENTS
from fakes.apply_kube import ApplyKube
from support.wait import eventually

SUBJECT = Subject("capstan.dev/v1alpha1", "LLMModel", "ns", "chat", "u1")
OTHER = Subject("capstan.dev/v1alpha1", "LLMModel", "ns", "other", "u2")
START = datetime(2026, 5, 4, 12, 0, 0, 123456, tzinfo=UTC)


class World:
    """An API server, a clock and a recorder."""

    def __init__(self, *, instance: str = "pod-1", most: int = 4096) -> None:
        self.kube = ApplyKube()
        self.now = START
        self.recorder = EventRecorder(self.kube, instance=instance, now=lambda: self.now, window=600.0, most=most)

    async def written(self) -> list[dict[str, Any]]:
        """Write everything that was recorded; give the Events that are there."""
        running = asyncio.create_task(self.recorder.run())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not running.done()
        running.cancel()
        return list((await self.kube.list(EVENTS)).items)


async def test_an_event_says_what_happened_to_whom_when_and_who_says_so() -> None:
    """All that `kubectl describe` shows, in the API's own form."""
    world = World()
    world.recorder.record(SUBJECT, "Warning", "Crashed", "the container exits")
    (event,) = await world.written()
    metadata = event.pop("metadata")
    assert metadata["namespace"] == "ns"
    assert re.fullmatch(r"chat\.[0-9a-f]{16}", metadata["name"])
    assert event == {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "eventTime": "2026-05-04T12:00:00.123456Z",
        "reportingController": "capstan.dev/operator",
        "reportingInstance": "pod-1",
        "action": "Reconcile",
        "type": "Warning",
        "reason": "Crashed",
        "note": "the container exits",
        "regarding": {
            "apiVersion": "capstan.dev/v1alpha1", "kind": "LLMModel", "namespace": "ns", "name": "chat", "uid": "u1",
        },
    }  # fmt: skip


async def test_what_repeats_is_counted_and_keeps_the_time_it_began() -> None:
    """One Event for the same fact about the same object within the window, counted from the last time it was said."""
    world = World()
    for minutes in (0, 9, 19):
        world.now = START + timedelta(minutes=minutes)
        world.recorder.record(SUBJECT, "Normal", "Ready", "it serves")
        events = await world.written()
    (event,) = events
    assert event["series"] == {"count": 3, "lastObservedTime": "2026-05-04T12:19:00.123456Z"}
    assert event["eventTime"] == "2026-05-04T12:00:00.123456Z"


async def test_what_comes_back_after_the_window_is_a_new_event() -> None:
    """More than ten minutes after it was last said; exactly ten minutes still count."""
    world = World()
    for seconds in (0, 600, 1201):
        world.now = START + timedelta(seconds=seconds)
        world.recorder.record(SUBJECT, "Normal", "Ready", "it serves")
        events = await world.written()
    assert sorted(event.get("series", {}).get("count", 1) for event in events) == [1, 2]


async def test_facts_are_told_apart() -> None:
    """Another object, type, reason or note is another Event, even at the same moment."""
    world = World()
    world.recorder.record(SUBJECT, "Normal", "Ready", "it serves")
    world.recorder.record(OTHER, "Normal", "Ready", "it serves")
    world.recorder.record(SUBJECT, "Warning", "Ready", "it serves")
    world.recorder.record(SUBJECT, "Normal", "Served", "it serves")
    world.recorder.record(SUBJECT, "Normal", "Ready", "it still serves")
    events = await world.written()
    assert len({event["metadata"]["name"] for event in events}) == 5
    assert not [event for event in events if "series" in event]


async def test_an_event_that_cannot_be_written_holds_up_no_other_one() -> None:
    """It is lost; the next one is written."""
    world = World()
    world.kube.answer("apply", Unavailable("no answer"))
    world.recorder.record(SUBJECT, "Normal", "Ready", "lost")
    world.recorder.record(SUBJECT, "Normal", "Ready", "written")
    assert [event["note"] for event in await world.written()] == ["written"]


async def test_a_namespace_in_which_events_are_forbidden_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """With the right that is missing, if one is; another namespace is told by itself, and the next Event is tried."""
    world = World()
    words = 'User "op" cannot create resource "events" in API group "events.k8s.io" in the namespace "ns"'
    elsewhere = Subject("capstan.dev/v1alpha1", "LLMModel", "other", "chat", "u3")
    world.kube.answer("apply", Forbidden(words), Forbidden(words), Forbidden("a plugin says no"))
    for subject in (SUBJECT, SUBJECT, elsewhere, SUBJECT):
        world.recorder.record(subject, "Normal", "Ready", f"note {len(world.kube.calls)}")
        events = await world.written()
    assert len(events) == 1
    told = [one.__dict__ for one in caplog.records if one.getMessage() == "events may not be written"]
    assert [(one["namespace"], one["error"], one.get("verb")) for one in told] == [
        ("ns", words, "create"),
        ("other", "a plugin says no", None),
    ]


async def test_more_than_can_be_written_is_dropped() -> None:
    """The newest go: nobody waits for an Event, and memory is bounded."""
    world = World(most=2)
    for number in range(3):
        world.recorder.record(SUBJECT, "Normal", "Ready", f"note {number}")
    assert sorted(event["note"] for event in await world.written()) == ["note 0", "note 1"]


async def test_the_namespace_with_most_events_gives_way() -> None:
    """Events that cannot be written in one namespace take no room from those of another, such as the installation's."""
    world = World(most=4)
    for number in range(6):
        world.recorder.record(SUBJECT, "Normal", "Ready", f"note {number}")
    install = Subject("v1", "ConfigMap", "capstan", "config", "")
    for number in range(2):
        world.recorder.record(install, "Warning", "ConfigHeld", f"held {number}")
    assert sorted(event["note"] for event in await world.written()) == ["held 0", "held 1", "note 0", "note 1"]


class HangingKube(ApplyKube):
    """An API server with an admission webhook that hangs in some namespaces."""

    def __init__(self, *stuck: str) -> None:
        super().__init__()
        self.stuck = set(stuck)
        self.hanging: list[str] = []

    async def apply(self, manifest: Any, **more: Any) -> Any:
        """Hang, or write."""
        namespace = manifest["metadata"]["namespace"]
        if namespace in self.stuck:
            self.hanging.append(namespace)
            await asyncio.Event().wait()
        return await super().apply(manifest, **more)


async def test_a_webhook_that_hangs_holds_up_the_events_of_its_namespace_only() -> None:
    """However many Events wait there, and in however many namespaces, those of others are written meanwhile, and once
    the webhook answers, those that still wait are."""
    stuck = [f"stuck{number}" for number in range(6)]
    kube = HangingKube(*stuck)
    recorder = EventRecorder(kube, instance="op", deadline=0.02)
    for name in stuck:
        for number in range(5):
            recorder.record(replace(SUBJECT, namespace=name), "Normal", "Ready", f"{name} {number}")
    running = asyncio.create_task(recorder.run())
    await eventually(lambda: set(kube.hanging) == set(stuck), what="all to hang")

    async def written() -> set[str]:
        return {event["note"] for event in (await kube.list(EVENTS)).items}

    for number in range(20):
        recorder.record(SUBJECT, "Normal", "Ready", f"well {number}")

    async def others() -> bool:
        return {f"well {number}" for number in range(20)} <= await written()

    await eventually(others, what="the Events of another namespace")
    kube.stuck.clear()
    recorder.record(replace(SUBJECT, namespace=stuck[0]), "Normal", "Ready", "at last")

    async def again() -> bool:
        return "at last" in await written()

    await eventually(again, what="the Events of a namespace that answers again")
    running.cancel()


async def test_events_of_one_namespace_are_written_in_their_order_one_at_a_time() -> None:
    """A series counts up, and a hanging namespace has one write in work."""
    kube = HangingKube("ns")
    recorder = EventRecorder(kube, instance="op", deadline=60)
    for number in range(5):
        recorder.record(SUBJECT, "Normal", "Ready", f"note {number}")
    running = asyncio.create_task(recorder.run())
    await eventually(lambda: bool(kube.hanging), what="a write")
    for _ in range(20):
        await asyncio.sleep(0)
    assert kube.hanging == ["ns"]
    running.cancel()


@pytest.mark.parametrize(
    ("answer", "takes", "hung"),
    [
        (None, PATIENCE - 1, False),
        (None, PATIENCE, True),
        (Unavailable("no"), 0.0, False),
        (Unavailable("no"), PATIENCE + 1, True),
        (Forbidden("no"), 0.0, False),
        (RuntimeError("a bug"), 0.0, False),
        (TimeoutError(), 0.0, True),
    ],
)
async def test_a_namespace_counts_as_slow_when_its_write_hung_or_took_long(
    answer: Exception | None, takes: float, hung: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not when it failed at once: then the next one is tried as soon as any other."""
    now = 1000.0
    told: list[bool] = []
    monkeypatch.setattr(events, "monotonic", lambda: now)
    world = World()
    write, done = world.kube.apply, world.recorder._lanes.done

    async def slow(manifest: Any, **more: Any) -> Any:
        nonlocal now
        now += takes
        return await write(manifest, **more)

    def note(lane: str, at: float, *, hung: bool) -> None:
        told.append(hung)
        done(lane, at, hung=hung)

    monkeypatch.setattr(world.kube, "apply", slow)
    monkeypatch.setattr(world.recorder._lanes, "done", note)
    if answer is not None:
        world.kube.answer("apply", answer)
    world.recorder.record(SUBJECT, "Normal", "Ready", "note")
    await world.written()
    assert told == [hung]


async def test_why_an_event_is_not_written_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """In the words of the API server, or how long it did not answer."""
    world = World()
    world.kube.answer("apply", Unavailable("no leader"), TimeoutError())
    for note in ("a", "b"):
        world.recorder.record(SUBJECT, "Normal", "Ready", note)
    await world.written()
    told = [one.__dict__["error"] for one in caplog.records if one.getMessage() == "could not write an event"]
    assert told == ["no leader", "no answer within 10 s"]


async def test_series_are_bounded() -> None:
    """The one that was said longest ago is forgotten, and begins anew when it comes back."""
    world = World(most=2)
    for note in ("a", "b", "a", "c", "a", "b"):
        world.now += timedelta(seconds=1)
        world.recorder.record(SUBJECT, "Normal", "Ready", note)
        events = await world.written()
    counts = sorted((event["note"], event.get("series", {}).get("count", 1)) for event in events)
    assert counts == [("a", 3), ("b", 1), ("b", 1), ("c", 1)]


@pytest.mark.parametrize("letter", ["x", "ä"])
async def test_a_note_is_cut_to_what_the_api_takes(letter: str) -> None:
    """1024 bytes, whole characters, and dots that say that there was more."""
    world = World()
    fits = letter * (MOST_NOTE // len(letter.encode()))
    world.recorder.record(SUBJECT, "Normal", "Ready", fits)
    world.recorder.record(SUBJECT, "Normal", "Ready", fits + letter)
    notes = sorted((event["note"] for event in await world.written()), key=len)
    cut = next(note for note in notes if note.endswith("..."))
    assert set(notes) == {fits, cut}
    # As much as there is room for: a letter of two bytes may not fit into the last one.
    assert len(cut.encode()) == MOST_NOTE - (MOST_NOTE - 3) % len(letter.encode())
    assert set(cut.removesuffix("...")) == {letter}


@pytest.mark.parametrize(("instance", "says"), [("x" * 200, "x" * 128), ("", "capstan-operator")])
async def test_the_reporting_instance_is_what_the_api_takes(instance: str, says: str) -> None:
    """At most 128 characters, and never none."""
    world = World(instance=instance)
    world.recorder.record(SUBJECT, "Normal", "Ready", "it serves")
    assert (await world.written())[0]["reportingInstance"] == says


async def test_times_are_told_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the clock's own zone is, and that of the machine."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        world = World()
        world.now = START.astimezone(timezone(timedelta(hours=-7)))
        world.recorder.record(SUBJECT, "Normal", "Ready", "it serves")
        assert (await world.written())[0]["eventTime"] == "2026-05-04T12:00:00.123456Z"
    finally:
        monkeypatch.undo()
        time.tzset()
