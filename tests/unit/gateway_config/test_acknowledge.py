"""Whom the operator asks what the gateways run."""

from capstan_operator.gateway_config.replicas import Replica, leaving_replicas, ready_replicas


def test_ready_replicas_are_those_that_are_not_unready() -> None:
    """`ready` absent means ready; an address in two slices counts once, and another pod at it is another replica."""
    pod = {"kind": "Pod", "name": "gw-1", "uid": "u1"}
    slices = [
        {"endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"], "conditions": {"ready": False}}]},
        {"endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}]},
        {"endpoints": [{"addresses": ["10.0.0.3"], "targetRef": pod}]},
        {"endpoints": None},
    ]
    found = ready_replicas(slices)
    assert found == (Replica("10.0.0.1"), Replica("u1"))
    assert [replica.addresses for replica in found] == [("10.0.0.1",), ("10.0.0.3",)]


def test_a_pod_with_addresses_of_two_families_is_one_replica() -> None:
    """A dual-stack Service has a slice per family: its pods count once, and have two addresses to be asked at."""
    pods = [{"kind": "Pod", "name": name, "uid": name} for name in ("u1", "u2")]
    slices = [
        {
            "addressType": family,
            "endpoints": [{"addresses": [one], "targetRef": pods[0]}, {"addresses": [two], "targetRef": pods[1]}],
        }
        for family, one, two in (("IPv6", "fd00::1", "fd00::2"), ("IPv4", "10.0.0.1", "10.0.0.2"))
    ]
    found = ready_replicas(slices)
    assert [(replica.id, replica.addresses) for replica in found] == [
        ("u1", ("10.0.0.1", "fd00::1")),
        ("u2", ("10.0.0.2", "fd00::2")),
    ]


def test_leaving_replicas_are_those_that_end_and_have_not_ended() -> None:
    """One that is ready, or only not ready for a while, is none of them."""
    slices = [
        {
            "endpoints": [
                {"addresses": ["10.0.0.1"], "conditions": {"ready": True, "terminating": False}},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": False, "terminating": False}},
                {"addresses": ["10.0.0.3"], "conditions": {"ready": False, "serving": False, "terminating": True},
                 "targetRef": {"uid": "pod-3"}},
                {"addresses": ["10.0.0.4"]},
            ]
        }
    ]  # fmt: skip
    assert leaving_replicas(slices) == (Replica("pod-3"),)
