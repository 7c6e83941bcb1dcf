"""Secrets that are API keys, as the API server would send them, and a store of them that can be watched."""

import base64
import itertools
from collections.abc import Callable
from typing import Any

from capstan_contract.names import API_KEY_FIELD, API_KEY_LABEL
from capstan_operator.kube.errors import NotFound, Unavailable
from capstan_operator.kube.port import Listing
from capstan_operator.resources.resource import Manifest

VALUE = "sk-capstan-0123456789abcdefghij"


def key_secret(name: str, value: str = VALUE, *, version: str = "1", created: str = "", **annotations: str) -> Manifest:
    """Build one; `annotations` without the prefix."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": "capstan-system",
            "uid": f"uid-{name}",
            "resourceVersion": version,
            "creationTimestamp": created or "2027-01-01T00:00:00Z",
            "labels": {API_KEY_LABEL: "true"},
            "annotations": {f"capstan.dev/{field}": text for field, text in annotations.items()},
        },
        "data": {API_KEY_FIELD: base64.b64encode(value.encode()).decode()},
    }


class SecretKube:
    """Secrets by name; `fails` makes every call fail."""

    def __init__(self) -> None:
        self.secrets: dict[str, Manifest] = {}
        self.fails = False
        self.hidden: set[str] = set()
        """Names that lists lack."""
        self.looks: list[str] = []
        """What was asked for: the names of Secrets, and `*` for a list."""
        self.before_answer: Callable[[], None] = lambda: None
        self._former: set[str] = set()
        self._versions = itertools.count(2)

    def put(self, name: str, value: str = VALUE, **annotations: str) -> Manifest:
        """Make or change one; give its metadata."""
        before, version = self.secrets.get(name), str(next(self._versions))
        self.secrets[name] = key_secret(name, value, version=version, **annotations)
        metadata: Manifest = self.secrets[name]["metadata"]
        if before is not None:
            metadata["uid"] = before["metadata"]["uid"]
        elif name in self._former:
            metadata["uid"] = f"uid-{name}-{version}"
        self._former.add(name)
        return metadata

    async def list(
        self, kind: Any, *, shape: Callable[[Manifest], Any], known: Callable[[str, str], Any], **_: Any
    ) -> Listing:
        """Give all of them."""
        self.looks.append("*")
        self._fail()
        items = []
        for secret in [one for name, one in self.secrets.items() if name not in self.hidden and _is_labelled(one)]:
            found = known(secret["metadata"]["uid"], secret["metadata"]["resourceVersion"])
            items.append(shape(secret) if found is None else found)
        self.before_answer()
        return Listing(items, "1")

    async def get(self, kind: Any, name: str, *, namespace: str | None = None) -> Manifest:
        """Give one."""
        self.looks.append(name)
        self._fail()
        found = self.secrets.get(name)
        self.before_answer()
        if found is None:
            raise NotFound(f"secrets {name} not found", status=404)
        return found

    def _fail(self) -> None:
        if self.fails:
            raise Unavailable("no answer")


def _is_labelled(secret: Manifest) -> bool:
    return bool(secret["metadata"]["labels"])
