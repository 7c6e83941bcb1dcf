"""API keys against a real API server: made by the command, in the config within a moment, gone as fast."""

import asyncio
import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from capstan_contract.config import GatewayConfig
from capstan_contract.keys import digest_of
from capstan_operator.cli.cluster_keys import ClusterKeys
from capstan_operator.desired.api_keys import KeyFault
from capstan_operator.desired.issued import Terms
from capstan_operator.kube.client import KubeClient
from capstan_operator.resources.api_resource import EVENTS, SECRETS
from support.forks import run_forked
from support.keysecrets import key_secret
from support.llmmodels import read_config, simulated
from support.operator_process import OperatorProcess, find
from support.wait import eventually

pytestmark = pytest.mark.apiserver


LOADS = ("capstan_operator.cli.keys", "capstan_operator.kube.auth", "capstan_operator.kube.client")


class Command:
    """`capstan keys` with a kubeconfig."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self._environ = {**os.environ, "KUBECONFIG": str(kubeconfig)}
        self._namespace = namespace

    def __call__(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run an action."""
        command = ["keys", *words, "-n", self._namespace]
        done = run_forked("capstan_operator.cli.main", command, loads=LOADS, environ=self._environ)
        assert done.returncode == code, done.stderr
        return done


async def config_of(kube: KubeClient, namespace: str) -> GatewayConfig:
    """Give what is written; an empty one before there is any."""
    return await read_config(kube, namespace) or GatewayConfig.build(())


async def test_keys_are_made_rotated_and_revoked(
    kube: KubeClient, kube_api: Path, namespace: str, start_operator: Any
) -> None:
    """Two keys of one user are valid at once; what is revoked is out of the config; the values are nowhere."""
    keys = Command(kube_api, namespace)
    operator: OperatorProcess = start_operator()
    await kube.apply(simulated("one", namespace), manager="user")
    first = keys("create", "--name", "first", "--user", "alice", "--models", "one").stdout.strip()

    async def valid(*names: str) -> bool:
        return {key.id for key in (await config_of(kube, namespace)).keys} == set(names)

    await eventually(lambda: valid("first"), what="the first key")
    config = await config_of(kube, namespace)
    (entry,) = config.keys
    assert entry.digest == digest_of(config.keySalt, first.encode())
    assert (entry.user, entry.models) == ("alice", ("one",))

    made = json.loads(keys("rotate", "first", "--grace", "1h", "-o", "json").stdout)
    await eventually(lambda: valid("first", made["name"]), what="both keys")
    await eventually(lambda: _expires(kube, namespace, "first"), what="the end of the old one")
    assert (await config_of(kube, namespace)).keySalt == config.keySalt

    listed = json.loads(keys("list", "-o", "json").stdout)
    assert {one["name"] for one in listed} == {"first", made["name"]}
    assert first not in json.dumps(listed)
    keys("revoke", "first")
    await eventually(lambda: valid(made["name"]), what="the end of the first key")
    assert "there is no API key 'first'" in keys("revoke", "first", code=1).stderr
    assert first not in operator.log
    assert made["key"] not in operator.log


async def test_of_two_keys_that_are_made_under_one_name_at_once_one_is_made(kube: KubeClient, namespace: str) -> None:
    """Whoever is shown a key has the one that is in the Secret."""
    store = ClusterKeys(kube, namespace)
    values = [f"sk-capstan-of-many-characters-{number}" for number in range(4)]
    made = await asyncio.gather(
        *(store.create("one", value, Terms(user="alice")) for value in values), return_exceptions=True
    )
    (place,) = [place for place, found in enumerate(made) if found is None]
    assert [type(found) for found in made if found is not None] == [KeyFault] * 3
    secret = await kube.get(SECRETS, "one", namespace=namespace)
    assert base64.b64decode(secret["data"]["key"]).decode() == values[place]


async def _expires(kube: KubeClient, namespace: str, name: str) -> bool:
    return any(key.id == name and key.expires for key in (await config_of(kube, namespace)).keys)


async def test_a_secret_that_is_no_key_has_an_event_that_says_why(
    kube: KubeClient, namespace: str, start_operator: Any
) -> None:
    """Without the value; and what is wrong with one is nobody else's matter."""
    start_operator()
    for name, secret in (("good", key_secret("good")), ("bad", key_secret("bad", user="a:b"))):
        metadata = {part: secret["metadata"][part] for part in ("name", "labels", "annotations")}
        await kube.apply({**secret, "metadata": {**metadata, "namespace": namespace}}, manager="user")
        assert await find(kube, SECRETS, name, namespace)

    async def told() -> bool:
        events = (await kube.list(EVENTS, namespace=namespace)).items
        return any(one["regarding"]["name"] == "bad" and one["reason"] == "APIKeyInvalid" for one in events)

    await eventually(told, what="the Event")

    async def written() -> bool:
        return {key.id for key in (await config_of(kube, namespace)).keys} == {"good"}

    await eventually(written, what="the good key")


async def test_keys_outlive_an_operator(kube: KubeClient, kube_api: Path, namespace: str, start_operator: Any) -> None:
    """The next one goes on with the same salt, and finds out what was revoked while there was none."""
    keys = Command(kube_api, namespace)
    operator: OperatorProcess = start_operator()
    await kube.apply(simulated("one", namespace), manager="user")
    for name in ("kept", "lost"):
        keys("create", "--name", name, "--user", name)

    async def valid(*names: str) -> bool:
        return {key.id for key in (await config_of(kube, namespace)).keys} == set(names)

    await eventually(lambda: valid("kept", "lost"), what="both keys")
    before = await config_of(kube, namespace)
    operator.kill()
    keys("revoke", "lost")
    assert await valid("kept", "lost")
    start_operator(CAPSTAN_LEADER_ELECTION="false")
    await eventually(lambda: valid("kept"), what="the end of the lost key")
    after = await config_of(kube, namespace)
    assert after.keySalt == before.keySalt
    assert after.keys[0] in before.keys
