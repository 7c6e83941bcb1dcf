"""A real kube-apiserver for one test session: from the test cluster, KUBEBUILDER_ASSETS, or one named for tests."""

import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from support.envtest import run_envtest
from support.kubernetes import assets, has_test_cluster, named_kubeconfig
from support.lock import exclusive
from support.needs import CLUSTER, lacking
from support.wait import wait_until

HOW = (
    "an API server: ../shared/cluster, or KUBEBUILDER_ASSETS with etcd and kube-apiserver (setup-envtest use -p path), "
    "or CAPSTAN_TEST_KUBECONFIG with the kubeconfig of a cluster for tests"
)
OWN = "an API server of the tests' own: ../shared/cluster, or KUBEBUILDER_ASSETS with etcd and kube-apiserver"
CONTROLLERS = f"{OWN} and a kube-controller-manager beside them"


@contextmanager
def api_server(*, port: int = 7443, controllers: bool = True) -> Iterator[Path]:
    """Start etcd, kube-apiserver and (if asked, and if there is one: see `need_controllers`) the controller manager;
    give the kubeconfig; end them all.

    Uses `port` and the next three: callers that may run at once choose ports at least four apart.
    """
    with tempfile.TemporaryDirectory(prefix="capstan-api-") as folder:
        home = Path(folder) / "api"
        if has_test_cluster():
            server = _of_test_cluster(home, port, controllers=controllers)
        elif programs := assets():
            server = run_envtest(programs, home, port=port, controllers=controllers)
        else:
            lacking(HOW)
        with server as kubeconfig:
            yield kubeconfig


@contextmanager
def any_api_server(*, port: int = 7443) -> Iterator[Path]:
    """Give the kubeconfig of an API server of the tests' own, or else of the cluster that is named for tests."""
    named = named_kubeconfig()
    if named is None or has_test_cluster() or assets():
        with api_server(port=port) as kubeconfig:
            yield kubeconfig
    else:
        yield named


def need_own(kubeconfig: Path) -> None:
    """Leave the running test out on a cluster that is only named for tests: what it does is not done to others."""
    if kubeconfig == named_kubeconfig():
        lacking(OWN)


def need_controllers(kubeconfig: Path) -> None:
    """Leave the running test out where this API server is not the tests' own, or has no controller manager."""
    if not (kubeconfig.parent / "pids" / "kube-controller-manager").is_file():
        lacking(CONTROLLERS)


@contextmanager
def _of_test_cluster(home: Path, port: int, *, controllers: bool) -> Iterator[Path]:
    command = [str(CLUSTER), "api", "up", "--dir", str(home), "--port", str(port)]
    if controllers:
        command.append("--controllers")
    with exclusive("cluster"):  # the first start on a machine unpacks the programs
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    if done.returncode:
        raise RuntimeError(f"the API server did not start: {done.stderr[-2000:]}")
    try:
        yield Path(done.stdout.strip().splitlines()[-1])
    finally:
        down = [str(CLUSTER), "api", "down", "--dir", str(home)]
        subprocess.run(down, capture_output=True, timeout=180, check=False)


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
