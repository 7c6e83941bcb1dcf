"""While a config is held back, what is live is acknowledged as before, and who waits for the new one is told why."""

from types import SimpleNamespace
from typing import Any

from capstan_operator.api.kinds import Model
from capstan_operator.gateway_config.acknowledge import Acknowledger
from capstan_operator.gateway_config.credentials import CredentialStore
from capstan_operator.gateway_config.reconciler import GatewayConfigReconciler
from capstan_operator.metrics import Metrics
from capstan_operator.settings import Settings
from capstan_operator.status.types import AckState
from support.memorykube import MemoryKube
from support.plainmodels import make_model

STRICT = Settings(allowed_names=(("team", ("x-*",)),))


class World:
    """The config's lane of one process over models that the test says."""

    def __init__(self, kube: MemoryKube, models: list[Model], settings: Settings) -> None:
        self.models = models
        metrics = Metrics()
        self.acknowledger = Acknowledger(kube, settings, wake=lambda _: None, metrics=metrics)
        self.reconciler = GatewayConfigReconciler(
            kube,
            self,  # type: ignore[arg-type]
            settings,
            credentials=CredentialStore(MemoryKube(), settings),
            acknowledger=self.acknowledger,
            wake=lambda _: None,
            is_busy=lambda _: False,
            metrics=metrics,
        )

    async def all_models(self) -> Any:
        """List, as the loader does."""
        return SimpleNamespace(models=tuple(self.models), unknown=frozenset(), unreadable=frozenset())

    def state(self, model: Model) -> AckState:
        """Say how far the gateway is with a model."""
        return self.acknowledger.acknowledgement(
            model.key, uid=model.uid, generation=model.generation, served=True
        ).state


async def test_what_is_live_stays_acknowledged_and_what_is_new_is_told_why() -> None:
    """Also by a process that has just begun: nothing is written, the live models count as they are, new ones wait."""
    kube = MemoryKube()
    models = [make_model(f"m{number}", status={"observedGeneration": 1}) for number in range(5)]
    await World(kube, models, Settings()).reconciler.reconcile()
    before = dict(kube.objects)
    new = make_model("x-new")
    world = World(kube, [*models, new], STRICT)
    await world.reconciler.reconcile()
    assert kube.objects == before
    problem = world.reconciler.state.problem
    assert problem is not None
    assert problem.reason == "ConfigHeld"
    assert {world.state(model) for model in models} == {AckState.UNKNOWN}, "no replica was asked yet"
    assert world.state(new) is AckState.BLOCKED
    judged = world.reconciler.state.judged
    assert all(judged[model.key].verdict.held for model in models)
    assert judged[new.key].verdict.accepted

    world.models = [new]
    await world.reconciler.reconcile()
    assert world.reconciler.state.problem is None
    assert world.state(new) is AckState.UNKNOWN
