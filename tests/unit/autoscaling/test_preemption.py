"""The last GPUs: who gives way, what is told of it, and what a new process makes of it."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from capstan_operator.api.kinds import Model
from capstan_operator.autoscaling.autoscaler import Autoscaler
from capstan_operator.autoscaling.standing import NO_METRICS_API, USABLE, Standing
from capstan_operator.desired.autoscaler import Use, build_autoscaler
from capstan_operator.desired.replicas import wanted_replicas
from capstan_operator.resources.resource import Manifest, ObjectKey
from capstan_operator.scaling.decision import Limit
from capstan_operator.scaling.demand import Demand
from capstan_operator.status.scaling import scaling_fields, scaling_findings
from support.plainmodels import gpu_pod, make_model, unschedulable_pod

IDLE, BUSY, OTHER = ObjectKey("team", "idle"), ObjectKey("team", "busy"), ObjectKey("team", "other")
NO_GPU = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
WAITS = Demand(waiting=1)


@dataclass
class World:
    """Models whose replicas follow what is decided, on a cluster with so many GPUs."""

    gpus: int = 1
    standing: Standing = NO_METRICS_API
    keda: Standing = USABLE
    demands: dict[ObjectKey, Demand | None] = field(default_factory=dict)
    models: dict[ObjectKey, Model] = field(default_factory=dict)
    replicas: dict[ObjectKey, int] = field(default_factory=dict)
    running: dict[ObjectKey, int] = field(default_factory=dict)
    lacking: dict[ObjectKey, datetime] = field(default_factory=dict)
    events: list[tuple[str, str, str]] = field(default_factory=list)
    selectors: dict[ObjectKey, dict[str, str]] = field(default_factory=dict)
    time: datetime = datetime(2026, 5, 4, 12, tzinfo=UTC)

    def __post_init__(self) -> None:
        self.autoscaler = self.process()

    def process(self) -> Autoscaler:
        """Give the part of a new process."""
        return Autoscaler(
            lambda key: self.demands.get(key, Demand()),
            standing=lambda: self.standing,
            keda=lambda: self.keda,
            wake=lambda _: None,
            record=lambda subject, _, reason, note: self.events.append((subject.name, reason, note)),
            now=lambda: self.time,
            clock=lambda: self.time.timestamp(),
        )

    def add(self, key: ObjectKey, replicas: int, **scaling: Any) -> None:
        """Add a model with so many replicas."""
        self.models[key] = make_model(key.name, resources={"gpus": 1}, scaling={"max": 4, **scaling})
        self.replicas[key] = self.running[key] = replicas

    def run(self, seconds: int) -> None:
        """Let time pass: what is decided is written, and nodes take what they have room for, the oldest first."""
        for _ in range(seconds):
            for key, model in self.models.items():
                pods = self._pods(key)
                self.autoscaler.tell(model, self._deployment(key), pods=pods)
            self.autoscaler.step()
            for key in self.models:
                said = self.autoscaler.says(key)
                if said.replicas is not None:
                    self.replicas[key] = said.replicas
                self.running[key] = min(self.running[key], self.replicas[key])
            for key in self.models:
                free = self.gpus - sum(self.running.values())
                self.running[key] += max(min(self.replicas[key] - self.running[key], free), 0)
                if self.running[key] < self.replicas[key]:
                    self.lacking.setdefault(key, self.time)
                else:
                    self.lacking.pop(key, None)
            self.time += timedelta(seconds=1)

    def _deployment(self, key: ObjectKey) -> Manifest:
        limits = {"nvidia.com/gpu": "1"}
        pod = {
            "nodeSelector": self.selectors.get(key, {}),
            "containers": [{"name": "engine", "resources": {"limits": limits}}],
        }
        return {
            "metadata": {},
            "spec": {"replicas": self.replicas[key], "template": {"spec": pod}},
            "status": {"readyReplicas": self.running[key]},
        }

    def _pods(self, key: ObjectKey) -> list[Manifest]:
        pods = [gpu_pod(f"{key.name}-{number}", "hash") for number in range(self.running[key])]
        since = self.lacking.get(key)
        if since is not None:
            for number in range(self.replicas[key] - self.running[key]):
                pods.append(unschedulable_pod(f"{key.name}-w{number}", "hash", NO_GPU, since=since.isoformat()))
        return pods

    def told(self, key: ObjectKey) -> tuple[str, str]:
        """Give reason and message of ScalingLimited."""
        found = scaling_findings(self.models[key], self.autoscaler.scaled(key))["ScalingLimited"]
        return found.reason, found.message


def two(**idle: Any) -> World:
    """One idle model that has the only GPU, and one of a higher priority at zero."""
    world = World()
    world.add(IDLE, 1, min=1, **{"preemptible": True, **idle})
    world.add(BUSY, 0, min=0, priority=10)
    world.run(70)
    return world


def test_an_idle_model_goes_to_zero_for_one_that_has_work() -> None:
    """Below its `min`, as its policy allows; conditions and Events of both say it."""
    world = two()
    world.demands[BUSY] = WAITS
    world.run(40)
    assert (world.running[IDLE], world.running[BUSY]) == (0, 1)
    assert world.told(IDLE) == (
        "Preempted", "the LLMModel 'team/busy' has a higher priority, work, and not the GPUs for it",
    )  # fmt: skip
    assert ("busy", "Preempting", "the LLMModel 'team/idle' goes to zero: it is idle, and of a lower priority") in (
        world.events
    )
    said = ("idle", "Scaled", "0 replicas: a model of a higher priority has work and lacks GPUs")
    assert world.events.count(said) == 1
    assert len([one for one in world.events if one[1] == "Preempting"]) == 1


def test_nobody_goes_whose_policy_does_not_allow_it() -> None:
    """Not `preemptible`, of the same priority, or of a higher one: the other waits, and says for what."""
    for idle in ({"preemptible": False}, {"priority": 10}, {"priority": 11}):
        world = two(**idle)
        world.demands[BUSY] = WAITS
        world.run(300)
        assert (world.running[IDLE], world.running[BUSY]) == (1, 0)
        assert world.told(BUSY) == ("InsufficientGPU", "no node has the GPUs of a further replica free")
        assert not [one for one in world.events if one[1] == "Preempting"]


def test_nobody_goes_who_works_or_of_whom_nothing_is_known() -> None:
    """What is not known is not idle."""
    for demand in (Demand(in_flight=1), Demand(came=True), None, Demand(complete=False)):
        world = two()
        world.demands[IDLE] = demand
        world.run(61)
        world.demands[BUSY] = WAITS
        world.run(300)
        assert (world.running[IDLE], world.running[BUSY]) == (1, 0)


def test_nodes_that_are_on_their_way_are_waited_for() -> None:
    """As long as the model says that has the higher priority: also longer than its start takes."""
    world = two()
    world.models[BUSY] = make_model(
        "busy", resources={"gpus": 1}, scaling={"max": 4, "min": 0, "priority": 10, "preemptAfterSeconds": 300}
    )
    world.demands[BUSY] = WAITS
    world.run(290)
    assert (world.running[IDLE], world.running[BUSY]) == (1, 0)
    assert world.told(BUSY)[0] == "InsufficientGPU"
    world.run(30)
    assert (world.running[IDLE], world.running[BUSY]) == (0, 1)


def test_nobody_goes_for_a_model_that_has_no_work() -> None:
    """That `min` asks for a replica pushes nobody out."""
    world = two()
    world.add(OTHER, 0, min=1, priority=20)
    world.run(300)
    assert world.running[IDLE] == 1


def test_nobody_goes_whose_nodes_are_others() -> None:
    """A GPU of a node that the other one may not use helps nobody."""
    world = two()
    world.selectors[BUSY] = {"gpu": "h200"}
    world.demands[BUSY] = WAITS
    world.run(300)
    assert world.running[IDLE] == 1


def test_the_lowest_priority_goes_first_and_no_more_than_are_needed() -> None:
    """One replica is lacking: one model goes."""
    world = World(gpus=2)
    world.add(IDLE, 1, min=1, preemptible=True, priority=1)
    world.add(OTHER, 1, min=1, preemptible=True, priority=2)
    world.add(BUSY, 0, min=0, priority=10)
    world.run(70)
    world.demands[BUSY] = WAITS
    world.run(100)
    assert (world.running[IDLE], world.running[OTHER], world.running[BUSY]) == (0, 1, 1)


def test_it_comes_back_when_the_other_one_is_done_and_then_has_its_peace() -> None:
    """And is not pushed out again at once by the next request."""
    world = two()
    world.models[BUSY] = make_model(
        "busy", resources={"gpus": 1}, scaling={"max": 4, "min": 0, "priority": 10, "idleSeconds": 130}
    )
    world.demands[BUSY] = WAITS
    world.run(100)
    world.demands[BUSY] = Demand()
    world.run(140)
    assert (world.running[IDLE], world.running[BUSY]) == (1, 0)
    assert world.told(IDLE)[0] != "Preempted"
    world.demands[BUSY] = WAITS
    world.run(100)
    assert (world.running[IDLE], world.running[BUSY]) == (1, 0)
    world.run(60)
    assert (world.running[IDLE], world.running[BUSY]) == (0, 1)


def test_a_request_brings_it_back_as_far_as_there_are_gpus() -> None:
    """Its own work ends what was asked of it while it was idle; what the other one has it does not get."""
    world = two()
    world.demands[BUSY] = WAITS
    world.run(100)
    world.demands[IDLE] = WAITS
    world.run(10)
    assert (world.replicas[IDLE], world.running[IDLE], world.running[BUSY]) == (1, 0, 1)
    world.gpus = 2
    world.run(10)
    assert world.running[IDLE] == 1


def test_further_replicas_wait_behind_a_higher_priority() -> None:
    """What is freed goes to who is first: the other's replicas without a node are withdrawn, those with one stay."""
    world = World(gpus=2)
    world.add(BUSY, 1, min=0, priority=10)
    world.add(OTHER, 1, min=0, preemptible=True)
    world.demands = {BUSY: Demand(in_flight=64), OTHER: Demand(in_flight=128)}
    world.run(60)
    assert (world.replicas[BUSY], world.running[BUSY]) == (2, 1)
    assert (world.replicas[OTHER], world.running[OTHER]) == (1, 1)
    assert world.told(OTHER)[0] == "Preempted"
    world.gpus = 4
    world.run(60)
    assert (world.running[BUSY], world.running[OTHER]) == (2, 2)


