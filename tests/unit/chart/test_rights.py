"""Who may do what, as the chart says it: roles that Kubernetes adds to its own, what binds the operator's account."""

from typing import Any

import pytest

from capstan_operator.api.kinds import KINDS
from capstan_operator.kube.events import REPORTER
from capstan_operator.kube.leader import LEASE_NAME, lease_name
from capstan_operator.metrics_api.registration import NAME as METRICS_API
from support.helm import NAMESPACE, one, render, run_helm, try_render

POLICY = "ValidatingAdmissionPolicy"
NAME = f"{NAMESPACE}-capstan-operator"


def operator(**values: Any) -> dict[str, Any]:
    """Give values of the operator."""
    return {"operator": values}


def kinds_of(objects: list[dict[str, Any]]) -> set[str]:
    """Give the kinds of objects."""
    return {item["kind"] for item in objects}


def roles_of(objects: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Give the rules that are added to each role of Kubernetes."""
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    return {
        label.removeprefix(prefix): item["rules"]
        for item in objects
        if item["kind"] == "ClusterRole"
        for label in item["metadata"]["labels"]
        if label.startswith(prefix)
    }


def text_of(objects: list[dict[str, Any]]) -> str:
    """Give all that the policy asks."""
    spec = one(objects, POLICY, NAME)["spec"]
    return "\n".join(
        item["expression"] for item in (*spec["matchConditions"], *spec["variables"], *spec["validations"])
    )


def test_who_may_view_edit_and_administer() -> None:
    """`view` reads all kinds, `edit` writes models, and only `admin` what limits and guards these; each has what the
    one before has, because Kubernetes adds them up; nobody gets a status."""
    roles = roles_of(render())
    plurals = {kind.plural for kind in KINDS}
    granted = {
        role: {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}
        for role, rules in roles.items()
    }
    write = ("create", "update", "patch", "delete", "deletecollection")
    assert granted == {
        "view": {(plural, verb) for plural in plurals for verb in ("get", "list", "watch")},
        "edit": {("llmmodels", verb) for verb in write},
        "admin": {(plural, verb) for plural in plurals - {"llmmodels"} for verb in write},
    }
    assert all(rule["apiGroups"] == ["capstan.dev"] for rules in roles.values() for rule in rules)


def test_nothing_of_the_cluster_without_being_asked() -> None:
    """An install of a few namespaces makes neither roles nor a policy for the cluster, unless they are asked for; one
    of the cluster makes them, unless they are not wanted."""
    few = {"watchNamespaces": ["team-a"]}
    assert not roles_of(render(operator(**few)))
    assert POLICY not in kinds_of(render(operator(**few)))
    asked = render({**operator(**few, admissionPolicy={"enabled": True}), "aggregatedRoles": {"enabled": True}})
    assert roles_of(asked)
    assert POLICY in kinds_of(asked)
    refused = render({**operator(admissionPolicy={"enabled": False}), "aggregatedRoles": {"enabled": False}})
    assert not roles_of(refused)
    assert POLICY not in kinds_of(refused)
    null = render({**operator(admissionPolicy={"enabled": None}), "aggregatedRoles": {"enabled": None}})
    assert roles_of(null)
    assert POLICY in kinds_of(null)


@pytest.mark.parametrize(
    ("version", "wanted", "made"), [("1.29.4", None, False), ("1.30.0", None, True), ("1.29.4", True, None)]
)
def test_the_policy_is_for_clusters_that_know_it(version: str, wanted: bool | None, made: bool | None) -> None:
    """Before Kubernetes 1.30 there is none, and an install that asks for one says why it fails."""
    done = run_helm(
        "template", "capstan", "helm/capstan", "--namespace", NAMESPACE, "--kube-version", version,
        values=operator(admissionPolicy={"enabled": wanted}),
    )  # fmt: skip
    if made is None:
        assert "operator.admissionPolicy.enabled needs Kubernetes 1.30 or newer; this is v1.29.4" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert (f"kind: {POLICY}\n" in done.stdout) is made


@pytest.mark.parametrize(
    ("values", "release", "account"),
    [
        ({}, "capstan", "capstan-operator"),
        ({"fullnameOverride": "llm"}, "capstan", "llm-operator"),
        ({}, "other", "other-capstan-operator"),
        (operator(serviceAccount={"create": False, "name": "mine"}), "capstan", "mine"),
    ],
)
def test_the_policy_binds_the_operators_account(values: dict[str, Any], release: str, account: str) -> None:
    """It is about the account that the operator has, whatever that is called, and about nobody else; its binding names
    it; and the account is none that pods of models may have."""
    objects = render(values, release=release)
    (policy,) = [item for item in objects if item["kind"] == POLICY]
    (binding,) = [item for item in objects if item["kind"] == f"{POLICY}Binding"]
    (condition,) = policy["spec"]["matchConditions"]
    assert condition["expression"] == f'request.userInfo.username == "system:serviceaccount:{NAMESPACE}:{account}"'
    assert binding["spec"] == {"policyName": policy["metadata"]["name"], "validationActions": ["Deny"]}
    (rule,) = policy["spec"]["matchConstraints"]["resourceRules"]
    assert rule == {"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"], "operations": ["*"], "scope": "*"}
    deployment = next(
        item for item in objects if item["kind"] == "Deployment" and item["metadata"]["name"].endswith("-operator")
    )
    assert deployment["spec"]["template"]["spec"]["serviceAccountName"] == account
    assert any(
        f'"{account}"' in item["expression"] for item in policy["spec"]["validations"] if "run as" in item["message"]
    )


def test_two_releases_have_a_policy_each() -> None:
    """What is of the whole cluster is called by namespace and release: a second install does not write over it."""

    def wide(values: dict[str, Any], release: str) -> set[tuple[str, str]]:
        objects = render(values, release=release)
        kinds = ("ClusterRole", POLICY, f"{POLICY}Binding")
        return {(item["kind"], item["metadata"]["name"]) for item in objects if item["kind"] in kinds}

    assert not wide({}, "capstan") & wide(operator(className="blue"), "other")


def test_the_policy_names_what_the_operator_writes_once() -> None:
    """The Lease, the reporter of Events, the APIService and the Secrets are those of the operator's code and Role."""
    objects = render()
    text = text_of(objects)
    for name in (LEASE_NAME, REPORTER, METRICS_API):
        assert f"'{name}'" in text
    rules = one(objects, "Role", "capstan-operator")["rules"]
    (named,) = [rule["resourceNames"] for rule in rules if rule["resources"] == ["secrets"] and "resourceNames" in rule]
    assert all(f'"{name}"' in text for name in named)


@pytest.mark.parametrize("name", ["", "blue"])
def test_each_class_has_a_lease(name: str) -> None:
    """The Lease that the operator of a class holds is the one that its Role and the policy let it write."""
    objects = render(operator(className=name))
    rules = one(objects, "Role", "capstan-operator")["rules"]
    assert [rule["resourceNames"] for rule in rules if rule["resources"] == ["leases"]] == [[lease_name(name)]]
    assert f"request.name == '{lease_name(name)}' " in text_of(objects)


def test_the_policy_knows_no_more_than_the_install_needs() -> None:
    """KEDA's kinds, the APIService and the Lease are in it where the operator has the rights to them; with
    `watchNamespaces` it lets through nothing elsewhere."""
    assert 'keda.sh/scaledobjects"' not in text_of(render())
    assert 'keda.sh/scaledobjects"' in text_of(render(operator(keda={"enabled": True})))
    few = text_of(render(operator(watchNamespaces=["team-a"], admissionPolicy={"enabled": True}, leaderElection=False)))
    assert "apiservices" not in few
    assert "leases" not in few
    assert f'["team-a","{NAMESPACE}"]' in few


def test_what_a_platform_team_lets_through() -> None:
    """Namespaces, directories of nodes and capabilities of the values are in the policy; its action is that of the
    binding."""
    allowed = {
        "action": "Audit",
        "privilegedNamespaces": ["rdma"],
        "hostPaths": ["/mnt/nvme"],
        "capabilities": ["IPC_LOCK"],
    }
    objects = render(operator(admissionPolicy=allowed))
    text = text_of(objects)
    assert '["rdma"]' in text
    assert '["/mnt/nvme"]' in text
    assert '"IPC_LOCK"' in text
    assert one(objects, f"{POLICY}Binding", NAME)["spec"]["validationActions"] == ["Audit"]


def test_a_list_that_is_null_lets_nothing_more_through() -> None:
    """A key that is left blank in values is an empty list, and no `null` gets into an expression."""
    blank = {"privilegedNamespaces": None, "hostPaths": None, "capabilities": None}
    assert text_of(render(operator(admissionPolicy=blank))) == text_of(render())


@pytest.mark.parametrize(
    "wrong",
    [
        {"hostPaths": ["relative"]},
        {"hostPaths": ["/a'b"]},
        {"capabilities": ["ipc_lock"]},
        {"action": "Ignore"},
        {"privilegedNamespaces": ["A"]},
    ],
)
def test_the_policys_values_are_checked(wrong: dict[str, Any]) -> None:
    """What would be no directory, capability, namespace or action is refused by the schema: nothing of it gets into an
    expression."""
    assert try_render(operator(admissionPolicy=wrong)).returncode != 0


def test_redis_has_a_network_policy_of_its_own() -> None:
    """It lets in who needs Redis, whatever is said of the other NetworkPolicies, and whoever the values name; it can be
    turned off."""
    on = {
        "redis": {"enabled": True, "networkPolicy": {"from": [{"podSelector": {"matchLabels": {"app": "exporter"}}}]}}
    }
    policy = one(render(on), "NetworkPolicy", "capstan-redis")
    (rule,) = policy["spec"]["ingress"]
    assert [
        peer["podSelector"]["matchLabels"].get("app.kubernetes.io/component", "exporter") for peer in rule["from"]
    ] == ["gateway", "exporter"]
    assert policy["spec"]["egress"] == []
    off = {"redis": {"enabled": True, "networkPolicy": {"enabled": False}}, "networkPolicies": {"enabled": True}}
    assert not [
        item for item in render(off) if item["kind"] == "NetworkPolicy" and item["metadata"]["name"] == "capstan-redis"
    ]


def test_redis_lets_in_workers_from_where_models_are() -> None:
    """With `watchNamespaces` pods of other namespaces do not reach it, whatever they call themselves."""
    queued = {"queue": {"enabled": True, "workerSecret": "worker"}}

    def namespaces(values: dict[str, Any]) -> dict[str, Any]:
        (rule,) = one(render({**queued, **values}), "NetworkPolicy", "capstan-redis")["spec"]["ingress"]
        (selector,) = [peer["namespaceSelector"] for peer in rule["from"] if "namespaceSelector" in peer]
        return dict(selector)

    assert namespaces({}) == {}
    served = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["team-a", NAMESPACE]}
    assert namespaces(operator(watchNamespaces=["team-a"])) == {"matchExpressions": [served]}


@pytest.mark.parametrize("component", ["operator", "gateway"])
def test_an_account_that_pods_have_by_default_is_named_in_the_policy(component: str) -> None:
    """A pod that names no account has `default`, and that is none that pods of models may have where the operator or
    the gateway has it."""
    objects = render({component: {"serviceAccount": {"create": False, "name": "default"}}})
    (rule,) = [item for item in one(objects, POLICY, NAME)["spec"]["validations"] if "run as" in item["message"]]
    assert "serviceAccountName : 'default')" in rule["expression"]
    assert '"default"' in rule["expression"]
