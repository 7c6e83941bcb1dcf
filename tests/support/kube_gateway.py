"""Gateway processes whose config and endpoints come from an API server, as a service account that may read them."""

import base64
from collections.abc import Sequence
from pathlib import Path

import yaml

from capstan_operator.kube.client import KubeClient, _Request
from support.operator_process import ACCOUNTS, BINDINGS, ROLES


def trust(kubeconfig: Path, folder: Path) -> str:
    """Write the certificate authority as a service account has it; give the API server's URL."""
    server = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]
    authority = server.get("certificate-authority-data")
    folder.mkdir()
    text = base64.b64decode(authority) if authority else Path(server["certificate-authority"]).read_bytes()
    (folder / "ca.crt").write_bytes(text)
    return str(server["server"])


async def account(kube: KubeClient, namespace: str) -> str:
    """Make a service account that gateways may use; give its token."""
    metadata, rbac = {"name": "gateway", "namespace": namespace}, "rbac.authorization.k8s.io"
    await kube.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}, manager="bench")
    rules = [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    role = {"apiVersion": ROLES.api_version, "kind": "Role", "metadata": metadata, "rules": rules}
    await kube.apply(role, manager="bench")
    binding = {
        "apiVersion": BINDINGS.api_version,
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "gateway"},
        "subjects": [{"kind": "ServiceAccount", **metadata}],
    }
    await kube.apply(binding, manager="bench")
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": 36_000},
    }
    path = ACCOUNTS.path(namespace, "gateway", "token")
    answer = await kube._call(_Request("create", ACCOUNTS, "POST", path, body=body))
    return str(answer["status"]["token"])


def source_flags(url: str, folder: Path, namespace: str) -> Sequence[str]:
    """Give the flags of a gateway that has what the operator writes; `folder` is that of `trust`, with the token."""
    return [
        "--kube-url", url, "--kube-service-account-dir", str(folder), "--kube-namespace", namespace,
        "--kube-config-map", "capstan-gateway-config", "--discovery-namespaces", namespace,
    ]  # fmt: skip
