"""Whom the operator asks what the gateways run."""

from capstan_operator.gateway_config.replicas import Replica, ready_replicas


def test_ready_replicas_are_those_that_are_not_unready() -> None:
    """`ready` absent means ready; an address in two slices counts once, and another pod at it is another replica."""
    pod = {"kind": "Pod", "name": "gw-1", "uid": "u1"}
    slices = [
        {"endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"], "conditions": {"ready": False}}]},
        {"endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}]},
        {"endpoints": [{"addresses": ["10.0.0.3"], "targetRef": pod}]},
        {"endpoints": None},
    ]
    assert ready_replicas(slices) == (Replica("10.0.0.1"), Replica("10.0.0.3", "u1"))
