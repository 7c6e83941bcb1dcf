"""A cluster as far as a rollout in steps sees it, of plain data: what is wanted comes up, gateways take up what the
written status says, and the machine is asked again and again. A process may end after any write."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from capstan_contract.gates import GateSummary, Outcome, SuiteSummary
from capstan_contract.tracks import Counters, Measure, Quantity, cell_of
from capstan_operator.api.rollout import RolloutSpec, RolloutStatus
from capstan_operator.desired.rollouts.machine import (
    Action,
    Seen,
    SeenCanary,
    SeenJob,
    Split,
    Wants,
    decide,
    try_of,
    wants_of,
)
from capstan_operator.desired.rollouts.memory import Asked, State, read_memory, write_memory
from capstan_operator.desired.rollouts.revisions import held_by

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
STEPS = [{"weight": 10, "seconds": 60}, {"weight": 50, "seconds": 60}]
SUITES = {"suites": [{"configMap": "suite"}]}


class Killed(Exception):
    """The process ended here."""


def spec(**fields: Any) -> RolloutSpec:
    """A rollout of two steps with a suite, or as the fields say."""
    return RolloutSpec.model_validate({"steps": STEPS, "gate": SUITES, **fields})


def summary(outcome: Outcome | None, **fields: Any) -> GateSummary:
    """What one suite leaves."""
    suites = () if outcome is None else (SuiteSummary(name="s", hash="ab" * 32, outcome=outcome, cases=100),)
    return GateSummary(outcome=outcome, suites=suites, **fields)


def counters(requests: int, *, errors: int = 0, micros: int = 100_000) -> Counters:
    """Requests of many users that all went alike."""
    per = [(bucket, requests // 64, 0) for bucket in range(64)]
    failed = [(bucket, count, errors // 64) for bucket, count, _ in per]
    cost = [(bucket, count, count * 1000) for bucket, count, _ in per]
    total = requests // 64 * 64
    return Counters(
        measures={
            Quantity.ERROR: Measure(
                count=total, sum=errors // 64 * 64, squares=errors // 64 * 64, buckets=tuple(failed)
            ),
            Quantity.FIRST_TOKEN: Measure(count=total, cells=((cell_of(micros), total),)),
            Quantity.INTER_TOKEN: Measure(count=total, cells=((cell_of(micros // 10), total),)),
            Quantity.COST: Measure(count=total, sum=total * 1000, squares=total * 1000**2, buckets=tuple(cost)),
        }
    )


@dataclass
class World:
    """What is there. `now` goes on by itself with each look."""

    rollout: RolloutSpec = field(default_factory=spec)
    revision: str = "old"
    generation: int = 1
    profile: str = ""
    is_its_turn: bool = True
    replicas: int = 2
    now: datetime = EPOCH
    status: dict[str, Any] = field(default_factory=dict)
    deployed: str = "old"
    """The revision of the stable Deployment's template."""
    canary: SeenCanary | None = None
    job: str = ""
    """The try that a Job is of."""
    split: Split = field(default_factory=Split)
    suites: GateSummary | None = field(default_factory=lambda: summary(Outcome.PASS))
    canary_counts: Counters = field(default_factory=lambda: counters(6400))
    stable_counts: Counters = field(default_factory=lambda: counters(12800))
    broken: str = ""
    room: bool = True
    action: Action | None = None
    writes: int = 0
    dies_after: int = -1
    served: list[tuple[str, float]] = field(default_factory=list)
    """Each split that gateways have had, by the revision that was tried."""
    told: list[str] = field(default_factory=list)
    slow_gateways: bool = False
    """Whether gateways take up what is new only every third time."""
    torn: bool = False
    """Whether a canary was taken away while gateways sent requests to it."""

    @property
    def memory(self) -> RolloutStatus | None:
        """What the status keeps."""
        return read_memory(self.status)

    @property
    def state(self) -> str:
        """Of the rollout."""
        return self.memory.state if self.memory else ""

    def change(self, revision: str) -> None:
        """Somebody changes the spec."""
        self.revision, self.generation = revision, self.generation + 1

    def change_profile(self, revision: str) -> None:
        """Somebody changes the profile that the spec names."""
        self.revision, self.profile = revision, f"profile of {revision}"

    def seen(self) -> Seen:
        """What the operator sees."""
        canary = self.canary
        counted = bool(self.split.weight)
        return Seen(
            now=self.now,
            asked=Asked(self.revision, self.generation, self.profile),
            is_its_turn=self.is_its_turn,
            rollout=self.rollout,
            replicas=self.replicas,
            rolled_out=self.deployed == self.revision,
            kept=True,
            canary=canary,
            job=self._job(),
            split=self.split,
            stable_counts=self.stable_counts if counted else None,
            canary_counts=self.canary_counts if counted else None,
            action=self.action,
        )

    def _job(self) -> SeenJob | None:
        memory = self.memory
        if memory is None or self.job != try_of(memory):
            return None
        return SeenJob(ended=True, summary=self.suites)

    def look(self) -> None:
        """One reconcile: the objects by the status that is written, then what is decided anew."""
        seen, memory = self.seen(), self.memory
        held = held_by(memory, seen.asked) if self.rollout.steps else None
        self._write("deployed", held or self.revision)
        wants = wants_of(memory, seen)
        self._place(wants, memory)
        decision = decide(memory, seen)
        if decision.memory != memory:
            status = {} if decision.memory is None else {"rollout": write_memory(decision.memory)}
            self._write("status", status)
            self.told += [one.reason for one in decision.news]

    def _place(self, wants: Wants, memory: RolloutStatus | None) -> None:
        if wants.keeps:
            return
        if wants.canary is None or memory is None:
            self._write("canary", None)
            self._write("job", "")
            return
        now = self.canary
        if now is None or (now.candidate, now.wanted) != (try_of(memory), wants.canary):
            self._write("canary", SeenCanary(candidate=try_of(memory), wanted=wants.canary, ready=0))
        if wants.job:
            self._write("job", try_of(memory))

    def _write(self, name: str, value: object) -> None:
        if getattr(self, name) == value:
            return
        if name == "canary" and self.canary and self.split.weight and self.split.id == self.canary.candidate:
            after = value.candidate if isinstance(value, SeenCanary) else ""
            self.torn |= after != self.canary.candidate
        setattr(self, name, value)
        self.writes += 1
        if self.writes == self.dies_after:
            raise Killed

    def passes(self, seconds: float = 20) -> None:
        """Time passes, and what others do is done: kubelets, gateways."""
        self.now += timedelta(seconds=seconds)
        if self.canary is not None:
            if not self.room:
                self.canary = replace(self.canary, lacks_room=True, lacks_room_since=EPOCH, message="no GPU")
            elif self.broken:
                self.canary = replace(self.canary, trouble=self.broken, message="it breaks")
            else:
                self.canary = replace(self.canary, ready=self.canary.wanted, lacks_room=False)
        memory = self.memory
        if self.slow_gateways and int(self.now.timestamp()) % 60:
            return
        has = memory is not None and memory.candidate is not None and self.rollout.steps
        split = Split(try_of(memory), float(memory.weight or 0)) if has and memory else Split()
        if memory is not None and memory.state in (State.COMPLETE, State.ROLLED_BACK):
            split = Split()
        if split.weight and split != self.split:
            self.served.append((split.id.partition("-")[0], split.weight))
        self.split = split

    def run(self, looks: int = 60) -> None:
        """Look and let time pass, whoever dies: another process begins."""
        for _ in range(looks):
            try:
                self.look()
            except Killed:
                pass
            self.passes()

    @property
    def end(self) -> tuple[object, ...]:
        """What counts in the end: times do not."""
        memory = self.memory
        rejected = tuple((one.revision, one.reason) for one in memory.rejected) if memory else ()
        told = (memory.state, memory.reason, memory.stable, memory.step, memory.weight) if memory else ()
        return (told, rejected, self.deployed, self.canary and self.canary.wanted, self.split.weight, self.served)
