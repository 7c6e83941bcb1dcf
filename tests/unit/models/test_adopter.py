"""Turns are given from what every reconcile reports, and from nothing that would not be found again."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import cast

import pytest

from capstan_operator.desired.adoption import RolloutState
from capstan_operator.desired.snapshot import NodeCapacity
from capstan_operator.loaders.snapshot import SnapshotLoader
from capstan_operator.metrics import Metrics
from capstan_operator.models.adopter import NOT_LONGER_THAN, REFUSED_SECONDS, SAY_AFTER, Adopter
from capstan_operator.resources.resource import ObjectKey
from capstan_operator.settings import Settings
from capstan_operator.status.types import Problem

GPU = "nvidia.com/gpu"
KEYS = tuple(ObjectKey("team", f"m{number}") for number in range(4))


class Nodes:
    """The part of the loader that turns need: one node with so many free GPUs."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.looks = 0

    async def capacity(self, resources: Iterable[str]) -> tuple[NodeCapacity, ...]:
        """Give the node."""
        self.looks += 1
        return (NodeCapacity("a", dict.fromkeys(resources, self.free)),)


def _adopter(
    free: int = 8, places: int = 2, clock: Callable[[], float] = lambda: 0.0
) -> tuple[Adopter, list[ObjectKey], Nodes]:
    woken: list[ObjectKey] = []
    nodes = Nodes(free)
    settings = Settings(max_concurrent_rollouts=places)
    adopter = Adopter(cast(SnapshotLoader, nodes), settings, wake=woken.append, metrics=Metrics(), clock=clock)
    return adopter, woken, nodes


def _waits(key: ObjectKey) -> RolloutState:
    return RolloutState(key=key, created=f"2026-01-0{KEYS.index(key) + 1}", waits=True, gpus=1, gpu_resource=GPU)


def _rolls(key: ObjectKey) -> RolloutState:
    return replace(_waits(key), waits=False, rolls=True, adopts=True)


async def test_nobody_has_a_turn_before_all_were_seen() -> None:
    """A new operator does not know who is on the way before it has looked at every model."""
    adopter, woken, _ = _adopter()
    adopter.expect(KEYS)
    for key in KEYS[:3]:
        adopter.report(key, _waits(key))
    await adopter.decide()
    assert not woken
    adopter.report(KEYS[3], None)
    await adopter.decide()
    assert woken == [KEYS[0], KEYS[1]]


async def test_a_turn_lasts_until_the_rollout_has_ended() -> None:
    """A model that has its turn keeps it until it has begun, and its place until it has arrived."""
    adopter, woken, _ = _adopter(places=1)
    adopter.expect(KEYS)
    for key in KEYS:
        adopter.report(key, _waits(key))
    for _ in range(3):
        await adopter.decide()
        assert woken == [KEYS[0]]
    assert adopter.is_granted(KEYS[0])
    adopter.report(KEYS[0], _rolls(KEYS[0]))
    await adopter.decide()
    assert not any(map(adopter.is_granted, KEYS))
    adopter.report(KEYS[0], replace(_rolls(KEYS[0]), rolls=False))
    await adopter.decide()
    assert woken == [KEYS[0], KEYS[1]]


async def test_whoever_cannot_begin_hands_its_turn_on() -> None:
    """A model whose reconcile fails blocks nobody, and waits again when it is reported again."""
    adopter, woken, _ = _adopter(places=1)
    adopter.expect(KEYS[:2])
    for key in KEYS[:2]:
        adopter.report(key, _waits(key))
    await adopter.decide()
    adopter.give_up(KEYS[0])
    await adopter.decide()
    assert woken == [KEYS[0], KEYS[1]]
    adopter.report(KEYS[0], _waits(KEYS[0]))
    await adopter.decide()
    assert not adopter.is_granted(KEYS[0])


async def test_a_model_that_went_away_holds_nobody_up() -> None:
    """One that was deleted before it was looked at is not waited for."""
    adopter, woken, _ = _adopter()
    adopter.expect(KEYS)
    for key in KEYS[:3]:
        adopter.report(key, _waits(key))
    adopter.expect(KEYS[:3])
    await adopter.decide()
    assert woken == [KEYS[0], KEYS[1]]


async def test_room_is_given_once() -> None:
    """One free GPU is one turn, however many places there are; at rest nobody looks for room."""
    adopter, woken, nodes = _adopter(free=1)
    adopter.expect(KEYS)
    for key in KEYS:
        adopter.report(key, _waits(key))
    await adopter.decide()
    assert woken == [KEYS[0]]
    for key in KEYS:
        adopter.report(key, replace(_waits(key), waits=False))
    looks = nodes.looks
    await adopter.decide()
    assert nodes.looks == looks


async def test_one_that_cannot_be_looked_at_is_named_and_not_waited_for_for_ever(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log says whom turns wait for, and after a while they are given without it."""
    now = [100.0]
    adopter, woken, _ = _adopter(places=1, clock=lambda: now[0])
    adopter.expect(KEYS)
    for key in KEYS[:3]:
        adopter.report(key, _waits(key))
    caplog.set_level(logging.WARNING)
    await adopter.decide()
    assert not caplog.records
    now[0] += SAY_AFTER
    for _ in range(2):
        await adopter.decide()
    assert [vars(record)["models"] for record in caplog.records] == [[str(KEYS[3])]]
    assert not woken
    now[0] += NOT_LONGER_THAN
    await adopter.decide()
    assert woken == [KEYS[0]]


async def test_whoever_is_refused_has_no_turn_for_a_while() -> None:
    """Others go on, the refusal stays known while it waits, and a later turn forgets it."""
    now = [0.0]
    adopter, woken, _ = _adopter(places=1, clock=lambda: now[0])
    adopter.expect(KEYS[:1])
    adopter.report(KEYS[0], _waits(KEYS[0]))
    await adopter.decide()
    problem = Problem("ApplyRefused", "no", partial=True)
    adopter.refuse(KEYS[0], problem)
    adopter.report(KEYS[0], _waits(KEYS[0]))
    await adopter.decide()
    assert (woken, adopter.is_granted(KEYS[0]), adopter.refusal(KEYS[0])) == ([KEYS[0]], False, problem)
    now[0] += REFUSED_SECONDS
    await adopter.decide()
    assert (woken, adopter.is_granted(KEYS[0])) == ([KEYS[0], KEYS[0]], True)
    adopter.report(KEYS[0], _rolls(KEYS[0]))
    assert adopter.refusal(KEYS[0]) is None


async def test_adoption_that_is_stuck_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """The log names those that hold their places although they do not come on, while others wait for them."""
    adopter, woken, _ = _adopter(places=1)
    adopter.expect(KEYS[:2])
    adopter.report(KEYS[0], replace(_rolls(KEYS[0]), stuck=True))
    adopter.report(KEYS[1], _waits(KEYS[1]))
    caplog.set_level(logging.WARNING)
    for _ in range(2):
        await adopter.decide()
    assert [vars(record)["models"] for record in caplog.records] == [[str(KEYS[0])]]
    assert not woken
    adopter.report(KEYS[0], replace(_rolls(KEYS[0]), stuck=True, excused=True))
    await adopter.decide()
    assert woken == [KEYS[1]]
