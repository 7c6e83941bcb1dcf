"""A program that can reach one address and nothing else, and of which nothing is left when it ends.

It runs in network and process namespaces of its own (util-linux's `unshare`; by whoever is not root in a user namespace
as well). There nothing is but a loopback interface, on which its first process listens where the one address is
outside, and carries bytes to a Unix socket, behind which this process carries them on. When the first process ends,
the kernel ends all others of the namespace.

    with way_out(port) as path:
        subprocess.run(alone(port, path, command))
"""

import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

HOST = "127.0.0.1"
_SET_FLAGS, _UP, _RUNNING = 0x8914, 0x1, 0x40  # netdevice(7): SIOCSIFFLAGS, IFF_UP, IFF_RUNNING


def alone(port: int, path: Path, command: Sequence[str]) -> list[str]:
    """Give the command that runs another one with nothing in reach but what listens on a port of this machine."""
    spaces = ["--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() != 0:
        spaces = ["--user", "--map-root-user", *spaces]
    # -I: what the program is told of Python is not for its first process; -S: nor does that need packages.
    return ["unshare", *spaces, sys.executable, "-I", "-S", __file__, str(port), str(path), *command]


def can_be_alone() -> bool:
    """Whether this machine lets us make namespaces."""
    if shutil.which("unshare") is None:
        return False
    spaces = ["--net", "--pid", "--fork", "--mount-proc"] + ([] if os.geteuid() == 0 else ["--user", "--map-root-user"])
    return subprocess.run(["unshare", *spaces, "true"], capture_output=True, check=False).returncode == 0


@contextmanager
def way_out(port: int) -> Iterator[Path]:
    """Carry what comes to a Unix socket on to a port of this machine until the block ends; give the socket's path."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
        path = Path(folder) / "out"
        server.bind(str(path))
        server.listen(64)
        thread = threading.Thread(target=carry, args=(server, lambda: _to_port(port)), daemon=True)
        thread.start()
        try:
            yield path
        finally:
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)  # what wakes the thread
            thread.join(timeout=10)


def carry(server: socket.socket, connect: Callable[[], socket.socket]) -> None:
    """Join each connection that comes with one that is made for it, until the server is shut down."""
    while True:
        try:
            came, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=_join, args=(came, connect), daemon=True).start()


def _join(came: socket.socket, connect: Callable[[], socket.socket]) -> None:
    with came:
        try:
            made = connect()
        except OSError:
            return
        with made:
            back = threading.Thread(target=_pour, args=(made, came), daemon=True)
            back.start()
            _pour(came, made)
            back.join()


def _pour(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _to_port(port: int) -> socket.socket:
    return socket.create_connection((HOST, port))


def _to_path(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.connect(path)
    return made


def first_process(port: int, path: str, command: Sequence[str]) -> int:
    """Be the first process of the namespaces: run the command, bury whoever ends meanwhile, and give its exit code."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sH14s", b"lo", _UP | _RUNNING, b""))
    server = socket.create_server((HOST, port), backlog=64)
    threading.Thread(target=carry, args=(server, lambda: _to_path(path)), daemon=True).start()
    child = os.posix_spawnp(command[0], list(command), os.environ)
    while True:
        ended, status = os.wait()
        if ended == child:
            return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    code = first_process(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
    sys.exit(code if code >= 0 else 128 - code)
