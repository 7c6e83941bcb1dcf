"""The one-node test cluster with Capstan in it, for tests. Never touches another cluster: it names its kubeconfig."""

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from support.jobs import wait_for_job
from support.kubernetes import has_test_cluster, named_kubeconfig, program
from support.lock import exclusive
from support.needs import CLUSTER, ROOT, lacking
from support.nodes import Nodes, OneNode, kind_of, kubeconfig_of_test_cluster
from support.reader import reader_of
from support.wait import wait_until

TAG = "e2e"
PYTHON_BASE = "python:3.11-slim-bookworm"
NAMESPACE = "capstan-system"
NODE_PORT = 30080
GPUS = 8
"""Of the node, at first."""
REDIS = "docker.io/library/redis:7-bookworm"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
Manifest = dict[str, Any]
VALUES: Manifest = {
    "image": {"registry": "docker.io/capstan", "tag": TAG},
    "gateway": {
        "insecureNoAuth": True,
        "service": {"type": "NodePort", "nodePort": NODE_PORT},
        "drainSeconds": 3,
        "graceSeconds": 60,
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
    },
    # By default a request waits so short for Redis that a busy machine would count by itself.
    "redis": {"enabled": True, "limitTimeoutSeconds": 5},
}


@dataclass(frozen=True)
class Cluster:
    """A running test cluster."""

    nodes: Nodes
    kubeconfig: Path
    """The administrator's."""

    def run(self, *words: str, given: str = "", check: bool = True, seconds: float = 240) -> str:
        """Run a program of the cluster (kubectl, helm); give what it printed, or fail with what it said."""
        command = [program(words[0]), "--kubeconfig", str(self.kubeconfig), *words[1:]]
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=seconds, check=False)
        assert not check or done.returncode == 0, f"{' '.join(words)}: {done.stderr or done.stdout}"
        return done.stdout

    def kubectl(self, *words: str, given: str = "", check: bool = True) -> str:
        """Run kubectl."""
        return self.run("kubectl", *words, given=given, check=check)

    def helm(self, *words: str, values: Manifest | None = None) -> str:
        """Run helm, with values if the command takes some."""
        if values is None:
            return self.run("helm", *words, seconds=300)
        return self.run("helm", *words, "--values", "-", given=json.dumps(values), seconds=300)

    def apply(self, namespace: str, *objects: Manifest) -> None:
        """Apply objects."""
        document = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self.kubectl("apply", "-n", namespace, "--server-side", "-f", "-", given=document)

    def get(self, kind: str, name: str, namespace: str) -> Manifest | None:
        """Give an object; None when there is none."""
        return reader_of(self.kubeconfig).get(kind, name, namespace)

    def status(self, kind: str, name: str, namespace: str) -> Manifest:
        """Give the status of an object; an empty one while there is none."""
        return (self.get(kind, name, namespace) or {}).get("status") or {}

    def list(self, kinds: str, namespace: str, selector: str = "") -> list[Manifest]:
        """Give the objects of some kinds (`pods,services`) that have some labels, of a namespace."""
        reader = reader_of(self.kubeconfig)
        return [found for kind in kinds.split(",") for found in reader.list(kind, namespace, selector)]

    def condition(self, name: str, namespace: str, kind: str) -> Manifest:
        """Give a condition of an LLMModel's newest generation; an empty one while there is none."""
        found = self.get("llmmodels", name, namespace) or {}
        conditions = (found.get("status") or {}).get("conditions") or []
        generation = (found.get("metadata") or {}).get("generation")
        current = (item for item in conditions if item["type"] == kind and item["observedGeneration"] == generation)
        return next(current, {"type": kind, "status": "", "reason": "", "message": ""})

    def wait_ready(self, name: str, namespace: str, *, reason: str = "Serving", seconds: float = 120) -> Manifest:
        """Wait until an LLMModel's newest generation is Ready with this reason."""

        def ready() -> Manifest | None:
            condition = self.condition(name, namespace, "Ready")
            assert (condition["status"], condition["reason"]) == ("True", reason), condition
            return condition

        found = wait_until(ready, seconds=seconds, every=0.2, what=f"Ready of {namespace}/{name}")
        assert found
        return found

    def wait_settled(self, name: str, namespace: str, *, seconds: float = 180) -> None:
        """Wait until the newest generation serves and nothing is on its way any more."""

        def settled() -> bool:
            states = {kind: self.condition(name, namespace, kind) for kind in ("Ready", "Progressing")}
            assert states["Ready"]["status"] == "True", states
            assert states["Progressing"]["status"] == "False", states
            return True

        wait_until(settled, seconds=seconds, every=0.2, what=f"the end of the rollout of {namespace}/{name}")

    def set_gpus(self, count: int) -> None:
        """Have the node say that it has so many GPUs."""
        self.nodes.set_gpus(count)

    def build(self, tag: str, dockerfile: str, **arguments: str) -> None:
        """Build an image from the repository and load it into the node."""
        self.nodes.build(tag, ROOT / dockerfile, arguments)

    def tag(self, image: str, tag: str) -> None:
        """Give an image of the node another name; whatever had that name has lost it."""
        self.nodes.tag(image, tag)

    def kill(self, pod: str, namespace: str) -> None:
        """End a pod's first container as `kill -9` does: at once, without its hook, and not the pod."""
        found = self.get("pod", pod, namespace) or {}
        container = found["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
        self.nodes.shell(found["spec"]["nodeName"], f"ctr -n k8s.io tasks kill --signal SIGKILL {container}")

    def run_client(self, namespace: str, code: str, *, seconds: float = 120) -> str:
        """Run Python with the official openai client in a pod; give what it printed."""
        name = f"client-{uuid.uuid4().hex[:6]}"
        self.apply(namespace, client_pod(name, code))

        def ended() -> str:
            phase = ((self.get("pod", name, namespace) or {}).get("status") or {}).get("phase")
            return phase if phase in ("Succeeded", "Failed") else ""

        phase = wait_until(ended, seconds=seconds, every=0.3, what=f"the end of pod {name}")
        printed = self.kubectl("logs", name, "-n", namespace)
        assert phase == "Succeeded", printed
        self.kubectl("delete", "pod", name, "-n", namespace, "--wait=false")
        return printed


def client_pod(name: str, code: str) -> Manifest:
    """Give a pod that runs Python code in the client's image, as the restricted level wants it."""
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "client",
                    "image": f"docker.io/capstan/e2e-client:{TAG}",
                    "args": [code],
                    "securityContext": security,
                }
            ],
        },
    }


