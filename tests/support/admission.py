"""The chart's ValidatingAdmissionPolicy on a test's API server, and an account that nothing else holds back."""

import functools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from capstan_operator.kube.client import KubeClient, _Request
from capstan_operator.kube.errors import Forbidden, Invalid
from capstan_operator.resources.api_resource import LEASES
from support.api_proxy import token_kubeconfig
from support.helm import NAMESPACE, Values, one, render
from support.operator_process import ACCOUNTS, ADMISSION_BINDINGS, ADMISSION_POLICIES, CLUSTER_BINDINGS, connect
from support.wait import eventually

ACCOUNT: Final = "capstan-operator-of-all"
"""An account that roles let do everything."""
_NAME: Final = f"{NAMESPACE}-capstan-operator"
_HOME: Final = "request.userInfo.username.split(':')[2]"
"""An expression: the namespace of the account that asks."""


@functools.cache
def chart_policy() -> tuple[Values, Values]:
    """Give the policy of the chart, and its binding, for operators in all namespaces of tests: where the chart has the
    release's namespace there is that of the account, and that is known by its name."""
    objects = render(
        {
            "operator": {"keda": {"enabled": True}, "metricsApi": "Always", "admissionPolicy": {"enabled": True}},
            "scorer": {"enabled": True},
        }
    )
    policy = one(objects, ADMISSION_POLICIES.kind, _NAME)
    in_expressions = json.dumps(json.dumps(NAMESPACE))[1:-1]
    policy["spec"] = json.loads(json.dumps(policy["spec"]).replace(in_expressions, _HOME))
    (condition,) = policy["spec"]["matchConditions"]
    condition["expression"] = (
        "request.userInfo.username.startsWith('system:serviceaccount:') "
        f"&& request.userInfo.username.endsWith(':{ACCOUNT}')"
    )
    return policy, one(objects, ADMISSION_BINDINGS.kind, _NAME)


@asynccontextmanager
async def bound_account(kube: KubeClient, kubeconfig: Path, namespace: str, folder: Path) -> AsyncIterator[Path]:
    """Give the kubeconfig of an account of the namespace that may do everything, as soon as the policy holds it
    back."""
    for manifest in chart_policy():
        await kube.apply(manifest, manager="test")
    metadata = {"name": ACCOUNT, "namespace": namespace}
    await kube.apply({"apiVersion": "v1", "kind": ACCOUNTS.kind, "metadata": metadata}, manager="test")
    binding = f"{namespace}-{ACCOUNT}"
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    subject = {"kind": "ServiceAccount", **metadata}
    await kube.apply(
        {
            "apiVersion": CLUSTER_BINDINGS.api_version,
            "kind": CLUSTER_BINDINGS.kind,
            "metadata": {"name": binding},
            "roleRef": role,
            "subjects": [subject],
        },
        manager="test",
    )
    token = folder / "bound-token"
    token.write_text(await _token(kube, namespace))
    path = token_kubeconfig(kubeconfig, folder / "bound-kubeconfig", token)
    async with connect(path) as account:
        await eventually(lambda: _is_bound(account, namespace), what="the policy to be in force")
    await kube.delete(LEASES, "probe", namespace=namespace)
    try:
        yield path
    finally:
        await kube.delete(CLUSTER_BINDINGS, binding)


async def _token(kube: KubeClient, namespace: str) -> str:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 7200}}
    path = ACCOUNTS.path(namespace, ACCOUNT, "token")
    answer = await kube._call(_Request("create", ACCOUNTS, "POST", path, body=body))
    return str(answer["status"]["token"])


async def _is_bound(account: KubeClient, namespace: str) -> bool:
    """Whether the account's roles are known, and the policy too."""
    lease = {
        "apiVersion": LEASES.api_version,
        "kind": LEASES.kind,
        "metadata": {"name": "probe", "namespace": namespace},
    }
    try:
        await account.apply(lease, manager="test")
    except Forbidden:
        return False
    except Invalid:
        return True
    return False
