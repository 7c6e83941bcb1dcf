"""kubectl against a test API server."""

import subprocess
from pathlib import Path

from support.kubernetes import program


class Kubectl:
    """Runs kubectl with one kubeconfig; a failure is an AssertionError with what kubectl said."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        """Run it; give what it printed."""
        done = subprocess.run(
            [program("kubectl"), "--kubeconfig", str(self._kubeconfig), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout
