"""EndpointSlices to addresses, pure: which of them are ready, of which Service, on which named port."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

MAX_PORT: Final = 65535
SERVICE_NAME_LABEL: Final = "kubernetes.io/service-name"


class ServicePort(NamedTuple):
    """A named port of a Service."""

    namespace: str
    service: str
    port_name: str


class Address(NamedTuple):
    """Where one ready pod listens."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Slice:
    """What of one EndpointSlice matters."""

    namespace: str
    name: str
    service: str
    family: str
    ports: tuple[tuple[str, int], ...]
    hosts: tuple[str, ...]

    @property
    def id(self) -> str:
        """`namespace/name`"""
        return f"{self.namespace}/{self.name}"


def read_slice(item: dict[str, Any]) -> Slice | None:
    """Read one EndpointSlice; None when it belongs to no Service. Raises ValueError or TypeError for what is none."""
    metadata = item.get("metadata") or {}
    service = (metadata.get("labels") or {}).get(SERVICE_NAME_LABEL)
    if not service:
        return None
    ports = tuple(
        (str(port.get("name") or ""), port["port"]) for port in item.get("ports") or () if port.get("port") is not None
    )
    hosts = tuple(
        endpoint["addresses"][0]
        for endpoint in item.get("endpoints") or ()
        if endpoint.get("addresses") and is_ready(endpoint)
    )
    if not all(isinstance(port, int) and 0 < port <= MAX_PORT for _, port in ports):
        raise ValueError(f"a port must be from 1 to {MAX_PORT}")
    if not all(isinstance(host, str) and host for host in hosts):
        raise ValueError("an address must be a text")
    namespace, name = metadata.get("namespace"), metadata.get("name")
    if not (isinstance(namespace, str) and isinstance(name, str) and isinstance(service, str)):
        raise ValueError("an EndpointSlice has a namespace, a name and a Service")
    return Slice(namespace, name, service, str(item.get("addressType")), ports, hosts)


def is_ready(endpoint: dict[str, Any]) -> bool:
    """Whether new requests may go there. A pod that is going away gets none, even while it still counts as ready."""
    conditions = endpoint.get("conditions") or {}
    # NB: the API says that a missing `ready` means ready.
    return conditions.get("ready") is not False and conditions.get("terminating") is not True


def addresses(slices: Iterable[Slice], key: ServicePort) -> tuple[Address, ...]:
    """The ready addresses of a Service's port, sorted, each pod once.

    A dual-stack pod is in a slice of each family; IPv4 is taken when there is any.
    """
    by_family: dict[str, set[Address]] = {}
    for found in slices:
        if (found.namespace, found.service) != (key.namespace, key.service):
            continue
        for name, port in found.ports:
            if name == key.port_name:
                by_family.setdefault(found.family, set()).update(Address(host, port) for host in found.hosts)
    for family in ("IPv4", "IPv6", "FQDN"):
        if by_family.get(family):
            return tuple(sorted(by_family[family]))
    return ()
