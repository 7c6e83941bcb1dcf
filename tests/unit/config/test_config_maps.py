"""The config and the keys from the Kubernetes API: which version is worked on, and what is said when it cannot be."""

import asyncio
import base64
import random
from collections.abc import Callable
from typing import Any, cast

import pytest

from capstan_contract.config import GatewayConfig, ModelEntry, StaticBackend
from capstan_contract.names import CONFIG_FILE, CREDENTIAL_SHARDS_ANNOTATION
from capstan_contract.sharding import split_config
from capstan_gateway.config import kubernetes, kubernetes_credentials
from capstan_gateway.config.credentials import Credentials
from capstan_gateway.config.kubernetes import RETRY_SECONDS, ConfigMapSource
from capstan_gateway.config.kubernetes_credentials import SecretSource
from capstan_gateway.config.store import KUBERNETES, ConfigStore
from capstan_gateway.kubeapi.client import KubeClient, KubeError
from capstan_gateway.life.refusals import Refusals
from support.virtualtime import run_virtually

CONFIG = GatewayConfig.build(
    ModelEntry(id=f"team/m{number}", servedName=f"m{number}", upstreamName="m", backend=StaticBackend(urls=()))
    for number in range(20)
)
RNG = random.Random(0)  # noqa: S311 - no secret
REFUSALS = Refusals()
WHOLE = split_config(CONFIG)
SHARDED = split_config(CONFIG, shard_bytes=4000)
INDEX = {CONFIG_FILE: SHARDED[CONFIG_FILE]}


class Watched:
    """A reflector whose events a test tells."""

    def __init__(self, client: object, path: str, query: dict[str, str], **hooks: Any) -> None:
        self.path, self.query, self.given = path, query, (client, hooks["rng"], hooks["refusals"])
        self.replaced: Callable[[list[Any]], None] = hooks["replaced"]
        self.changed: Callable[[str, Any], None] = hooks["changed"]

    async def run(self) -> None:
        """Watch for ever."""
        await asyncio.Event().wait()


class Api:
    """An API server that has these objects, and a store that takes what it is offered or does not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.watched: list[Watched] = []
        self.objects: dict[str, Any] = {}
        self.asked: list[str] = []
        self.said: list[Any] = []
        self.takes = True
        for module in (kubernetes, kubernetes_credentials):
            monkeypatch.setattr(module, "Reflector", self._watch)

    def _watch(self, *arguments: Any, **hooks: Any) -> Watched:
        self.watched.append(Watched(*arguments, **hooks))
        return self.watched[-1]

    async def get(self, path: str) -> Any:
        """Give an object."""
        self.asked.append(path)
        found = self.objects.get(path.rsplit("/", 1)[1])
        if found is None:
            raise KubeError("not found")
        return found

    async def offer(self, documents: dict[str, Any], *, source: str) -> bool:
        """Take a config."""
        assert source == KUBERNETES
        self.said.append(documents)
        return self.takes

    def reject(self, reason: str, *, source: str) -> None:
        """Hear why there is none."""
        assert source == KUBERNETES
        self.said.append(reason)

    def source(self) -> ConfigMapSource:
        """Give what is to be tested."""
        return ConfigMapSource(
            cast(KubeClient, self), namespace="ns", name="gw", store=cast(ConfigStore, self), rng=RNG, refusals=REFUSALS
        )

    def has_shards(self) -> None:
        """Have the objects of all shards."""
        for name, text in SHARDED.items():
            self.objects[f"gw-{name[6:-5]}"] = {"data": {name: text}}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    """An API server without objects."""
    return Api(monkeypatch)


def played(api: Api, *steps: Callable[[Watched], object] | float) -> None:
    """Tell the source these events, or let so many seconds pass, and then a little time."""

    async def play() -> None:
        source = api.source()
        task = asyncio.create_task(source.run())
        for step in (*steps, 0.001):
            if isinstance(step, float):
                await asyncio.sleep(step)
            else:
                step(api.watched[0])
        assert not task.done(), "it watches for ever"
        task.cancel()

    run_virtually(play())


def told(data: object, kind: str = "MODIFIED") -> Callable[[Watched], object]:
    """Give the event that the ConfigMap is so."""
    return lambda watched: watched.changed(kind, {"data": data})


def test_a_whole_config_is_offered_as_it_is(api: Api) -> None:
    """One object is watched, by its name; the list and each event bring it."""
    played(api, lambda watched: watched.replaced([{"data": WHOLE}]), 0.001, told({**WHOLE, "x": "y"}))
    assert api.said == [WHOLE, {**WHOLE, "x": "y"}]
    assert (api.watched[0].path, api.watched[0].query) == (
        "/api/v1/namespaces/ns/configmaps", {"fieldSelector": "metadata.name=gw"},
    )  # fmt: skip
    assert api.watched[0].given == (api, RNG, REFUSALS)
    assert api.asked == []


def test_of_two_versions_at_once_the_newer_is_worked_on(api: Api) -> None:
    """The older one is nobody's concern any more."""
    played(api, told({CONFIG_FILE: "old"}), told(WHOLE))
    assert api.said == [WHOLE]


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (lambda watched: watched.replaced([]), "ConfigMap ns/gw does not exist"),
        (told(WHOLE, "DELETED"), "ConfigMap ns/gw was deleted"),
        (told({"a": 1}), "ConfigMap ns/gw does not hold texts"),
        (told(["a"]), "ConfigMap ns/gw does not hold texts"),
        (told({CONFIG_FILE: '{"shards":'}), "config.json is not JSON"),
        (told({CONFIG_FILE: '{"shards":7}'}), "config.json: `shards` must be a list of file names of shards"),
    ],
)
def test_what_is_no_config_is_said(api: Api, event: Callable[[Watched], object], said: str) -> None:
    """And the last good one stays: nothing is offered."""
    played(api, event, 100.0)
    (reason,) = api.said
    assert reason.startswith(said)


