"""An installation with as few rights as there can be."""

import copy
from collections.abc import Iterator

import pytest

from support.cluster import NAMESPACE, VALUES, Cluster, install_chart, make_namespace, simulated
from support.needs import ROOT
from support.traffic import Traffic
from support.wait import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


NAMED = "few-rights"


@pytest.fixture(scope="module")
def namespaced(capstan: Cluster) -> Iterator[Cluster]:
    """The chart with Roles in one namespace, no right to nodes and Secrets, and a Redis with a password."""
    make_namespace(capstan, NAMED)
    password = {"password": "for-tests"}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "redis-auth"}, "stringData": password}
    capstan.apply(NAMESPACE, secret)
    values = copy.deepcopy(VALUES)
    values["operator"] = {"watchNamespaces": [NAMED], "readNodes": False, "readSecrets": False}
    values["redis"] = {"auth": {"existingSecret": "redis-auth"}}
    values["networkPolicies"] = {"enabled": True}
    chart = str(ROOT / "helm" / "capstan")
    capstan.helm("upgrade", "capstan", chart, "--namespace", NAMESPACE, "--wait", "--timeout", "120s", values=values)
    yield capstan
    capstan.kubectl("delete", "llmmodels", "--all", "-n", NAMED)
    install_chart(capstan)
    capstan.kubectl("delete", "namespace", NAMED, "--wait=false")


def test_roles_are_enough(namespaced: Cluster, gateway: str) -> None:
    """With Roles in one namespace the operator and the gateway do all their work and are refused nothing."""
    name = "few"
    namespaced.apply(NAMED, simulated("few", model={"servedName": name}, replicas=2))
    namespaced.wait_settled("few", NAMED)
    with Traffic(gateway, name) as traffic:
        changed = simulated("few", model={"servedName": name}, replicas=2, engine={"type": "Simulator", "args": []})
        namespaced.apply(NAMED, changed)
        namespaced.wait_settled("few", NAMED)
    assert traffic.report.failures == []
    assert namespaced.get("networkpolicies", "few-model", NAMED)
    assert "orbidden" not in namespaced.kubectl("logs", "deployment/capstan-operator", "-n", NAMESPACE)
    assert "orbidden" not in namespaced.kubectl("logs", "deployment/capstan-gateway", "-n", NAMESPACE)


def test_redis_wants_its_password(namespaced: Cluster) -> None:
    """With a password from a Secret Redis answers those who know it, and nobody else."""

    def ask(*words: str) -> str:
        return namespaced.kubectl("exec", "capstan-redis-0", "-n", NAMESPACE, "--", *words, check=False)

    wait_until(lambda: ask("redis-cli", "ping").strip() == "PONG", what="a PONG with the password of the environment")
    assert "NOAUTH" in ask("env", "-u", "REDISCLI_AUTH", "redis-cli", "ping")
