"""Whether the cluster knows InferencePools, and who hears of it."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from capstan_contract.names import MANAGED_BY, MANAGED_BY_LABEL, MODEL_LABEL
from capstan_operator.kube.errors import Forbidden, KubeError, Unavailable, UnknownResource
from capstan_operator.models.pools import NOT_INSTALLED, PoolWatch
from capstan_operator.resources.resource import ObjectKey
from fakes.apply_kube import ApplyKube

KEY = ObjectKey("team", "llama")
OTHER = ObjectKey("team", "other")


@dataclass
class World:
    """A cluster with two models, and who looks at it."""

    wanted: bool = True
    may_be_left: bool = True
    namespaces: tuple[str, ...] = ()
    kube: ApplyKube = field(default_factory=ApplyKube)
    woken: list[ObjectKey] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    fails: list[KubeError] = field(default_factory=list)

    def __post_init__(self) -> None:
        async def models() -> list[ObjectKey]:
            if self.fails:
                raise self.fails.pop()
            return [KEY, OTHER]

        self.watch = PoolWatch(
            self.kube,
            namespaces=self.namespaces,
            is_wanted=self.wanted,
            may_be_left=self.may_be_left,
            wake=self.woken.append,
            models=models,
            tell=lambda _type, _reason, note: self.told.append(note),
        )

    def put(self, namespace: str = "team", **spec: Any) -> None:
        """Have a pool of ours there."""
        labels = {MANAGED_BY_LABEL: MANAGED_BY, MODEL_LABEL: "llama"}
        metadata = {"name": "llama-model", "namespace": namespace, "labels": labels}
        kind = {"apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool"}
        self.kube.put({**kind, "metadata": metadata, "spec": spec})

    def vanish(self, times: int = 1) -> None:
        """Let the kind be unknown for so many looks."""
        self.kube.answer("list", *[UnknownResource("no such kind")] * times)

    async def step(self) -> list[ObjectKey]:
        self.woken.clear()
        await self.watch.step()
        return list(self.woken)


async def test_every_model_is_woken_once_the_kind_is_there() -> None:
    """At a start, and each time that it comes; not at each look."""
    world = World()
    world.vanish()
    assert await world.step() == []
    assert not world.watch.is_installed
    assert await world.step() == [KEY, OTHER]
    assert world.watch.is_installed
    assert await world.step() == []
    world.vanish()
    await world.step()
    assert not world.watch.is_installed
    assert await world.step() == [KEY, OTHER]


async def test_a_wake_that_failed_is_made_up_for() -> None:
    """Models that could not be listed are listed at the next look, while the kind is there."""
    world = World(fails=[Unavailable("no answer")])
    assert await world.step() == []
    assert await world.step() == [KEY, OTHER]
    assert await world.step() == []


async def test_why_there_are_none_is_told_once() -> None:
    """In an Event, and again when it has come and gone."""
    world = World()
    world.vanish(2)
    await world.step()
    await world.step()
    assert world.told == [NOT_INSTALLED]
    await world.step()
    world.kube.answer("list", Forbidden("may not"))
    await world.step()
    assert world.told[1:] == ["the operator lacks a right: may not"]
    assert not world.watch.is_installed


async def test_an_install_that_asks_for_none_says_nothing() -> None:
    """Most clusters have no such kind, and most operators no right to it."""
    world = World(wanted=False)
    world.vanish()
    await world.step()
    world.kube.answer("list", Forbidden("may not"))
    await world.step()
    assert (world.told, world.woken) == ([], [])


async def test_who_may_not_know_does_not_ask() -> None:
    """An install without pools has no right to them, and a refusal each time that it starts would be noise. Where some
    may be left it is looked until they are gone."""
    assert not World(wanted=False, may_be_left=False).watch.has_work
    assert World().watch.has_work
    world = World(wanted=False)
    world.put()
    assert world.watch.has_work
    await world.step()
    assert world.watch.has_work
    world.kube.remove("InferencePool", "llama-model", "team")
    await world.step()
    assert not world.watch.has_work


async def test_a_failure_changes_nothing() -> None:
    """An API server that does not answer has said neither yes nor no."""
    world = World()
    await world.step()
    world.kube.answer("list", Unavailable("no answer"))
    assert await world.step() == []
    assert world.watch.is_installed


async def test_whose_pool_was_touched_is_woken() -> None:
    """One that is new, edited or gone; also what an earlier setting has left, which is to go."""
    world = World(wanted=False)
    world.put(a=1)
    assert await world.step() == [KEY]
    assert await world.step() == []
    world.put(a=2)
    assert await world.step() == [KEY]
    world.kube.remove("InferencePool", "llama-model", "team")
    assert await world.step() == [KEY]
    assert await world.step() == []


async def test_what_came_and_went_between_two_looks_is_noticed() -> None:
    """A model that was given a pool is looked at until it is known to have none."""
    world = World(wanted=False)
    await world.step()
    world.watch.note(KEY, has_pool=True)
    assert await world.step() == [KEY]
    world.put()
    assert await world.step() == [KEY]
    assert await world.step() == []
    world.kube.remove("InferencePool", "llama-model", "team")
    assert await world.step() == [KEY]
    world.watch.note(KEY, has_pool=False)
    assert await world.step() == []


async def test_a_kind_that_was_away_between_two_looks_is_noticed() -> None:
    """A model that was looked at while it was away is woken once, as soon as it is seen to be there."""
    world = World()
    await world.step()
    world.watch.note(KEY, has_pool=False, could_list=False)
    assert await world.step() == [KEY]
    assert await world.step() == []
    world.watch.note(KEY, has_pool=False, could_list=False)
    world.vanish()
    assert await world.step() == []
    world.watch.note(KEY, has_pool=False)
    assert await world.step() == [KEY, OTHER]
    assert await world.step() == []


async def test_those_whose_pools_went_with_the_kind_are_woken() -> None:
    """A cluster without the kind has no pools."""
    world = World()
    world.put()
    await world.step()
    world.vanish()
    assert await world.step() == [KEY]


@pytest.mark.parametrize(("namespaces", "woken"), [((), [KEY]), (("team", "third"), [KEY]), (("third",), [])])
async def test_only_watched_namespaces_are_looked_at(namespaces: tuple[str, ...], woken: list[ObjectKey]) -> None:
    """Where the operator has its rights."""
    world = World(wanted=False, namespaces=namespaces)
    world.put("team")
    assert await world.step() == woken
