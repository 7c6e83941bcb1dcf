"""An installation with as few rights as there can be."""

import copy
from collections.abc import Iterator

import pytest

from support.cluster import NAMESPACE, VALUES, Cluster, install_chart, simulated
from support.needs import ROOT
from support.traffic import Traffic
from support.wait import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture
def namespaced(capstan: Cluster, namespace: str) -> Iterator[Cluster]:
    """The chart with Roles in one namespace, no right to nodes and Secrets, and a Redis with a password."""
    password = {"password": "for-tests"}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "redis-auth"}, "stringData": password}
    capstan.apply(NAMESPACE, secret)
    values = copy.deepcopy(VALUES)
    values["operator"] = {"watchNamespaces": [namespace], "readNodes": False, "readSecrets": False}
    values["redis"] = {"auth": {"existingSecret": "redis-auth"}}
    values["networkPolicies"] = {"enabled": True}
    chart = str(ROOT / "helm" / "capstan")
    capstan.helm("upgrade", "capstan", chart, "--namespace", NAMESPACE, "--wait", "--timeout", "120s", values=values)
    yield capstan
    install_chart(capstan)


def test_roles_are_enough(namespaced: Cluster, namespace: str, gateway: str) -> None:
    """With Roles in one namespace the operator and the gateway do all their work and are refused nothing."""
    name = f"few-{namespace}"
    namespaced.apply(namespace, simulated("few", model={"servedName": name}, replicas=2))
    namespaced.wait_settled("few", namespace)
    with Traffic(gateway, name) as traffic:
        changed = simulated("few", model={"servedName": name}, replicas=2, engine={"type": "Simulator", "args": []})
        namespaced.apply(namespace, changed)
        namespaced.wait_settled("few", namespace)
    assert traffic.report.failures == []
    assert namespaced.get("networkpolicies", "few-model", namespace)
    assert "orbidden" not in namespaced.kubectl("logs", "deployment/capstan-operator", "-n", NAMESPACE)
    assert "orbidden" not in namespaced.kubectl("logs", "deployment/capstan-gateway", "-n", NAMESPACE)


def test_redis_wants_its_password(namespaced: Cluster) -> None:
    """With a password from a Secret Redis answers those who know it, and nobody else."""

    def ask(*words: str) -> str:
        return namespaced.kubectl("exec", "capstan-redis-0", "-n", NAMESPACE, "--", *words, check=False)

    wait_until(lambda: ask("redis-cli", "ping").strip() == "PONG", what="a PONG with the password of the environment")
    assert "NOAUTH" in ask("env", "-u", "REDISCLI_AUTH", "redis-cli", "ping")
