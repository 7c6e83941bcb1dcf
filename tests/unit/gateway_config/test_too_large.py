"""A config that cannot be written is seen by everybody whom it concerns, and by nobody else."""

from types import SimpleNamespace
from typing import Any

import pytest

from capstan_operator.api.kinds import Model
from capstan_operator.errors import Terminal
from capstan_operator.gateway_config import writer
from capstan_operator.gateway_config.acknowledge import Acknowledger
from capstan_operator.gateway_config.credentials import CredentialStore
from capstan_operator.gateway_config.reconciler import GatewayConfigReconciler
from capstan_operator.metrics import Metrics
from capstan_operator.settings import Settings
from capstan_operator.status.types import AckState
from support.memorykube import MemoryKube
from support.plainmodels import make_model

MOST = 40
"""Models that fit."""


class World:
    """The config's lane over models that the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        plan = writer.plan_writes

        def small(*arguments: Any, **_: Any) -> Any:
            return plan(*arguments, shard_bytes=6000)

        monkeypatch.setattr(writer, "plan_writes", small)
        self.models: list[Model] = []
        self.metrics = Metrics()
        self.acknowledger = Acknowledger(MemoryKube(), Settings(), wake=lambda _: None, metrics=self.metrics)
        self.reconciler = GatewayConfigReconciler(
            MemoryKube(),
            self,  # type: ignore[arg-type]
            Settings(),
            credentials=CredentialStore(MemoryKube(), Settings()),
            acknowledger=self.acknowledger,
            wake=lambda _: None,
            is_busy=lambda _: False,
            metrics=self.metrics,
        )

    async def all_models(self) -> Any:
        """List, as the loader does."""
        return SimpleNamespace(models=tuple(self.models), unknown=frozenset(), unreadable=frozenset(), unread=())

    def state(self, model: Model) -> AckState:
        """Say how far the gateway is with a model."""
        return self.acknowledger.acknowledgement(
            model.key, uid=model.uid, generation=model.generation, served=True
        ).state

    @property
    def problems(self) -> dict[str, float]:
        """Give the metric's samples, by reason."""
        return {
            sample.labels["reason"]: sample.value
            for family in self.metrics.config_problem.collect()
            for sample in family.samples
        }


def numbered(count: int, **fields: Any) -> list[Model]:
    """Give so many models."""
    return [make_model(name=f"m{number}", **fields) for number in range(count)]


async def test_who_is_not_in_the_written_config_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """New models and changed ones are blocked with the reason; the others, and one that was only scaled, are not. The
    metric says so until the config fits again, and each change is a new attempt."""
    world = World(monkeypatch)
    world.models = numbered(MOST)
    await world.reconciler.reconcile()
    assert world.problems == {}

    changed = make_model(name="m0", generation=2, serving={"weight": 7})
    scaled = make_model(name="m1", generation=2, replicas=3)
    many = [make_model(name=f"new{number}") for number in range(400)]
    world.models = [changed, scaled, *numbered(MOST)[2:], *many]
    with pytest.raises(Terminal, match="does not fit"):
        await world.reconciler.reconcile()
    assert world.problems == {"ConfigTooLarge": 1.0}
    assert world.state(changed) is AckState.BLOCKED
    assert world.state(many[0]) is AckState.BLOCKED
    assert world.state(scaled) is AckState.UNKNOWN
    assert world.state(world.models[2]) is AckState.UNKNOWN

    world.models = [changed, scaled, *numbered(MOST)[2:]]
    await world.reconciler.reconcile()
    assert world.problems == {}
    assert world.state(changed) is AckState.UNKNOWN
    written = world.reconciler.state.config_hash
    assert (world.acknowledger.ledger.records(written) or {})["team/m0"].generation == 2


async def test_a_restarted_operator_knows_what_is_written_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads the live config: a model that is in it as it is now is not told that it is not."""
    first = World(monkeypatch)
    first.models = numbered(MOST)
    await first.reconciler.reconcile()
    second = World(monkeypatch)
    second.reconciler._writer._kube = first.reconciler._writer._kube
    new = [make_model(name=f"new{number}") for number in range(400)]
    second.models = [*first.models, *new]
    with pytest.raises(Terminal):
        await second.reconciler.reconcile()
    assert second.reconciler.state.config_hash == first.reconciler.state.config_hash
    assert second.state(first.models[0]) is AckState.UNKNOWN
    assert second.state(new[0]) is AckState.BLOCKED