def test_an_object_without_data_is_offered_too(api: Api) -> None:
    """The store says what is missing."""
    played(api, told(None))
    assert api.said == [{}]


def test_shards_are_read_beside_the_index(api: Api) -> None:
    """Each from the object that has its name; they are offered together."""
    api.has_shards()
    played(api, told(INDEX))
    assert api.said == [SHARDED]
    assert api.asked == [f"/api/v1/namespaces/ns/configmaps/gw-a-{n}" for n in range(1, len(SHARDED))]


@pytest.mark.parametrize("found", [None, {}, {"data": None}, {"data": {"shard-a-1.json": 7}}])
def test_a_shard_that_is_not_there_is_looked_for_again(api: Api, found: Any) -> None:
    """It may be on its way: again after a while, then after a longer one, until it is there."""
    api.has_shards()
    shard = api.objects.pop("gw-a-1")
    if found is not None:
        api.objects["gw-a-1"] = found
    waits = [*RETRY_SECONDS, RETRY_SECONDS[-1], RETRY_SECONDS[-1]]

    def comes(_: Watched) -> None:
        api.objects["gw-a-1"] = shard

    played(api, told(INDEX), sum(waits) - 0.01, comes, 0.02)
    reason = "not found" if found is None else "ConfigMap gw-a-1 has no shard-a-1.json"
    assert api.said == [*[f"shard-a-1.json could not be read: {reason}"] * len(waits), SHARDED]


def test_shards_that_do_not_fit_are_read_again_and_a_newer_version_ends_that(api: Api) -> None:
    """What is offered and not taken may be of two generations; a whole config that is not taken is wrong for good."""
    api.has_shards()
    api.takes = False
    played(api, told(INDEX), RETRY_SECONDS[0] + RETRY_SECONDS[1] + 0.01, told(WHOLE), 100.0)
    assert api.said == [SHARDED, SHARDED, SHARDED, WHOLE]


def test_after_a_newer_version_the_waits_begin_anew(api: Api) -> None:
    """It is looked for as quickly as the first one was; one that is deleted is looked for no more."""
    api.takes = False
    api.has_shards()
    played(api, told(INDEX), 4.0, told({**INDEX, "x": "y"}), RETRY_SECONDS[0] + 0.01, told({}, "DELETED"), 100.0)
    newer = [documents for documents in api.said if "x" in documents]
    assert len(newer) == 2
    assert api.said[-1] == "ConfigMap ns/gw was deleted"


def secret(shards: int | None = None, **values: str) -> dict[str, Any]:
    """Give a Secret."""
    annotations = {} if shards is None else {CREDENTIAL_SHARDS_ANNOTATION: str(shards)}
    data = {name: base64.b64encode(value.encode()).decode() for name, value in values.items()}
    return {"metadata": {"annotations": annotations}, "data": data}


def test_every_secret_that_is_named_is_watched_once(api: Api) -> None:
    """The others as soon as the first names them; when all are known, keys that went are gone."""
    credentials = Credentials()
    credentials.take({"old": b"1"})

    async def play() -> list[bytes | None]:
        source = SecretSource(
            cast(KubeClient, api), namespace="ns", name="keys", credentials=credentials, rng=RNG, refusals=REFUSALS
        )
        task = asyncio.create_task(source.run())
        await asyncio.sleep(0.001)
        first = api.watched[0]
        first.replaced([])
        first.replaced([secret(2, a="x")])
        first.changed("MODIFIED", secret(2, a="y"))
        await asyncio.sleep(0.001)
        assert [watched.query["fieldSelector"] for watched in api.watched] == [
            f"metadata.name=keys{suffix}" for suffix in ("", "-1", "-2")
        ]
        assert {watched.path for watched in api.watched} == {"/api/v1/namespaces/ns/secrets"}
        assert all(watched.given == (api, RNG, REFUSALS) for watched in api.watched)
        seen = [credentials.key("a"), credentials.key("old")]
        api.watched[1].changed("MODIFIED", secret(b="z"))
        api.watched[1].changed("DELETED", secret())
        api.watched[2].replaced([])
        seen += [credentials.key(name) for name in ("a", "b", "old")]
        task.cancel()
        return seen

    assert run_virtually(play()) == [b"y", b"1", b"y", b"z", None]
