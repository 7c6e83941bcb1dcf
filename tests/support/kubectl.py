"""kubectl against a test API server."""

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

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

    def get(self, namespace: str, kind: str, *names: str) -> list[dict[str, Any]]:
        """Get objects: all of a kind in a namespace, or those that are named."""
        found = json.loads(self("get", kind, *names, "-n", namespace, "-o", "json"))
        items: list[dict[str, Any]] = found.get("items", [found])
        return items

    def apply(self, manifests: Iterable[dict[str, Any]], *, manager: str = "capstan-operator") -> None:
        """Apply objects on the server's side."""
        text = "\n---\n".join(json.dumps(manifest) for manifest in manifests)
        self("apply", "--server-side", "--force-conflicts", f"--field-manager={manager}", "-f", "-", stdin=text)

    def patch_status(self, manifest: dict[str, Any], status: dict[str, Any]) -> None:
        """Do what a kubelet or a scheduler would do."""
        metadata = manifest["metadata"]
        target = ("patch", manifest["kind"], metadata["name"], "-n", metadata["namespace"])
        self(*target, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
