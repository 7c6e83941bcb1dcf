"""The operator as a real process against a real API server, and a client for the test's own eyes and hands."""

import functools
import os
import urllib.request
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from kubernetes.aio import client as api
from kubernetes.aio import config as loader

from capstan_operator.api.kinds import KNOWN_RESOURCES, LLM_MODELS
from capstan_operator.kube.client import KubeClient, Limits
from capstan_operator.kube.errors import NotFound, UnknownResource
from capstan_operator.resources.api_resource import CLUSTER_ROLES, ApiResource
from capstan_operator.resources.api_resource import CRDS as CRDS
from capstan_operator.settings import BuildSettings
from support.forks import Forked, fork
from support.kubernetes import named_kubeconfig
from support.needs import ROOT
from support.ports import free_port
from support.wait import eventually
from support.yamls import load

NAMESPACES = ApiResource("", "v1", "namespaces", "Namespace", namespaced=False)
ACCOUNTS = ApiResource("", "v1", "serviceaccounts", "ServiceAccount")
ROLES = ApiResource("rbac.authorization.k8s.io", "v1", "roles", "Role")
BINDINGS = ApiResource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")
CLUSTER_BINDINGS = ApiResource(
    "rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False
)
_ADMISSION = "admissionregistration.k8s.io"
ADMISSION_POLICIES = ApiResource(
    _ADMISSION, "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", namespaced=False
)
ADMISSION_BINDINGS = ApiResource(
    _ADMISSION, "v1", "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", namespaced=False
)
OTHERS = (
    NAMESPACES,
    CRDS,
    ACCOUNTS,
    ROLES,
    BINDINGS,
    CLUSTER_ROLES,
    CLUSTER_BINDINGS,
    ADMISSION_POLICIES,
    ADMISSION_BINDINGS,
)
"""What only the tests write."""

ONE_POD: Final = {"CAPSTAN_POD_NAME": "capstan-operator-0"}
"""For operators of which the next one begins where the last one was killed, in the same pod: the lease is its own. One
of another pod waits until the lease has run out, which test_several_operators.py has it do."""

ALLOWED_SERVER = "https://127.0.0.1:"
"""Tests write and delete: they touch nothing but an API server of this machine, or one that was named for them."""


@asynccontextmanager
async def connect(kubeconfig: Path, **limits: Any) -> AsyncIterator[KubeClient]:
    """Give a client of the test's API server; refuse any other one."""
    configuration = api.Configuration()
    await loader.load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
    if not configuration.host.startswith(ALLOWED_SERVER) and kubeconfig != named_kubeconfig():
        raise RuntimeError(f"refusing to run tests against {configuration.host}")
    client = KubeClient(configuration, resources=(*KNOWN_RESOURCES, *OTHERS), limits=Limits(connections=32, **limits))
    try:
        yield client
    finally:
        await client.close()


@functools.cache
def _crds() -> tuple[dict[str, Any], ...]:
    return tuple(load(file.read_text()) for file in sorted((ROOT / "crds").glob("*.yaml")))


_installed: dict[str, tuple[str, int]] = {}
"""The uid and the generation that a kind had when it was applied last. Large ones take an API server 0.2 s of CPU time
to be applied, and most tests find them as they should be."""


async def install_crds(kube: KubeClient) -> None:
    """Have crds/ in the API server, and wait until it serves them."""
    for crd in _crds():
        name = crd["metadata"]["name"]
        if name not in _installed or _state(await find(kube, CRDS, name)) != _installed[name]:
            written = _state(await kube.apply(crd, manager="test"))
            assert written is not None
            _installed[name] = written

    async def served() -> bool:
        try:
            await kube.list(LLM_MODELS)
        except UnknownResource:
            return False
        return True

    await eventually(served, what="the CRD")


async def make_namespace(kube: KubeClient) -> str:
    """Create a namespace with a random name."""
    name = f"t-{uuid.uuid4().hex[:10]}"
    await kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, manager="test")
    return name


def _state(found: dict[str, Any] | None) -> tuple[str, int] | None:
    return None if found is None else (found["metadata"]["uid"], found["metadata"]["generation"])


async def find(kube: KubeClient, kind: ApiResource, name: str, namespace: str | None = None) -> dict[str, Any] | None:
    """Give an object, or None."""
    try:
        return await kube.get(kind, name, namespace=namespace)
    except NotFound:
        return None


class OperatorProcess:
    """The operator as a process, working in one namespace."""

    def __init__(self, kubeconfig: Path, namespace: str, log: Path, **environ: str) -> None:
        self.health_port = free_port()
        self._log = log
        self._environ = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("CAPSTAN_", "KUBE"))},
            "KUBECONFIG": str(kubeconfig),
            "CAPSTAN_NAMESPACE": namespace,
            "CAPSTAN_WATCH_NAMESPACES": namespace,
            "CAPSTAN_GATEWAY_SERVICE": "",
            "CAPSTAN_HEALTH_PORT": str(self.health_port),
            "CAPSTAN_WORKER_IMAGE": BuildSettings().worker_image,
            "CAPSTAN_EVALUATION_IMAGE": BuildSettings().evaluation_image,
            **environ,
        }
        self._process: Forked | None = None

    def start(self) -> "OperatorProcess":
        """Start it, and return at once."""
        with self._log.open("ab") as output:
            self._process = fork("capstan_operator.__main__", environ=self._environ, stdout=output)
        return self

    def stop(self) -> int:
        """End it in order; give its exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(120)

    def kill(self) -> None:
        """End it as a node failure would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(60)

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        assert self._process is not None
        return self._process.poll()

    @property
    def log(self) -> str:
        """Everything that it has logged."""
        return self._log.read_text()

    def read(self, path: str) -> str:
        """GET from the health port."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}{path}", timeout=60) as response:
            return str(response.read().decode())

    def is_ready(self) -> bool:
        """Whether it says that it is ready; it is not while the port does not answer yet."""
        try:
            return self.read("/readyz").startswith("ok")
        except OSError:
            return False

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's values with these labels; 0 while the port does not answer yet."""
        try:
            lines = self.read("/metrics").splitlines()
        except OSError:
            return 0.0
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        found = [line for line in lines if line.split("{")[0].split(" ")[0] == name]
        return sum(float(line.rsplit(" ", 1)[1]) for line in found if all(text in line for text in wanted))

    def writes(self) -> float:
        """How many writes it has sent, the lease's aside."""
        verbs = ("apply", "apply_status", "delete")
        total = sum(self.metric("capstan_operator_kube_calls_total", verb=verb) for verb in verbs)
        return total - self.metric("capstan_operator_kube_calls_total", verb="apply", kind="leases")
