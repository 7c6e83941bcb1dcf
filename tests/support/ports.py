"""Free ports on 127.0.0.1."""

import os
import socket
import tempfile
from pathlib import Path

from support.lock import exclusive

FIRST, LAST = 20000, 29999
"""Below what the system gives to outgoing connections, so that none of them takes a port before its server does, and
below the node ports of Kubernetes."""


def free_port() -> int:
    """Give a TCP port that was free a moment ago, and that no other process of the tests is given for a while."""
    with exclusive("ports"):
        counter = Path(tempfile.gettempdir()) / f"capstan-test-port-{os.getuid()}"
        text = counter.read_text() if counter.exists() else ""
        last = int(text) if text.isdecimal() else FIRST
        port = next(port for port in _after(last) if _is_free(port))
        counter.write_text(str(port))
    return port


def _after(last: int) -> list[int]:
    span = LAST - FIRST + 1
    return [FIRST + (last - FIRST + step) % span for step in range(1, span)]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def own_address() -> str:
    """Give an address of this machine that is not loopback: Kubernetes refuses loopback addresses of endpoints."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # Connecting a datagram socket sends nothing; it only chooses the address to send from.
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])
