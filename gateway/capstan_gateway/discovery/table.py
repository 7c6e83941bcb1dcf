"""The endpoints of every model, by model id. They outlive configs, and stay as last known while the API is away."""

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from capstan_contract.config import Backend, ExternalBackend, ModelEntry, ServiceBackend, StartFailure, StaticBackend
from capstan_contract.names import WORKER_PORT
from capstan_gateway.discovery.slices import Address, ServicePort
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.upstream.port import Endpoint


@dataclass(frozen=True, slots=True)
class _Plan:
    """What one model gets when a config is taken into use."""

    endpoints: EndpointSet
    identity: tuple[object, ...]
    service: ServicePort | None
    fixed: tuple[Endpoint, ...]
    """Without a Service: the endpoints that the backend names itself."""
    kv_events: bool
    """Whether the workers of a Service's pods tell which blocks of prompts their engines hold."""
    start_failure: StartFailure | None


class Draft:
    """What a config would make of the endpoints. Nothing that is in use changes before `commit`, and then at once."""

    def __init__(self, table: "EndpointTable") -> None:
        self._table = table
        self._plans: dict[str, _Plan] = {}

    def set_of(self, entry: ModelEntry) -> EndpointSet:
        """Give the set that this model will have; a new one is filled when the draft is committed.

        Raises ValueError for a backend with addresses that cannot be.
        """
        plan = self._plans[entry.id] = self._table.plan(entry)
        return plan.endpoints

    def commit(self, model_ids: Iterable[str]) -> None:
        """The config is in use: it has these models. Those that the draft was not asked for stay as they are."""
        self._table.adopt(self._plans, set(model_ids))


class EndpointTable:
    """Gives each model its EndpointSet, and keeps the sets as the config in use and the cluster say."""

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
        self._identities: dict[str, tuple[object, ...]] = {}
        self._services: dict[ServicePort, set[str]] = {}
        self._keys: dict[str, ServicePort] = {}
        self._kv_events: set[str] = set()
        """Models of Services whose workers tell which blocks of prompts their engines hold."""

    def draft(self) -> Draft:
        """Begin to prepare another config."""
        return Draft(self)

    def plan(self, entry: ModelEntry) -> _Plan:
        """Say what a model gets; changes nothing.

        A backend of another kind or provider, or a model with another name there, gets a set of its own: a request
        that is under way was written for the former one, and must not go to the new one.
        """
        backend = entry.backend
        identity = (type(backend), getattr(backend, "provider", None), entry.upstreamName)
        found = self._sets.get(entry.id)
        if found is None or self._identities[entry.id] != identity:
            found = self._make_set()
        if isinstance(backend, ServiceBackend):
            return _Plan(found, identity, service_port(backend), (), entry.kvEvents, entry.startFailure)
        fixed = fixed_endpoints(entry.id, backend, region=self._region, kv_events=entry.kvEvents)
        return _Plan(found, identity, None, tuple(fixed), False, entry.startFailure)

    def adopt(self, plans: Mapping[str, _Plan], model_ids: Set[str]) -> None:
        """Let models have what was planned, and forget every model that is not one of these.

        Requests that are being served keep what they have; those that wait on a set that nobody has any more find it
        empty.
        """
        for gone in self._sets.keys() - model_ids:
            self._forget(gone)
            del self._identities[gone]
            self._sets.pop(gone).replace(())
        for model_id, plan in plans.items():
            if model_id in model_ids:
                self._adopt(model_id, plan)

    def _adopt(self, model_id: str, plan: _Plan) -> None:
        former = self._sets.get(model_id)
        self._sets[model_id], self._identities[model_id] = plan.endpoints, plan.identity
        self._forget(model_id)
        if plan.service is None:
            plan.endpoints.replace(plan.fixed)
        else:
            self._services.setdefault(plan.service, set()).add(model_id)
            self._keys[model_id] = plan.service
            if plan.kv_events:
                self._kv_events.add(model_id)
            plan.endpoints.replace(self._endpoints(model_id, self._discovered(plan.service)))
        plan.endpoints.tell_start(plan.start_failure)
        if former is not None and former is not plan.endpoints:
            former.replace(())

    def discovered(self, key: ServicePort, found: Iterable[Address]) -> None:
        """The cluster says that these are the ready addresses of a Service's port."""
        addresses = tuple(found)
        for model_id in self._services.get(key, ()):
            self._sets[model_id].replace(self._endpoints(model_id, addresses))

    def service_changed(self, namespace: str, service: str) -> None:
        """The addresses of this Service may be other ones now."""
        for key in [key for key in self._services if (key.namespace, key.service) == (namespace, service)]:
            self.discovered(key, self._discovered(key))

    def _endpoints(self, model_id: str, addresses: Iterable[Address]) -> list[Endpoint]:
        kv_events = model_id in self._kv_events
        return [_endpoint(model_id, address, kv_events=kv_events) for address in addresses]

    def _forget(self, model_id: str) -> None:
        self._kv_events.discard(model_id)
        key = self._keys.pop(model_id, None)
        if key is None:
            return
        self._services[key].discard(model_id)
        if not self._services[key]:
            del self._services[key]


def service_port(backend: ServiceBackend) -> ServicePort:
    """The key of a Service backend."""
    return ServicePort(backend.namespace, backend.service, backend.portName)


def _endpoint(model_id: str, address: Address, *, kv_events: bool = False) -> Endpoint:
    host = f"[{address.host}]" if ":" in address.host else address.host
    return Endpoint(
        id=f"{model_id}@{host}:{address.port}", host=address.host, port=address.port, base_path=b"/v1",
        template=address.template,
        worker=Endpoint(f"worker@{host}:{WORKER_PORT}", address.host, WORKER_PORT) if kv_events else None,
    )  # fmt: skip


def fixed_endpoints(model_id: str, backend: Backend, *, region: str = "", kv_events: bool = False) -> list[Endpoint]:
    """The endpoints of a backend that names its addresses itself; those of `region` come before their equals.

    With `kv_events` the workers are named of those of which the backend says where they are.
    """
    if isinstance(backend, StaticBackend):
        workers = {url: endpoint_at("worker", worker) for url, worker in (backend.workers if kv_events else {}).items()}
        found = [(endpoint_at(model_id, url, base_path="/v1"), workers.get(url)) for url in backend.urls]
        return [endpoint if worker is None else replace(endpoint, worker=worker) for endpoint, worker in found]
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
        # NB: without the name and password that a URL may have: the id is in the log.
        id=f"{model_id}@{parts.netloc.rpartition('@')[2]}",
        host=host,
        port=port,
        scheme="https" if secure else "http",
        base_path=(parts.path.rstrip("/") + base_path).encode(),
    )
