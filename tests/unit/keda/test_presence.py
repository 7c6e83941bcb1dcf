"""Whether the cluster has KEDA, and who hears of it."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from capstan_contract.names import MANAGED_BY, MANAGED_BY_LABEL, MODEL_LABEL
from capstan_operator.autoscaling.standing import NO_EXTERNAL_SCALER, UNKNOWN
from capstan_operator.keda.presence import NOT_INSTALLED, Presence
from capstan_operator.kube.errors import Forbidden, Unavailable, UnknownResource
from capstan_operator.metrics_api.authority import read_authority
from capstan_operator.metrics_api.place import Place
from capstan_operator.resources.resource import ObjectKey
from fakes.apply_kube import ApplyKube

PLACE = Place(6444, "capstan-system", "scaler")
KEY = ObjectKey("team", "llama")


@dataclass
class World:
    """A cluster, and who looks at it."""

    kube: ApplyKube = field(default_factory=ApplyKube)
    wanted: bool = True
    woken: list[ObjectKey] = field(default_factory=list)
    believed: set[ObjectKey] = field(default_factory=set)
    authorities: int = 0

    def __post_init__(self) -> None:
        self.presence = self.process()

    def process(self, *namespaces: str) -> Presence:
        def count() -> None:
            self.authorities += 1

        return Presence(
            self.kube,
            PLACE,
            namespaces=namespaces,
            is_wanted=lambda: self.wanted,
            wake=self.woken.append,
            believed=lambda: self.believed,
            on_authority=count,
        )

    def put(self, namespace: str = "team", **status: Any) -> None:
        """Have a ScaledObject of ours there."""
        labels = {MANAGED_BY_LABEL: MANAGED_BY, MODEL_LABEL: "llama"}
        metadata = {"name": "llama-model", "namespace": namespace, "labels": labels}
        self.kube.put(
            {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": metadata, "status": status}
        )

    async def step(self) -> list[ObjectKey]:
        self.woken.clear()
        await self.presence.step(PLACE)
        return list(self.woken)


async def test_where_keda_is_there_it_is_told_whom_to_ask() -> None:
    """The address of the Service, and an authority that is made once."""
    world = World()
    assert world.presence.standing == UNKNOWN
    await world.step()
    await world.step()
    standing = world.presence.standing
    assert (standing.usable, standing.problem) == (True, "")
    assert standing.endpoint
    assert standing.endpoint.address == "scaler.capstan-system.svc:6444"
    secret = world.kube.find("Secret", "scaler", "capstan-system")
    assert secret
    authority = read_authority(secret["data"])
    assert authority
    assert standing.endpoint.authorities == authority.certificates.decode()
    assert world.authorities == 1


async def test_it_comes_and_goes() -> None:
    """Without its kinds the operator scales, and says why; with them KEDA does, again and again."""
    world = World()
    world.kube.answer("list", UnknownResource("no such kind"), None, UnknownResource("no such kind"))
    for usable, problem in ((False, NOT_INSTALLED), (True, ""), (False, NOT_INSTALLED), (True, "")):
        await world.step()
        assert (world.presence.standing.usable, world.presence.standing.problem) == (usable, problem)
        assert world.presence.is_installed is usable


async def test_a_failure_changes_nothing() -> None:
    """An API server that does not answer has said neither yes nor no."""
    world = World()
    world.kube.answer("list", Unavailable("no answer"))
    await world.step()
    assert world.presence.standing == UNKNOWN
    await world.step()
    world.kube.answer("list", Unavailable("no answer"))
    await world.step()
    assert world.presence.standing.usable


@pytest.mark.parametrize(("verb", "is_installed"), [("list", False), ("get", True)])
async def test_a_missing_right_is_told(verb: str, is_installed: bool) -> None:
    """To list ScaledObjects, or to read the authority: then what is there can still be taken away."""
    world = World()
    world.kube.answer(verb, Forbidden("may not"))
    await world.step()
    assert (world.presence.standing.usable, world.presence.is_installed) == (False, is_installed)
    assert "may not" in world.presence.standing.problem


async def test_whose_scaled_object_has_news_is_woken() -> None:
    """What is new, what KEDA says otherwise, what is gone; not when it only notes the time of its last activity."""
    world = World()
    world.put()
    assert await world.step() == [KEY]
    assert await world.step() == []
    world.put(conditions=[{"type": "Ready", "status": "True"}])
    assert await world.step() == [KEY]
    world.put(conditions=[{"type": "Ready", "status": "True"}], lastActiveTime="2026-05-04T12:00:00Z")
    assert await world.step() == []
    world.kube.remove("ScaledObject", "llama-model", "team")
    assert await world.step() == [KEY]
    assert await world.step() == []


async def test_those_whose_objects_went_with_the_kind_are_woken() -> None:
    """A cluster without KEDA's kinds has no ScaledObjects."""
    world = World()
    world.put()
    await world.step()
    world.kube.answer("list", UnknownResource("no such kind"))
    assert await world.step() == [KEY]


async def test_what_came_and_went_between_two_looks_is_noticed() -> None:
    """A model that was seen with a ScaledObject is looked at until it is known to have none, whoever asks for KEDA."""
    world = World(wanted=False)
    assert await world.step() == []
    world.believed.add(KEY)
    assert await world.step() == [KEY]
    world.put()
    assert await world.step() == [KEY]
    assert await world.step() == []
    world.kube.remove("ScaledObject", "llama-model", "team")
    assert await world.step() == [KEY]
    assert await world.step() == [KEY]
    world.kube.answer("list", UnknownResource("no such kind"))
    assert await world.step() == [KEY]
    world.believed.clear()
    assert await world.step() == []


async def test_nobody_is_asked_where_nobody_needs_it() -> None:
    """One look at the start of each process, for objects that are left; after that only while there are some, or a
    model asks for KEDA. An authority is made only then."""
    world = World(wanted=False)
    await world.step()
    await world.step()
    assert world.kube.calls == [("list", "ScaledObject", "*")]
    assert world.presence.standing == UNKNOWN

    world = World(wanted=False)
    world.put()
    await world.step()
    await world.step()
    assert world.kube.calls == [("list", "ScaledObject", "*")] * 2


async def test_only_watched_namespaces_are_looked_at() -> None:
    """Where the operator has its rights."""
    world = World()
    world.put("team")
    world.put("other")
    world.presence = world.process("team", "third")
    assert await world.step() == [KEY]


def test_an_install_may_do_without() -> None:
    """Without a port nobody is answered, and models are told so."""
    found = Presence(ApplyKube(), None, namespaces=(), is_wanted=lambda: True, wake=lambda _: None)
    assert found.standing == NO_EXTERNAL_SCALER
