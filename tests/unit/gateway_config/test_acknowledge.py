"""Whom the operator asks what the gateways run."""

from capstan_operator.gateway_config.acknowledge import ready_addresses


def test_ready_addresses_are_those_that_are_not_unready() -> None:
    """`ready` absent means ready; an address in two slices counts once."""
    slices = [
        {"endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"], "conditions": {"ready": False}}]},
        {"endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}]},
        {"endpoints": None},
    ]
    assert ready_addresses(slices) == ("10.0.0.1",)
