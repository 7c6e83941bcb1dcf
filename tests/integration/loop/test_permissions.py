"""The operator with exactly the permissions that docs/operator.md lists, and with a token that rotates."""

import re
from pathlib import Path
from typing import Any

import pytest

from capstan_contract.names import CREDENTIAL_LABEL
from capstan_operator.api.kinds import LLM_MODELS, POLICY_KINDS
from capstan_operator.kube.client import KubeClient, _Request
from capstan_operator.kube.errors import Forbidden
from capstan_operator.resources.api_resource import API_SERVICES, LEASES, SECRETS
from support.api_proxy import token_kubeconfig
from support.llmmodels import condition, hosted, is_settled, served_names, simulated
from support.needs import ROOT
from support.operator_process import ACCOUNTS, BINDINGS, CLUSTER_BINDINGS, ROLES, OperatorProcess, connect, find
from support.wait import eventually

pytestmark = pytest.mark.apiserver


def documented_rules(*without: str) -> list[dict[str, Any]]:
    """Read the tables of docs/operator.md, so that the page cannot promise less than the operator needs; give them
    without some resources."""
    text = (ROOT / "docs" / "operator.md").read_text().split("## Permissions")[1].split("\n## ")[0]
    rules = []
    for group, resource, verbs in re.findall(r"^\| (\S+) \| `(\S+)` \| ([a-z, ]+) \|", text, re.MULTILINE):
        rules.append(
            {
                "apiGroups": ["" if group == "(core)" else group.strip("`")],
                "resources": [resource],
                "verbs": verbs.split(", "),
            }
        )
    return [rule for rule in rules if not set(rule["resources"]) & set(without)]


async def make_account(kube: KubeClient, namespace: str, *without: str) -> None:
    """Create a service account with the documented Role, without the rights on some resources."""
    metadata = {"name": "capstan-operator", "namespace": namespace}
    rbac = "rbac.authorization.k8s.io"
    await kube.apply({"apiVersion": "v1", "kind": ACCOUNTS.kind, "metadata": metadata}, manager="test")
    role = {
        "apiVersion": ROLES.api_version,
        "kind": ROLES.kind,
        "metadata": metadata,
        "rules": documented_rules(*without),
    }
    await kube.apply(role, manager="test")
    binding = {
        "apiVersion": BINDINGS.api_version,
        "kind": BINDINGS.kind,
        "metadata": metadata,
        "roleRef": {"apiGroup": rbac, "kind": "Role", "name": metadata["name"]},
        "subjects": [{"kind": "ServiceAccount", **metadata}],
    }
    await kube.apply(binding, manager="test")


async def make_token(kube: KubeClient, namespace: str, bound_to: str) -> str:
    """Create a token that lives as long as the Secret `bound_to`."""
    metadata = {"name": bound_to, "namespace": namespace, "labels": {CREDENTIAL_LABEL: "true"}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}
    made = await kube.apply(secret, manager="test")
    reference = {"apiVersion": "v1", "kind": "Secret", "name": bound_to, "uid": made["metadata"]["uid"]}
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"boundObjectRef": reference, "expirationSeconds": 3600},
    }
    path = ACCOUNTS.path(namespace, "capstan-operator", "token")
    answer = await kube._call(_Request("create", ACCOUNTS, "POST", path, body=body))
    return str(answer["status"]["token"])


async def wait_for_rights(kubeconfig: Path, namespace: str, **wanted: bool) -> None:
    """Wait until the API server knows what an account may do with LLMModels and Services, which is a moment after it
    was said; `services` False: until it may no longer patch those."""
    rights = {"llmmodels": ("capstan.dev", "list"), "services": ("", "patch")}
    async with connect(kubeconfig) as account:

        async def may(resource: str) -> bool:
            group, verb = rights[resource]
            asked = {"namespace": namespace, "verb": verb, "group": group, "resource": resource}
            api = "authorization.k8s.io/v1"
            body = {"apiVersion": api, "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": asked}}
            path = f"/apis/{api}/selfsubjectaccessreviews"
            answer = await account._call(_Request("create", ACCOUNTS, "POST", path, body=body))
            return bool(answer["status"]["allowed"])

        async def are_known() -> bool:
            return all([await may(resource) is right for resource, right in {"llmmodels": True, **wanted}.items()])

        await eventually(are_known, what="the rights to be known")


