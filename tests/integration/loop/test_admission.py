"""What the chart's admission policy keeps an operator's account from, whatever its roles let it do.

That it lets through all that operators do is held by every other test of this folder: their operators run by such an
account.
"""

import copy
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from capstan_contract.names import COMPONENT_LABEL, MANAGED_BY_LABEL, MODEL_LABEL, NAME_LABEL
from capstan_operator.api.kinds import LLM_MODELS
from capstan_operator.kube.client import KubeClient, _Request
from capstan_operator.kube.errors import Forbidden, Invalid
from capstan_operator.resources.api_resource import CONFIG_MAPS, DEPLOYMENTS, LEASES, PODS, SECRETS, ApiResource
from capstan_operator.resources.resource import Manifest
from support.admission import ACCOUNT
from support.llmmodels import condition, simulated
from support.operator_process import ACCOUNTS, CLUSTER_BINDINGS, connect, find
from support.wait import eventually

pytestmark = pytest.mark.apiserver

OURS = {MANAGED_BY_LABEL: "capstan"}
ROOM: dict[str, Any] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
OF_A_MODEL = {**OURS, MODEL_LABEL: "one", COMPONENT_LABEL: "engine", NAME_LABEL: "llmmodel"}


@pytest.fixture
async def account(bound: Path) -> AsyncIterator[KubeClient]:
    """A client with the account of an operator that roles let do everything."""
    async with connect(bound) as client:
        yield client


def an_object(api: str, kind: str, name: str, labels: dict[str, str] | None = None, **fields: Any) -> Manifest:
    """Give an object without a namespace."""
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "labels": labels or {}}, **fields}


def a_deployment(name: str = "one-model", labels: dict[str, str] | None = None, **pod: Any) -> Manifest:
    """Give a Deployment as operators write them, with a pod that is changed."""
    container = {"name": "engine", "image": "none", **pod.pop("container", {})}
    template = {"metadata": {"labels": OF_A_MODEL}, "spec": {"containers": [container], **pod}}
    spec = {"selector": {"matchLabels": {MODEL_LABEL: "one"}}, "template": template}
    return an_object("apps/v1", "Deployment", name, OURS if labels is None else labels, spec=spec)


def a_job(**pod: Any) -> Manifest:
    """Give a Job as operators write them, with a pod that is changed."""
    spec = {"restartPolicy": "Never", "containers": [{"name": "gate", "image": "none"}], **pod}
    return an_object(
        "batch/v1", "Job", "one-gate", OURS, spec={"template": {"metadata": {"labels": OF_A_MODEL}, "spec": spec}}
    )


def a_container(**security: Any) -> Manifest:
    """Give the changes of a container with such a security context."""
    return {"securityContext": security}


