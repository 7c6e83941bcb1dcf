"""How API keys come into the config and out of it, beside the models."""

from types import SimpleNamespace
from typing import Any

import pytest

from capstan_contract.config import GatewayConfig
from capstan_contract.keys import digest_of
from capstan_contract.reading import join_config
from capstan_operator.api.kinds import Model
from capstan_operator.desired.config_maps import documents_of
from capstan_operator.errors import Retryable, Terminal
from capstan_operator.gateway_config.acknowledge import Acknowledger
from capstan_operator.gateway_config.api_keys import GatewayKeys
from capstan_operator.gateway_config.credentials import CredentialStore
from capstan_operator.gateway_config.ledger import Recorded
from capstan_operator.gateway_config.reconciler import GatewayConfigReconciler
from capstan_operator.kube.errors import Unavailable
from capstan_operator.loaders.api_keys import ApiKeys
from capstan_operator.metrics import Metrics
from capstan_operator.settings import Settings
from support.keysecrets import SecretKube
from support.memorykube import MemoryKube
from support.plainmodels import make_model


class World:
    """The config's lanes of one process over models and Secrets that the test says."""

    def __init__(self, kube: MemoryKube, secrets: SecretKube, models: list[Model]) -> None:
        self.models, self.lists = models, 0
        self.kube, self.metrics = kube, Metrics()
        self.keys = ApiKeys(secrets, namespace="capstan-system")  # type: ignore[arg-type]
        self.told: list[tuple[str, str]] = []
        self.acknowledger = Acknowledger(kube, Settings(), wake=lambda _: None, metrics=self.metrics)
        self.reconciler = GatewayConfigReconciler(
            kube,
            self,  # type: ignore[arg-type]
            Settings(),
            credentials=CredentialStore(MemoryKube(), Settings()),
            acknowledger=self.acknowledger,
            wake=lambda _: None,
            is_busy=lambda _: False,
            metrics=self.metrics,
            keys=GatewayKeys(
                self.keys, metrics=self.metrics, tell=lambda secret, one: self.told.append((secret.name, one.reason))
            ),
        )

    async def all_models(self) -> Any:
        """List, as the loader does."""
        self.lists += 1
        return SimpleNamespace(models=tuple(self.models), unknown=frozenset(), unreadable=frozenset(), unread=())

    @property
    def config(self) -> GatewayConfig:
        """Give what is written, as a gateway would read it."""
        return join_config(documents_of(self.kube.objects, Settings()))

    @property
    def valid(self) -> set[str]:
        """Whose keys are valid."""
        return {key.id for key in self.config.keys}

    async def keys_read(self) -> None:
        """Run the keys' lane."""
        await self.reconciler.read_keys()
        await self.reconciler.write_keys()


async def begun(secrets: SecretKube, *, kube: MemoryKube | None = None, models: int = 3) -> World:
    """Give a world in which both lanes have run."""
    world = World(kube or MemoryKube(), secrets, [make_model(f"m{number}") for number in range(models)])
    await world.reconciler.reconcile()
    await world.keys_read()
    return world


async def test_a_key_comes_and_goes_without_a_look_at_the_models() -> None:
    """What is written has it within one run of its own lane, and every acknowledgement stays."""
    secrets = SecretKube()
    secrets.put("a", "sk-capstan-of-a-0123456789", user="alice")
    world = await begun(secrets)
    config, lists = world.config, world.lists
    assert [(key.id, key.user) for key in config.keys] == [("a", "alice")]
    assert config.keys[0].digest == digest_of(config.keySalt, b"sk-capstan-of-a-0123456789")
    world.keys.saw("ADDED", secrets.put("b", "sk-capstan-of-b-0123456789"))
    await world.keys_read()
    assert world.valid == {"a", "b"}
    assert world.config.models == config.models
    world.keys.saw("DELETED", secrets.secrets.pop("a")["metadata"])
    await world.reconciler.write_keys()
    assert world.valid == {"b"}
    assert world.lists == lists
    assert world.reconciler.state.config_hash == world.config.hash
    records = world.acknowledger.ledger.records(world.config.hash)
    assert records == {str(model.key): Recorded(model.uid, 1) for model in world.models}


async def test_the_salt_is_made_once_and_kept() -> None:
    """Also by the next process, and while nothing but a model changes."""
    secrets, kube = SecretKube(), MemoryKube()
    secrets.put("a")
    world = await begun(secrets, kube=kube)
    config = world.config
    world.models.append(make_model("another"))
    await world.reconciler.reconcile()
    assert (world.config.keySalt, world.config.keys) == (config.keySalt, config.keys)
    after = await begun(secrets, kube=kube, models=1)
    assert (after.config.keySalt, after.config.keys) == (config.keySalt, config.keys)


