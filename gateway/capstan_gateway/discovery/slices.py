"""EndpointSlices to addresses, pure: which of them are ready, of which Service, on which named port."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

MAX_PORT: Final = 65535
_SAFE: Final = "bcdfghjklmnpqrstvwxz2456789"
_OF_REPLICA_SET: Final = re.compile(rf"(.+-[{_SAFE}]{{1,10}})-[{_SAFE}]{{5}}")
"""A pod's name, when a ReplicaSet of a Deployment has made it: with the hash of its template. The letters are those of
`SafeEncodeString` in k8s.io/apimachinery/pkg/util/rand."""
_LONGEST_NAME: Final = 63
_RANDOM: Final = 5
"""Of a pod's name: what is in front of it is cut where both together are too long, the hash's end with it. As in
k8s.io/apiserver/pkg/storage/names."""
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
    template: str = ""
    """The ReplicaSet that the pod is of: pods of one have one template. Empty where that is not known."""


class Host(NamedTuple):
    """One ready pod, on whatever port."""

    address: str
    template: str = ""
    """As in `Address`."""


@dataclass(frozen=True, slots=True)
class Slice:
    """What of one EndpointSlice matters."""

    namespace: str
    name: str
    service: str
    family: str
    ports: tuple[tuple[str, int], ...]
    hosts: tuple[Host, ...]

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
        Host(_address(endpoint), template_of(endpoint))
        for endpoint in item.get("endpoints") or ()
        if endpoint.get("addresses") and is_ready(endpoint)
    )
    if not all(isinstance(port, int) and 0 < port <= MAX_PORT for _, port in ports):
        raise ValueError(f"a port must be from 1 to {MAX_PORT}")
    namespace, name = metadata.get("namespace"), metadata.get("name")
    if not (isinstance(namespace, str) and isinstance(name, str) and isinstance(service, str)):
        raise ValueError("an EndpointSlice has a namespace, a name and a Service")
    return Slice(namespace, name, service, str(item.get("addressType")), ports, hosts)


def _address(endpoint: dict[str, Any]) -> str:
    address = endpoint["addresses"][0]
    if not isinstance(address, str) or not address:
        raise ValueError("an address must be a text")
    return address


def template_of(endpoint: dict[str, Any]) -> str:
    """Give the name of the ReplicaSet that a pod is of, by its own name; "" where it is of none."""
    target = endpoint.get("targetRef")
    if not isinstance(target, dict) or target.get("kind") != "Pod":
        return ""
    name = str(target.get("name"))
    found = _OF_REPLICA_SET.fullmatch(name)
    if found is not None:
        return found[1]
    return name[:-_RANDOM] if len(name) == _LONGEST_NAME else ""


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
                by_family.setdefault(found.family, set()).update(
                    Address(host.address, port, host.template) for host in found.hosts
                )
    for family in ("IPv4", "IPv6", "FQDN"):
        if by_family.get(family):
            # NB: two slices may tell of one pod, and one of them be late.
            return tuple({(one.host, one.port): one for one in sorted(by_family[family])}.values())
    return ()
