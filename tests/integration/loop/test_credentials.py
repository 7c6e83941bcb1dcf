"""Credentials against a real API server: what field managers make of an upgrade, and faults of single Secrets."""

import base64
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from capstan_contract.config import ExternalBackend, ExternalEndpoint, GatewayConfig, ModelEntry, Provider
from capstan_contract.names import CREDENTIAL_LABEL
from capstan_contract.sharding import split_config
from capstan_operator.api.kinds import LLM_MODELS
from capstan_operator.desired.config_maps import build_config_maps
from capstan_operator.kube.client import KubeClient
from capstan_operator.resources.api_resource import SECRETS
from capstan_operator.resources.resource import Manifest
from capstan_operator.settings import BuildSettings, Settings
from support.api_proxy import api_proxy
from support.llmmodels import condition, hosted, served_names
from support.operator_process import find
from support.wait import eventually

pytestmark = pytest.mark.apiserver

NAME = "capstan-gateway-credentials"


def encoded(value: str) -> str:
    """Give a value as a Secret has it."""
    return base64.b64encode(value.encode()).decode()


async def put_secret(kube: KubeClient, namespace: str, name: str, value: str, *, labelled: bool = True) -> None:
    """Make or change a Secret, as its owner would."""
    labels = {CREDENTIAL_LABEL: "true"} if labelled else {}
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    await kube.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"key": encoded(value)}}, manager="user"
    )


async def held(kube: KubeClient, namespace: str) -> dict[str, str]:
    """Give what the gateway's Secret holds, by model."""
    found = await find(kube, SECRETS, NAME, namespace)
    data = (found or {}).get("data") or {}
    return {file: base64.b64decode(value).decode() for file, value in data.items()}


def config_of_the_former_release(model: Manifest) -> tuple[Manifest, ...]:
    """Give the gateway's config as it was: it says to where the key is sent."""
    metadata = model["metadata"]
    key = f"{metadata['namespace']}.{metadata['name']}"
    url = model["spec"]["external"]["url"]
    endpoint = ExternalEndpoint(name="default", url=url, credentialFile=key)
    entry = ModelEntry(
        id=key.replace(".", "/"),
        servedName=metadata["name"],
        upstreamName=metadata["name"],
        created=int(datetime.fromisoformat(metadata["creationTimestamp"]).timestamp()),
        backend=ExternalBackend(provider=Provider.OPENAI, endpoints=(endpoint,)),
    )
    settings = Settings(build=BuildSettings(install_namespace=metadata["namespace"]))
    return build_config_maps(split_config(GatewayConfig.build((entry,))), settings)


async def degraded(kube: KubeClient, namespace: str, name: str) -> tuple[str | None, str | None]:
    """Give Ready's status and Degraded's reason."""
    found = await find(kube, LLM_MODELS, name, namespace)
    return condition(found, "Ready").get("status"), condition(found, "Degraded").get("reason")


async def test_an_upgrade_and_going_back_take_no_credential_away(
    kube: KubeClient, namespace: str, start_operator: Any
) -> None:
    """A value of the former release is used on for a model that nobody has changed, though its Secret has no label; the
    former release's own apply then leaves what is written under the new names."""
    await put_secret(kube, namespace, "keys", "sk", labelled=False)
    made = await kube.apply(hosted("api", namespace, secretRef={"name": "keys", "key": "key"}), manager="user")
    metadata = {"name": "api", "namespace": namespace}
    status = {"observedGeneration": made["metadata"]["generation"]}
    await kube.apply_status(
        {"apiVersion": LLM_MODELS.api_version, "kind": LLM_MODELS.kind, "metadata": metadata, "status": status}
    )
    former = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": NAME, "namespace": namespace},
        "type": "Opaque",
        "data": {f"{namespace}.api": encoded("sk")},
    }
    await kube.apply(former)
    for written in config_of_the_former_release(made):
        await kube.apply(written)
    operator = start_operator()

    async def is_taken_over() -> bool:
        values = await held(kube, namespace)
        return len(values) == 2 and set(values.values()) == {"sk"}

    await eventually(is_taken_over, what="the value under both names")

    async def is_told() -> bool:
        return await degraded(kube, namespace, "api") == ("True", "SecretNotLabelled")

    await eventually(is_told, what="Ready, with a word about the label")
    message = condition(await find(kube, LLM_MODELS, "api", namespace), "Degraded")["message"]
    assert f"kubectl label secret keys -n {namespace} {CREDENTIAL_LABEL}=true" in message
    assert operator.stop() == 0
    names = set(await held(kube, namespace))
    await kube.apply({**former, "data": {f"{namespace}.api": encoded("newer")}})
    assert await held(kube, namespace) == {name: "newer" if name == f"{namespace}.api" else "sk" for name in names}


async def test_one_secret_that_the_api_server_fails_to_read_holds_up_nothing(
    kube: KubeClient, kube_api: Path, namespace: str, start_operator: Any, tmp_path: Path
) -> None:
    """With 500s for one Secret, names of all models reach the config, credentials of the others are there, the one
    model says what is wrong, and its value, once it had one, stays."""
    for name in ("good", "bad"):
        await put_secret(kube, namespace, name, f"sk-{name}")
    async with api_proxy(kube_api, tmp_path) as (proxy, kubeconfig):
        start_operator(kubeconfig=kubeconfig)
        reference = {"name": "bad", "key": "key"}
        await kube.apply(hosted("first", namespace, secretRef=reference), manager="user")

        async def first() -> bool:
            return list((await held(kube, namespace)).values()) == ["sk-bad"]

        await eventually(first, what="the first value")
        proxy.fail(f"/api/v1/namespaces/{namespace}/secrets/bad", 500)
        await kube.apply(hosted("second", namespace, secretRef=reference), manager="user")
        await kube.apply(hosted("third", namespace, secretRef={"name": "good", "key": "key"}), manager="user")

        async def all_served() -> bool:
            return await served_names(kube, namespace) == {"first", "second", "third"}

        await eventually(all_served, what="all names in the config")

        async def second_is_told() -> bool:
            return (await degraded(kube, namespace, "second"))[1] in ("SecretUnreadable", "AsExpected")

        await eventually(second_is_told, what="the second model's status")
        assert "sk-good" in (await held(kube, namespace)).values()
        assert "sk-bad" in (await held(kube, namespace)).values()
