"""The upgrade from the release before this one, and back again, while clients ask, with a key and under limits."""

import base64
import copy
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support import previous
from support.cluster import (
    NAMESPACE,
    TAG,
    VALUES,
    Cluster,
    Manifest,
    client_pod,
    install_chart,
    make_namespace,
    simulated,
)
from support.needs import ROOT
from support.traffic import Traffic
from support.wait import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

MODELS = "upgraded"
HOSTED_API = "hosted-api"
NEW_CHART = ROOT / "helm" / "capstan"
FLAGS = ("--namespace", NAMESPACE, "--wait", "--timeout", "240s")


LIMITED = f"limited-{MODELS}"
FORBIDDEN = "bluebird"
"""What may not be said to it."""
MOST = 5
"""Requests to it in an hour."""


def _values(*, tag: str, worker: str, open_to_all: bool = True) -> Manifest:
    values = copy.deepcopy(VALUES)
    values["gateway"]["insecureNoAuth"] = open_to_all
    values["image"]["tag"] = tag
    values["models"] = {"workerImage": {"tag": worker}}
    if tag == previous.TAG:
        del values["redis"]["limitTimeoutSeconds"]  # it does not know that
    return values


def _hosted_api() -> tuple[Manifest, Manifest]:
    """A server that is not Capstan's business, and the Service in front of it."""
    pod = client_pod(HOSTED_API, "")
    (container,) = pod["spec"]["containers"]
    container |= {
        "image": f"docker.io/capstan/worker:{previous.TAG}",
        "command": ["capstan-worker"],
        "args": ["simulator", "--host", "0.0.0.0", "--port", "8000", "--worker-port", "8001", "--model", "remote"],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8001}, "periodSeconds": 1},
    }
    port = {"port": 8000, "targetPort": 8000}
    spec = {"selector": pod["metadata"]["labels"], "ports": [port]}
    return pod, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": HOSTED_API}, "spec": spec}


def _hosted(name: str) -> Manifest:
    """A hosted model as people had them: with a key in a Secret that says nothing of Capstan."""
    external = {
        "provider": "OpenAICompatible",
        "url": f"http://{HOSTED_API}.{MODELS}.svc:8000/v1",
        "model": "remote",
        "secretRef": {"name": "hosted-key", "key": "key"},
    }
    return {
        "apiVersion": "capstan.dev/v1alpha1",
        "kind": "LLMModel",
        "metadata": {"name": name},
        "spec": {"model": {"servedName": f"{name}-{MODELS}"}, "external": external},
    }


def _policy(name: str, requests: int, *models: str) -> Manifest:
    limit = {"name": "requests", "per": "Tenant", "requests": requests, "window": "hour"}
    return {
        "apiVersion": "capstan.dev/v1alpha1",
        "kind": "RateLimitPolicy",
        "metadata": {"name": name},
        "spec": {"targetRefs": [{"name": model} for model in models], "limits": [limit]},
    }


def _guards(name: str, *models: str) -> Manifest:
    regex = {"type": "Regex", "patterns": [{"name": "codename", "pattern": FORBIDDEN}]}
    return {
        "apiVersion": "capstan.dev/v1alpha1",
        "kind": "GuardPolicy",
        "metadata": {"name": name},
        "spec": {"targetRefs": [{"name": model} for model in models], "input": [regex]},
    }


def _simulated(name: str, replicas: int) -> Manifest:
    return simulated(name, model={"servedName": f"{name}-{MODELS}"}, replicas=replicas)


