"""What the chart gives an operator that is to answer KEDA, and no other one."""

from typing import Any

from capstan_operator.settings import load_settings
from support.helm import NAMESPACE, one, pod_specs, render

ASKED: dict[str, Any] = {"operator": {"keda": {"enabled": True, "namespace": "scaling"}}}
NAME = "capstan-operator-scaler"


def _rules(objects: list[dict[str, Any]], kind: str, name: str) -> list[dict[str, Any]]:
    return list(one(objects, kind, name)["rules"])


def test_it_is_off_unless_somebody_asks_for_it() -> None:
    """Then nothing of it is there, and no right to KEDA's kinds."""
    text = str(render())
    for word in ("keda.sh", NAME, "CAPSTAN_EXTERNAL_SCALER_PORT"):
        assert word not in text


def test_the_operator_answers_at_the_address_that_it_writes() -> None:
    """The Service, the port of the pod and what the operator is told are of one name and one number."""
    objects = render(ASKED)
    container = pod_specs(objects)["capstan-operator"]["containers"][0]
    environment = {entry["name"]: entry.get("value", "x") for entry in container["env"]}
    settings = load_settings(environment)
    assert (settings.external_scaler_port, settings.external_scaler_service) == (6444, NAME)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    service = one(objects, "Service", NAME)
    (port,) = service["spec"]["ports"]
    assert (port["port"], ports[port["targetPort"]]) == (6444, 6444)
    assert service["metadata"]["namespace"] == NAMESPACE


def test_it_has_no_more_rights_than_it_needs() -> None:
    """To list, make, change and delete two kinds where it works, and one Secret by name at home."""
    objects = render(ASKED)
    rules = _rules(objects, "ClusterRole", f"{NAMESPACE}-capstan-operator")
    (rule,) = [one for one in rules if "keda.sh" in one["apiGroups"]]
    assert rule == {
        "apiGroups": ["keda.sh"],
        "resources": ["scaledobjects", "triggerauthentications"],
        "verbs": ["list", "create", "patch", "delete"],
    }
    named = [rule for rule in _rules(objects, "Role", "capstan-operator") if rule.get("resourceNames")]
    (secrets,) = [rule for rule in named if rule["resources"] == ["secrets"]]
    assert NAME in secrets["resourceNames"]
    assert secrets["verbs"] == ["get", "create", "patch"]


def test_a_few_namespaces_are_enough() -> None:
    """With watchNamespaces the rights are in their Roles."""
    values = {"operator": {**ASKED["operator"], "watchNamespaces": ["team-a"]}}
    objects = render(values)
    roles = [item for item in objects if item["kind"] == "Role" and item["metadata"]["namespace"] == "team-a"]
    assert any("keda.sh" in rule["apiGroups"] for role in roles for rule in role["rules"])
    wide = [item for item in objects if item["kind"] == "ClusterRole"]
    assert not any("keda.sh" in rule["apiGroups"] for role in wide for rule in role["rules"])


def test_only_the_namespace_of_keda_reaches_it() -> None:
    """KEDA shows no certificate, so that the network has to say who may ask."""
    objects = render({**ASKED, "networkPolicies": {"enabled": True}})
    policy = one(objects, "NetworkPolicy", "capstan-operator")
    (entry,) = [one for one in policy["spec"]["ingress"] if one["ports"] == [{"port": "scaler"}]]
    assert entry["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "scaling"}}}]
