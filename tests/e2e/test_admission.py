"""The operator's account in a cluster, with the chart's admission policy: what it may not do, with any rights, and that
a model serves under it."""

import json
import subprocess
from collections.abc import Iterator

import pytest

from support.cluster import NAMESPACE, Cluster, Manifest, client_pod, simulated

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

ACCOUNT = f"system:serviceaccount:{NAMESPACE}:capstan-operator"
TOO_MUCH = "capstan-operator-too-much"
OURS = {"app.kubernetes.io/managed-by": "capstan"}


@pytest.fixture
def with_all_rights(capstan: Cluster) -> Iterator[Cluster]:
    """The cluster, in which the operator's account may do everything."""
    who = f"--serviceaccount={NAMESPACE}:capstan-operator"
    capstan.kubectl("create", "clusterrolebinding", TOO_MUCH, "--clusterrole=cluster-admin", who)
    yield capstan
    capstan.kubectl("delete", "clusterrolebinding", TOO_MUCH)


def refusal(cluster: Cluster, namespace: str, *words: str, given: Manifest | None = None) -> str:
    """Run kubectl as the operator's account; give why the policy refuses. Fails when it does not."""
    kubectl = [str(cluster.kubeconfig.parent / "bin" / "kubectl"), "--kubeconfig", str(cluster.kubeconfig)]
    done = subprocess.run(
        [*kubectl, f"--as={ACCOUNT}", "-n", namespace, *words],
        input=json.dumps(given or {}), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode != 0, done.stdout
    assert "ValidatingAdmissionPolicy" in done.stderr, done.stderr
    return done.stderr


def deployment(name: str, labels: dict[str, str], **pod: object) -> Manifest:
    """Give a Deployment without pods, as operators write them, with a template that is changed."""
    spec = {"containers": [{"name": "engine", "image": "none"}], **pod}
    of_a_model = {**OURS, "capstan.dev/model": name, "app.kubernetes.io/name": "llmmodel"}
    template = {"metadata": {"labels": of_a_model}, "spec": spec}
    selector = {"matchLabels": {"capstan.dev/model": name}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {"replicas": 0, "selector": selector, "template": template},
    }


def test_the_operators_account_does_its_work_and_nothing_else(with_all_rights: Cluster, namespace: str) -> None:
    """A model serves, made by the real operator under the policy; with all rights of the cluster that account makes no
    pod, no Deployment without the label, none that takes over the node, and neither changes nor enters what is not its
    own."""
    cluster = with_all_rights
    cluster.apply(namespace, simulated("one", replicas=1), deployment("mine", {}))
    cluster.wait_ready("one", namespace)
    apply = ("apply", "--server-side", "--force-conflicts", "-f", "-")
    assert "CREATE /pods" in refusal(cluster, namespace, *apply, given=client_pod("stray", "pass"))
    assert "has the label" in refusal(cluster, namespace, *apply, given=deployment("bare", {}))
    assert "own namespaces" in refusal(cluster, namespace, *apply, given=deployment("host", OURS, hostPID=True))
    root = [{"name": "root", "hostPath": {"path": "/"}}]
    assert "hostPath" in refusal(cluster, namespace, *apply, given=deployment("root", OURS, volumes=root))
    stray = deployment("stray", OURS)
    stray["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"] = "capstan"
    assert "no Service of the install" in refusal(cluster, NAMESPACE, *apply, given=stray)
    assert "not its own" in refusal(cluster, namespace, *apply, given=deployment("mine", OURS))
    assert "not its own" in refusal(cluster, namespace, "delete", "deployment", "mine")
    assert "not its own" in refusal(cluster, NAMESPACE, "delete", "deployment", "capstan-gateway")
    assert "deployments/scale" in refusal(cluster, namespace, "scale", "deployment/mine", "--replicas=1")
    assert "CONNECT /pods/exec" in refusal(cluster, NAMESPACE, "exec", "deployment/capstan-gateway", "--", "true")
    assert "serviceaccounts/token" in refusal(cluster, NAMESPACE, "create", "token", "capstan-operator")