def simulated(name: str, **spec: Any) -> Manifest:
    """Give an LLMModel on the simulator that asks for a GPU, like an ordinary one but fast."""
    model = {"source": "hf://example/simulated", **spec.pop("model", {})}
    fields: Manifest = {
        "model": model,
        "engine": {"type": "Simulator", "args": ["--ttft-ms", "20", "--tpot-ms", "10"]},
        "resources": {"gpus": 1},
        **spec,
    }
    return {"apiVersion": "capstan.dev/v1alpha1", "kind": "LLMModel", "metadata": {"name": name}, "spec": fields}


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """Start the test cluster and end it. In CI, or with CAPSTAN_E2E_KEEP=1, a running one is used, and left running.

    Where there is none, the kind cluster is used that CAPSTAN_TEST_KUBECONFIG names, and left as it is then.
    """
    if not has_test_cluster():
        with _named_cluster() as cluster:
            yield cluster
        return
    cluster = Cluster(OneNode(), kubeconfig_of_test_cluster())
    keep = wait_for_job("images") or os.environ.get("CAPSTAN_E2E_KEEP") == "1"
    if not (keep and cluster.kubeconfig.exists() and "node-1" in cluster.kubectl("get", "nodes", check=False)):
        with exclusive("cluster"):
            done = subprocess.run([str(CLUSTER), "up"], capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
    try:
        yield cluster
    finally:
        if not keep:
            subprocess.run([str(CLUSTER), "down"], capture_output=True, timeout=300, check=False)


@contextmanager
def _named_cluster() -> Iterator[Cluster]:
    kubeconfig = named_kubeconfig()
    if kubeconfig is None:
        lacking(
            "a cluster with a node: ../shared/cluster and root, or a kind cluster that CAPSTAN_TEST_KUBECONFIG names "
            "(docs/testing.md says how to make it)"
        )
    cluster = Cluster(kind_of(kubeconfig), kubeconfig)
    cluster.set_gpus(GPUS)
    yield cluster


def build_images(cluster: Cluster) -> None:
    """Build the three images, and the client's, and load them and Redis into the node, unless a job has done that.

    Redis also gets the name that the chart has for it: its image there is the only one that the cluster has.
    """
    if not wait_for_job("images"):
        for part in ("operator", "gateway", "worker"):
            cluster.build(f"docker.io/capstan/{part}:{TAG}", f"{part}/Dockerfile", BASE=PYTHON_BASE)
        cluster.build(f"docker.io/capstan/e2e-client:{TAG}", "tests/e2e/client/Dockerfile", BASE=PYTHON_BASE)
        cluster.nodes.load(REDIS)
    chart = yaml.safe_load((ROOT / "helm" / "capstan" / "values.yaml").read_text())
    cluster.tag(REDIS, f"{VALUES['image']['registry']}/library/redis:{chart['redis']['image']['tag']}")


def make_namespace(cluster: Cluster, name: str) -> None:
    """Make a namespace that enforces the restricted Pod Security level."""
    metadata = {"name": name, "labels": RESTRICTED}
    cluster.apply("default", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})


def install_chart(cluster: Cluster) -> None:
    """Install the chart with Helm, or upgrade it, and wait until it runs."""
    make_namespace(cluster, NAMESPACE)
    chart = str(ROOT / "helm" / "capstan")
    flags = ("--namespace", NAMESPACE, "--wait", "--timeout", "240s")
    cluster.helm("upgrade", "--install", "capstan", chart, *flags, values=VALUES)