@pytest.fixture(scope="module")
def old_tree(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The previous release, with its images in the node."""
    tree = previous.unpack(tmp_path_factory.mktemp("previous"))
    previous.build_images(cluster, tree)
    return tree


@pytest.fixture
def before(cluster: Cluster, old_tree: Path) -> Iterator[Cluster]:
    """The previous release installed, with four models that serve; afterwards this release is installed."""
    _uninstall(cluster)
    make_namespace(cluster, NAMESPACE)
    make_namespace(cluster, MODELS)
    chart = str(old_tree / "helm" / "capstan")
    values = _values(tag=previous.TAG, worker=previous.TAG)
    cluster.helm("install", "capstan", chart, *FLAGS, values=values)
    key = {"key": base64.b64encode(b"sk-of-a-hosted-api").decode()}
    cluster.apply(
        MODELS,
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hosted-key"}, "data": key},
        _simulated("many", 2),
        _simulated("single", 1),
        _hosted("hosted"),
        _hosted("limited"),
        *_hosted_api(),
    )
    cluster.wait_settled("many", MODELS)
    cluster.wait_settled("single", MODELS)
    cluster.wait_ready("hosted", MODELS)
    cluster.wait_ready("limited", MODELS)
    yield cluster
    _keys(cluster, "revoke", "--user", "me")
    cluster.kubectl("delete", "llmmodels", "--all", "-n", MODELS)
    cluster.kubectl("delete", "pod", HOSTED_API, "-n", MODELS, "--wait=false")
    install_chart(cluster)
    cluster.kubectl("delete", "namespace", MODELS, "--wait=false")


def _uninstall(cluster: Cluster) -> None:
    if "capstan" in cluster.helm("list", "-n", NAMESPACE, "-q").split():
        cluster.helm("uninstall", "capstan", "-n", NAMESPACE, "--wait", "--timeout", "240s")


def _pods(cluster: Cluster) -> dict[str, tuple[str, int]]:
    """Every pod of the models: its image, and how often a container of it was started again; by uid."""
    found = {}
    for pod in cluster.list("pods", MODELS, "app.kubernetes.io/name=llmmodel"):
        statuses = pod["status"].get("containerStatuses") or []
        restarts = sum(status["restartCount"] for status in statuses)
        found[pod["metadata"]["uid"]] = (pod["spec"]["containers"][0]["image"], restarts)
    return found


def _served(cluster: Cluster) -> None:
    for name in ("many", "single", "hosted", "limited"):
        cluster.wait_ready(name, MODELS, seconds=120)


def _keys(cluster: Cluster, *words: str) -> str:
    """Run `capstan keys`; give what it prints."""
    command = [sys.executable, "-m", "capstan_operator.cli.main", "keys", *words, "-n", NAMESPACE]
    environ = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _ask(gateway: str, name: str, key: str, text: str = "hello") -> int:
    """Ask once, on a connection of its own; give the status."""
    body = json.dumps({"model": name, "messages": [{"role": "user", "content": text}], "max_tokens": 1}).encode()
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    request = urllib.request.Request(f"{gateway}/v1/chat/completions", body, headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as refusal:
        return refusal.code


def _programmed(cluster: Cluster) -> None:
    def programmed() -> bool:
        for kind, name in (("ratelimitpolicy", "much"), ("ratelimitpolicy", "little"), ("guardpolicy", "secret")):
            found = cluster.get(kind, name, MODELS) or {}
            states = {one["type"]: one["status"] for one in (found.get("status") or {}).get("conditions") or ()}
            assert (states.get("Accepted"), states.get("Programmed")) == ("True", "True"), found
        return True

    wait_until(programmed, seconds=120, every=0.2, what="the policies to be enforced by all replicas")


def _strangers_are_refused(gateway: str) -> None:
    """Wait until the last pod of before has ended, which is a little after Helm has."""

    def everywhere() -> bool:
        found = {_ask(gateway, f"hosted-{MODELS}", key) for key in ("made-up", "") for _ in range(8)}
        assert found == {401}, found
        return True

    wait_until(everywhere, seconds=120, every=0.5, what="every gateway to refuse who has no key")


def _open_to_all(gateway: str, key: str) -> bool:
    found = {_ask(gateway, LIMITED, one) for one in (key, "made-up") for _ in range(2 * MOST)}
    return found | {_ask(gateway, f"hosted-{MODELS}", key, FORBIDDEN) for _ in range(2 * MOST)} == {200}


def _policies_hold(gateway: str, key: str) -> None:
    """What is forbidden is blocked, and at most as many as there may be are answered; Redis may have begun anew
    meanwhile."""
    assert {_ask(gateway, f"hosted-{MODELS}", key, FORBIDDEN) for _ in range(2 * MOST)} == {400}
    answers = [_ask(gateway, LIMITED, key) for _ in range(4 * MOST)]
    assert set(answers) <= {200, 429}, answers
    assert answers.count(200) <= MOST, answers
    assert answers[-1] == 429, answers


def test_upgrade_and_rollback(before: Cluster, gateway: str) -> None:
    """No request with a key fails while the chart is upgraded, keys are turned on, and it is rolled back and upgraded
    again; pods of models are replaced only when the image that they run is to be another one, and then all of them are
    in the end.

    Keys are turned on behind an upgrade and off before a rollback, as docs/install.md says. Policies are enforced
    whenever a release that knows them is there. The one before serves everybody, without limits and guards, and deletes
    neither policies nor keys.
    """
    cluster = before
    pods = _pods(cluster)
    assert len(pods) == 3
    key = _keys(cluster, "create", "--user", "me")
    with ExitStack() as stack:
        loads = [
            stack.enter_context(Traffic(gateway, f"{name}-{MODELS}", clients=2, key=key, alike=False))
            for name in ("many", "single", "hosted")
        ]

        def go_on() -> None:
            for load in loads:
                load.wait_for(10)
                assert load.report.failures == []

        def upgrade(worker: str, *, open_to_all: bool) -> None:
            values = _values(tag=TAG, worker=worker, open_to_all=open_to_all)
            cluster.helm("upgrade", "capstan", str(NEW_CHART), *FLAGS, values=values)

        upgrade(previous.TAG, open_to_all=True)
        _served(cluster)
        go_on()
        assert _pods(cluster) == pods
        limits = _policy("much", 10**9, "many", "single", "hosted"), _policy("little", MOST, "limited")
        cluster.apply(MODELS, *limits, _guards("secret", "hosted"))
        _programmed(cluster)
        upgrade(previous.TAG, open_to_all=False)
        _strangers_are_refused(gateway)
        _policies_hold(gateway, key)
        go_on()
        assert _pods(cluster) == pods

        upgrade(previous.TAG, open_to_all=True)
        cluster.helm("rollback", "capstan", "1", *FLAGS)
        _served(cluster)
        go_on()
        assert _pods(cluster) == pods
        wait_until(lambda: _open_to_all(gateway, key), seconds=120, every=0.5, what="an end of keys, limits and guards")

        upgrade(TAG, open_to_all=True)

        def replaced() -> bool:
            now = _pods(cluster)
            assert len(now) == 3, now
            assert not now.keys() & pods.keys()
            assert {image for image, _ in now.values()} == {f"docker.io/capstan/worker:{TAG}"}
            return True

        wait_until(replaced, seconds=300, every=0.5, what="every pod on the new image")
        for name in ("many", "single"):
            cluster.wait_settled(name, MODELS)
        _served(cluster)
        _programmed(cluster)
        upgrade(TAG, open_to_all=False)
        _strangers_are_refused(gateway)
        _policies_hold(gateway, key)
        go_on()
    for load in loads:
        print(f"{load.report.answered} answered, slowest {load.report.slowest:.2f} s")
        assert load.report.failures == []
