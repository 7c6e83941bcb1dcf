"""What a pod mounts, and whether its node waits for it."""

from typing import Any

import pytest

from capstan_operator.desired.mounts import Mounted, missing_of, mounted_by, waits_for_mounts

VOLUMES: list[dict[str, Any]] = [
    {"name": "a", "configMap": {"name": "one", "items": [{"key": "k", "path": "p"}]}},
    {"name": "b", "secret": {"secretName": "two"}},
    {"name": "c", "emptyDir": {}},
    {"name": "d", "configMap": {"name": "three", "optional": True}},
    {
        "name": "e",
        "projected": {
            "sources": [
                {"configMap": {"name": "four", "items": [{"key": "x", "path": "0"}, {"key": "y", "path": "1"}]}},
                {"secret": {"name": "five", "items": [{"key": "z", "path": "2"}]}},
                {"secret": {"name": "six", "optional": True}},
                {"serviceAccountToken": {"path": "token"}},
            ]
        },
    },
]


def pod(prepared: str | None = "False", scheduled: str = "True", **status: Any) -> dict[str, Any]:
    """Give a pod in this state."""
    conditions = [{"type": "PodScheduled", "status": scheduled}]
    conditions += [{"type": "PodReadyToStartContainers", "status": prepared}] if prepared else []
    return {"metadata": {}, "spec": {"volumes": VOLUMES}, "status": {"conditions": conditions, **status}}


def test_what_is_not_optional_is_mounted_by_name_and_key() -> None:
    """From volumes of their own and from projected ones."""
    assert mounted_by(pod()) == (
        Mounted("ConfigMap", "one", ("k",)),
        Mounted("Secret", "two", ()),
        Mounted("ConfigMap", "four", ("x", "y")),
        Mounted("Secret", "five", ("z",)),
    )
    assert mounted_by({"metadata": {}}) == ()


@pytest.mark.parametrize(
    ("found", "waits"),
    [
        (pod(), True),
        (pod("True"), False),
        (pod(None), False),
        (pod(scheduled="False"), False),
        (pod(phase="Failed"), False),
        (pod(containerStatuses=[{"restartCount": 1}]), False),
        (pod(containerStatuses=[{"restartCount": 0, "state": {"waiting": {}}}]), True),
        (pod(initContainerStatuses=[{"state": {"terminated": {"exitCode": 1}}}]), False),
    ],
)
def test_a_pod_waits_only_before_anything_of_it_has_run(found: dict[str, Any], waits: bool) -> None:
    """A node that prepares a pod anew after its containers ended waits for nothing that was there."""
    assert waits_for_mounts(found) is waits


def test_what_is_missing_is_said_by_name() -> None:
    """The object, or the first of its keys; binary keys count."""
    mounted = Mounted("ConfigMap", "four", ("x", "y"))
    assert "'four', which does not exist" in str(missing_of(mounted, None))
    assert "the key 'y'" in str(missing_of(mounted, {"data": {"x": ""}}))
    assert missing_of(mounted, {"data": {"x": ""}, "binaryData": {"y": ""}}) is None
    assert missing_of(Mounted("ConfigMap", "one", ()), {}) is None
