"""Rollouts in steps, of simulators of different quality behind a real gateway.

What is good is promoted, what is worse or slower is not, what nobody can tell waits, and an operator that is killed
changes nothing of it.
"""

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from capstan_evaluation.statistics.closed.proportions import wilson
from support.cluster import NAMESPACE, Cluster, Manifest, simulated
from support.revisions import QUESTION, Asking
from support.wait import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
ROUNDS: Final = int(os.environ.get("CAPSTAN_E2E_ROLLOUTS", "1"))
"""How often all of it is done with an operator that is killed, each time elsewhere; 0: once, and nobody is killed."""
OLD, NEW = "the old one", "the new one"
STEPS: Final = ((30, 4), (70, 4))
"""Weight in percent, and seconds at least."""
FIRST_TOKEN_MS: Final = 200
LATENCY: Final = "5"
"""How many times as slow the first token may be. A busy machine is not so unfair to one of two pods for long."""
SLOWER: Final = 40
"""So many times as slow that what a busy machine adds to both does not hide it."""
ALPHA: Final = 0.0001
"""How often a share of traffic may lie outside its interval by chance."""


@dataclass(frozen=True)
class Change:
    """A new revision of a model, and what becomes of it."""

    arguments: tuple[str, ...]
    cases: int
    """Of the suite that it has to pass."""
    margin: float
    clients: int
    """That ask the model all the time."""
    state: str
    reason: str
    most: int
    """The largest share of the traffic that it may ever get, in percent."""


CHANGES: Final = {
    "good": Change((), 240, 0.05, 12, "Complete", "Passed", 100),
    "worse": Change(("--accuracy", "0.7"), 240, 0.05, 2, "RolledBack", "SuiteFailed", 0),
    "slower": Change(("--latency-factor", str(SLOWER)), 40, 0.25, 32, "RolledBack", "GateFailed", STEPS[0][0]),
    "unsure": Change((), 10, 0.05, 2, "Evaluating", "Inconclusive", 0),
}
ENDED: Final = ("Complete", "RolledBack", "Paused")


def suite(name: str, change: Change) -> Manifest:
    """Give the ConfigMap of a suite of sums that the simulator can do."""
    sums = [
        {"id": f"sum-{n}", "prompt": f"What is {n} + {n % 7}?", "expected": str(n + n % 7)} for n in range(change.cases)
    ]
    written = {"name": name, "margin": change.margin, "defaults": {"checks": [{"type": "Exact"}]}, "cases": sums}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"suite-{name}"},
        "data": {"suite.yaml": json.dumps(written)},
    }


def model(name: str, namespace: str, says: str, *more: str, **rollout: Any) -> Manifest:
    """Give a model that says of itself which revision it is."""
    known = ["--bare-answers", "on", "--answer", f"{QUESTION} => {says}"]
    gate = {
        "suites": [{"configMap": f"suite-{name}"}],
        "latency": {"ttftP95": LATENCY},
        "errorRate": "0.25",
    }
    steps = [{"weight": weight, "seconds": seconds, "minimumRequests": 40} for weight, seconds in STEPS]
    return simulated(
        name,
        model={"servedName": f"{name}-{namespace}"},
        engine={"type": "Simulator", "args": ["--ttft-ms", str(FIRST_TOKEN_MS), *known, *more]},
        resources={"gpus": 0},
        rollout={"steps": steps, "gate": gate, "progressDeadlineSeconds": 300, **rollout},
    )


@dataclass
class Watch:
    """What was seen of the status of a model."""

    states: list[tuple[str, int, int]] = field(default_factory=list)
    """State, step and weight, each time that one of them changed."""
    windows: dict[tuple[int, int], tuple[float, float]] = field(default_factory=dict)
    """By step and weight: the time in which every gateway split so, on the monotonic clock."""
    last: Manifest = field(default_factory=dict)

    def see(self, asked_at: float, status: Manifest) -> None:
        """Note a status that was asked for at this time."""
        self.last = status
        now = (status.get("state", ""), status.get("step", 0), status.get("weight", 0))
        if now != (self.states[-1] if self.states else None):
            self.states.append(now)
        if now[0] == "Step" and status.get("splitSince"):
            # What began before the status was asked for had this share: the status is written before the gateways' is.
            begin, _ = self.windows.get(now[1:], (time.monotonic(), 0))
            self.windows[now[1:]] = begin, asked_at


class Watcher:
    """Looks at the rollouts of some models all the time, and kills the operator when it is told to."""

    def __init__(self, capstan: Cluster, namespace: str, *, kills: bool) -> None:
        self.watches: dict[str, Watch] = {name: Watch() for name in CHANGES}
        self.killed: list[str] = []
        self._capstan = capstan
        self._namespace = namespace
        self._kills = kills
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="watcher")

    @contextmanager
    def watching(self) -> Iterator["Watcher"]:
        """Look until the block ends."""
        self._thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            self._thread.join(timeout=120)
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._look()
                self._stop.wait(0.1)
        except BaseException as error:  # noqa: BLE001  # It is raised where the test is.
            self._failure = error

    def _look(self) -> None:
        asked_at = time.monotonic()
        for found in self._capstan.list("llmmodels", self._namespace):
            watch = self.watches[found["metadata"]["name"]]
            watch.see(asked_at, (found.get("status") or {}).get("rollout") or {})
        if self._kills:
            self._kill_once()

    def _kill_once(self) -> None:
        """Kill the operator in the middle of what it has not been killed in yet."""
        for name, watch in self.watches.items():
            state, step, _ = watch.states[-1]
            place = f"{name} {state} {step}"
            if state not in ("", *ENDED) and place not in self.killed and self._is_up():
                self.killed.append(place)
                pods = self._operators()
                self._capstan.kubectl(
                    "delete", "pods", *(pod["metadata"]["name"] for pod in pods), "-n", NAMESPACE, "--grace-period=0",
                    "--force",
                )  # fmt: skip
                return

    def _operators(self) -> list[Manifest]:
        return self._capstan.list("pods", NAMESPACE, "app.kubernetes.io/component=operator")

    def _is_up(self) -> bool:
        pods = self._operators()
        return bool(pods) and all(
            any(item["type"] == "Ready" and item["status"] == "True" for item in pod["status"].get("conditions") or [])
            for pod in pods
        )


