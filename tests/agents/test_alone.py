"""What the agents run in: nothing but the gateway is in reach, and nothing is left when they end."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from support.alone import alone, can_be_alone, way_out
from support.needs import lacking


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        """Send back what came."""
        data = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def servers() -> Iterator[tuple[int, int]]:
    """Two servers of this machine; give their ports."""
    if not can_be_alone():
        lacking("namespaces (unshare)")
    running = [ThreadingHTTPServer(("127.0.0.1", 0), _Echo) for _ in range(2)]
    for server in running:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield running[0].server_address[1], running[1].server_address[1]
    for server in running:
        server.shutdown()
        server.server_close()


def python(port: int, code: str) -> "subprocess.CompletedProcess[str]":
    """Run Python code alone with one port in reach."""
    with way_out(port) as path:
        command = alone(port, path, [sys.executable, "-c", code])
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_one_server_is_in_reach_and_no_other(servers: tuple[int, int]) -> None:
    """The one address answers, with whole bodies; another of this machine, and all of the network, does not."""
    near, other = servers
    code = f"""
import socket, urllib.request
opened = urllib.request.build_opener(urllib.request.ProxyHandler({{}}))
data = b"x" * 3_000_000
print(opened.open("http://127.0.0.1:{near}/", data=data, timeout=30).read() == data)
for host, port in (("127.0.0.1", {other}), ("192.0.2.1", 80), ("example.com", 443)):
    try:
        print("reached", socket.create_connection((host, port), timeout=30))
    except OSError as error:
        print(type(error).__name__)
"""
    done = python(near, code)
    assert done.stdout.split() == ["True", "ConnectionRefusedError", "OSError", "gaierror"], done.stderr


def test_nothing_is_left_behind(servers: tuple[int, int], tmp_path: Path) -> None:
    """What a program has started ends with it, also what has left its session; the exit code is the program's."""
    there = tmp_path / "there"
    code = f"""
import subprocess, sys, time
from pathlib import Path
sleeper = "import time; from pathlib import Path; Path({str(there)!r}).touch(); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", sleeper], start_new_session=True)
while not Path({str(there)!r}).exists():
    time.sleep(0.02)
sys.exit(7)
"""
    done = python(servers[0], code)
    # Its output is this test's pipe: would the sleeper live, that had not ended.
    assert done.returncode == 7, done.stderr
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(there) in _read(path)]


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # it has ended meanwhile
        return ""


def test_a_lost_server_is_a_closed_connection() -> None:
    """Where nobody listens outside, the program's connection is closed, and it need not wait."""
    if not can_be_alone():
        lacking("namespaces (unshare)")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # It does not listen; and nobody else gets its port.
        port = taken.getsockname()[1]
        done = python(port, f"import socket; print(socket.create_connection(('127.0.0.1', {port}), 30).recv(1))")
    assert done.stdout == "b''\n", done.stderr
