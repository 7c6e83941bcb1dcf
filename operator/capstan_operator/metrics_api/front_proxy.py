"""Who may call an API that the API server passes on: its front proxy, by the certificate that the cluster says."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from capstan_operator.kube.port import KubePort
from capstan_operator.resources.api_resource import CONFIG_MAPS

_NAME: Final = "extension-apiserver-authentication"
_NAMESPACE: Final = "kube-system"


class FrontProxyError(Exception):
    """The cluster does not say how its front proxy is known."""


@dataclass(frozen=True)
class FrontProxy:
    """How the front proxy is known."""

    authorities: str
    """PEM: who has signed its certificate."""
    names: frozenset[str]
    """Common names that it may have; empty: any."""

    def knows(self, certificate: Mapping[str, Any]) -> bool:
        """Whether a certificate, which an authority has signed, is the front proxy's."""
        subject = {key: value for part in certificate.get("subject") or () for key, value in part}
        return not self.names or subject.get("commonName") in self.names


async def read_front_proxy(kube: KubePort) -> FrontProxy:
    """Read what the cluster says. Raises KubeError and FrontProxyError."""
    data = (await kube.get(CONFIG_MAPS, _NAME, namespace=_NAMESPACE)).get("data") or {}
    authorities = str(data.get("requestheader-client-ca-file") or "")
    if not authorities:
        raise FrontProxyError("the cluster has no front proxy: no requestheader-client-ca-file")
    try:
        names = json.loads(data.get("requestheader-allowed-names") or "[]")
    except ValueError:
        names = None
    if not isinstance(names, list):
        raise FrontProxyError("the names of the cluster's front proxy cannot be read")
    return FrontProxy(authorities, frozenset(map(str, names)))
