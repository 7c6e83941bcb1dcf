"""A rollout in steps, from the change of a spec to its end, as a real API server and its controllers see it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from capstan_contract.gates import GateSummary, Outcome, SuiteSummary, write_gate_summary
from capstan_contract.names import CANARY, COMPONENT_LABEL, STABLE, TRACK_LABEL
from capstan_contract.tracks import Counters, Track
from capstan_operator.api.kinds import LLM_MODELS
from capstan_operator.desired.profiles import PROFILES_COMPONENT
from capstan_operator.kube.client import KubeClient
from capstan_operator.kube.errors import Unavailable
from capstan_operator.names import ROLLOUT_ACTION_ANNOTATION, ROLLOUT_BY_ANNOTATION
from capstan_operator.resources.api_resource import CONFIG_MAPS, DEPLOYMENTS, EVENTS, SERVICES
from capstan_operator.resources.resource import Manifest
from support.kubelet import Kubelet
from support.llmmodels import condition, read_config, simulated
from support.operator_process import ONE_POD, find
from support.ports import free_port
from support.replicas import Replica, serve, slice_in
from support.rollout_world import counters
from support.wait import eventually

pytestmark = [pytest.mark.apiserver, pytest.mark.usefixtures("controllers"), pytest.mark.timeout(300)]

STEPS = [{"weight": 10, "seconds": 0, "minimumRequests": 64}, {"weight": 50, "seconds": 0, "minimumRequests": 64}]
GATE = {"suites": [{"configMap": "suite"}], "latency": {"ttftP95": "1.2"}}


class World:
    """A namespace with a model, an operator, a kubelet, and a gateway replica that splits as its config says."""

    def __init__(self, kube: KubeClient, namespace: str, kubelet: Kubelet, settings: dict[str, str]) -> None:
        self.kube = kube
        self.namespace = namespace
        self.kubelet = kubelet
        self.settings = settings
        self.replica = Replica()
        self.outcome: Outcome | None = Outcome.PASS
        self.counted: tuple[Counters, Counters] = counters(6400), counters(6400)
        """Of the stable pods, and of the canary, once it gets requests."""
        self.served: list[float] = []
        """Each weight that the gateway has had, in order."""
        kubelet.says = self._says

    def _says(self, pod: Manifest) -> str | None:
        if pod["metadata"]["labels"].get(COMPONENT_LABEL) != "evaluation":
            return None
        suites = () if self.outcome is None else (SuiteSummary(name="s", hash="0" * 64, outcome=self.outcome, cases=9),)
        error = "" if self.outcome else "the ConfigMap 'suite' does not exist"
        return write_gate_summary(GateSummary(outcome=self.outcome, suites=suites, error=error)).decode()

    async def put(self, image: str, **rollout: Any) -> None:
        """Write the model as its user does, with this image."""
        said = {key: value for key, value in {"steps": STEPS, "gate": GATE, **rollout}.items() if value is not None}
        engine = {"type": "Simulator", "image": f"example.com/engine:{image}"}
        await self.kube.apply(simulated("one", self.namespace, engine=engine, replicas=2, rollout=said), manager="user")

    async def put_profile(self, image: str) -> None:
        """Write the profile as the platform team does, with this image."""
        metadata = {"name": "profiles", "namespace": self.namespace, "labels": {COMPONENT_LABEL: PROFILES_COMPONENT}}
        said = f"engines: {{Simulator: {{image: 'example.com/engine:{image}'}}}}"
        manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"small": said}}
        await self.kube.apply(manifest, manager="platform")

    async def put_profiled(self) -> None:
        """Write the model with that profile and without an image."""
        rollout = {"steps": STEPS, "gate": GATE}
        model = simulated("one", self.namespace, profile="small", replicas=2, rollout=rollout)
        await self.kube.apply(model, manager="user")

    async def model(self) -> Manifest:
        return await self.kube.get(LLM_MODELS, "one", namespace=self.namespace)

    async def rollout(self) -> dict[str, Any]:
        found: dict[str, Any] = ((await self.model()).get("status") or {}).get("rollout") or {}
        return found

    async def says(self, state: str, reason: str | None = None) -> dict[str, Any]:
        """Wait until the status says so, of the newest generation."""
        seen: dict[str, Any] = {}

        async def is_so() -> bool:
            nonlocal seen
            model = await self.model()
            seen = (model.get("status") or {}).get("rollout") or {}
            current = seen.get("generation") == model["metadata"]["generation"]
            said = (current, seen.get("state"), seen.get("reason") if reason else None)
            assert said == (True, state, reason), seen
            return True

        await eventually(is_so, what=f"{state} {reason or ''}", seconds=120)
        return seen

    async def image(self, name: str) -> str | None:
        """Give the image of the engine of a Deployment, without the repository."""
        found = await find(self.kube, DEPLOYMENTS, name, self.namespace)
        containers = found["spec"]["template"]["spec"]["containers"] if found else []
        return next((str(one["image"]).rpartition(":")[2] for one in containers if one["name"] == "engine"), None)

    async def gone(self, name: str = "one-canary") -> None:
        """Wait until a Deployment is not there."""

        async def is_so() -> bool:
            return await find(self.kube, DEPLOYMENTS, name, self.namespace) is None

        await eventually(is_so, what=f"no {name}", seconds=120)

    async def act(self, text: str) -> None:
        """Ask for something as `capstan rollout` does."""
        annotations = {ROLLOUT_ACTION_ANNOTATION: text, ROLLOUT_BY_ANNOTATION: "ann"}
        metadata = {"name": "one", "namespace": self.namespace, "annotations": annotations}
        patch = {"apiVersion": LLM_MODELS.api_version, "kind": "LLMModel", "metadata": metadata}
        await self.kube.apply(patch, manager="capstan-cli-rollout")

    async def follow(self) -> None:
        """Be a gateway: run what is written, and count."""
        while True:
            # A gateway outlives an API server that is busy.
            with suppress(Unavailable):
                if (config := await read_config(self.kube, self.namespace)) is not None:
                    self.replica.load(config)
                    for entry in config.models:
                        self._split(entry.id, entry.canary)
            await asyncio.sleep(0.1)

    def _split(self, id_: str, canary: Any) -> None:
        if canary is None:
            self.replica.tracks = {}
            return
        if not self.served or self.served[-1] != canary.weight:
            self.served.append(canary.weight)
        if canary.weight:
            stable = Track(track=STABLE, epoch=canary.id, counters=self.counted[0])
            tried = Track(track=CANARY, epoch=canary.id, revision=canary.revision, counters=self.counted[1])
            self.replica.tracks = {id_: (stable, tried)}


@pytest.fixture
async def world(kube: KubeClient, namespace: str) -> AsyncIterator[World]:
    """The world, without an operator yet."""
    port = free_port()
    settings = {"CAPSTAN_GATEWAY_SERVICE": "gw", "CAPSTAN_GATEWAY_ADMIN_PORT": str(port), **ONE_POD}
    async with Kubelet(kube, namespace) as kubelet:
        made = World(kube, namespace, kubelet, settings)
        async with _serving(made, port):
            await kube.apply(slice_in(namespace), manager="test")
            yield made


@asynccontextmanager
async def _serving(made: World, port: int) -> AsyncIterator[None]:
    async with serve(made.replica, port):
        task = asyncio.create_task(made.follow())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _at_rest(world: World, start_operator: Any, **rollout: Any) -> Any:
    await world.put("one", **rollout)
    operator = start_operator(**world.settings)
    await world.says("Complete")
    assert await world.image("one-model") == "one"
    return operator


async def test_good_revision_is_promoted(world: World, start_operator: Any) -> None:
    """A change of the image is tried, gets each weight in turn, and then all pods; what is left is as before."""
    operator = await _at_rest(world, start_operator)
    await world.put("two")
    stable_before = await world.image("one-model")
    done = await world.says("Complete")
    assert stable_before == "one"
    assert await world.image("one-model") == "two"
    await world.gone()
    assert [weight for weight in world.served if weight] == [10, 50]
    assert {one["name"]: one["outcome"] for one in done["gates"]} == {"suite/s": "Pass", "latency.ttftP95": "Pass"}

    async def is_told() -> bool:
        assert await find(world.kube, SERVICES, "one-canary", world.namespace) is None
        report = await world.kube.get(CONFIG_MAPS, "one-rollout", namespace=world.namespace)
        assert '"Promoting"' in report["data"]["report.json"]
        reasons = {event["reason"] for event in (await world.kube.list(EVENTS, namespace=world.namespace)).items}
        assert {"RolloutStarting", "RolloutEvaluating", "RolloutStep", "RolloutPromoting", "Promoted"} <= reasons
        return True

    # NB: written behind the status, and in no order.
    await eventually(is_told, what="a Service that is gone, a report and Events", seconds=120)
    assert operator.stop() == 0


async def test_a_changed_profile_is_tried_as_a_changed_spec_is(world: World, start_operator: Any) -> None:
    """At the same generation: it gets each weight in turn, and then all pods. One whose suite fails gets none and
    changes nothing, also under an operator that begins anew; and the profile as it was before ends it."""
    await world.put_profile("one")
    await world.put_profiled()
    operator = start_operator(**world.settings)
    before = await world.says("Complete")
    assert await world.image("one-model") == "one"
    await world.put_profile("two")

    async def is_promoted() -> bool:
        said = await world.rollout()
        return said["state"] == "Complete" and await world.image("one-model") == "two"

    await eventually(is_promoted, what="the pods of the changed profile", seconds=150)
    await world.gone()
    assert [weight for weight in world.served if weight] == [10, 50]
    done = await world.rollout()
    assert (done["generation"], done["stable"] != before["stable"]) == (before["generation"], True)
    world.outcome = Outcome.FAIL
    await world.put_profile("three")
    await world.says("RolledBack", "SuiteFailed")
    await world.gone()
    operator.kill()
    start_operator(**world.settings)
    assert await world.image("one-model") == "two"
    await world.put_profile("two")
    await world.says("Complete", "Back")
    assert await world.image("one-model") == "two"
    assert [weight for weight in world.served if weight] == [10, 50]


async def test_worse_revision_is_rolled_back(world: World, start_operator: Any) -> None:
    """A revision whose suite fails gets no request; the stable pods are the same ones as before; and it is not tried
    again when the operator begins anew, but is when somebody says so."""
    operator = await _at_rest(world, start_operator)

    async def engines() -> set[str]:
        found = [pod for pod in await world.kubelet.pods() if pod["metadata"]["labels"][COMPONENT_LABEL] == "engine"]
        return {pod["metadata"]["uid"] for pod in found}

    async def all_engines() -> set[str]:
        found = await engines()
        return found if len(found) == 2 else set()

    before = await eventually(all_engines, what="the stable pods", seconds=120)
    world.outcome = Outcome.FAIL
    await world.put("two")
    said = await world.says("RolledBack", "SuiteFailed")
    await world.gone()
    assert not any(world.served)
    assert [one["revision"] for one in said["rejected"]] == [said["candidate"]]
    model = await world.model()
    assert condition(model, "Degraded")["reason"] == "RolledBack"
    assert condition(model, "Ready")["status"] == "True"

    async def only_those() -> bool:
        return await engines() == before

    await eventually(only_those, what="the stable pods alone", seconds=120)
    operator.kill()
    start_operator(**world.settings)
    world.outcome = Outcome.PASS
    await world.act(f"retry={said['candidate']}")
    done = await world.says("Complete")
    assert (done["action"]["by"], await world.image("one-model")) == ("ann", "two")


async def test_slow_revision_is_stopped_at_its_step(world: World, start_operator: Any) -> None:
    """A canary that is slower than the stable pods loses its requests at the first weight, by a live gate."""
    await _at_rest(world, start_operator)
    world.counted = counters(64_000), counters(64_000, micros=300_000)
    await world.put("two")
    said = await world.says("RolledBack", "GateFailed")
    await world.gone()
    assert set(world.served) <= {0, 10}
    assert await world.image("one-model") == "one"
    assert {one["name"]: one["outcome"] for one in said["gates"]}["latency.ttftP95"] == "Fail"


async def test_missing_suite_promotes_nothing(world: World, start_operator: Any) -> None:
    """Where a suite is not there, the rollout pauses and says so, whatever is to follow on doubts."""
    await _at_rest(world, start_operator, onInconclusive="Promote")
    world.outcome = None
    await world.put("two", onInconclusive="Promote")
    said = await world.says("Paused")
    assert "does not exist" in said["message"]
    assert (await world.image("one-model"), any(world.served)) == ("one", False)
    await world.act(f"promote={said['candidate']}")
    await world.says("Complete")
    assert await world.image("one-model") == "two"


async def test_operator_that_is_killed_goes_on(world: World, start_operator: Any) -> None:
    """An operator that is killed in the middle, in each state of a rollout in turn, leaves what the next one needs to
    come to the same end."""
    operator = await _at_rest(world, start_operator)
    await world.put("two")
    states = ("Starting", "Evaluating", "Step", "Promoting")
    for number, at in enumerate(states):

        async def is_there(later: tuple[str, ...] = states[number:]) -> bool:
            state = (await world.rollout()).get("state")
            return state in later or (state == "Complete" and await world.image("one-model") == "two")

        await eventually(is_there, what=at, seconds=120)
        operator.kill()
        operator = start_operator(**world.settings)
    await world.says("Complete")
    assert await world.image("one-model") == "two"
    await world.gone()
    assert [weight for weight in world.served if weight] == [10, 50]


async def test_change_in_the_middle_begins_anew(world: World, start_operator: Any) -> None:
    """A newer spec takes the place of what is tried, and the stable pods never have the one in between."""
    await _at_rest(world, start_operator)
    slow = [{"weight": 10, "seconds": 3600}]
    await world.put("two", steps=slow)
    await world.says("Step")
    assert await world.image("one-canary") == "two"
    await world.put("three")
    await world.says("Complete")
    assert await world.image("one-model") == "three"

    async def is_reported() -> bool:
        report = await find(world.kube, CONFIG_MAPS, "one-rollout", world.namespace)
        return report is not None and '"Complete"' in report["data"]["report.json"]

    await eventually(is_reported, what="the report, which is written behind the status", seconds=120)


async def test_without_steps_pods_are_replaced_at_once(world: World, start_operator: Any) -> None:
    """A model without steps has no canary, no report and nothing in its status; nor one whose steps were removed."""
    await _at_rest(world, start_operator)
    await world.put("two", steps=[], gate=None)

    async def is_plain() -> bool:
        model = await world.model()
        plain = await world.image("one-model") == "two" and "rollout" not in model["status"]
        return plain and await find(world.kube, CONFIG_MAPS, "one-rollout", world.namespace) is None

    await eventually(is_plain, what="a plain rollout", seconds=120)
    assert await find(world.kube, DEPLOYMENTS, "one-canary", world.namespace) is None


async def test_stable_service_never_selects_a_canary(world: World, start_operator: Any) -> None:
    """The Service, the budget and the Deployment of the stable pods select by track; pods of a canary have another."""
    await _at_rest(world, start_operator)
    await world.put("two", steps=[{"weight": 10, "seconds": 3600}])
    await world.says("Step")
    service = await world.kube.get(SERVICES, "one-model", namespace=world.namespace)
    canary = await world.kube.get(DEPLOYMENTS, "one-canary", namespace=world.namespace)
    assert service["spec"]["selector"][TRACK_LABEL] == STABLE
    assert canary["spec"]["template"]["metadata"]["labels"][TRACK_LABEL] == CANARY
    assert canary["spec"]["selector"]["matchLabels"][TRACK_LABEL] == CANARY