def test_a_model_that_may_have_no_replica_says_since_when() -> None:
    """Its clients are told so after a while; a replica, or nobody who asks, ends it, and what is not known does not."""
    world = two()
    world.add(BUSY, 0, min=0, priority=10)
    world.demands[BUSY] = Demand(in_flight=64)
    world.run(100)
    assert (world.running[BUSY], world.autoscaler.scaled(IDLE).denied_since) == (1, None)  # type: ignore[union-attr]
    began, world.demands[IDLE] = world.time, WAITS
    world.run(40)
    since = world.autoscaler.scaled(IDLE).denied_since  # type: ignore[union-attr]
    assert since is not None
    assert (since - began).total_seconds() <= 20
    assert world.replicas[IDLE] == 0
    world.demands[IDLE] = None
    world.run(60)
    assert world.autoscaler.scaled(IDLE).denied_since == since  # type: ignore[union-attr]
    world.demands[IDLE] = Demand()
    world.run(60)
    assert world.autoscaler.scaled(IDLE).denied_since is None  # type: ignore[union-attr]
    world.demands[IDLE] = WAITS
    world.run(40)
    assert world.autoscaler.scaled(IDLE).denied_since is not None  # type: ignore[union-attr]
    world.gpus = 3
    world.run(40)
    assert world.autoscaler.scaled(IDLE).denied_since is None  # type: ignore[union-attr]
    assert world.running[IDLE] == 1


