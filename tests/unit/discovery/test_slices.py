"""EndpointSlices to addresses."""

from typing import Any

import pytest

from capstan_gateway.discovery.slices import Address, ServicePort, addresses, is_ready, read_slice, template_of
from capstan_gateway.discovery.watcher import SliceIndex
from capstan_gateway.life.refusals import Refusals

KEY = ServicePort("ns", "svc", "http")


def _item(name: str, *hosts: str, family: str = "IPv4", service: str = "svc", namespace: str = "ns") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": {"kubernetes.io/service-name": service}},
        "addressType": family,
        "endpoints": [{"addresses": [host], "conditions": {"ready": True}} for host in hosts],
        "ports": [{"name": "http", "port": 8000}, {"name": "worker", "port": 8001}],
    }


def _addresses(*items: dict[str, Any]) -> tuple[Address, ...]:
    return addresses([found for item in items if (found := read_slice(item)) is not None], KEY)


def test_only_the_named_port_of_the_service() -> None:
    """Other ports, Services and namespaces do not count; addresses of several slices are joined and sorted."""
    found = _addresses(
        _item("1", "10.0.0.2"), _item("2", "10.0.0.1"), _item("3", "10.0.0.3", service="x"),
        _item("4", "10.0.0.4", namespace="x"),
    )  # fmt: skip
    assert found == (Address("10.0.0.1", 8000), Address("10.0.0.2", 8000))


def test_a_dual_stack_pod_counts_once() -> None:
    """IPv4 is taken when there is any, IPv6 otherwise."""
    both = (_item("4", "10.0.0.1"), _item("6", "fd00::1", family="IPv6"))
    assert _addresses(*both) == (Address("10.0.0.1", 8000),)
    assert _addresses(both[1]) == (Address("fd00::1", 8000),)


@pytest.mark.parametrize(
    ("conditions", "ready"),
    [
        ({}, True),
        (None, True),
        ({"ready": True}, True),
        ({"ready": False}, False),
        ({"ready": None, "serving": True}, True),
        ({"ready": True, "terminating": True}, False),
        ({"ready": False, "serving": True, "terminating": True}, False),
    ],
)
def test_ready(conditions: dict[str, Any] | None, ready: bool) -> None:
    """A missing `ready` means ready; a pod that is going away gets nothing new."""
    assert is_ready({"addresses": ["10.0.0.1"], "conditions": conditions}) is ready


@pytest.mark.parametrize(
    ("target", "template"),
    [
        ({"kind": "Pod", "name": "llama-8b-7d9f5b6c4-x2x4z"}, "llama-8b-7d9f5b6c4"),
        ({"kind": "Pod", "name": f"{'a' * 52}-7d9f5x2x4z"}, f"{'a' * 52}-7d9f5"),
        ({"kind": "Pod", "name": "llama-0"}, ""),
        ({"kind": "Pod", "name": "llama-0-1"}, ""),
        ({"kind": "Pod", "name": "llama-7d9f5b6c4-aeiou"}, ""),
        ({"kind": "Pod"}, ""),
        ({"kind": "Node", "name": "llama-8b-7d9f5b6c4-x2x4z"}, ""),
        ("llama-8b-7d9f5b6c4-x2x4z", ""),
        (None, ""),
    ],
)
def test_a_pods_name_tells_which_template_it_is_of(target: Any, template: str) -> None:
    """That of its ReplicaSet; of pods that no ReplicaSet has made nothing is told."""
    assert template_of({"targetRef": target}) == template
    endpoint = {"addresses": ["10.0.0.1"], "conditions": {"ready": True}, "targetRef": target}
    assert _addresses({**_item("1"), "endpoints": [endpoint]}) == (Address("10.0.0.1", 8000, template),)


def test_slices_without_endpoints_or_ports() -> None:
    """The API leaves out what is empty, or says null."""
    bare = {**_item("1"), "endpoints": None, "ports": None}
    assert _addresses(bare) == ()
    assert read_slice({"metadata": {"name": "x", "namespace": "ns"}}) is None


def test_relist_of_a_namespace_leaves_the_others() -> None:
    """With a watch for each namespace, a list of one says nothing about another; what is gone is told as well."""
    told: list[tuple[str, str]] = []
    index = SliceIndex(lambda namespace, service: told.append((namespace, service)))
    index.replace([_item("1", "10.0.0.1")], namespace="ns")
    index.replace([_item("2", "10.0.0.2", namespace="other")], namespace="other")
    assert index.addresses(KEY) == (Address("10.0.0.1", 8000),)
    told.clear()
    index.replace([], namespace="ns")
    assert told == [("ns", "svc")]
    assert index.addresses(KEY) == ()
    assert index.addresses(ServicePort("other", "svc", "http")) == (Address("10.0.0.2", 8000),)


def test_events_change_one_slice() -> None:
    """Added, modified, deleted: each is told for its Service."""
    told: list[tuple[str, str]] = []
    index = SliceIndex(lambda namespace, service: told.append((namespace, service)))
    index.change("ADDED", _item("1", "10.0.0.1"))
    index.change("ADDED", _item("2", "10.0.0.2"))
    index.change("MODIFIED", _item("1", "10.0.0.3"))
    assert index.addresses(KEY) == (Address("10.0.0.2", 8000), Address("10.0.0.3", 8000))
    index.change("DELETED", _item("1"))
    index.change("DELETED", _item("2"))
    index.change("DELETED", _item("2"))
    assert index.addresses(KEY) == ()
    assert len(told) == 5


@pytest.mark.parametrize("kind", ["MODIFIED", "DELETED"])
@pytest.mark.parametrize("service", ["other", ""])
def test_a_slice_that_belongs_to_another_service_leaves_the_one_before(service: str, kind: str) -> None:
    """Its label may change, or go: what it had is the former Service's no more, and both are told."""
    told: list[tuple[str, str]] = []
    index = SliceIndex(lambda namespace, service: told.append((namespace, service)))
    index.replace([_item("1", "10.0.0.1"), _item("2", "10.0.0.2")], namespace=None)
    index.change("ADDED", _item("3", "10.0.0.3"))
    told.clear()
    other = ServicePort("ns", "other", "http")
    index.change(kind, _item("1", "10.0.0.1", service=service))
    moves = bool(service) and kind == "MODIFIED"
    assert index.addresses(KEY) == (Address("10.0.0.2", 8000), Address("10.0.0.3", 8000))
    assert index.addresses(other) == ((Address("10.0.0.1", 8000),) if moves else ())
    assert told == [("ns", "svc"), ("ns", "other")][: 2 if moves else 1]
    index.change("MODIFIED", _item("3", "10.0.0.3", service=service))
    index.change("DELETED", _item("2"))
    assert index.addresses(KEY) == ()
    index.change("MODIFIED", _item("1", "10.0.0.1"))
    assert index.addresses(KEY) == (Address("10.0.0.1", 8000),)
    assert Address("10.0.0.1", 8000) not in index.addresses(other)


def test_what_is_refused_in_one_namespace_stays_so_when_another_one_is_listed() -> None:
    """Each namespace has a watch of its own, whose list says nothing about the objects of the others."""
    refusals = Refusals()
    index = SliceIndex(lambda *_: None, refusals)
    bad = {**_item("bad"), "ports": [{"name": "http", "port": -1}]}
    index.replace([bad], namespace="ns")
    index.replace([_item("good", namespace="ns2")], namespace="ns2")
    assert refusals.notes == ("1 of endpointslices refused: ns/bad",)
    index.replace([], namespace="ns")
    assert refusals.notes == ()