async def test_a_revoked_key_does_not_come_back_with_models_compiled_before() -> None:
    """The models' part of the lane takes the keys as they are known when it writes."""
    secrets = SecretKube()
    secrets.put("a", "sk-capstan-of-a-0123456789")
    secrets.put("b", "sk-capstan-of-b-0123456789")
    world = await begun(secrets)
    world.models.append(make_model("another"))
    settle = world.reconciler._credentials.settle

    async def meanwhile() -> None:
        world.keys.saw("DELETED", secrets.secrets.pop("a")["metadata"])
        await world.reconciler.write_keys()
        await settle()

    world.reconciler._credentials.settle = meanwhile  # type: ignore[method-assign]
    await world.reconciler.reconcile()
    assert world.valid == {"b"}
    assert len(world.config.models) == 4


async def test_keys_that_cannot_be_listed_stay_as_they_are() -> None:
    """A new process without the right to list Secrets keeps the live keys, and revokes what it sees deleted."""
    secrets, kube = SecretKube(), MemoryKube()
    for name in "abc":
        secrets.put(name, f"sk-capstan-of-{name}-0123456789")
    await begun(secrets, kube=kube)
    secrets.fails = True
    world = World(kube, secrets, [make_model("m0"), make_model("new")])
    await world.reconciler.reconcile()
    with pytest.raises(Unavailable):
        await world.reconciler.read_keys()
    assert world.valid == {"a", "b", "c"}
    assert len(world.config.models) == 2
    world.keys.saw("DELETED", secrets.secrets["b"]["metadata"])
    await world.reconciler.write_keys()
    assert world.valid == {"a", "c"}
    world.models.append(make_model("newer"))
    await world.reconciler.reconcile()
    assert world.valid == {"a", "c"}


async def test_nothing_is_written_while_neither_the_secrets_nor_the_live_config_can_be_read() -> None:
    """An unreadable config may have keys: to write one without them would lock everybody out."""
    secrets, kube = SecretKube(), MemoryKube()
    secrets.put("a")
    await begun(secrets, kube=kube)
    kube.objects[Settings().gateway_config_name]["data"]["config.json"] = "{"
    kube.annotate(Settings().gateway_config_name, "x", "y")
    secrets.fails = True
    world = World(kube, secrets, [make_model("m0")])
    with pytest.raises(Retryable):
        await world.reconciler.reconcile()
    secrets.fails = False
    await world.reconciler.read_keys()
    await world.reconciler.reconcile()
    assert world.valid == {"a"}


async def test_what_is_wrong_with_a_key_is_told_once() -> None:
    """And again when something else is wrong with it."""
    secrets = SecretKube()
    secrets.put("a", user="x:y")
    world = await begun(secrets)
    world.keys.suspect_all()
    await world.keys_read()
    assert world.told == [("a", "APIKeyInvalid")]
    assert world.valid == set()
    world.keys.saw("MODIFIED", secrets.put("a", "short"))
    await world.keys_read()
    assert world.told == [("a", "APIKeyInvalid"), ("a", "APIKeyWeak")]
    assert world.valid == {"a"}
    faulty = world.metrics.registry.get_sample_value("capstan_operator_api_keys", {"state": "faulty"})
    assert faulty == 1


async def test_a_key_is_revoked_although_new_ones_have_no_room() -> None:
    """What does not fit is told; it must not keep a revoked key alive."""
    secrets = SecretKube()
    secrets.put("a", "sk-capstan-of-a-0123456789")
    secrets.put("b", "sk-capstan-of-b-0123456789")
    world = await begun(secrets)
    world.reconciler._writer._shard_bytes = 1500
    for number in range(200):
        secrets.put(f"n{number}", f"sk-capstan-of-{number}-0123456789")
    del secrets.secrets["a"]
    world.keys.suspect_all()
    await world.reconciler.read_keys()
    with pytest.raises(Terminal):
        await world.reconciler.write_keys()
    assert world.valid == {"b"}


async def test_a_change_of_keys_is_no_change_of_models_to_the_brake() -> None:
    """What this process has compiled is still known after a key has come: a held model needs that."""
    secrets = SecretKube()
    world = await begun(secrets, models=5)
    world.keys.saw("ADDED", secrets.put("a"))
    await world.keys_read()
    world.models.append(make_model("another"))
    await world.reconciler.reconcile()
    written = world.reconciler._proposer._newest
    assert written is not None
    assert written.hash == world.config.hash
    assert world.reconciler._proposer._written is not None
