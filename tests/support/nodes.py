"""The nodes under the cluster of the end-to-end tests: images come onto them, and processes on them come to harm."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import yaml

from support.kubernetes import HOME, program
from support.needs import CLUSTER, ROOT, lacking

KIND_CONTEXT = "kind-"
"""What kind calls the context of a cluster, before its name."""
GPU = "nvidia.com/gpu"


class Nodes(Protocol):
    """What the tests do beside Kubernetes."""

    def build(self, tag: str, dockerfile: Path, arguments: Mapping[str, str], *, tree: Path = ROOT) -> None:
        """Build an image and load it into the nodes."""

    def load(self, image: str) -> None:
        """Load a public image into the nodes."""

    def tag(self, image: str, tag: str) -> None:
        """Give an image of the nodes another name; whatever had that name has lost it."""

    def shell(self, node: str, script: str) -> str:
        """Run a shell script as root on a node, where `ctr -n k8s.io` speaks to the container runtime."""

    def set_gpus(self, count: int) -> None:
        """Have the node say that it has so many GPUs."""


@dataclass(frozen=True)
class OneNode:
    """The test cluster of ../shared/cluster: this machine is its node."""

    containerd: Path = Path("/run/test-cluster/containerd.sock")

    def build(self, tag: str, dockerfile: Path, arguments: Mapping[str, str], *, tree: Path = ROOT) -> None:
        """Build an image and load it."""
        flags = [word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")]
        _run(str(CLUSTER), "build", "-t", tag, "-f", str(dockerfile), *flags, str(tree), seconds=1800)

    def load(self, image: str) -> None:
        """Load a base image."""
        _run(str(CLUSTER), "load", image, seconds=300)

    def tag(self, image: str, tag: str) -> None:
        """Give an image another name."""
        self.shell("", f"ctr -n k8s.io images tag --force {image} {tag}")

    def shell(self, node: str, script: str) -> str:
        """Run a script on this machine."""
        environ = {**os.environ, "CONTAINERD_ADDRESS": str(self.containerd)}
        return _run("sh", "-ec", script, environ=environ)

    def set_gpus(self, count: int) -> None:
        """Have the node say so."""
        _run(str(CLUSTER), "gpus", str(count))


@dataclass(frozen=True)
class Kind:
    """A kind cluster with one node (tests/e2e/kind.yaml), by docker, kind and kubectl."""

    name: str
    kubeconfig: Path

    def build(self, tag: str, dockerfile: Path, arguments: Mapping[str, str], *, tree: Path = ROOT) -> None:
        """Build an image with Docker and load it."""
        flags = [word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")]
        _run("docker", "build", "-t", tag, "-f", str(dockerfile), *flags, str(tree), seconds=1800)
        self._load(tag)

    def load(self, image: str) -> None:
        """Pull an image and load it."""
        _run("docker", "pull", image, seconds=600)
        self._load(image)

    def tag(self, image: str, tag: str) -> None:
        """Give an image another name, and load it as that."""
        _run("docker", "tag", image, tag)
        self._load(tag)

    def shell(self, node: str, script: str) -> str:
        """Run a script in the container that is the node."""
        return _run("docker", "exec", node, "sh", "-ec", script)

    def set_gpus(self, count: int) -> None:
        """Write it into the node's status, where a device plugin would."""
        node, *others = json.loads(self._kubectl("get", "nodes", "-o", "json"))["items"]
        assert not others, f"the kind cluster {self.name} has several nodes; tests/e2e/kind.yaml makes one with one"
        resource = GPU.replace("/", "~1")
        patch = [
            {"op": "add", "path": f"/status/{place}/{resource}", "value": str(count)}
            for place in ("capacity", "allocatable")
        ]
        name = node["metadata"]["name"]
        self._kubectl("patch", "node", name, "--subresource=status", "--type=json", "--patch", json.dumps(patch))

    def _load(self, tag: str) -> None:
        _run("kind", "load", "docker-image", "--name", self.name, tag, seconds=600)

    def _kubectl(self, *words: str) -> str:
        return _run(program("kubectl"), "--kubeconfig", str(self.kubeconfig), *words)


def kind_of(kubeconfig: Path) -> Kind:
    """Give the kind cluster of a kubeconfig. Leaves the running test out where it is none, or where docker or kind is
    missing."""
    context = str(yaml.safe_load(kubeconfig.read_text()).get("current-context") or "")
    if not context.startswith(KIND_CONTEXT):
        lacking(f"a kind cluster: the context of {kubeconfig} is '{context}', not kind-NAME")
    for name in ("docker", "kind"):
        if shutil.which(name) is None:
            lacking(f"{name}, for the nodes of the kind cluster")
    return Kind(context.removeprefix(KIND_CONTEXT), kubeconfig)


def kubeconfig_of_test_cluster() -> Path:
    """Give where the test cluster writes its administrator's kubeconfig."""
    return HOME / "kubeconfig"


def _run(*command: str, seconds: float = 180, environ: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False, env=environ)
    assert done.returncode == 0, f"{' '.join(command)}: {(done.stdout + done.stderr)[-3000:]}"
    return done.stdout