@pytest.mark.parametrize(
    "kills", [True] * ROUNDS or [False], ids=[f"operator-killed-{n + 1}" for n in range(ROUNDS)] or ["undisturbed"]
)
def test_each_revision_ends_as_it_deserves(capstan: Cluster, namespace: str, gateway: str, *, kills: bool) -> None:
    """Under load a good revision is promoted by its steps with no failed request; a worse one never gets any traffic, a
    slower one never more than its first step's share; one that a suite cannot tell waits. So it is as well when the
    operator is killed in the middle of each. Each step has the share of the traffic that it says."""
    capstan.apply(namespace, *(suite(name, change) for name, change in CHANGES.items()))
    capstan.apply(namespace, *(model(name, namespace, OLD) for name in CHANGES))
    for name in CHANGES:
        capstan.wait_settled(name, namespace, seconds=120)
    before = {name: _first_revision(capstan, name, namespace) for name in CHANGES}
    with ExitStack() as stack:
        asking = {
            name: stack.enter_context(Asking(gateway, f"{name}-{namespace}", clients=change.clients))
            for name, change in CHANGES.items()
        }
        for one in asking.values():
            one.wait_for(20)
        watcher = stack.enter_context(Watcher(capstan, namespace, kills=kills).watching())
        changed = [model(name, namespace, NEW, *change.arguments) for name, change in CHANGES.items()]
        capstan.apply(namespace, *changed)
        for name, change in CHANGES.items():
            wait_until(lambda n=name, c=change: _has_ended(watcher.watches[n].last, c), seconds=240, what=f"{name}")  # type: ignore[misc]
        capstan.wait_settled("good", namespace)
        wait_until(
            lambda: _is_alone(asking["good"]), what="the last answer of the old pods, which end behind the status"
        )
        ended_at = time.monotonic()
        for one in asking.values():
            one.wait_for(40)
    for name, change in CHANGES.items():
        watch, asked = watcher.watches[name], asking[name].asked
        print(name, watch.states, watch.last.get("message"), f"{asked.by(OLD)} old, {asked.by(NEW)} new")
        assert asked.failures == [], name
        assert {weight for _, _, weight in watch.states} <= {w for w, _ in STEPS if w <= change.most} | {0}, (
            watch.states
        )
        if not change.most:
            assert asked.by(NEW) == 0
        for (step, weight), (begin, end) in watch.windows.items():
            assert weight == STEPS[step - 1][0]
            _has_share(asked.between(begin, end), weight, f"{name}, step {step}")
        stays = name != "good"
        assert set(asked.between(ended_at, time.monotonic())) == {OLD if stays else NEW}, name
        assert (watch.last["stable"] == before[name]) is stays
    assert [step for step, _ in watcher.watches["good"].windows] == [1, 2]
    assert [step for step, _ in watcher.watches["slower"].windows] == [1]
    rejected = {name: [one["reason"] for one in watcher.watches[name].last.get("rejected", ())] for name in CHANGES}
    assert rejected == {"good": [], "worse": ["SuiteFailed"], "slower": ["GateFailed"], "unsure": []}
    if kills:
        print("killed in", watcher.killed)
        assert {place.split()[0] for place in watcher.killed} >= {"good", "slower"}


def _is_alone(asking: Asking) -> bool:
    """Whether only the new revision answers any more."""
    since = time.monotonic()
    asking.wait_for(40)
    return set(asking.asked.between(since, time.monotonic())) == {NEW}


def _first_revision(capstan: Cluster, name: str, namespace: str) -> str:
    """Give the revision that serves, once it is known as one that can be gone back to."""

    def known() -> str:
        rollout = capstan.status("llmmodels", name, namespace).get("rollout") or {}
        return str(rollout["stable"]) if rollout.get("state") == "Complete" else ""

    return wait_until(known, seconds=120, what=f"the first revision of {name}")


def _has_ended(status: Manifest, change: Change) -> bool:
    state, reason = status.get("state"), status.get("reason")
    if state in ENDED and state != change.state:
        pytest.fail(f"{status}")
    if change.state == "Complete":
        return bool(state == "Complete" and status.get("stable") == status.get("candidate"))
    assert (state, reason) == (change.state, change.reason), status
    return True


def _has_share(counts: dict[str, int], weight: int, what: str) -> None:
    """Fail when a share of answers is not what chance gives at this weight."""
    total = sum(counts.values())
    if not total:
        return
    interval = wilson(counts.get(NEW, 0), total, alpha=ALPHA)
    print(f"{what}: {counts.get(NEW, 0)} of {total} by the new one, {weight} % wanted")
    assert interval.low <= weight / 100 <= interval.high, (what, dict(counts))
