"""Keys that policies name, from their Secrets to the gateway's, by the operator before a real API server."""

import asyncio
import base64
from typing import Any

import pytest

from capstan_contract.names import CREDENTIAL_LABEL
from capstan_operator.api.kinds import CACHE_POLICIES, GUARD_POLICIES
from capstan_operator.kube.client import KubeClient
from capstan_operator.resources.api_resource import SECRETS
from capstan_operator.settings import Settings
from support.llmmodels import condition, hosted
from support.operator_process import find
from support.policy_world import PolicyWorld

pytestmark = pytest.mark.apiserver


class Caches(PolicyWorld):
    """CachePolicies."""

    resource = CACHE_POLICIES


class Guards(PolicyWorld):
    """GuardPolicies."""

    resource = GUARD_POLICIES


def secret(name: str, namespace: str, value: bytes, **labels: str) -> dict[str, Any]:
    """A Secret with one key."""
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"k": base64.b64encode(value).decode()}}


async def test_keys_are_copied_once_they_may_be(kube: KubeClient, namespace: str, start_operator: Any) -> None:
    """What entries of a cache are sealed with, and the key of a service that a guard asks: each is copied into the
    gateway's Secret once whoever owns its Secret says that it may be; until then the policy says why not, and what to
    do. The value is in no status and in no config."""
    caches, guards = Caches(kube, namespace), Guards(kube, namespace)
    start_operator()

    def policy(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
        return {
            "apiVersion": CACHE_POLICIES.api_version,
            "kind": kind,
            "metadata": {"name": "p", "namespace": namespace},
            "spec": {"targetRefs": [{"name": "a"}], **spec},
        }

    async def both(kind: str, status: str, reason: str) -> tuple[dict[str, Any], dict[str, Any]]:
        cached, guarded = await asyncio.gather(
            caches.until("p", kind, status, reason), guards.until("p", kind, status, reason)
        )
        return cached, guarded

    hook = {"type": "Webhook", "url": "https://guard.example.com/", "secretRef": {"name": "hook", "key": "k"}}
    await caches.apply(
        hosted("a", namespace),
        policy("CachePolicy", {"redis": {"encryptionKeyRef": {"name": "cache-key", "key": "k"}}}),
        policy("GuardPolicy", {"output": [hook]}),
    )
    await both("Accepted", "True", "Accepted")
    await both("Programmed", "False", "SecretNotFound")
    values = {"cache-key": b"what seals entries", "hook": b"what signs questions"}
    await caches.apply(*(secret(name, namespace, value) for name, value in values.items()))
    _, guarded = await both("Programmed", "False", "SecretNotLabelled")
    todo = f"kubectl label secret hook -n {namespace} {CREDENTIAL_LABEL}=true"
    assert todo in condition(guarded, "Programmed")["message"]
    labels = {CREDENTIAL_LABEL: "true"}
    await caches.apply(*(secret(name, namespace, value, **labels) for name, value in values.items()))
    found = await both("Programmed", "True", "Written")
    config = await caches.config()
    bodies = {one["kind"]: one["body"] for one in config["policies"]}
    files = {
        "cache-key": bodies["CachePolicy"]["encryptionFile"],
        "hook": bodies["GuardPolicy"]["output"][0]["secretFile"],
    }
    copied = await find(kube, SECRETS, Settings().gateway_credentials_name, namespace)
    assert copied is not None
    assert {name: base64.b64decode(copied["data"][file]) for name, file in files.items()} == values
    assert not any(value.decode() in str((config, found)) for value in values.values())
