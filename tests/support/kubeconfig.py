"""A kubeconfig for a command that asks an API server."""

from pathlib import Path

import yaml


def write_kubeconfig(folder: Path, port: int | None) -> Path:
    """Write one that names the server at this port, and whose user has the token `me`."""
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "u", "user": {"token": "me"}}],
    }  # fmt: skip
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return file
