"""The chart as it is installed without a value: whoever has no key gets nothing, and the operator gets what it asks."""

import base64
import copy
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from support.cluster import NAMESPACE, VALUES, Cluster, install_chart, simulated
from support.needs import ROOT
from support.wait import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
ASK_ADMIN = """
import sys, urllib.error, urllib.request
headers = {"Authorization": "Bearer " + sys.argv[2]}
request = urllib.request.Request("http://127.0.0.1:9090" + sys.argv[1], headers=headers)
try:
    print(urllib.request.urlopen(request, timeout=60).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""


@pytest.fixture
def closed(capstan: Cluster) -> Iterator[Cluster]:
    """The chart with its own default for authentication; afterwards everybody is served again, as tests want it."""
    values = copy.deepcopy(VALUES)
    del values["gateway"]["insecureNoAuth"]
    flags = ("--namespace", NAMESPACE, "--wait", "--timeout", "240s")
    capstan.helm("upgrade", "capstan", str(ROOT / "helm" / "capstan"), *flags, values=values)
    yield capstan
    install_chart(capstan)


def keys(cluster: Cluster, *words: str) -> str:
    """Run `capstan keys`; give what it prints."""
    command = [sys.executable, "-m", "capstan_operator.cli.main", "keys", *words, "-n", NAMESPACE]
    environ = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def status(gateway: str, key: str) -> int:
    """Ask one replica, whichever it is, for the models."""
    request = urllib.request.Request(f"{gateway}/v1/models", headers={"Authorization": f"Bearer {key}"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def everywhere(gateway: str, key: str, wanted: int) -> bool:
    """Ask often enough, with a connection each, to reach every replica."""
    return all(status(gateway, key) == wanted for _ in range(8))


def admin(cluster: Cluster, page: str, key: str) -> str:
    """Ask a gateway's admin port, from inside its pod; give the status."""
    where = ("exec", "-n", NAMESPACE, "deployment/capstan-gateway", "--", "python", "-c", ASK_ADMIN)
    return cluster.kubectl(*where, page, key).strip()


def test_nobody_gets_in_without_a_key_and_the_operator_is_still_answered(
    closed: Cluster, gateway: str, namespace: str
) -> None:
    """A first key is made by the command, is let in by every replica, and refused by all once it is revoked; models
    become Ready by gateways whose admin pages ask for a credential."""
    closed.apply(namespace, simulated("chat", model={"servedName": f"chat-{namespace}"}))
    closed.wait_ready("chat", namespace)
    # A pod of before that still ends may be reached for a moment, and lets everybody in.
    wait_until(lambda: everywhere(gateway, "made-up", 401), what="every gateway to refuse who has no key")
    key = keys(closed, "create", "--user", "me", "--name", f"me-{namespace}")
    wait_until(lambda: everywhere(gateway, key, 200), what="the key")

    closed.kubectl("rollout", "restart", "deployment/capstan-gateway", "-n", NAMESPACE)
    closed.kubectl("rollout", "status", "deployment/capstan-gateway", "-n", NAMESPACE, "--timeout=120s")
    secret = closed.get("secret", "capstan-gateway-admin", NAMESPACE)
    assert secret
    credential = base64.b64decode(secret["data"]["admin-key"]).decode()
    assert [admin(closed, "/internal/config", one) for one in ("wrong", credential)] == ["401", "200"]
    assert [admin(closed, page, "wrong") for page in ("/healthz", "/metrics")] == ["200", "200"]
    closed.apply(namespace, simulated("more", model={"servedName": f"more-{namespace}"}))
    closed.wait_ready("more", namespace)

    assert everywhere(gateway, key, 200)
    began = time.monotonic()
    keys(closed, "revoke", f"me-{namespace}")
    wait_until(lambda: everywhere(gateway, key, 401), what="the end of the key")
    print(f"refused everywhere {time.monotonic() - began:.2f} s after the command began")
