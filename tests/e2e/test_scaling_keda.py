"""A model that KEDA scales. No image of KEDA is at hand, so the test plays its part: it reads the ScaledObject, asks at
the address in it from a pod of the cluster, and writes the number of replicas as KEDA would."""

import copy
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from support.cluster import NAMESPACE, TAG, VALUES, Cluster, install_chart, simulated
from support.keda import KINDS, keda_crds
from support.needs import ROOT
from support.scaled import API, QUICK, ask
from support.wait import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

ASKING = """
import json, os, sys, time
import grpc
from capstan_operator.keda import messages as m

told = json.loads(os.environ["TOLD"])
reference = m.ScaledObjectRef(name=told["name"], namespace=told["namespace"], scalerMetadata=told["metadata"])
channel = grpc.secure_channel(told["metadata"]["scalerAddress"], grpc.ssl_channel_credentials(told["ca"].encode()))

def ask(method, question, answer):
    return channel.unary_unary(f"/{m.SERVICE}/{method}", response_deserializer=answer.FromString)(
        question.SerializeToString(), timeout=30
    )

while True:
    line = {}
    try:
        line["active"] = ask("IsActive", reference, m.IsActiveResponse).result
        asked = m.GetMetricsRequest(scaledObjectRef=reference, metricName="capstan_desired_load")
        line["load"] = ask("GetMetrics", asked, m.GetMetricsResponse).metricValues[0].metricValueFloat
    except grpc.RpcError as error:
        line["error"] = f"{error.code()}: {error.details()}"
    print(json.dumps(line), flush=True)
    time.sleep(0.5)
"""


@pytest.fixture
def answering(capstan: Cluster) -> Iterator[Cluster]:
    """The cluster, with an operator that answers KEDA."""
    values = {**copy.deepcopy(VALUES), "operator": {"keda": {"enabled": True}}}
    flags = ("--namespace", NAMESPACE, "--wait", "--timeout", "240s")
    capstan.helm("upgrade", "capstan", str(ROOT / "helm" / "capstan"), *flags, values=values)
    yield capstan
    install_chart(capstan)


@contextmanager
def keda_in(cluster: Cluster, namespace: str) -> Iterator[None]:
    """Have KEDA's kinds, and its API of external metrics as a cluster with KEDA has it; take both away again."""
    theirs = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": API, "labels": {"app.kubernetes.io/part-of": "keda-operator"}},
        "spec": {
            "group": "external.metrics.k8s.io",
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
        },
    }
    wait_until(lambda: cluster.get("apiservice", API, namespace) is None, seconds=120, every=0.5, what="no API of ours")
    cluster.apply(namespace, *keda_crds(), theirs)
    try:
        yield
    finally:
        cluster.kubectl("delete", "apiservice", API, "--ignore-not-found")
        cluster.kubectl("delete", "crd", *KINDS, "--ignore-not-found", "--timeout=60s")


def keda_pod(cluster: Cluster, namespace: str, name: str) -> None:
    """Run what asks, with what KEDA would find: the ScaledObject, and the authorities of its TriggerAuthentication."""

    def found() -> dict[str, Any] | None:
        return cluster.get("scaledobject", name, namespace)

    scaled_object = wait_until(found, seconds=60, every=0.5, what="the ScaledObject")
    assert scaled_object["spec"]["scaleTargetRef"]["name"] == name
    (trigger,) = scaled_object["spec"]["triggers"]
    authentication = cluster.get("triggerauthentication", trigger["authenticationRef"]["name"], namespace) or {}
    (reference,) = authentication["spec"]["configMapTargetRef"]
    trusted = cluster.get("configmap", reference["name"], namespace) or {}
    told = {
        "name": name,
        "namespace": namespace,
        "metadata": trigger["metadata"],
        "ca": trusted["data"][reference["key"]],
    }
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    cluster.apply(
        namespace,
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "keda"},
            "spec": {
                "automountServiceAccountToken": False,
                "terminationGracePeriodSeconds": 1,
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": 10001,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [
                    {
                        "name": "keda",
                        "image": f"docker.io/capstan/operator:{TAG}",
                        "imagePullPolicy": "Never",
                        "command": ["python", "-c", ASKING],
                        "env": [{"name": "TOLD", "value": json.dumps(told)}],
                        "securityContext": security,
                    }
                ],
            },
        },
    )


def test_from_zero_by_keda_and_back(answering: Cluster, namespace: str, gateway: str) -> None:
    """A request wakes the model through KEDA, is answered, and the model goes to zero when KEDA hears that it is idle;
    nobody but KEDA writes the number, and KEDA's API of metrics stays KEDA's."""
    model, name = f"keda-{namespace}", "scaled-model"

    def says() -> dict[str, Any]:
        lines = answering.kubectl("logs", "keda", "-n", namespace, "--tail=1", check=False).splitlines()
        return dict(json.loads(lines[-1])) if lines else {}

    def is_active(wanted: bool) -> bool:
        found = says()
        assert found.get("active") is wanted, found
        return True

    def replicas() -> int:
        return int((answering.get("deployment", name, namespace) or {})["spec"]["replicas"])

    with keda_in(answering, namespace):
        answering.apply(
            namespace, simulated("scaled", model={"servedName": model}, scaling={**QUICK, "strategy": "KEDA"})
        )
        keda_pod(answering, namespace, name)
        wait_until(lambda: is_active(False), seconds=120, every=0.5, what="the external scaler to say that it is idle")
        assert replicas() == 0

        answers: list[str] = []
        client = threading.Thread(target=lambda: answers.append(ask(gateway, model)))
        client.start()
        wait_until(lambda: is_active(True), seconds=60, every=0.3, what="the request to be seen")
        assert replicas() == 0
        answering.kubectl("scale", "deployment", name, "-n", namespace, "--replicas=1")
        client.join(150)
        assert answers

        wait_until(lambda: is_active(False), seconds=120, every=0.5, what="the model to be idle")
        assert replicas() == 1
        answering.kubectl("scale", "deployment", name, "-n", namespace, "--replicas=0")
        answering.wait_ready("scaled", namespace, reason="Idle")
        assert replicas() == 0
        found = answering.get("apiservice", API, namespace) or {}
        assert "service" not in found["spec"]
        assert answering.get("hpa", name, namespace) is None
        assert answering.get("service", "capstan-operator-scaler", NAMESPACE)
        answering.kubectl("delete", "llmmodel", "scaled", "-n", namespace)
        wait_until(
            lambda: answering.get("scaledobject", name, namespace) is None,
            seconds=60,
            every=0.5,
            what="no ScaledObject",
        )
