"""Config and endpoints from a real Kubernetes API, as the gateway's own service account."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from capstan_contract.config import GatewayConfig, ModelEntry, ServiceBackend
from capstan_contract.names import CONFIG_FILE, shard_object
from capstan_contract.sharding import split_config
from capstan_operator.kube.client import KubeClient
from capstan_operator.kube.errors import KubeError
from capstan_operator.resources.api_resource import CLUSTER_ROLES, CONFIG_MAPS, ENDPOINT_SLICES, ApiResource
from capstan_operator.resources.resource import Manifest
from fakes.openai_upstream import FakeUpstream
from support.apiserver import api_server, stop_api_server
from support.gateway import RunningGateway, entry, running_gateway
from support.kube_gateway import account, trust
from support.operator_process import ACCOUNTS, CLUSTER_BINDINGS, NAMESPACES, connect, make_namespace
from support.ports import own_address
from support.wait import eventually

pytestmark = pytest.mark.apiserver

CONFIG_MAP = "capstan-gateway-config"
CHAT = "/v1/chat/completions"
OTHER = "203.0.113.7"
"""An address where nobody is."""


@dataclass
class Cluster:
    """An API server, a namespace in it, and the files of a service account."""

    kubeconfig: Path
    kube: KubeClient
    namespace: str
    url: str
    account: Path

    async def apply(self, *objects: Manifest) -> None:
        """Apply objects in the namespace."""
        for one in objects:
            metadata = {**one["metadata"], "namespace": self.namespace}
            await self.kube.apply({**one, "metadata": metadata}, manager="test")

    async def delete(self, kind: ApiResource, name: str) -> None:
        """Delete an object in the namespace."""
        await self.kube.delete(kind, name, namespace=self.namespace)

    async def write_config(self, *models: ModelEntry, shard_bytes: int = 900_000) -> GatewayConfig:
        """Write the config as the operator does: shards first, the main document last."""
        config = GatewayConfig.build(models)
        documents = split_config(config, shard_bytes=shard_bytes)
        main = documents.pop(CONFIG_FILE)
        for name, text in documents.items():
            await self.apply(_config_map(shard_object(CONFIG_MAP, name), {name: text}))
        await self.apply(_config_map(CONFIG_MAP, {CONFIG_FILE: main}))
        return config

    def settings(self, **more: Any) -> dict[str, Any]:
        """Give the settings of a gateway in this namespace."""
        return {
            "config_dir": None,
            "kube_url": self.url,
            "kube_service_account_dir": self.account,
            "kube_namespace": self.namespace,
            "kube_config_map": CONFIG_MAP,
            "endpoint_wait_seconds": 0.05,
            **more,
        }


def _config_map(name: str, data: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def _slice(service: str, name: str, endpoints: list[dict[str, Any]], port: int, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/service-name": service, "app.kubernetes.io/managed-by": "capstan", **labels,
            },
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
    }  # fmt: skip


def _ready(address: str, **conditions: bool) -> dict[str, Any]:
    return {"addresses": [address], "conditions": {"ready": True, **conditions}}


@asynccontextmanager
async def prepared(kubeconfig: Path, folder: Path) -> AsyncIterator[Cluster]:
    """Make a namespace, and a service account that may read what the chart lets the gateway read."""
    files = folder / "account"
    url = trust(kubeconfig, files)
    async with connect(kubeconfig) as kube:
        namespace = await make_namespace(kube)
        (files / "token").write_text(await account(kube, namespace))
        rbac = CLUSTER_ROLES.api_version
        slices = {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"]}
        named = {"apiVersion": rbac, "metadata": {"name": namespace}}
        await kube.apply({**named, "kind": CLUSTER_ROLES.kind, "rules": [slices]}, manager="test")
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": CLUSTER_ROLES.kind, "name": namespace}
        subjects = [{"kind": ACCOUNTS.kind, "name": "gateway", "namespace": namespace}]
        binding = {**named, "kind": CLUSTER_BINDINGS.kind, "roleRef": role, "subjects": subjects}
        await kube.apply(binding, manager="test")
        yield Cluster(kubeconfig, kube, namespace, url, files)
        for kind in (CLUSTER_BINDINGS, CLUSTER_ROLES):
            await kube.delete(kind, namespace)


@pytest.fixture
async def cluster(kube_api: Path, tmp_path: Path) -> AsyncIterator[Cluster]:
    """A namespace of its own in the API server that the session shares."""
    async with prepared(kube_api, tmp_path) as made:
        yield made


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """A healthy engine on an address that an EndpointSlice may hold."""
    async with FakeUpstream(host=own_address()) as fake:
        yield fake


def _model(cluster: Cluster, name: str = "chat", **fields: Any) -> ModelEntry:
    backend = ServiceBackend(namespace=cluster.namespace, service=f"{name}-model", portName="http")
    return entry(name, backend=backend, **fields)


def _endpoints(gateway: RunningGateway, name: str = "chat") -> list[str]:
    runtime = gateway.gateway.current()
    if runtime is None or name not in runtime.models:
        return ["no config"]
    return [endpoint.host for endpoint in runtime.models[name].endpoints.endpoints]


async def _chat(gateway: RunningGateway, model: str = "chat") -> int:
    body = {"model": model, "messages": [{"role": "user", "content": "x"}]}
    async with aiohttp.ClientSession(gateway.url) as http, http.post(CHAT, json=body) as response:
        await response.read()
        return response.status


async def test_config_and_endpoints_by_watch(cluster: Cluster, tmp_path: Path, upstream: FakeUpstream) -> None:
    """A model is served when its ConfigMap and its EndpointSlice are there; changes of either arrive by themselves."""
    async with running_gateway(tmp_path, **cluster.settings()) as gateway:
        assert gateway.gateway.not_ready() is not None
        await cluster.write_config(_model(cluster))
        await eventually(lambda: gateway.gateway.not_ready() is None, what="readiness")
        assert await _chat(gateway) == 503

        other = _slice("chat-model", "foreign", [_ready(OTHER)], upstream.port)
        other["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "somebody"
        mine = [_ready(upstream.host), _ready(OTHER, ready=False), _ready(OTHER, terminating=True)]
        await cluster.apply(_slice("chat-model", "chat-1", mine, upstream.port), other)
        await eventually(lambda: _endpoints(gateway) == [upstream.host], what="the ready endpoint")
        assert await _chat(gateway) == 200

        await cluster.apply(_slice("chat-model", "chat-2", [_ready(OTHER)], upstream.port))
        await eventually(lambda: _endpoints(gateway) == sorted([upstream.host, OTHER]), what="the second slice")
        await cluster.delete(ENDPOINT_SLICES, "chat-2")
        await eventually(lambda: _endpoints(gateway) == [upstream.host], what="the second slice to go")

        renamed = _model(cluster, servedName="new-name", generation=2)
        await cluster.write_config(renamed)
        await eventually(lambda: _endpoints(gateway, "new-name") == [upstream.host], what="the new name")
        assert await _chat(gateway, "new-name") == 200
        assert await _chat(gateway) == 404
        assert upstream.requests[-1].document["model"] == "chat"


async def test_last_good_config_survives(cluster: Cluster, tmp_path: Path) -> None:
    """A damaged ConfigMap, and one that is deleted, are reported; what was served is served."""
    config = await cluster.write_config(_model(cluster))
    async with running_gateway(tmp_path, **cluster.settings()) as gateway:
        await eventually(lambda: gateway.gateway.current() is not None, what="the config")
        await cluster.apply(_config_map(CONFIG_MAP, {CONFIG_FILE: "{}"}))
        await eventually(lambda: "schemaVersion" in (gateway.gateway.store.error or ""), what="the error")
        await cluster.delete(CONFIG_MAPS, CONFIG_MAP)
        await eventually(lambda: "was deleted" in (gateway.gateway.store.error or ""), what="the error")
        assert gateway.gateway.store.report().hash == config.hash
        await cluster.write_config(_model(cluster, generation=2))
        await eventually(lambda: gateway.gateway.store.error is None, what="the next config")
        assert gateway.gateway.store.report().generations == {"test/chat": 2}


async def test_shards(cluster: Cluster, tmp_path: Path) -> None:
    """A config in shards is joined; an index whose shards are not there yet waits for them."""
    models = tuple(_model(cluster, f"model-{number:02}") for number in range(20))
    async with running_gateway(tmp_path, **cluster.settings()) as gateway:
        first = await cluster.write_config(*models, shard_bytes=4000)
        await eventually(lambda: gateway.gateway.store.report().hash == first.hash, what="the shards")

        documents = split_config(GatewayConfig.build(models[:15]), shard_bytes=4000)
        main = documents.pop(CONFIG_FILE)
        await cluster.apply(_config_map(CONFIG_MAP, {CONFIG_FILE: main}))
        await eventually(lambda: "does not match its hash" in (gateway.gateway.store.error or ""), what="the error")
        assert gateway.gateway.store.report().hash == first.hash
        for name, text in documents.items():
            await cluster.apply(_config_map(shard_object(CONFIG_MAP, name), {name: text}))
        await eventually(lambda: len(gateway.gateway.current().by_id) == 15, what="the late shards")


async def test_sets_of_shards_by_turns(cluster: Cluster, tmp_path: Path) -> None:
    """A config in the other set is taken when its index comes, and one that an operator from before sets has written is
    read from its shards."""
    models = tuple(_model(cluster, f"model-{number:02}") for number in range(20))
    async with running_gateway(tmp_path, **cluster.settings()) as gateway:
        for count, rename in ((20, ("a-", "a-")), (19, ("a-", "b-")), (18, ("a-", ""))):
            config = GatewayConfig.build(models[:count])
            documents = split_config(config, shard_bytes=4000)
            renamed = {
                name.replace(f"shard-{rename[0]}", f"shard-{rename[1]}"): text.replace(
                    f'"shard-{rename[0]}', f'"shard-{rename[1]}'
                )
                for name, text in documents.items()
            }
            assert len(renamed) > 3
            main = renamed.pop(CONFIG_FILE)
            for name, text in renamed.items():
                await cluster.apply(_config_map(shard_object(CONFIG_MAP, name), {name: text}))
            await cluster.apply(_config_map(CONFIG_MAP, {CONFIG_FILE: main}))
            await eventually(lambda: gateway.gateway.store.report().hash == config.hash, what="the next set")  # noqa: B023


async def test_files_serve_until_the_api_does(cluster: Cluster, tmp_path: Path) -> None:
    """Mounted files are the boot fallback; once the API has delivered, older files change nothing."""
    folder = tmp_path / "config"
    settings = cluster.settings(config_dir=folder)
    async with running_gateway(tmp_path, entry("from-files"), **settings) as gateway:
        assert "from-files" in gateway.gateway.current().models
        await cluster.write_config(_model(cluster, "from-api"))
        await eventually(lambda: "from-api" in gateway.gateway.current().models, what="the API's config")
        assert not await gateway.gateway.store.offer(
            split_config(GatewayConfig.build((entry("stale"),))), source="directory"
        )
        assert "from-api" in gateway.gateway.current().models


async def test_namespaced_discovery(cluster: Cluster, tmp_path: Path, upstream: FakeUpstream) -> None:
    """With namespaces named, only their EndpointSlices are asked for."""
    await cluster.write_config(_model(cluster))
    await cluster.apply(_slice("chat-model", "chat-1", [_ready(upstream.host)], 1))
    settings = cluster.settings(discovery_namespaces=(cluster.namespace, "default"))
    async with running_gateway(tmp_path, **settings) as gateway:
        await eventually(lambda: gateway.gateway.not_ready() is None, what="readiness")
        await eventually(lambda: _endpoints(gateway) == [upstream.host], what="the endpoint")


async def test_renewed_token_is_used(cluster: Cluster, tmp_path: Path) -> None:
    """A token that is not accepted is not the end: the file is read again for the next attempt."""
    good = (cluster.account / "token").read_text()
    (cluster.account / "token").write_text("expired")
    await cluster.write_config(_model(cluster))
    async with running_gateway(tmp_path, **cluster.settings()) as gateway:
        assert gateway.gateway.current() is None
        (cluster.account / "token").write_text(good)
        await eventually(lambda: gateway.gateway.not_ready() is None, what="the config")


@pytest.mark.timeout(300)
async def test_api_server_restart_is_survived(tmp_path: Path) -> None:
    """While the API is away requests are served from what was known; what changed meanwhile arrives afterwards."""
    # Of its own, also where two runs are on one machine.
    port = int(os.environ.get("CAPSTAN_TEST_API_PORT", "7443")) + 137
    with api_server(port=port) as kubeconfig:
        async with prepared(kubeconfig, tmp_path) as cluster, FakeUpstream(host=own_address()) as upstream:
            await cluster.write_config(_model(cluster))
            await cluster.apply(_slice("chat-model", "chat-1", [_ready(upstream.host)], upstream.port))
            async with running_gateway(tmp_path, **cluster.settings()) as gateway:
                await eventually(lambda: _endpoints(gateway) == [upstream.host], what="the endpoint")
                restart = await asyncio.to_thread(stop_api_server, cluster.kubeconfig)
                assert await _chat(gateway) == 200
                assert gateway.gateway.not_ready() is None
                await asyncio.to_thread(restart)

                async def is_back() -> bool:
                    try:
                        await cluster.kube.list(NAMESPACES)
                    except KubeError:
                        return False
                    return True

                await eventually(is_back, seconds=120, what="the API's return")
                await cluster.write_config(_model(cluster, generation=2))
                await cluster.delete(ENDPOINT_SLICES, "chat-1")
                await eventually(
                    lambda: gateway.gateway.store.report().generations == {"test/chat": 2}, what="the config"
                )
                await eventually(lambda: _endpoints(gateway) == [], what="the endpoint to go")