def refused(operator: OperatorProcess) -> float:
    """Count what the API server refused for want of rights, but for what is optional: to look at the CRD, and for
    InferencePools that an install with them may have left."""
    name = "capstan_operator_kube_calls_total"
    optional = ("customresourcedefinitions", "inferencepools")
    return operator.metric(name, code="403") - sum(operator.metric(name, code="403", kind=one) for one in optional)


async def test_the_documented_permissions_are_enough_and_the_token_may_rotate(
    kube: KubeClient, kube_api: Path, namespace: str, start_operator: Any, tmp_path: Path
) -> None:
    """With a Role of the documented rules nothing is forbidden; when its token is revoked, the operator reads the new
    one from the file and goes on, without a restart."""
    await make_account(kube, namespace)
    token_file = tmp_path / "token"
    token_file.write_text(await make_token(kube, namespace, "first"))
    kubeconfig = token_kubeconfig(kube_api, tmp_path / "kubeconfig", token_file)
    await wait_for_rights(kubeconfig, namespace)
    operator = start_operator(kubeconfig=kubeconfig)

    async def settled(name: str) -> bool:
        return is_settled(await find(kube, LLM_MODELS, name, namespace))

    budgeted = simulated(
        "one",
        namespace,
        replicas=2,
        cache={"size": "1Gi", "accessMode": "ReadWriteMany"},
        prefixes=[{"name": "p", "system": "hello"}],
    )
    await kube.apply(budgeted, manager="user")
    await kube.apply(hosted("api", namespace, secretRef={"name": "first", "key": "openai"}), manager="user")
    await eventually(lambda: settled("one"), what="a model with every kind of child")
    await eventually(lambda: settled("api"), what="a hosted model")
    assert "SecretKeyNotFound" in str(condition(await find(kube, LLM_MODELS, "api", namespace), "Degraded"))
    assert refused(operator) == 0
    await kube.apply(simulated("one", namespace), manager="user")  # prunes every child that can be pruned
    await eventually(lambda: settled("one"), what="the smaller model")
    await kube.delete(LLM_MODELS, "api", namespace=namespace)

    token_file.write_text(await make_token(kube, namespace, "second"))
    await kube.delete(SECRETS, "first", namespace=namespace)

    def is_refused_once() -> bool:
        return operator.metric("capstan_operator_kube_calls_total", code="401") > 0

    # The API server remembers a good token for 10 s; the lease renewal notices after that.
    await eventually(is_refused_once, seconds=120, what="the first token to be refused")
    await kube.apply(simulated("two", namespace), manager="user")
    await eventually(lambda: settled("two"), what="a model after the rotation")
    assert operator.exit_code is None
    assert refused(operator) == 0
    assert "Forbidden" not in operator.log
    assert await served_names(kube, namespace) == {"one", "two"}


