"""Objects of a cluster, read over a connection that stays open.

A look by `kubectl get` is a process, which costs 0.1 s of CPU time and more of the API server's than its answer does;
tests that wait for something look often.
"""

import functools
import json
import urllib.parse
from pathlib import Path
from typing import Any, Final

from kubernetes import config

Manifest = dict[str, Any]
_DISCOVERY: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_TIMEOUT: Final = 60.0
_OK, _NOT_FOUND = 200, 404


class Reader:
    """What there is in a cluster, by the names that kubectl takes: `pods`, `pod`, `hpa`, `applications.argoproj.io`.

    AssertionError says what the API server answered when it was none of what was asked for.
    """

    def __init__(self, kubeconfig: Path) -> None:
        self._api = config.new_client_from_config(str(kubeconfig))
        self._paths: dict[str, str] = {}

    def get(self, kind: str, name: str, namespace: str) -> Manifest | None:
        """Give an object; None when there is none."""
        return self._ask(f"{self._path(kind, namespace)}/{name}")

    def list(self, kind: str, namespace: str, selector: str = "") -> list[Manifest]:
        """Give the objects of a kind that have some labels, of a namespace."""
        found = self._ask(f"{self._path(kind, namespace)}?{urllib.parse.urlencode({'labelSelector': selector})}")
        assert found is not None, f"{kind} are not served"
        # As kubectl gives them: in a list the server leaves out what all of them have in common.
        common = {"apiVersion": found["apiVersion"], "kind": found["kind"].removesuffix("List")}
        return [{**common, **item} for item in found["items"]]

    def _path(self, kind: str, namespace: str) -> str:
        if kind not in self._paths:
            self._paths = self._discover()
        assert kind in self._paths, f"the cluster does not know '{kind}'"
        return self._paths[kind].format(namespace=namespace)

    def _discover(self) -> dict[str, str]:
        paths: dict[str, str] = {}
        for root in ("/api", "/apis"):
            for group in (self._ask(root, accept=_DISCOVERY) or {}).get("items", ()):
                name = group["metadata"].get("name", "")
                version = group["versions"][0]
                base = f"{root}/{name}/{version['version']}" if name else f"{root}/{version['version']}"
                for one in version.get("resources", ()):
                    where = "/namespaces/{namespace}" if one["scope"] == "Namespaced" else ""
                    path = f"{base}{where}/{one['resource']}"
                    words = (one["resource"], one.get("singularResource", ""), *one.get("shortNames", ()))
                    for word in filter(None, words):
                        # NB: the groups come in the order in which kubectl prefers them.
                        paths.setdefault(word, path)
                        paths.setdefault(f"{word}.{name}", path)
        return paths

    def _ask(self, path: str, *, accept: str = "application/json") -> Manifest | None:
        headers = {"Accept": accept}
        self._api.update_params_for_auth(headers, [], ["BearerToken"], path, "GET", None)
        url = f"{self._api.configuration.host}{path}"
        answer = self._api.rest_client.request("GET", url, headers=headers, _request_timeout=_TIMEOUT)
        body = answer.read()
        if answer.status == _NOT_FOUND:
            return None
        assert answer.status == _OK, f"{path}: {body[:500]!r}"
        return dict(json.loads(body))


@functools.cache
def reader_of(kubeconfig: Path) -> Reader:
    """Give the process's reader of a cluster."""
    return Reader(kubeconfig)
