"""Free ports on 127.0.0.1."""

import socket


def free_port() -> int:
    """Give a TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def own_address() -> str:
    """Give an address of this machine that is not loopback: Kubernetes refuses loopback addresses of endpoints."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # Connecting a datagram socket sends nothing; it only chooses the address to send from.
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])
