"""TCP ports of this machine."""

import errno
import socket

from capstan_operator.local.errors import LocalError, PortTaken


def free_ports(count: int, host: str = "127.0.0.1") -> tuple[int, ...]:
    """Give different ports that were free a moment ago."""
    sockets = [socket.create_server((host, 0)) for _ in range(count)]
    try:
        return tuple(int(listener.getsockname()[1]) for listener in sockets)
    finally:
        for listener in sockets:
            listener.close()


def check_port(host: str, port: int) -> None:
    """Raise PortTaken when another process listens on the port."""
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(
                f"port {port} on {host} is in use; stop what uses it or choose another with --port (make run PORT=...)"
            ) from error
        raise LocalError(f"cannot listen on {host}:{port}: {error.strerror}") from error
