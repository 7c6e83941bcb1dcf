"""What a hold and a failed write come to: what is said of whom, and what is written."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from capstan_contract.config import ModelEntry
from capstan_contract.reading import join_config
from capstan_operator.api.kinds import Model
from capstan_operator.desired.config_maps import documents_of
from capstan_operator.gateway_config.acknowledge import Acknowledger
from capstan_operator.gateway_config.credentials import CredentialStore
from capstan_operator.gateway_config.ledger import Recorded
from capstan_operator.gateway_config.reconciler import GatewayConfigReconciler
from capstan_operator.metrics import Metrics
from capstan_operator.settings import Settings
from support.memorykube import Died, MemoryKube
from support.plainmodels import make_model

ACCEPTED = {"observedGeneration": 1, "conditions": [{"type": "Accepted", "status": "True"}]}
STRICT_FOR_NEW = Settings(allowed_names=(("team", ("x-*", "m*")),))
STRICT = Settings(allowed_names=(("team", ("x-*",)),))


class World:
    """The config's lane of one process over models that the test says."""

    def __init__(self, kube: MemoryKube, models: list[Model], settings: Settings) -> None:
        self.models = models
        self._kube = kube
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
        return SimpleNamespace(models=tuple(self.models), unknown=frozenset(), unreadable=frozenset(), unread=())

    @property
    def entries(self) -> dict[str, ModelEntry]:
        """Give what is written, as a gateway would read it."""
        config = join_config(documents_of(self._kube.objects, Settings()))
        return {entry.id: entry for entry in config.models}


async def test_what_is_held_counts_as_it_is_and_what_is_new_goes_on() -> None:
    """Also by a process that has just begun: the held models are served as of this generation, new ones are written."""
    kube = MemoryKube()
    models = [make_model(f"m{number}", status={"observedGeneration": 1}) for number in range(5)]
    first = World(kube, models, Settings())
    await first.reconciler.reconcile()
    before = first.entries
    new = make_model("x-new")
    world = World(kube, [*models, new], STRICT)
    await world.reconciler.reconcile()
    assert world.entries.keys() == before.keys() | {"team/x-new"}
    assert {id_: world.entries[id_] for id_ in before} == before
    assert world.reconciler.state.problem is None
    judged = world.reconciler.state.judged
    assert all(judged[model.key].verdict.held for model in models)
    assert judged[new.key].verdict.accepted
    records = world.acknowledger.ledger.records(world.reconciler.state.config_hash)
    assert records == {str(model.key): Recorded(model.uid, 1) for model in (*models, new)}

    world.models = [new]
    await world.reconciler.reconcile()
    assert world.entries.keys() == {"team/x-new"}


async def test_a_failed_write_says_nothing_of_what_it_would_have_dropped() -> None:
    """Until the config is written, those that lose an entry are not judged; with the write, they are."""
    kube = MemoryKube()
    models = [make_model(f"m{number}", status={"observedGeneration": 1}) for number in range(5)]
    world = World(kube, models, STRICT_FOR_NEW)
    await world.reconciler.reconcile()
    edited = [make_model(f"m{number}", generation=2, model={"servedName": "y"}) for number in range(4)]
    world.models = [*edited, models[4], make_model("x-new")]
    kube.lives = 0
    with pytest.raises(Died):
        await world.reconciler.reconcile()
    judged = world.reconciler.state.judged
    assert {one.generation for key, one in judged.items() if key.name != "m4"} == {1}
    assert judged[make_model("x-new").key].verdict.accepted
    kube.lives = None
    world.models = [replace(one, status={"observedGeneration": 2}) for one in edited] + world.models[4:]
    await world.reconciler.reconcile()
    judged = world.reconciler.state.judged
    assert not any(one.verdict.served for key, one in judged.items() if key in {model.key for model in edited})
    assert world.entries.keys() == {"team/m4", "team/x-new"}, "an edit is no hold, whatever a status says by now"


async def test_a_failed_first_write_drops_no_entry_of_the_first_release() -> None:
    """Its entries have no uid: what the new rules refuse stays, whatever became of the write and of the statuses."""
    kube = MemoryKube()
    old = [make_model(f"m{number}") for number in range(2)]
    await World(kube, [replace(model, uid="") for model in old], Settings()).reconciler.reconcile()
    refused = [make_model(f"m{number}", replicas=-1, status=ACCEPTED) for number in range(2)]
    world = World(kube, refused, Settings())
    kube.lives = 0
    with pytest.raises(Died):
        await world.reconciler.reconcile()
    assert world.reconciler.state.judged == {}
    kube.lives = None
    world = World(kube, [replace(model, status={"observedGeneration": 1}) for model in refused], Settings())
    await world.reconciler.reconcile()
    assert {id_: entry.uid for id_, entry in world.entries.items()} == {str(one.key): one.uid for one in refused}
