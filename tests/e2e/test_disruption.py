"""Everything that happens in the life of a cluster, under load: no request fails."""

import copy

import pytest

from support.cluster import NAMESPACE, VALUES, Cluster, simulated
from support.needs import ROOT
from support.traffic import Traffic
from support.wait import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
SELECTOR = "app.kubernetes.io/instance=capstan,app.kubernetes.io/component="


def _serve(capstan: Cluster, namespace: str, replicas: int = 2) -> str:
    name = f"busy-{namespace}"
    capstan.apply(namespace, simulated("busy", model={"servedName": name}, replicas=replicas))
    capstan.wait_settled("busy", namespace)
    return name


def _pod_names(capstan: Cluster, namespace: str, selector: str) -> set[str]:
    return {pod["metadata"]["name"] for pod in capstan.list("pods", namespace, selector)}


def _has_replaced(capstan: Cluster, namespace: str, selector: str, old: set[str], count: int) -> bool:
    pods = capstan.list("pods", namespace, selector)
    new = [pod for pod in pods if pod["metadata"]["name"] not in old and _is_ready(pod)]
    return len(new) >= count


def _is_ready(pod: dict) -> bool:  # type: ignore[type-arg]
    conditions = pod["status"].get("conditions", [])
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def _assert_clean(traffic: Traffic) -> None:
    print(f"{traffic.report.answered} answered, slowest {traffic.report.slowest:.2f} s")
    assert traffic.report.failures == []


def test_operator_killed(capstan: Cluster, namespace: str, gateway: str) -> None:
    """Serving goes on while the operator is dead, and the next operator takes up where it was."""
    with Traffic(gateway, _serve(capstan, namespace)) as traffic:
        old = _pod_names(capstan, NAMESPACE, SELECTOR + "operator")
        capstan.kubectl("delete", "pods", *old, "-n", NAMESPACE, "--grace-period=0", "--force")
        capstan.apply(namespace, simulated("later", model={"servedName": f"later-{namespace}"}))
        wait_until(
            lambda: _has_replaced(capstan, NAMESPACE, SELECTOR + "operator", old, 1), seconds=120, what="a new operator"
        )
        capstan.wait_ready("later", namespace)
    _assert_clean(traffic)


def test_model_pod_deleted(capstan: Cluster, namespace: str, gateway: str) -> None:
    """One of two pods of a model goes away under load: it finishes its streams, and the other one takes the rest."""
    with Traffic(gateway, _serve(capstan, namespace)) as traffic:
        old = _pod_names(capstan, namespace, "capstan.dev/model=busy")
        capstan.kubectl("delete", "pod", sorted(old)[0], "-n", namespace)
        wait_until(
            lambda: _has_replaced(capstan, namespace, "capstan.dev/model=busy", old, 1), seconds=120, what="a new pod"
        )
        traffic.wait_for(30)
    _assert_clean(traffic)


def test_model_rolled_out(capstan: Cluster, namespace: str, gateway: str) -> None:
    """A change of a model replaces its only pod under load, a new one first."""
    name = _serve(capstan, namespace, replicas=1)
    with Traffic(gateway, name) as traffic:
        old = _pod_names(capstan, namespace, "capstan.dev/model=busy")
        changed = simulated(
            "busy", model={"servedName": name}, engine={"type": "Simulator", "args": ["--ttft-ms", "30"]}
        )
        capstan.apply(namespace, changed)
        capstan.wait_settled("busy", namespace)
        wait_until(
            lambda: not old & _pod_names(capstan, namespace, "capstan.dev/model=busy"),
            seconds=120,
            what="the old pod gone",
        )
        traffic.wait_for(30)
    _assert_clean(traffic)


def test_gateway_pod_deleted(capstan: Cluster, namespace: str, gateway: str) -> None:
    """A gateway pod goes away under load: it serves on until nobody sends to it, and finishes what it has."""
    with Traffic(gateway, _serve(capstan, namespace)) as traffic:
        old = _pod_names(capstan, NAMESPACE, SELECTOR + "gateway")
        capstan.kubectl("delete", "pod", sorted(old)[0], "-n", NAMESPACE)
        wait_until(
            lambda: _has_replaced(capstan, NAMESPACE, SELECTOR + "gateway", old, 1), seconds=120, what="a new gateway"
        )
        traffic.wait_for(30)
    _assert_clean(traffic)


def test_helm_upgrade(capstan: Cluster, namespace: str, gateway: str) -> None:
    """`helm upgrade` replaces every pod of Capstan under load, and back again with `helm rollback`."""
    values = copy.deepcopy(VALUES)
    values["gateway"]["podAnnotations"] = values["operator"] = {"example.com/upgrade": "1"}
    values["operator"] = {"podAnnotations": values["operator"]}
    with Traffic(gateway, _serve(capstan, namespace)) as traffic:
        old = _pod_names(capstan, NAMESPACE, SELECTOR + "gateway")
        flags = ("--namespace", NAMESPACE, "--wait", "--timeout", "240s")
        capstan.helm("upgrade", "capstan", str(ROOT / "helm" / "capstan"), *flags, values=values)
        assert _has_replaced(capstan, NAMESPACE, SELECTOR + "gateway", old, 2)
        traffic.wait_for(30)
        capstan.helm("rollback", "capstan", "0", *flags)
        traffic.wait_for(30)
    _assert_clean(traffic)
    capstan.wait_settled("busy", namespace)