PODS_THAT_TAKE_OVER: dict[str, tuple[dict[str, Any], str]] = {
    "the node's network": ({"hostNetwork": True}, "own namespaces"),
    "the node's processes": ({"hostPID": True}, "own namespaces"),
    "the node's memory": ({"hostIPC": True}, "own namespaces"),
    "the node's files": ({"volumes": [{"name": "root", "hostPath": {"path": "/"}}]}, "hostPath"),
    "a volume by its name": (
        {"volumes": [{"name": "disk", "ephemeral": {"volumeClaimTemplate": {"spec": {"volumeName": "pv", **ROOM}}}}]},
        "choose no volume",
    ),
    "a volume by its labels": (
        {
            "volumes": [
                {
                    "name": "disk",
                    "ephemeral": {"volumeClaimTemplate": {"spec": {"selector": {"matchLabels": {"a": "b"}}, **ROOM}}},
                }
            ]
        },
        "choose no volume",
    ),
    "a chosen node": ({"nodeName": "node-1"}, "choose their node"),
    "the operator's rights": ({"serviceAccountName": "capstan-operator"}, "run as the operator"),
    "the gateway's rights": ({"serviceAccountName": "capstan-gateway"}, "run as the operator or the gateway"),
    "the operator's rights by an older field": ({"serviceAccount": "capstan-operator"}, "run as the operator"),
    "parameters of the kernel": (
        {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
        "sysctls",
    ),
    "no seccomp": ({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}, "seccomp"),
    "another type of SELinux": ({"securityContext": {"seLinuxOptions": {"type": "spc_t"}}}, "SELinux"),
    "privileges": ({"container": a_container(privileged=True)}, "privileged"),
    "privileges before": (
        {"initContainers": [{"name": "init", "image": "none", "securityContext": {"privileged": True}}]},
        "privileged",
    ),
    "capabilities": ({"container": a_container(capabilities={"add": ["SYS_ADMIN"]})}, "capabilities"),
    "no AppArmor": ({"container": a_container(appArmorProfile={"type": "Unconfined"})}, "AppArmor"),
    "a port of the node": ({"container": {"ports": [{"containerPort": 80, "hostPort": 80}]}}, "hostPort"),
    "the kubelet's reach": (
        {"container": {"livenessProbe": {"httpGet": {"host": "10.0.0.1", "port": 80}}}},
        "ask other hosts",
    ),
    "the kubelet's reach at its end": (
        {"container": {"lifecycle": {"preStop": {"tcpSocket": {"host": "10.0.0.1", "port": 80}}}}},
        "ask other hosts",
    ),
}


async def refusal(attempt: Callable[[], Any]) -> str:
    """Give why the policy refuses a write. Fails when it does not."""
    with pytest.raises((Invalid, Forbidden)) as refused:
        await attempt()
    # NB: an API server without --allow-privileged refuses privileged containers before it asks a policy.
    assert "ValidatingAdmissionPolicy" in str(refused.value) or "privileged: Forbidden" in str(refused.value)
    return str(refused.value)


async def test_no_pod_takes_over_a_node(account: KubeClient, namespace: str) -> None:
    """Templates of Deployments and of Jobs have nothing of the node and of nobody else's rights; plain ones pass."""
    for what, (pod, why) in PODS_THAT_TAKE_OVER.items():
        for manifest in (a_deployment(**copy.deepcopy(pod)), *([] if "container" in pod else [a_job(**pod)])):
            manifest["metadata"]["namespace"] = namespace
            assert why in await refusal(lambda manifest=manifest: account.apply(manifest)), what
    for manifest in (a_deployment(), a_job()):
        manifest["metadata"]["namespace"] = namespace
        assert await account.apply(manifest)


async def test_nothing_but_what_operators_make(kube: KubeClient, account: KubeClient, namespace: str) -> None:
    """An account with too many rights makes no pod, gives nobody rights, takes no token, enters no pod, writes no spec
    of a user, and makes nothing without the label that says whose it is, nor in Kubernetes' own namespaces."""
    await kube.apply(simulated("one", namespace), manager="user")
    rbac = "rbac.authorization.k8s.io"
    role = {"apiGroup": rbac, "kind": "ClusterRole", "name": "cluster-admin"}
    data = {"data": {"a": "b"}}
    elsewhere = an_object("v1", "ConfigMap", "one", OURS, **data)
    elsewhere["metadata"]["namespace"] = "kube-system"
    token = an_object("v1", "Secret", "capstan-gateway-admin", type="kubernetes.io/service-account-token")
    token["metadata"]["annotations"] = {"kubernetes.io/service-account.name": ACCOUNT}
    plain = {"containers": [{"name": "a", "image": "b"}]}
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "somebodys"}
    tries = {
        "no business to CREATE /pods": an_object("v1", "Pod", "one", OURS, spec=plain),
        "no business to CREATE rbac.authorization.k8s.io/clusterrolebindings": an_object(
            f"{rbac}/v1", CLUSTER_BINDINGS.kind, f"{namespace}-more", OURS, roleRef=role, subjects=[]
        ),
        "no business to UPDATE capstan.dev/llmmodels": simulated("one", namespace, replicas=2),
        "has the label": an_object("apps/v1", "Deployment", "bare", spec=a_deployment()["spec"]),
        "Kubernetes' own namespaces": elsewhere,
        "they are no tokens": token,
        "of Secrets the operator writes those": an_object("v1", "Secret", "other", OURS),
        "of Leases the operator writes its own": an_object(LEASES.api_version, LEASES.kind, "other", OURS),
        "of Events the operator writes its own": an_object(
            "events.k8s.io/v1", "Event", "one", OURS, eventTime="2026-01-01T00:00:00.000000Z",
            reportingController="x/y", reportingInstance="x", action="A", reason="R", type="Normal",
            regarding={"kind": "LLMModel", "namespace": namespace, "name": "one"},
        ),
        "without external addresses": an_object(
            "v1", "Service", "one", OURS, spec={"type": "ExternalName", "externalName": "example.com"}
        ),
        "is for pods of models": an_object(
            "networking.k8s.io/v1", "NetworkPolicy", "one", OURS, spec={"podSelector": {}, "policyTypes": ["Ingress"]}
        ),
        "chooses no volume": an_object(
            "v1", "PersistentVolumeClaim", "one", OURS,
            spec={"volumeName": "somebodys", **ROOM},
        ),
        "for the Deployment of its own name": an_object(
            "autoscaling/v2", "HorizontalPodAutoscaler", "one-model", OURS,
            spec={"maxReplicas": 2, "scaleTargetRef": target},
        ),
    }  # fmt: skip
    for why, manifest in tries.items():
        metadata = {"namespace": namespace, **manifest["metadata"]}
        if manifest["kind"] == CLUSTER_BINDINGS.kind:
            del metadata["namespace"]
        written = {**manifest, "metadata": metadata}
        assert why in await refusal(lambda written=written: account.apply(written)), why
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    calls = {
        "/serviceaccounts/token": _Request(
            "create", ACCOUNTS, "POST", ACCOUNTS.path(namespace, ACCOUNT, "token"), body=body
        ),
        "apps/deployments/scale": _Request(
            "patch", DEPLOYMENTS, "PATCH", DEPLOYMENTS.path(namespace, "mine", "scale"),
            body={"spec": {"replicas": 0}}, content_type="application/merge-patch+json",
        ),
        "CONNECT /pods/exec": _Request("create", PODS, "POST", f"{PODS.path(namespace, 'mine', 'exec')}?command=sh"),
    }  # fmt: skip
    somebodys = a_deployment("mine", {})
    somebodys["metadata"]["namespace"] = namespace
    await kube.apply(somebodys, manager="user")
    pod = an_object("v1", "Pod", "mine", spec=plain)
    pod["metadata"]["namespace"] = namespace
    await eventually(lambda: _is_made(kube, pod), what="the namespace to have an account for pods")
    for what, call in calls.items():
        assert what in await refusal(lambda call=call: account._call(call)), what
    assert await find(kube, SECRETS, "capstan-gateway-admin", namespace) is None


