"""A real kube-apiserver without a node, for one test session."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.needs import need_cluster_script


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
