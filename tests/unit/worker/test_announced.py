"""Where a worker says that its engine is reached."""

import socket
from typing import Any

import pytest

from capstan_worker import serve
from capstan_worker.serve import announced


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.7", "::1"])
def test_one_that_listens_at_an_address_says_it(host: str) -> None:
    """Where it listens is where it is reached."""
    assert announced(host, 8000) == f"{host}:8000"


@pytest.mark.parametrize(("family", "own"), [(socket.AF_INET, "10.0.0.7"), (socket.AF_INET6, "fd00::7"), (None, "")])
def test_one_that_listens_everywhere_says_its_own(
    monkeypatch: pytest.MonkeyPatch, family: socket.AddressFamily | None, own: str
) -> None:
    """In a pod that is the pod's address, of IPv4 where there is any; without a network nobody knows."""

    class Probe:
        def __init__(self, asked: socket.AddressFamily, kind: socket.SocketKind) -> None:
            assert kind is socket.SOCK_DGRAM
            self.asked = asked

        def __enter__(self) -> "Probe":
            return self

        def __exit__(self, *error: object) -> None: ...

        def connect(self, other: Any) -> None:
            if self.asked is not family:
                raise OSError("no route to host")

        def getsockname(self) -> tuple[str, int]:
            return own, 40000

    monkeypatch.setattr(serve.socket, "socket", Probe)
    assert announced("0.0.0.0", 8000) == (f"{own}:8000" if own else "")
