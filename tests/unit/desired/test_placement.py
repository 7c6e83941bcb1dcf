"""Which nodes take a pod, and whether two pods ask for the same ones."""

from typing import Any

import pytest

from capstan_operator.desired.placement import is_placed_alike, takes_new_pods

GPU = "nvidia.com/gpu"
TAINT = {"key": "pool", "value": "a", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("toleration", "taint", "takes"),
    [
        ({"key": "pool", "operator": "Equal", "value": "a", "effect": "NoSchedule"}, TAINT, True),
        ({"key": "pool", "value": "a"}, TAINT, True),
        ({"key": "pool", "value": "a", "effect": ""}, TAINT, True),
        ({"key": "pool", "value": "a", "effect": "NoExecute"}, TAINT, False),
        ({"key": "pool", "value": "a", "effect": "NoExecute"}, {**TAINT, "effect": "NoExecute"}, True),
        ({"key": "pool", "value": "b"}, TAINT, False),
        ({"key": "pool"}, TAINT, False),
        ({"key": "pool", "value": "a"}, {"key": "pool", "effect": "NoSchedule"}, False),
        ({"key": "pool"}, {"key": "pool", "effect": "NoSchedule"}, True),
        ({"key": "pool", "value": ""}, {"key": "pool", "value": None, "effect": "NoSchedule"}, True),
        ({"key": "pool", "operator": "Exists"}, TAINT, True),
        ({"key": "other", "operator": "Exists"}, TAINT, False),
        ({"operator": "Exists"}, TAINT, True),
        ({"operator": "Exists", "effect": "NoExecute"}, TAINT, False),
        ({"operator": "Equal"}, TAINT, False),
        ({"operator": "Equal", "value": "a"}, TAINT, False),
    ],
)
def test_a_taint_is_tolerated_as_the_scheduler_has_it(
    toleration: dict[str, Any], taint: dict[str, Any], takes: bool
) -> None:
    """By key, value and effect; an empty effect is every effect, and no key with Exists is every taint."""
    assert takes_new_pods({"spec": {"taints": [taint]}}, {"tolerations": [toleration]}) is takes


def test_every_taint_has_to_be_tolerated() -> None:
    """By whichever of the tolerations; one that only asks to keep away needs none."""
    other = {"key": "other", "effect": "NoExecute"}
    one, two = {"key": "pool", "operator": "Exists"}, {"key": "other", "operator": "Exists"}
    node = {"spec": {"taints": [TAINT, other]}}
    assert takes_new_pods(node, {"tolerations": [two, one]})
    assert not takes_new_pods(node, {"tolerations": [one]})
    assert not takes_new_pods(node, {})
    assert takes_new_pods({"spec": {"taints": [{**TAINT, "effect": "PreferNoSchedule"}]}}, {})
    assert takes_new_pods({}, {})
    assert not takes_new_pods({"spec": {"unschedulable": True}}, {"tolerations": [{"operator": "Exists"}]})


def _spread(key: str | None = "zone", skew: int | None = 1, when: str = "DoNotSchedule") -> dict[str, Any]:
    found = {"topologyKey": key, "maxSkew": skew, "whenUnsatisfiable": when}
    return {"topologySpreadConstraints": [{name: value for name, value in found.items() if value is not None}]}


def _claim(name: str) -> dict[str, Any]:
    return {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": name}}, {"name": "w", "emptyDir": {}}]}


def _port(number: int) -> dict[str, Any]:
    return {"containers": [{"ports": [{"containerPort": 80, "hostPort": number}, {"containerPort": 81}]}]}


def _tolerates(**toleration: Any) -> dict[str, Any]:
    return {"tolerations": [toleration]}


@pytest.mark.parametrize(
    ("new", "old", "alike"),
    [
        ({}, {}, True),
        ({"nodeSelector": {"a": "b"}}, {"nodeSelector": {"a": "c"}}, False),
        ({"schedulerName": "default-scheduler"}, {}, True),
        ({"schedulerName": "other"}, {}, False),
        (_tolerates(key="pool", value="a"), _tolerates(key="pool", value="b"), False),
        (_tolerates(key="pool", value="a"), _tolerates(value="a", key="pool"), True),
        (_tolerates(key=GPU, operator="Exists"), {}, True),
        (_tolerates(key="node.kubernetes.io/not-ready", operator="Exists"), {}, True),
        (_tolerates(operator="Exists"), {}, False),
        (_spread(), _spread(), True),
        (_spread("zone"), _spread("host"), False),
        (_spread(skew=1), _spread(skew=2), False),
        (_spread(skew=None), _spread(skew=1), False),
        (_spread(when="ScheduleAnyway"), {}, True),
        (_claim("a"), _claim("a"), True),
        (_claim("a"), _claim("b"), False),
        (_claim("a"), {}, False),
        (_port(8000), _port(8000), True),
        (_port(8000), _port(8001), False),
        (_port(8000), {}, False),
    ],
)
def test_pods_that_ask_for_other_nodes_are_told_apart(new: dict[str, Any], old: dict[str, Any], alike: bool) -> None:
    """By everything that keeps a pod from a node; what the API server adds, and mere wishes, do not count."""
    assert is_placed_alike(new, old, gpu_resource=GPU) is alike
    assert is_placed_alike(old, new, gpu_resource=GPU) is alike
