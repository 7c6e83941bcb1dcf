"""The kinds of this repository in a real API server, and a quick way to ask what the server thinks of a manifest."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kubernetes import client, config

from capstan_contract.names import GROUP, VERSION
from support.kubernetes import program
from support.needs import ROOT
from support.wait import wait_until

CRDS = ROOT / "crds"


def kubectl(kubeconfig: Path, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run kubectl against the API server, and give what it said."""
    command = [program("kubectl"), "--kubeconfig", str(kubeconfig), *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)


def install_crds(kubeconfig: Path) -> str:
    """Apply crds/ and wait until the API server serves the kinds; give what kubectl wrote to stderr (warnings)."""
    applied = kubectl(kubeconfig, "apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    assert applied.returncode == 0, applied.stderr

    def established() -> bool:
        # kubectl does not wait for a kind without any condition, as it is at first: it fails.
        waited = kubectl(kubeconfig, "wait", "--for=condition=Established", "--timeout=30s", "-f", str(CRDS))
        assert waited.returncode == 0, waited.stderr
        return True

    wait_until(established, what="the kinds")
    return applied.stderr


class ModelApi:
    """LLMModels (or the objects of another kind) in one namespace, as strictly as kubectl writes them."""

    def __init__(self, kubeconfig: Path, namespace: str = "default", *, plural: str = "llmmodels") -> None:
        self._client = config.new_client_from_config(str(kubeconfig))
        self._objects = client.CustomObjectsApi(self._client)
        self._where = {"group": GROUP, "version": VERSION, "namespace": namespace, "plural": plural}

    def create(self, manifest: dict[str, Any], *, dry_run: bool = False) -> str | None:
        """Create an object; give the server's message when it refuses, None when it does not."""
        options = {"dry_run": "All"} if dry_run else {}
        return self._try(self._objects.create_namespaced_custom_object, body=manifest, **options)

    def replace(self, manifest: dict[str, Any]) -> str | None:
        """Replace an object, whatever its version; the message of a refusal, or None."""
        name = manifest["metadata"]["name"]
        version = self.get(name)["metadata"]["resourceVersion"]
        body = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": version}}
        return self._try(self._objects.replace_namespaced_custom_object, name=name, body=body)

    def get(self, name: str) -> dict[str, Any]:
        """Give an object."""
        return dict(self._objects.get_namespaced_custom_object(name=name, **self._where))

    def delete(self, name: str) -> None:
        """Delete an object."""
        self._objects.delete_namespaced_custom_object(name=name, **self._where)

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def _try(self, call: Callable[..., object], **arguments: Any) -> str | None:
        try:
            call(field_validation="Strict", **self._where, **arguments)
        except client.ApiException as refusal:
            if refusal.status not in (400, 422):
                raise
            return str(json.loads(refusal.body)["message"])
        return None