async def _is_made(kube: KubeClient, manifest: Manifest) -> bool:
    try:
        await kube.apply(manifest, manager="user")
    except (Invalid, Forbidden):
        return False
    return True


async def test_no_pod_of_a_model_is_found_by_a_service_of_the_install(account: KubeClient, namespace: str) -> None:
    """A pod with the labels of the gateway would be sent its requests, keys and all, and one with those of Redis its
    password: those of models say that they are a model's, in Deployments and in Jobs."""
    for name in ("capstan", None):
        for manifest in (a_deployment(), a_job()):
            labels = {
                **OF_A_MODEL,
                NAME_LABEL: name,
                COMPONENT_LABEL: "gateway",
                "app.kubernetes.io/instance": "capstan",
            }
            template = manifest["spec"]["template"]
            template["metadata"] = {"labels": {key: value for key, value in labels.items() if value is not None}}
            manifest["metadata"]["namespace"] = namespace
            assert "no Service of the install" in await refusal(lambda manifest=manifest: account.apply(manifest)), name


async def test_whatever_runs_pods_is_a_deployment_or_a_job(
    kube: KubeClient, account: KubeClient, namespace: str
) -> None:
    """No other kind that makes pods, no container that is put into one that runs, and no pod that is moved or removed:
    an account with all rights makes none of it, by no name and by one that is generated."""
    template = {"metadata": {"labels": OF_A_MODEL}, "spec": {"containers": [{"name": "a", "image": "b"}]}}
    pods: dict[str, Any] = {"selector": {"matchLabels": {MODEL_LABEL: "one"}}, "template": template}
    job = {"template": {**template, "spec": {**template["spec"], "restartPolicy": "Never"}}}
    kinds = {
        ApiResource("apps", "v1", "statefulsets", "StatefulSet"): pods | {"serviceName": "a"},
        ApiResource("apps", "v1", "daemonsets", "DaemonSet"): pods,
        ApiResource("apps", "v1", "replicasets", "ReplicaSet"): pods,
        ApiResource("batch", "v1", "cronjobs", "CronJob"): {"schedule": "* * * * *", "jobTemplate": {"spec": job}},
        ApiResource("", "v1", "replicationcontrollers", "ReplicationController"): pods | {"selector": OF_A_MODEL},
    }
    for kind, spec in kinds.items():
        manifest = an_object(kind.api_version, kind.kind, "one", OURS, spec=spec)
        call = _Request("create", kind, "POST", kind.path(namespace), body=manifest)
        assert f"CREATE {kind.group}/{kind.plural}" in await refusal(lambda call=call: account._call(call)), kind.plural
    generated = {"metadata": {"generateName": "capstan-gateway-admin", "labels": OURS}}
    secret = _Request(
        "create", SECRETS, "POST", SECRETS.path(namespace), body={**generated, "apiVersion": "v1", "kind": "Secret"}
    )
    assert "of Secrets the operator writes those" in await refusal(lambda: account._call(secret))
    pod = an_object("v1", "Pod", "theirs", spec=template["spec"])
    pod["metadata"]["namespace"] = namespace
    await eventually(lambda: _is_made(kube, pod), what="the namespace to have an account for pods")
    theirs = PODS.path(namespace, "theirs")
    ephemeral = {"spec": {"ephemeralContainers": [{"name": "in", "image": "b"}]}}
    evicted = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "theirs", "namespace": namespace}}
    bound = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "theirs"},
        "target": {"kind": "Node", "name": "n"},
    }
    calls = {
        "UPDATE /pods/ephemeralcontainers": _Request(
            "patch", PODS, "PATCH", f"{theirs}/ephemeralcontainers", body=ephemeral,
            content_type="application/strategic-merge-patch+json",
        ),
        "CREATE /pods/eviction": _Request("create", PODS, "POST", f"{theirs}/eviction", body=evicted),
        "CREATE /pods/binding": _Request("create", PODS, "POST", f"{theirs}/binding", body=bound),
        "DELETE /pods": _Request("delete", PODS, "DELETE", PODS.path(namespace)),
    }  # fmt: skip
    for what, call in calls.items():
        assert what in await refusal(lambda call=call: account._call(call)), what