async def test_the_right_to_make_an_object_may_be_of_one_name(
    kube: KubeClient, kube_api: Path, namespace: str, tmp_path: Path
) -> None:
    """What is made by server-side apply has its name in the URL: nobody who may make one Secret, one lease or one
    APIService in this way may make another one."""
    await make_account(kube, namespace)
    name = f"v1.{namespace}.example.com"
    metadata = {"name": "capstan-operator", "namespace": namespace}
    rule = {"verbs": ["get", "create", "patch", "delete"], "resourceNames": ["mine", name]}
    kinds = {"": "secrets", "coordination.k8s.io": "leases", "apiregistration.k8s.io": "apiservices"}
    rules = [{**rule, "apiGroups": [group], "resources": [resource]} for group, resource in kinds.items()]
    await kube.apply(
        {"apiVersion": ROLES.api_version, "kind": ROLES.kind, "metadata": metadata, "rules": rules}, manager="test"
    )
    subject = {"kind": "ServiceAccount", **metadata}
    wide = {"name": f"{namespace}-named"}
    rbac = {"apiVersion": ROLES.api_version, "metadata": wide}
    await kube.apply({**rbac, "kind": "ClusterRole", "rules": rules}, manager="test")
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": wide["name"]}
    await kube.apply({**rbac, "kind": CLUSTER_BINDINGS.kind, "roleRef": role, "subjects": [subject]}, manager="test")
    token_file = tmp_path / "token"
    token_file.write_text(await make_token(kube, namespace, "first"))

    def objects(named: str, version: str) -> list[dict[str, Any]]:
        group = f"{namespace}.example.com"
        spec = {"group": group, "version": version, "groupPriorityMinimum": 100, "versionPriority": 100}
        local = {"name": named, "namespace": namespace}
        return [
            {"apiVersion": SECRETS.api_version, "kind": SECRETS.kind, "metadata": local},
            {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": local},
            {
                "apiVersion": API_SERVICES.api_version,
                "kind": API_SERVICES.kind,
                "metadata": {"name": f"{version}.{group}"},
                "spec": spec,
            },
        ]

    async with connect(token_kubeconfig(kube_api, tmp_path / "kubeconfig", token_file)) as operator:

        async def may() -> bool:
            try:
                for one in objects("mine", "v1"):
                    await operator.apply(one, manager="test")
            except Forbidden:
                return False
            return True

        async def is_forbidden(one: dict[str, Any]) -> bool:
            try:
                await operator.apply(one, manager="test")
            except Forbidden:
                return True
            return False

        try:
            await eventually(may, what="the rights to be known")
            for one in objects("other", "v2"):
                # The wider Role of before may be known for a moment longer.
                await eventually(lambda one=one: is_forbidden(one), what=f"{one['kind']} to be refused")  # type: ignore[misc]
        finally:
            await kube.delete(API_SERVICES, name)


async def test_a_missing_right_is_told_on_the_model_and_is_no_bug(
    kube: KubeClient, kube_api: Path, namespace: str, start_operator: Any, tmp_path: Path
) -> None:
    """Without the right to make Services, and then without that to list pods, the model says which right is missing;
    there is no traceback, and when the right is given, all is well without anybody's help."""
    await make_account(kube, namespace)
    metadata = {"name": "capstan-operator", "namespace": namespace}

    async def grant(*, without: tuple[str, str] = ("", "")) -> None:
        resource, verb = without
        rules = [
            {**rule, "verbs": [one for one in rule["verbs"] if rule["resources"] != [resource] or one != verb]}
            for rule in documented_rules()
        ]
        role = {"apiVersion": ROLES.api_version, "kind": ROLES.kind, "metadata": metadata, "rules": rules}
        await kube.apply(role, manager="test")

    await grant(without=("services", "patch"))
    token_file = tmp_path / "token"
    token_file.write_text(await make_token(kube, namespace, "first"))
    kubeconfig = token_kubeconfig(kube_api, tmp_path / "kubeconfig", token_file)
    await wait_for_rights(kubeconfig, namespace, services=False)
    operator = start_operator(kubeconfig=kubeconfig)
    await kube.apply(simulated("one", namespace), manager="user")

    async def told(type_: str, right: str) -> bool:
        found = condition(await find(kube, LLM_MODELS, "one", namespace), type_)
        return found.get("reason") == "OperatorForbidden" and right in found["message"]

    await eventually(lambda: told("Degraded", "may not patch services"), what="the right to make Services to be named")
    await grant(without=("pods", "list"))

    async def change() -> bool:
        await kube.apply(simulated("one", namespace, replicas=2), manager="user")
        return await told("Ready", "may not list pods")

    await eventually(change, what="the right to list pods to be named", every=0.5)
    assert operator.metric("capstan_operator_reconciles_total", result="forbidden") > 0
    assert operator.metric("capstan_operator_forbidden_total", verb="list", resource="pods") > 0
    assert operator.metric("capstan_operator_reconciles_total", result="bug") == 0
    assert '"exception"' not in operator.log
    assert operator.read("/healthz") == "ok"
    await grant()

    async def well() -> bool:
        found = await find(kube, LLM_MODELS, "one", namespace)
        return is_settled(found) and condition(found, "Degraded").get("status") == "False"

    await eventually(well, seconds=120, what="the model to be well")
    assert operator.exit_code is None


async def test_models_are_served_without_the_right_to_policies(
    kube: KubeClient, kube_api: Path, namespace: str, start_operator: Any, tmp_path: Path
) -> None:
    """An operator whose Role is of a release without policies serves models all the same, and says what it may not."""
    await make_account(kube, namespace, *(f"{kind.plural}{part}" for kind in POLICY_KINDS for part in ("", "/status")))
    token_file = tmp_path / "token"
    token_file.write_text(await make_token(kube, namespace, "first"))
    operator = start_operator(kubeconfig=token_kubeconfig(kube_api, tmp_path / "kubeconfig", token_file))
    await kube.apply(hosted("api", namespace), manager="user")

    async def served() -> bool:
        return await served_names(kube, namespace) == {"api"}

    await eventually(served, what="the model in the config")
    assert "policies cannot be listed" in operator.log
    await kube.apply(hosted("other", namespace), manager="user")

    async def both_are_served() -> bool:
        return await served_names(kube, namespace) == {"api", "other"}

    await eventually(both_are_served, what="a model that comes later")
