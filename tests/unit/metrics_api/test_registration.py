"""Whose the API of external metrics is, and when it is there."""

import base64
from typing import Any

import pytest

from capstan_operator.autoscaling.standing import NO_METRICS_API, UNKNOWN, USABLE
from capstan_operator.kube.errors import Forbidden, Unavailable
from capstan_operator.metrics_api.place import Place
from capstan_operator.metrics_api.registration import NAME, Registration
from capstan_operator.metrics_api.trials import FIRST_PAUSE, LAST_PAUSE, PATIENCE
from capstan_operator.resources.resource import Manifest
from fakes.apply_kube import ApplyKube

PLACE = Place(6443, "capstan-system", "metrics")


class World:
    """An API server, and a registration in it."""

    def __init__(self) -> None:
        self.kube = ApplyKube()
        role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "owner"}}
        self.kube.put(role)
        self.wanted: bool | None = True
        self.clock = 0.0
        self.roused = 0
        self.registration = self.process()

    def process(self) -> Registration:
        return Registration(
            self.kube,
            PLACE,
            owner="owner",
            is_wanted=lambda: self.wanted,
            on_authority=self.rouse,
            clock=lambda: self.clock,
        )

    def rouse(self) -> None:
        self.roused += 1

    async def step(self) -> Any:
        await self.registration.step(PLACE)
        return self.registration.standing

    @property
    def live(self) -> Manifest | None:
        return self.kube.find("APIService", NAME, "")

    def say(self, status: str) -> None:
        """Let the API server say whether it is available."""
        found = {"type": "Available", "status": status, "message": "no endpoints"}
        self.kube.put(
            {
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": {"name": NAME},
                "status": {"conditions": [found]},
            },
            manager="aggregator",
        )


async def test_it_is_made_when_a_model_needs_it_and_goes_with_the_last() -> None:
    """With the authority that replicas sign by, and an owner that the chart takes along."""
    world = World()
    assert await world.step() == UNKNOWN
    live = world.live
    assert live
    secret = world.kube.find("Secret", "metrics", "capstan-system")
    assert secret
    assert base64.b64decode(live["spec"]["caBundle"]) == base64.b64decode(secret["data"]["ca.crt"])
    assert live["spec"]["service"] == {"name": "metrics", "namespace": "capstan-system", "port": 443}
    role = world.kube.find("ClusterRole", "owner", "")
    assert role
    assert [one["uid"] for one in live["metadata"]["ownerReferences"]] == [role["metadata"]["uid"]]
    assert world.roused == 1
    world.say("True")
    assert await world.step() == USABLE
    writes = [call for call in world.kube.calls if call[0] == "apply"]
    await world.step()
    assert [call for call in world.kube.calls if call[0] == "apply"] == writes
    world.wanted = False
    assert await world.step() == UNKNOWN
    assert world.live is None


async def test_what_is_left_of_a_process_before_goes() -> None:
    """It looks once although nobody wants it, and not before it is known that nobody does."""
    world = World()
    await world.step()
    world.wanted = None
    world.registration = world.process()
    await world.step()
    assert world.live is not None
    world.wanted = False
    await world.step()
    assert world.live is None
    calls = len(world.kube.calls)
    await world.step()
    assert len(world.kube.calls) == calls


async def test_somebody_elses_is_never_displaced() -> None:
    """Neither written nor deleted; it is told that it is somebody else's, and ours when they have gone."""
    world = World()
    theirs = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": NAME},
        "spec": {"service": {"name": "keda-metrics-apiserver", "namespace": "keda"}},
    }
    world.kube.put(theirs)
    found = await world.step()
    assert (found.usable, found.problem) == (False, f"{NAME} is served by somebody else")
    world.wanted = False
    await world.step()
    assert world.live
    assert world.live["spec"] == theirs["spec"]
    world.wanted = True
    world.kube.remove("APIService", NAME, "")
    assert await world.step() == UNKNOWN
    assert world.live


async def test_an_api_that_is_away_for_a_moment_stays_usable() -> None:
    """HPAs keep what there is meanwhile; after a minute the operator scales by itself."""
    world = World()
    await world.step()
    world.say("False")
    assert await world.step() == UNKNOWN
    world.say("True")
    assert await world.step() == USABLE
    world.say("False")
    world.clock += PATIENCE - 1
    assert await world.step() == USABLE
    world.clock += 2
    found = await world.step()
    assert (found.usable, "no endpoints" in found.problem) == (False, True)


async def test_one_that_is_not_available_is_taken_away_and_tried_again() -> None:
    """With an APIService that does not answer, no namespace can be deleted: it is there for a minute at most, after
    pauses that grow to six hours, and a pause begins small again when it has been available."""
    world = World()
    there, pauses = 0.0, []
    for _ in range(8):
        began = world.clock
        while world.live is None:
            await world.step()
            world.clock += 5
        pauses.append(world.clock - began)
        world.say("False")
        began = world.clock
        while world.live is not None:
            found = await world.step()
            world.clock += 5
        assert (found.usable, "no endpoints" in found.problem) == (False, True)
        there = max(there, world.clock - began)
    assert there <= PATIENCE + 10
    assert pauses[1:4] == pytest.approx([FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE], abs=10)
    assert pauses[-1] == pytest.approx(LAST_PAUSE, abs=10)
    world.clock += LAST_PAUSE
    assert (await world.step()).usable is False  # what has failed is not usable before it is available
    world.say("True")
    assert await world.step() == USABLE
    world.say("False")
    world.clock += PATIENCE
    await world.step()
    assert world.live is None
    world.clock += FIRST_PAUSE
    await world.step()
    assert world.live is not None


async def test_one_that_could_not_be_taken_away_is_taken_away_the_next_time() -> None:
    """A failure of the API server leaves none there for the whole pause."""
    world = World()
    await world.step()
    world.say("False")
    world.clock += PATIENCE
    world.kube.answer("delete", Unavailable("no answer"))
    await world.step()
    assert world.live is not None
    assert (await world.step()).usable is False
    assert world.live is None


async def test_an_outage_of_the_api_server_is_no_fault_of_the_api() -> None:
    """What was usable before it has a minute after it."""
    world = World()
    await world.step()
    world.say("True")
    assert await world.step() == USABLE
    for _ in range(3):
        world.clock += PATIENCE
        world.kube.answer("get", Unavailable("no answer"))
        assert await world.step() == USABLE
    world.say("Unknown")
    world.clock += 5
    assert await world.step() == USABLE
    assert world.live is not None


async def test_not_known_ends() -> None:
    """While it is not known nobody scales; so after a minute, whatever the cause, the operator does, and says why."""
    world = World()
    world.kube.remove("ClusterRole", "owner", "")
    assert await world.step() == UNKNOWN
    world.clock += PATIENCE
    found = await world.step()
    assert (found.usable, "ClusterRole" in found.problem) == (False, True)
    assert world.live is None


async def test_what_may_not_be_done_is_told() -> None:
    """A Role without the rights means that there are no HPAs; an API server that fails says nothing."""
    world = World()
    world.kube.answer("get", Unavailable("no answer"))
    assert await world.step() == UNKNOWN
    world.kube.answer("get", Forbidden("no", status=403))
    found = await world.step()
    assert (found.usable, NAME in found.problem) == (False, True)


async def test_without_a_place_there_is_none() -> None:
    """An install may do without."""
    found = Registration(ApplyKube(), None, owner="", is_wanted=lambda: True)
    assert found.standing == NO_METRICS_API