def test_whose_further_replicas_wait_keeps_what_nodes_have_taken() -> None:
    """The number is a limit for what no node has taken; of one that is put to zero it is all."""
    world = World(gpus=2)
    world.add(BUSY, 1, min=0, priority=10)
    world.add(OTHER, 1, min=0, preemptible=True)
    world.demands = {BUSY: Demand(in_flight=64), OTHER: Demand(in_flight=128)}
    world.run(60)
    said = world.autoscaler.says(OTHER)
    assert (said.replicas, said.keeps_placed) == (1, True)
    assert not [one for one in world.events if one[1] == "Preempting"]
    world = two()
    world.demands[BUSY] = WAITS
    world.run(40)
    said = world.autoscaler.says(IDLE)
    assert (said.replicas, said.keeps_placed) == (0, False)


def test_a_new_process_goes_on() -> None:
    """The status says for whom a model is at zero, so that a restart starts no pod that finds no GPU."""
    world = two()
    world.demands[BUSY] = WAITS
    world.run(100)
    told = world.autoscaler.scaled(IDLE)
    assert scaling_fields(told)["preemptedBy"] == "team/busy"
    spec = world.models[IDLE].spec
    assert spec is not None
    world.models[IDLE] = make_model(
        "idle", resources={"gpus": 1}, status={"scaling": scaling_fields(told)},
        scaling={"max": 4, "min": 1, "preemptible": True},
    )  # fmt: skip
    world.autoscaler = world.process()
    live = world._deployment(IDLE)
    assert wanted_replicas(spec, live) == 0
    for _ in range(200):
        world.run(1)
        assert world.replicas[IDLE] == 0
    assert world.running[BUSY] == 1


def test_an_hpa_keeps_to_it() -> None:
    """To zero it is the operator that scales; above that the HPA is told the most that there may be."""
    world = World(standing=USABLE, gpus=2)
    world.add(BUSY, 1, min=0, priority=10, strategy="HPA")
    world.add(OTHER, 1, min=0, preemptible=True, strategy="HPA")
    world.replicas = {BUSY: 2, OTHER: 2}  # As the HPAs have written.
    world.demands = {BUSY: Demand(in_flight=64), OTHER: Demand(in_flight=64)}
    world.run(60)
    said = world.autoscaler.says(OTHER)
    assert (said.replicas, said.hpa, said.most) == (None, Use.APPLY, 1)
    scaling = world.models[OTHER].spec.scaling  # type: ignore[union-attr]
    assert scaling is not None
    bounds = build_autoscaler("other", scaling, said.least, said.most)["spec"]
    assert (bounds["minReplicas"], bounds["maxReplicas"]) == (1, 1)
    assert build_autoscaler("other", scaling, 0)["spec"]["maxReplicas"] == 4
    assert world.autoscaler.scaled(OTHER).limited_by is Limit.PREEMPTED  # type: ignore[union-attr]


def test_what_keda_scales_gives_way_to_nobody() -> None:
    """Nobody but KEDA could take it to zero, and KEDA would bring it back; others give way to it as to any model."""
    world = two(strategy="KEDA")
    world.demands[BUSY] = WAITS
    world.run(120)
    assert not [event for event in world.events if event[1] == "Preempting"]
    assert (world.replicas[IDLE], world.autoscaler.says(IDLE).most) == (1, None)
    assert world.told(IDLE)[0] != "Preempted"
