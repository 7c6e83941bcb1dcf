"""The endpoints of every model, by model id. They outlive configs, and stay as last known while the API is away."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from urllib.parse import urlsplit

from capstan_contract.config import Backend, ExternalBackend, ModelEntry, ServiceBackend, StaticBackend
from capstan_gateway.discovery.slices import Address, ServicePort
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.upstream.port import Endpoint


class EndpointTable:
    """Gives each model its EndpointSet, and keeps the sets as the config and the cluster say."""

    def __init__(
        self,
        make_set: Callable[[], EndpointSet],
        discovered: Callable[[ServicePort], Iterable[Address]],
        *,
        region: str = "",
    ) -> None:
        self._region = region
        self._make_set = make_set
        self._discovered = discovered
        self._sets: dict[str, EndpointSet] = {}
        self._kinds: dict[str, tuple[object, ...]] = {}
        self._replaced: list[EndpointSet] = []
        """Sets of models whose backend became one of another kind, until the config that says so is in use."""
        self._services: dict[ServicePort, set[str]] = {}
        self._keys: dict[str, ServicePort] = {}

    def set_of(self, entry: ModelEntry) -> EndpointSet:
        """The set of this model, filled as its backend says now.

        A backend of another kind, or of another provider, gets a set of its own: a request that is under way was
        written for the former one, and must not go to the new one.
        """
        found = self._sets.get(entry.id)
        kind = (type(entry.backend), getattr(entry.backend, "provider", None))
        if found is not None and self._kinds[entry.id] != kind:
            self._replaced.append(found)
            found = None
        if found is None:
            found = self._sets[entry.id] = self._make_set()
            self._kinds[entry.id] = kind
        self._forget(entry.id)
        if isinstance(entry.backend, ServiceBackend):
            key = service_port(entry.backend)
            self._services.setdefault(key, set()).add(entry.id)
            self._keys[entry.id] = key
            found.replace(_endpoint(entry.id, address) for address in self._discovered(key))
        else:
            found.replace(fixed_endpoints(entry.id, entry.backend, region=self._region))
        return found

    def retain(self, model_ids: Iterable[str]) -> None:
        """Forget every other model; requests that are being served keep what they have."""
        for gone in self._sets.keys() - set(model_ids):
            self._forget(gone)
            del self._kinds[gone]
            self._sets.pop(gone).replace(())
        for former in self._replaced:
            former.replace(())
        self._replaced.clear()

    def discovered(self, key: ServicePort, found: Iterable[Address]) -> None:
        """The cluster says that these are the ready addresses of a Service's port."""
        addresses = tuple(found)
        for model_id in self._services.get(key, ()):
            self._sets[model_id].replace(_endpoint(model_id, address) for address in addresses)

    def service_changed(self, namespace: str, service: str) -> None:
        """The addresses of this Service may be other ones now."""
        for key in [key for key in self._services if (key.namespace, key.service) == (namespace, service)]:
            self.discovered(key, self._discovered(key))

    def _forget(self, model_id: str) -> None:
        key = self._keys.pop(model_id, None)
        if key is None:
            return
        self._services[key].discard(model_id)
        if not self._services[key]:
            del self._services[key]


def service_port(backend: ServiceBackend) -> ServicePort:
    """The key of a Service backend."""
    return ServicePort(backend.namespace, backend.service, backend.portName)


def _endpoint(model_id: str, address: Address) -> Endpoint:
    host = f"[{address.host}]" if ":" in address.host else address.host
    return Endpoint(id=f"{model_id}@{host}:{address.port}", host=address.host, port=address.port, base_path=b"/v1")


def fixed_endpoints(model_id: str, backend: Backend, *, region: str = "") -> list[Endpoint]:
    """The endpoints of a backend that names its addresses itself; those of `region` come before their equals."""
    if isinstance(backend, StaticBackend):
        return [endpoint_at(model_id, url, base_path="/v1") for url in backend.urls]
    if isinstance(backend, ExternalBackend):
        return hosted_endpoints(model_id, backend, region)
    return []


def hosted_endpoints(model_id: str, backend: ExternalBackend, region: str) -> list[Endpoint]:
    """The endpoints of a hosted API: by priority, then the own region; weight 0 is none."""
    used = [found for found in backend.endpoints if found.weight > 0]
    ranks = {found.name: (found.priority, bool(region) and found.region != region) for found in used}
    tiers = {rank: tier for tier, rank in enumerate(sorted(set(ranks.values())))}
    return [
        replace(
            endpoint_at(model_id, found.url),
            id=f"{model_id}@{found.name}",
            tier=tiers[ranks[found.name]],
            weight=found.weight,
            credential=found.credentialFile,
        )
        for found in used
    ]


def endpoint_at(model_id: str, url: str, *, base_path: str = "") -> Endpoint:
    """The endpoint at a URL."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    return Endpoint(
        id=f"{model_id}@{parts.netloc}",
        host=host,
        port=port,
        scheme="https" if secure else "http",
        base_path=(parts.path.rstrip("/") + base_path).encode(),
    )
