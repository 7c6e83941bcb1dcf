"""A real kube-apiserver without a node, for one test session."""

import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from support.lock import exclusive
from support.needs import need_cluster_script
from support.wait import wait_until


@contextmanager
def api_server(*, port: int = 7443, controllers: bool = True) -> Iterator[Path]:
    """Start etcd, kube-apiserver and (if asked) the controller manager; give the kubeconfig; end them all.

    Uses `port` and the next three: callers that may run at once choose ports at least four apart.
    """
    script = need_cluster_script()
    with tempfile.TemporaryDirectory(prefix="capstan-api-") as folder:
        home = Path(folder) / "api"
        command = [str(script), "api", "up", "--dir", str(home), "--port", str(port)]
        if controllers:
            command.append("--controllers")
        with exclusive("cluster"):  # the first start on a machine unpacks the programs
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise RuntimeError(f"the API server did not start: {done.stderr[-2000:]}")
        try:
            yield Path(done.stdout.strip().splitlines()[-1])
        finally:
            subprocess.run(
                [str(script), "api", "down", "--dir", str(home)], capture_output=True, timeout=60, check=False
            )


def kubectl_path() -> str:
    """Give the kubectl that the test cluster unpacked."""
    return str(Path(os.environ.get("CLUSTER_HOME", "/var/lib/test-cluster")) / "bin" / "kubectl")


def stop_api_server(kubeconfig: Path) -> Callable[[], None]:
    """Stop the API server of this kubeconfig, with etcd left running; give the function that starts it again."""
    pidfile = kubeconfig.parent / "pids" / "kube-apiserver"
    pid = int(pidfile.read_text().split()[0])
    arguments = [part.decode() for part in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") if part]
    assert arguments[0].endswith("kube-apiserver")
    os.kill(pid, signal.SIGKILL)
    port = int(arguments[arguments.index("--secure-port") + 1])
    # NB: a process loses its command line before its sockets.
    wait_until(lambda: not _cmdline(pid) and _is_free(port), what="the end of the API server")

    def start_again() -> None:
        log = kubeconfig.parent / "logs" / "kube-apiserver.log"
        # The shell ends at once, so that the server is nobody's child, as the first one was.
        script = 'log="$1"; shift; setsid "$@" >>"$log" 2>&1 </dev/null & echo $!'
        command = ["sh", "-c", script, "sh", str(log), *arguments]
        started = int(subprocess.run(command, capture_output=True, text=True, check=True, cwd="/").stdout)
        started_at = Path(f"/proc/{started}/stat").read_text().rsplit(")", 1)[1].split()[19]
        pidfile.write_text(f"{started} {started_at}")

    return start_again


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except OSError:
            return False
        return True


def _cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