async def test_a_whole_collection_is_judged_object_by_object(
    kube: KubeClient, account: KubeClient, namespace: str
) -> None:
    """To delete all of a kind at once reaches nothing that is somebody else's."""
    for name, labels in (("ours", OURS), ("theirs", {})):
        made = an_object("v1", "ConfigMap", name, labels, data={"a": "b"})
        made["metadata"]["namespace"] = namespace
        await kube.apply(made, manager="user")
    whole = _Request("delete", CONFIG_MAPS, "DELETE", CONFIG_MAPS.path(namespace))
    assert "not its own" in await refusal(lambda: account._call(whole))
    assert await find(kube, CONFIG_MAPS, "theirs", namespace)


async def test_what_is_somebody_elses_stays_as_it_is(kube: KubeClient, account: KubeClient, namespace: str) -> None:
    """Objects without our label are neither changed nor deleted, not by claiming them either; one of a model that has
    lost its label gets it back."""
    theirs = an_object("v1", "ConfigMap", "theirs", data={"a": "b"})
    theirs["metadata"]["namespace"] = namespace
    await kube.apply(theirs, manager="user")
    claimed = {**theirs, "metadata": {**theirs["metadata"], "labels": OURS}, "data": {"a": "c"}}
    assert "not its own" in await refusal(lambda: account.apply(claimed))
    assert "not its own" in await refusal(lambda: account.delete(CONFIG_MAPS, "theirs", namespace=namespace))
    model = await kube.apply(simulated("one", namespace), manager="user")
    owner = {
        "apiVersion": model["apiVersion"], "kind": model["kind"], "name": "one", "uid": model["metadata"]["uid"],
    }  # fmt: skip
    lost = an_object("v1", "ConfigMap", "lost", data={"a": "b"})
    lost["metadata"] |= {"namespace": namespace, "ownerReferences": [owner]}
    await kube.apply(lost, manager="user")
    back = {**lost, "metadata": {**lost["metadata"], "labels": OURS}}
    assert (await account.apply(back))["metadata"]["labels"] == OURS
    await account.delete(CONFIG_MAPS, "lost", namespace=namespace)


