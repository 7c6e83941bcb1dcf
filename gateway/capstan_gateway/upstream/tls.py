"""Which TLS context a connection uses."""

import ssl
from collections.abc import Mapping

from capstan_gateway.upstream.port import Endpoint


class TlsContexts:
    """The contexts by name; the one named "" trusts the system's authorities and is made when first needed."""

    def __init__(self, contexts: Mapping[str, ssl.SSLContext] | None = None) -> None:
        self._contexts = dict(contexts or {})

    def get(self, endpoint: Endpoint) -> ssl.SSLContext | None:
        """Give the context for an endpoint; None for plain HTTP."""
        if endpoint.scheme == "http":
            return None
        context = self._contexts.get(endpoint.tls)
        if context is None:
            if endpoint.tls:
                raise LookupError(f"there is no TLS context named '{endpoint.tls}'")
            context = ssl.create_default_context()
            context.set_alpn_protocols(["http/1.1"])
            self._contexts[""] = context
        return context


def context_for_authority(ca_file: str) -> ssl.SSLContext:
    """Make a context that trusts only the authorities in this file, such as the Kubernetes API's."""
    context = ssl.create_default_context(cafile=ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context