async def test_a_claim_is_bound_by_kubernetes_alone(kube: KubeClient, account: KubeClient, namespace: str) -> None:
    """No claim chooses its volume, neither by name nor by labels, when it is made or later; one that Kubernetes has
    bound is still written."""
    claim = an_object("v1", "PersistentVolumeClaim", "weights", OURS, spec={**ROOM, "storageClassName": "none"})
    claim["metadata"]["namespace"] = namespace
    by_labels = {**claim, "spec": {**claim["spec"], "selector": {"matchLabels": {"disk": "fast"}}}}
    assert "chooses no volume" in await refusal(lambda: account.apply(by_labels))
    await account.apply(claim)
    chosen = {**claim, "spec": {**claim["spec"], "volumeName": "somebodys"}}
    assert "chooses no volume" in await refusal(lambda: account.apply(chosen))
    await kube.apply(chosen, manager="binder")
    labelled = {**claim, "metadata": {**claim["metadata"], "labels": {**OURS, "a": "b"}}}
    assert (await account.apply(labelled))["spec"]["volumeName"] == "somebodys"


async def test_what_scales_a_model_scales_nothing_else(account: KubeClient, namespace: str) -> None:
    """An HPA is for a Deployment that is called as those of models are: not for one with a name of another kind, nor
    for something else that happens to have the same name."""
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment"}
    for name, target in (
        ("one-model", {**deployment, "kind": "StatefulSet"}),
        ("one-model", {**deployment, "apiVersion": "x.dev/v1"}),
        ("checkout", deployment),
    ):
        scaler = an_object(
            "autoscaling/v2", "HorizontalPodAutoscaler", name, OURS,
            spec={"maxReplicas": 2, "scaleTargetRef": {**target, "name": name}},
        )  # fmt: skip
        scaler["metadata"]["namespace"] = namespace
        assert "for the Deployment of its own name" in await refusal(lambda scaler=scaler: account.apply(scaler))


async def test_what_runs_can_be_scaled_and_what_is_new_is_refused(
    kube: KubeClient, namespace: str, start_operator: Any
) -> None:
    """A model whose pods have what the policy does not let through, from before it was there, goes on and is scaled;
    its next pods are refused, which its condition says in the policy's words; without it they come."""
    start_operator()
    await kube.apply(simulated("one", namespace), manager="user")

    async def deployment() -> Manifest:
        return await find(kube, DEPLOYMENTS, "one-model", namespace) or {}

    async def there() -> bool:
        return bool(await deployment())

    await eventually(there, what="the Deployment")
    await kube.apply(simulated("one", namespace, template={"spec": {"hostNetwork": True}}), manager="user")

    async def told() -> bool:
        found = condition(await find(kube, LLM_MODELS, "one", namespace), "Degraded")
        return found.get("reason") == "ApplyRefused" and "hostNetwork" in found["message"]

    await eventually(told, what="the refusal on the model")
    assert "hostNetwork" not in (await deployment())["spec"]["template"]["spec"]
    await kube.apply(simulated("one", namespace, replicas=2), manager="user")

    async def scaled() -> bool:
        return (await deployment())["spec"]["replicas"] == 2

    await eventually(scaled, what="the model to be scaled once it asks for nothing that is refused")


async def test_a_template_from_before_is_no_reason_to_refuse_a_number(
    kube: KubeClient, account: KubeClient, namespace: str
) -> None:
    """The operator may write the number of replicas of a Deployment whose pods it could not make today."""
    old = a_deployment(hostNetwork=True)
    old["metadata"]["namespace"] = namespace
    await kube.apply(old, manager="capstan-operator")
    metadata = {"name": "one-model", "namespace": namespace}
    number = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"replicas": 0}}
    written = await account.apply(number, manager="capstan-operator-scale")
    assert written["spec"]["replicas"] == 0
    assert written["spec"]["template"]["spec"]["hostNetwork"] is True
